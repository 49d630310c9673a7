"""MTCNN's three networks with their weights, from facenet-pytorch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facecade.faces.mtcnn import MTCNNNetworks, Net


class FaceNetwork(nn.Module):
    """One of facenet-pytorch's networks with the outputs of `faces.mtcnn.Net`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        offsets, *landmarks, probability = self.network(pixels)
        return offsets, probability[:, 1], *landmarks


def networks() -> dict[str, FaceNetwork]:
    """The networks `pnet`, `rnet` and `onet`."""
    with warnings.catch_warnings():
        # facenet-pytorch imports requests to download other weights; urllib3 then misses PySocks, which nobody needs here.
        warnings.filterwarnings("ignore", "SOCKS support in urllib3 requires")
        from facenet_pytorch.models.mtcnn import ONet, PNet, RNet

    classes: dict[str, Any] = {"pnet": PNet, "rnet": RNet, "onet": ONet}
    return {name: FaceNetwork(make()).eval() for name, make in classes.items()}


def torch_nets() -> MTCNNNetworks:
    """The networks, run by torch on the CPU."""
    return MTCNNNetworks(**{name: _run(network) for name, network in networks().items()})


def _run(network: FaceNetwork) -> Net:
    def call(pixels: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [values.numpy() for values in network(torch.from_numpy(pixels))]

    return call
