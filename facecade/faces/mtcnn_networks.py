"""MTCNN's three networks, with their weights, from facenet-pytorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facecade.faces.mtcnn import Net, Nets


class FaceNetwork(nn.Module):
    """One of facenet-pytorch's networks as `faces.mtcnn.Net` has it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        offsets, *landmarks, face = self.network(pixels)
        return offsets, face[:, 1], *landmarks


def networks() -> dict[str, FaceNetwork]:
    """The networks `propose`, `refine` and `decide`."""
    from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

    made: dict[str, Any] = {"propose": PNet, "refine": RNet, "decide": ONet}
    return {name: FaceNetwork(network()).eval() for name, network in made.items()}


def torch_nets() -> Nets:
    """The networks, run by torch on the processor."""
    return Nets(**{name: _run(network) for name, network in networks().items()})


def _run(network: FaceNetwork) -> Net:
    def call(pixels: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [values.numpy() for values in network(torch.from_numpy(pixels))]

    return call
