"""Writes a fitted cascade as a folder that needs no torch (inference/exported.py)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facecade.base.artifact import write_atomic, write_json, write_text
from facecade.base.errors import FacecadeError
from facecade.base.machine import cores
from facecade.base.program import install
from facecade.combiner.align import Alignment
from facecade.combiner.methods import load as load_combiner
from facecade.combiner.stage_outputs import average_folds
from facecade.inference.engines import ENGINES, has_bf16, installed, load
from facecade.inference.exported import BATCH, FORMAT, MANIFEST, NEEDED, Exported, is_export
from facecade.inference.fallback import margin_error
from facecade.inference.torch_engine import FamilyModel, networks
from facecade.recipe import Face
from facecade.stages.fit import Fit
from facecade.training.predict import predicting

WRITERS = ("onnx", "onnxscript")
"""Packages that torch writes ONNX by."""

PARTS = ("networks", "detector", "combiner")

UNFINISHED = ".unfinished"
"""File that marks a folder as an export's until its manifest is written: what such a folder holds may be replaced."""

MAX_DIFFERENCE = 1e-3
"""Furthest that a written network may be from torch's, as a share of the spread of what torch says."""


def write(
    folder: Path,
    fits: Mapping[str, Sequence[Fit]],
    alignments: Mapping[str, Alignment],
    face: Face,
    combiner: Path,
    seen: Mapping[str, str],
    about: Mapping[str, Any],
    crops: np.ndarray,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Write every network, each asked once and compared with torch; the manifest last.

    Args:
        fits: the fitted folds of each stage.
        combiner: folder of the fitted combiner.
        seen: images that the run learned from.
        about: what the manifest says besides.
        crops: some faces, uint8 (N, h, w, 3), on which it is measured how far bf16 moves an answer; N may be 0.
        advance: called after each network.

    Returns:
        The manifest.

    Raises:
        FacecadeError: no package that writes or runs ONNX; a folder that holds something else; a network that answers otherwise than
            torch.
    """
    if not can_export():
        raise FacecadeError("what writes ONNX is not installed", install("engines"))
    engine = next(name for name in reversed(ENGINES) if installed(name))
    unfinished = folder / UNFINISHED
    if folder.exists() and any(folder.iterdir()) and not (is_export(folder) or unfinished.exists()):
        raise FacecadeError(f"{folder} holds what is no export's, and might be lost", "give a folder of its own")
    folder.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    (folder / MANIFEST).unlink(missing_ok=True)
    for part in PARTS:  # of an earlier export, perhaps with more folds
        shutil.rmtree(folder / part, ignore_errors=True)
    written = []
    for family, of_family in networks(fits, alignments):
        files, off, answered, graph = [], [], [], None
        for folds, network in of_family:
            names = [
                f"{what}-{stage}" + (f"-{fold}" if len(folds) > 1 else "")
                for fold in folds
                for stage in family
                for what in ("embedding", "logits")
            ]
            noise = torch.from_numpy(_noise((BATCH, *network.size, 3)))
            if graph is None or not _take_over(graph, network):
                graph = _traced(network, noise, {0: torch.export.Dim("batch")}, names)
            part = network.fits[0].folder.name if len(folds) == 1 else "folds"
            files.append(f"networks/{family[0]}-{part}.onnx")
            answered.append(folds)
            _put(folder / files[-1], graph)
            off.append(_compare(network, folder / files[-1], noise, engine))
            advance()
        written.append({"stages": family, "size": network.size, "files": files, "folds": answered, "off": off})
    kept = folder / "combiner"
    for part in ("rule.npz", "model.ubj", "meta.json"):
        if (combiner / part).exists():
            write_atomic(kept / part, lambda path, part=part: shutil.copyfile(combiner / part, path))  # type: ignore[misc]
    write_json(folder / "seen.json", seen)
    there = [name for name in NEEDED if _version(name)]
    write_text(folder / "requirements.txt", "".join(f"{name}=={_version(name)}\n" for name in there))
    manifest = {
        "format": FORMAT,
        **about,
        "face": face.model_dump(),
        "detector": _detector(folder) if face.detector == "mtcnn" else {},
        "columns": {stage: folds[0].stage.columns for stage, folds in fits.items()},
        "networks": written,
    }
    manifest["fallback_margin"], manifest["fallback_share"] = _rounding(Exported(folder, manifest), crops)
    write_json(folder / MANIFEST, manifest)
    unfinished.unlink()
    return manifest


def _rounding(exported: Exported, crops: np.ndarray) -> tuple[float | None, float]:
    """The furthest that bf16 moves a lead, in nats, and the share of crops whose lead in bf16 is less; None and 0 where that cannot
    be measured here, or says nothing."""
    combine, _ = load_combiner(exported.combiner)
    if not (len(crops) and combine.has_margin and has_bf16()):
        return None, 0.0
    ensembles = [exported.ensemble("openvino", cores(), precision) for precision in ("bf16", "fp32")]
    rough, exact = (average_folds(list(each.predict_all(crops).values())) for each in ensembles)
    close = margin_error(combine.scores(rough), combine.scores(exact))
    return close, float((combine.margin(rough) < close).mean())


def can_export() -> bool:
    """Whether the packages are there that write ONNX and run it."""
    return all(importlib.util.find_spec(name) for name in WRITERS) and any(installed(name) for name in ENGINES)


def _detector(folder: Path) -> dict[str, str]:
    """Write MTCNN's networks; name → file."""
    from facecade.faces.mtcnn_networks import networks

    side = torch.export.Dim("side", min=12, max=8192), torch.export.Dim("other", min=12, max=8192)
    shapes: dict[str, tuple[int, dict[int, Any]]] = {
        "pnet": (61, {2: side[0], 3: side[1]}),
        "rnet": (24, {0: torch.export.Dim("batch")}),
        "onet": (48, {0: torch.export.Dim("batch")}),
    }
    files = {}
    for name, network in networks().items():
        pixels, dynamic = shapes[name]
        example = torch.randn(1 if name == "pnet" else 3, 3, pixels, pixels + 3 * (name == "pnet"))
        files[name] = f"detector/{name}.onnx"
        said = ("offsets", "face", "landmarks") if name == "onet" else ("offsets", "face")
        _put(folder / files[name], _traced(network, example, dynamic, said))
    return files


def _traced(network: torch.nn.Module, example: torch.Tensor, dynamic: Mapping[int, Any], outputs: Sequence[str]) -> Any:
    """A network as an ONNX model (a protobuf), its tensors under torch's names."""
    try:
        with _quiet(), torch.no_grad():
            # not optimized: constants folded into each other could not be taken over for the next fold, and engines fold them
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                dynamic_shapes=(dict(dynamic),),
                input_names=["input"],
                output_names=list(outputs),
                optimize=False,
                verbose=False,
            )
    except Exception as error:  # the exporter fails in as many ways as there are networks
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FacecadeError(f"torch cannot write a network as ONNX: {reason}", "infer with --engine torch") from error
    assert program is not None
    return program.model_proto


def _take_over(model: Any, network: torch.nn.Module) -> bool:
    """Put a network's tensors in the place of those of another of the same make; False where a name is not found."""
    from onnx import numpy_helper

    every = dict(network.named_parameters()) | dict(network.named_buffers())
    tensors = {name: value for name, value in every.items() if not name.endswith("num_batches_tracked")}
    places = {place.name: place for place in model.graph.initializer}
    if not tensors.keys() <= places.keys():
        return False
    for name, value in tensors.items():
        places[name].CopyFrom(numpy_helper.from_array(value.detach().cpu().contiguous().numpy(), name))
    return True


def _put(path: Path, model: Any) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(model.SerializeToString())

    write_atomic(path, write)


def _compare(network: FamilyModel, path: Path, crops: torch.Tensor, engine: str) -> float:
    """How far a written network's answers are from torch's, at most, as a share of their spread."""
    with predicting(torch.device("cpu")):
        wanted = [values.numpy() for values in network(crops)]
    said = load(engine, path, 1)(crops.numpy())
    off = max(float(np.abs(a - b).max() / (a.std() + 1e-6)) for a, b in zip(wanted, said, strict=True) if a.size)
    if off > MAX_DIFFERENCE:
        raise FacecadeError(f"{path.name} answers otherwise than torch: {off:.2g} of the spread", "please report this")
    return off


def _noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's talk of what it is not going to do."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
