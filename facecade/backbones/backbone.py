"""A timm model that returns its embedding and its logits."""

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
from torch.nn.modules.module import register_module_parameter_registration_hook

from facecade.base.errors import FacecadeError, excerpt, first_line, unknown_name

HUB_PREFIX = "hf-hub:"
"""Prefix of model names whose configuration is on the Hugging Face Hub."""

MAX_PARAMETERS = 2_000_000_000

MAX_TENSORS = 10_000
"""Of parameters: a deep network has some hundreds."""


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
            size: height and width of the images, for models with a fixed input size.
            dropout, drop_path: rates; drop_path must be 0 if the model does not support it.
            arguments: further arguments of `timm.create_model`.
            mean, std: of the channels, 0..1; by default those of the pretrained weights.
            dropout_samples: number of dropout samples over which training averages the outputs.

        Raises:
            FacecadeError: timm has no such model, or it does not accept the arguments, or the model is too large.
        """
        super().__init__()
        import timm

        require_model(name)
        config = None if name.startswith(HUB_PREFIX) else timm.get_pretrained_cfg(name)
        size_argument: dict[str, Any] = {"img_size": size} if config and config.fixed_input_size else {}
        rates: dict[str, Any] = {"drop_rate": dropout, "drop_path_rate": drop_path or None}
        try:
            with offline_if_unreachable(), _limited_size(name):
                self.model = timm.create_model(
                    name, num_classes=outputs, **rates, **size_argument, **_tuples(arguments or {})
                )
        except FacecadeError:
            raise
        except Exception as error:  # wrong arguments, and hubs, fail with many types of error
            if not name.startswith(HUB_PREFIX):
                raise FacecadeError(
                    f"{name} cannot be built: {first_line(error)}",
                    f"the recipe has backbone_args = {excerpt(dict(arguments or {}))}, drop_path = {drop_path:g}",
                ) from None
            raise FacecadeError(
                f"the hub gave no model {name.removeprefix(HUB_PREFIX)} ({type(error).__name__})",
                "give the name of a model that timm includes",
            ) from None
        self.dropout, self.dropout_samples = dropout, dropout_samples
        self.given_statistics = {name for name, given in (("mean", mean), ("std", std)) if given}
        for statistic, given in (("mean", mean), ("std", std)):
            values = torch.tensor(given or self.model.pretrained_cfg[statistic])
            # a buffer, so that it is saved with the weights
            self.register_buffer(statistic, values.view(1, 3, 1, 1) * 255)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: uint8 [B, H, W, 3], RGB.

        Returns:
            embedding [B, D] and logits [B, C], float32 (or the autocast dtype).
        """
        return self.head(self.model.forward_features(self.normalize(images)))

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] → the input of the timm model, float32 [B, 3, H, W]."""
        pixels = images.permute(0, 3, 1, 2).float()  # NHWC memory is channels-last already
        return (pixels - self.mean) / self.std

    def head(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Output of timm's `forward_features` → embedding [B, D] and logits [B, C]."""
        # timm applies dropout in `forward_head`, so each call is another dropout sample.
        embeddings = [self.model.forward_head(features, pre_logits=True) for _ in range(self._dropout_samples)]
        logits = torch.stack([self.model.get_classifier()(embedding) for embedding in embeddings])
        return embeddings[0], logits.mean(0)

    def classify(self, embedding: Tensor) -> Tensor:
        """An embedding [B, D] without dropout → logits [B, C]."""
        dropped = [functional.dropout(embedding, self.dropout, self.training) for _ in range(self._dropout_samples)]
        return torch.stack([self.model.get_classifier()(values) for values in dropped]).mean(0)

    @property
    def _dropout_samples(self) -> int:
        return self.dropout_samples if self.training else 1


def require_model(name: str) -> None:
    """Raises FacecadeError, which names the nearest, if timm has no such backbone. Models of a hub are not checked."""
    import timm

    if name.startswith(HUB_PREFIX):
        return
    if not timm.is_model(name):
        raise unknown_name("backbone", name, timm.list_models())
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # the part after the point is unknown
        architecture = name.partition(".")[0]
        raise unknown_name("backbone", name, [architecture, *timm.list_pretrained(architecture)]) from None


@contextlib.contextmanager
def _limited_size(name: str) -> Iterator[None]:
    """Raises FacecadeError as soon as a model being built has too many parameters, before their memory is used."""
    parameters = tensors = 0

    def count(module: nn.Module, key: str, parameter: nn.Parameter | None) -> None:
        nonlocal parameters, tensors
        parameters, tensors = parameters + (parameter.numel() if parameter is not None else 0), tensors + 1
        if parameters > MAX_PARAMETERS or tensors > MAX_TENSORS:
            raise FacecadeError(
                f"{name} has more than {MAX_PARAMETERS:,} parameters, or {MAX_TENSORS:,} tensors of them",
                "give smaller backbone_args",
            )

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


@contextlib.contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Set the hub client to offline mode if the hub is unreachable: it then uses its cache, or fails within seconds."""
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(variable, "10")
    from huggingface_hub import constants

    offline = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline or not _has_address(constants.ENDPOINT)  # avoids its many retries
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = offline


def _has_address(url: str) -> bool:
    """Whether the host of a URL can be resolved; always true behind a proxy, which would resolve it."""
    if urllib.request.getproxies():
        return True
    try:
        return bool(socket.getaddrinfo(urllib.parse.urlsplit(url).hostname, 443))
    except OSError:
        return False


def _tuples(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
