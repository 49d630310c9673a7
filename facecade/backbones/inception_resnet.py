"""facenet-pytorch's Inception-ResNet (arXiv:1602.07261) as a timm model; embedding of 512 numbers.

It has two sets of weights, `inception_resnet_v1.vggface2` (the default) and `inception_resnet_v1.casia_webface`. With
`weights = "hub"` they are downloaded from facenet-pytorch's releases.
"""

from __future__ import annotations

from typing import Any

from facenet_pytorch.models.inception_resnet_v1 import InceptionResnetV1
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn
from torch.nn import functional

from facecade.backbones.face_network import build, default_cfg

RELEASES = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9"
MEAN, STD = (127.5 / 255,) * 3, (128 / 255,) * 3


def _pretrained_cfg(file: str, people: int) -> dict[str, Any]:
    settings = {"url": f"{RELEASES}/{file}", "num_classes": people, "first_conv": "conv2d_1a.conv"}
    return {**default_cfg(160, MEAN, STD, **settings), "classifier": "logits"}


default_cfgs = generate_default_cfgs(
    {
        "inception_resnet_v1.vggface2": _pretrained_cfg("20180402-114759-vggface2.pt", 8631),
        "inception_resnet_v1.casia_webface": _pretrained_cfg("20180408-102900-casia-webface.pt", 10575),
    }
)


class InceptionResnet(InceptionResnetV1):  # type: ignore[misc]
    """The same network, with `forward_features` and `forward_head` as separate methods."""

    def __init__(self, num_classes: int = 1000, drop_rate: float = 0.0, in_chans: int = 3) -> None:
        super().__init__(dropout_prob=drop_rate)
        self.num_features = self.head_hidden_size = 512
        self.drop_rate = drop_rate
        self.reset_classifier(num_classes)

    def forward_features(self, pixels: Tensor) -> Tensor:
        """The last feature map, float32 [B, 1792, rows, columns]."""
        for name, module in self.named_children():
            if name == "avgpool_1a":
                break
            pixels = module(pixels)
        return pixels

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """The embedding [B, 512], with dropout before it, or the logits [B, C]."""
        pooled = functional.dropout(self.avgpool_1a(features).flatten(1), self.drop_rate, self.training)
        embedding: Tensor = self.last_bn(self.last_linear(pooled))
        return embedding if pre_logits else self.logits(embedding)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(pixels))

    def get_classifier(self) -> nn.Module:
        """The module that computes logits from an embedding."""
        return self.logits  # type: ignore[no-any-return]

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one of another width."""
        self.num_classes = num_classes
        self.logits = nn.Linear(512, num_classes) if num_classes else nn.Identity()


@register_model
def inception_resnet_v1(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """facenet-pytorch's network; `weights = "hub"` downloads its weights."""
    return build(InceptionResnet, "inception_resnet_v1", pretrained, **arguments)
