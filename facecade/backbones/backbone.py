"""A timm model that answers with its embedding and its logits."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facecade.base.errors import FacecadeError, unknown_name

HUB = "hf-hub:"
"""Begins names of models whose configuration lies on Hugging Face's hub."""


class Backbone(nn.Module):
    """Images → (embedding, logits) for any timm model."""

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
            size: height and width of the images, for models that are built for one size.
            dropout, drop_path: rates; a model that knows no drop_path takes 0 alone.
            arguments: further arguments of `timm.create_model`.
            mean, std: of the channels, 0..1; by default those of the weights it starts from.
            dropout_samples: dropouts that training averages the outputs over.

        Raises:
            FacecadeError: timm has no such model, or it does not take the arguments.
        """
        super().__init__()
        import timm

        require_model(name)
        config = None if name.startswith(HUB) else timm.get_pretrained_cfg(name)
        fixed: dict[str, Any] = {"img_size": size} if config and config.fixed_input_size else {}
        rates: dict[str, Any] = {"drop_rate": dropout, "drop_path_rate": drop_path or None}
        try:
            with hub_is_reachable():
                self.model = timm.create_model(name, num_classes=outputs, **rates, **fixed, **_tuples(arguments or {}))
        except TypeError as error:
            raise FacecadeError(f"{name} cannot be built: {error}", "see backbone_args in the recipe") from None
        except Exception as error:  # hubs fail in as many ways as networks do
            if not name.startswith(HUB):
                raise
            raise FacecadeError(
                f"the hub gave no model {name.removeprefix(HUB)} ({type(error).__name__})",
                "give the name of a model that timm has itself",
            ) from None
        self.dropout, self.dropout_samples = dropout, dropout_samples
        self.given_statistics = {name for name, given in (("mean", mean), ("std", std)) if given}
        for statistic, given in (("mean", mean), ("std", std)):
            values = torch.tensor(given or self.model.pretrained_cfg[statistic])
            self.register_buffer(
                statistic, values.view(1, 3, 1, 1) * 255
            )  # kept with the weights, which are made for them

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: uint8 [B, H, W, 3], RGB.

        Returns:
            embedding [B, D] and logits [B, C], float32 (or the autocast dtype).
        """
        return self.head(self.model.forward_features(self.normalised(images)))

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] → what timm's model takes, float32 [B, 3, H, W]."""
        pixels = images.permute(0, 3, 1, 2).float()  # NHWC memory is channels-last already
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
    """Raises FacecadeError for a backbone that timm has not, naming the nearest; what a hub has is found by asking."""
    import timm

    if not (name.startswith(HUB) or timm.is_model(name)):
        raise unknown_name("backbone", name, timm.list_models())


@contextlib.contextmanager
def hub_is_reachable() -> Iterator[None]:
    """A hub that cannot be reached is known as such within seconds; what was downloaded before is found all the same."""
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(variable, "10")
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _has_address(constants.ENDPOINT)  # it would try again and again
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _has_address(url: str) -> bool:
    """Whether a URL's host has an address here; a proxy would have to be asked, and counts as a yes."""
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, 443))
    except OSError:
        return False


def _tuples(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
