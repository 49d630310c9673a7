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

from facecade.base.artifact import versions, write_bytes, write_record, write_text
from facecade.base.errors import FacecadeError
from facecade.base.files import file_hash, require_links_inside
from facecade.base.lock import LOCK_FILE
from facecade.base.machine import cores
from facecade.base.program import install
from facecade.combiner.align import Alignment
from facecade.combiner.methods import RULE, TREES
from facecade.combiner.methods import load as load_combiner
from facecade.combiner.stage_outputs import average_folds
from facecade.inference.engines import ENGINES, has_bf16, installed, load
from facecade.inference.exported import (
    BATCH,
    FORMAT,
    MANIFEST,
    REQUIRED_PACKAGES,
    SEEN,
    Exported,
    MadeOf,
    Manifest,
    Networks,
    Seen,
)
from facecade.inference.fallback import margin_error
from facecade.inference.half import with_half_tensors
from facecade.inference.torch_engine import FamilyModel, networks
from facecade.recipe import Face
from facecade.stages.fit import Fit
from facecade.training.predict import inference_context

ONNX_PACKAGES = ("onnx", "onnxscript")
"""Packages that torch needs to write ONNX."""

SUBFOLDERS = ("networks", "detector", "combiner")

UNFINISHED = ".unfinished"
"""File that marks an unfinished export until its manifest is written; such a folder may be overwritten."""

MAX_DIFFERENCE = 1e-3
"""Largest allowed difference between the outputs of a written network and torch's, in standard deviations of torch's."""

MIN_AGREEMENT = 0.999
"""Smallest allowed share of face crops whose class float16 tensors do not change."""


def require_exportable(folder: Path) -> None:
    """Raises FacecadeError where no package writes or runs ONNX, or the folder holds anything but an export."""
    if not can_export():
        raise FacecadeError("the packages that write ONNX are not installed", install("engines"))
    require_links_inside(folder)
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names - {LOCK_FILE} and not names & {MANIFEST, UNFINISHED}:
        raise FacecadeError(f"{folder} holds files that are not an export's", "give a new or empty folder")


def write_export(
    folder: Path,
    fits: Mapping[str, Sequence[Fit]],
    alignments: Mapping[str, Alignment],
    face: Face,
    combiner: Path,
    trained_on: dict[str, str],
    run: Path,
    made_of: MadeOf,
    crops: np.ndarray,
    advance: Callable[[], None] = lambda: None,
) -> Exported:
    """Write every network, run each once and compare it with torch; store the tensors as float16 if `made_of` says so; the manifest comes
    last.

    Args:
        folder: one that `require_exportable` accepts, and that this process holds.
        fits: the fitted folds of each stage.
        combiner: folder of the fitted combiner.
        trained_on: flags of the images that the run trained on, by content hash.
        run, made_of: for the manifest: the run's folder, and what decides the predictions.
        crops: face crops, uint8 (N, h, w, 3), on which the effects of float16 and bf16 are measured; N may be 0 for float32.
        advance: called after each network.

    Raises:
        FacecadeError: a network that torch cannot write, or whose outputs differ from torch's; float16 tensors that change more
            classes than `MIN_AGREEMENT` allows.
    """
    engine = next(name for name in reversed(ENGINES) if installed(name))
    unfinished = folder / UNFINISHED
    unfinished.touch()
    (folder / MANIFEST).unlink(missing_ok=True)
    for part in SUBFOLDERS:  # of an earlier export, perhaps with more folds
        shutil.rmtree(folder / part, ignore_errors=True)
    written, contents = [], {}
    for family, of_family in networks(fits, alignments):
        files, differences, folds_of_files, graph = [], [], [], None
        for folds, network in of_family:
            names = [
                f"{what}-{stage}" + (f"-{fold}" if len(folds) > 1 else "")
                for fold in folds
                for stage in family
                for what in ("embedding", "logits")
            ]
            noise = torch.from_numpy(_random_crops((BATCH, *network.size, 3)))
            if graph is None or not _replace_tensors(graph, network):
                graph = _onnx_model(network, noise, {0: torch.export.Dim("batch")}, names)
                graph.metadata_props.add(key="backbone", value=network.fits[0].recipe.backbone)
            part = network.fits[0].folder.name if len(folds) == 1 else "folds"
            files.append(f"networks/{family[0]}-{part}.onnx")
            folds_of_files.append(folds)
            contents[files[-1]] = write_bytes(folder / files[-1], graph.SerializeToString())
            differences.append(_compare(network, folder / files[-1], noise, engine))
            advance()
        written.append(
            Networks(
                stages=family,
                size=network.size,
                files=tuple(files),
                folds=tuple(folds_of_files),
                off=tuple(differences),
            )
        )
    for part in (RULE, TREES, "meta.json"):
        if (combiner / part).exists():
            contents[f"combiner/{part}"] = write_bytes(folder / "combiner" / part, (combiner / part).read_bytes())
    contents[SEEN] = write_record(folder / SEEN, Seen(flags=trained_on))
    detector = _write_detector(folder) if face.detector == "mtcnn" else {}
    contents |= {file: file_hash(folder / file) for file in detector.values()}
    present = [name for name in REQUIRED_PACKAGES if _version(name)]
    write_text(folder / "requirements.txt", "".join(f"{name}=={_version(name)}\n" for name in present))
    manifest = Manifest(
        format=FORMAT,
        run=str(run),
        made_of=made_of,
        versions=versions(),
        face=face,
        detector=detector,
        columns={stage: folds[0].stage.columns for stage, folds in fits.items()},
        networks=tuple(written),
        files=contents,
        fallback_margin=None,
        fallback_share=0.0,
    )
    if made_of.half:
        manifest = _halve(Exported(folder, manifest), crops, engine)
    margin, share = _measure_bf16(Exported(folder, manifest), crops)
    manifest = manifest.model_copy(update={"fallback_margin": margin, "fallback_share": share})
    write_record(folder / MANIFEST, manifest)
    unfinished.unlink()
    return Exported(folder, manifest)


def _halve(exported: Exported, crops: np.ndarray, engine: str) -> Manifest:
    """Store the tensors of an export's networks as float16, and return its new manifest. MTCNN's stay, so that all boxes stay.

    Raises:
        FacecadeError: there are no crops to compare the classes on, or too many classes change.
    """
    from onnx import load_model_from_string

    if not len(crops):
        raise FacecadeError(
            "float16 tensors need face crops to be compared on, and the run has none", "leave out --half"
        )
    combine, _ = load_combiner(exported.combiner)

    def classes(exported: Exported) -> np.ndarray:
        outputs = exported.ensemble(engine, cores()).predict_all(crops)
        return combine(average_folds(list(outputs.values())))[1]

    before, contents = classes(exported), dict(exported.manifest.files)
    for file in (file for each in exported.manifest.networks for file in each.files):
        path = exported.folder / file
        halved = with_half_tensors(load_model_from_string(path.read_bytes()))
        contents[file] = write_bytes(path, halved.SerializeToString())
    manifest = exported.manifest.model_copy(update={"files": contents})
    agreement = float((classes(Exported(exported.folder, manifest)) == before).mean())
    if agreement < MIN_AGREEMENT:
        raise FacecadeError(
            f"float16 tensors change the class of {1 - agreement:.2%} of {len(crops):,} face crops, more than {1 - MIN_AGREEMENT:.1%}",
            "leave out --half",
        )
    return manifest.model_copy(update={"half_agreement": agreement})


def _measure_bf16(exported: Exported, crops: np.ndarray) -> tuple[float | None, float]:
    """The most that bf16 changes a margin, in nats, and the share of crops whose bf16 margin is below that.

    None and 0 without crops or bf16, and for a method without a margin.
    """
    combine, _ = load_combiner(exported.combiner)
    if not (len(crops) and combine.has_margin and has_bf16()):
        return None, 0.0
    ensembles = [exported.ensemble("openvino", cores(), precision) for precision in ("bf16", "fp32")]
    rough, exact = (average_folds(list(each.predict_all(crops).values())) for each in ensembles)
    fallback_margin = margin_error(combine.scores(rough), combine.scores(exact))
    return fallback_margin, float((combine.margin(rough) < fallback_margin).mean())


def can_export() -> bool:
    """Whether the packages that write and run ONNX are installed."""
    return all(importlib.util.find_spec(name) for name in ONNX_PACKAGES) and any(installed(name) for name in ENGINES)


def _write_detector(folder: Path) -> dict[str, str]:
    """Write MTCNN's networks; returns name → file."""
    from facecade.faces.mtcnn_networks import networks

    side = torch.export.Dim("side", min=12, max=8192), torch.export.Dim("other", min=12, max=8192)
    shapes: dict[str, tuple[int, dict[int, Any]]] = {
        "pnet": (61, {2: side[0], 3: side[1]}),
        "rnet": (24, {0: torch.export.Dim("batch")}),
        "onet": (48, {0: torch.export.Dim("batch")}),
    }
    files, made = {}, networks()
    for name, (pixels, dynamic) in shapes.items():
        example = torch.randn(1 if name == "pnet" else 3, 3, pixels, pixels + 3 * (name == "pnet"))
        files[name] = f"detector/{name}.onnx"
        outputs = ("offsets", "face", "landmarks") if name == "onet" else ("offsets", "face")
        model = _onnx_model(made[name], example, dynamic, outputs)
        write_bytes(folder / files[name], model.SerializeToString())
    return files


def _onnx_model(
    network: torch.nn.Module, example: torch.Tensor, dynamic: Mapping[int, Any], outputs: Sequence[str]
) -> Any:
    """A network as an ONNX model (a protobuf) whose tensors have torch's names."""
    try:
        with _quiet(), torch.no_grad():
            # not optimized: folded constants could not be replaced by the next fold's; engines fold them anyway
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
    except Exception as error:  # the exporter raises many kinds of errors
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FacecadeError(f"torch cannot write a network as ONNX: {reason}", "infer with --engine torch") from error
    assert program is not None
    model = program.model_proto
    # The exporter's notes: half of a small file, and paths of this machine.
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        del part.metadata_props[:]
    return model


def _replace_tensors(model: Any, network: torch.nn.Module) -> bool:
    """Replace a model's tensors by those of a network of the same architecture; False where a name is not found."""
    from onnx import numpy_helper

    named = dict(network.named_parameters()) | dict(network.named_buffers())
    tensors = {name: value for name, value in named.items() if not name.endswith("num_batches_tracked")}
    initializers = {each.name: each for each in model.graph.initializer}
    if not tensors.keys() <= initializers.keys():
        return False
    for name, value in tensors.items():
        initializers[name].CopyFrom(numpy_helper.from_array(value.detach().cpu().contiguous().numpy(), name))
    return True


def _compare(network: FamilyModel, path: Path, crops: torch.Tensor, engine: str) -> float:
    """Largest difference between a written network's outputs and torch's, in standard deviations of torch's."""
    with inference_context(torch.device("cpu")):
        expected = [values.numpy() for values in network(crops)]
    outputs = load(engine, path.read_bytes(), path, 1)(crops.numpy())
    pairs = zip(expected, outputs, strict=True)
    difference = max(float(np.abs(a - b).max() / (a.std() + 1e-6)) for a, b in pairs if a.size)
    if difference > MAX_DIFFERENCE:
        raise FacecadeError(
            f"the outputs of {path.name} differ from torch's by {difference:.2g} standard deviations",
            "please report this",
        )
    return difference


def _random_crops(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's warnings and output."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
