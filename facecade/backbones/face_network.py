"""What timm expects of a classifier, for networks that end in an embedding of a face."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from timm.models import build_model_with_cfg
from torch import Tensor, nn
from torch.nn import functional


class FaceNetwork(nn.Module):
    """Images, normalised, float32 [B, 3, H, W] → embedding [B, D] → logits [B, C].

    A network gives `forward_features`, which keeps the map, and `embed`. It may be cut by `freeze` where its modules are applied
    one after another in the order of their definition.

    num_features: width D of the embedding.
    """

    def __init__(self, num_features: int, num_classes: int = 1000, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = num_features
        self.num_classes, self.drop_rate = num_classes, drop_rate

    @abstractmethod
    def forward_features(self, pixels: Tensor) -> Tensor:
        """The last map with more than one place, float32 [B, channels, rows, columns]."""

    @abstractmethod
    def embed(self, features: Tensor) -> Tensor:
        """The embedding [B, D] of a map, as the network was trained to give it."""

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The embedding [B, D], with dropout, or the logits [B, C]."""
        embedding = functional.dropout(self.embed(features), self.drop_rate, self.training)
        logits: Tensor = embedding if pre_logits else self.get_classifier()(embedding)
        return logits

    def forward(self, pixels: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(pixels))

    def get_classifier(self) -> nn.Module:
        """The module that makes logits of an embedding."""
        return self.classifier

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """The network's layers from the first to the last, as timm's layer decay asks for them: a block each."""
        blocks = [
            (r"^layer(\d)\.(\d+)", None),
            (r"^blocks\.(\d+)", None),
            (r"^(?:layer5|bn|last|neck|embedding)\.", (99999,)),
        ]
        return {"stem": r"^stem", "blocks": blocks}

    def add_classifier(self) -> None:
        """Give the network its classifier, after all other modules."""
        self.classifier = nn.Linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh classifier of another width."""
        self.num_classes = num_classes
        self.add_classifier()


def build(network: type[nn.Module], name: str, pretrained: bool, **arguments: Any) -> nn.Module:
    """A network as timm builds its own; arguments as of `timm.create_model`."""
    return build_model_with_cfg(network, name, pretrained, **arguments)  # type: ignore[no-any-return]


def configuration(size: int, mean: tuple[float, ...], std: tuple[float, ...], **more: Any) -> dict[str, Any]:
    """What timm keeps of a model: the size that it was trained at, and the statistics (0..1) of its input."""
    return {
        "input_size": (3, size, size),
        "mean": mean,
        "std": std,
        "interpolation": "bilinear",
        "classifier": "classifier",
        **more,
    }
