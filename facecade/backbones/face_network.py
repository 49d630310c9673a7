"""timm's interface of a classifier, for networks with a face embedding."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from timm.models import build_model_with_cfg
from torch import Tensor, nn
from torch.nn import functional


class FaceNetwork(nn.Module):
    """Normalized images, float32 [B, 3, H, W] → embedding [B, D] → logits [B, C].

    A network implements `forward_features`, which returns a feature map, and `embed`. `freeze` works for it if its
    modules are applied one after another in the order of their definition.

    num_features: width D of the embedding.
    """

    def __init__(self, num_features: int, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = num_features
        self.num_classes, self.drop_rate = num_classes, drop_rate

    @abstractmethod
    def forward_features(self, pixels: Tensor) -> Tensor:
        """The last feature map larger than 1×1, float32 [B, channels, rows, columns]."""

    @abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """Feature map → embedding [B, D], as the network was trained."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The embedding [B, D], with dropout, or the logits [B, C]."""
        embedding = functional.dropout(self.embed(features), self.drop_rate, self.training)
        logits: Tensor = embedding if pre_logits else self.get_classifier()(embedding)
        return logits

    def forward(self, pixels: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(pixels))

    def get_classifier(self) -> nn.Module:
        """The module that computes logits from an embedding."""
        return self.classifier

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The network's layers from the first to the last, for timm's layer decay: one per block."""
        blocks = [
            (r"^layer(\d)\.(\d+)", None),
            (r"^blocks\.(\d+)", None),
            (r"^(?:layer5|bn|last|neck|embedding)\.", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": blocks}

    def add_classifier(self) -> None:
        """Add the classifier; call it after all other modules are defined."""
        self.classifier = nn.Linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one of another width."""
        self.num_classes = num_classes
        self.add_classifier()


def build(network: type[nn.Module], name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """Build a network the way timm does; arguments as for `timm.create_model`."""
    return build_model_with_cfg(network, name, pretrained, **arguments)  # type: ignore[no-any-return]


def default_cfg(size: int, mean: tuple[float, ...], std: tuple[float, ...], **more: Any) -> dict[str, Any]:
    """timm's default_cfg of a model: its training image size, and the mean and std (0..1) of its input."""
    return {
        "input_size": (3, size, size),
        "mean": mean,
        "std": std,
        "interpolation": "bilinear",
        "classifier": "classifier",
        **more,
    }
