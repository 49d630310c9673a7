"""A fitted cascade as a folder that needs no torch: networks as ONNX, the combiner, and a manifest that names them.

manifest.json           the contents, the run, how far each network's outputs differ from torch's, and how far bf16 moves a
                        margin
networks/joint-fold0.onnx   crops, uint8 (batch, h, w, 3), RGB → `embedding-joint` in the shared basis, `logits-joint`; the
                        same for each stage that shares the backbone, and per fold (`logits-joint-0`) where all folds do
detector/pnet.onnx, rnet.onnx, onet.onnx     MTCNN's, where the recipe finds faces with it
combiner/               as fit-meta saved it
seen.json               content hashes and flags of the images that the run trained on
requirements.txt        the packages that `infer` needs for this export
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecade.base.artifact import read_json
from facecade.base.errors import FacecadeError
from facecade.base.program import command
from facecade.faces.mtcnn import MTCNNNetworks
from facecade.inference.engines import has_bf16, installed, load, require
from facecade.inference.ensemble import Ensemble, Member
from facecade.recipe import Face

FORMAT = 5

BATCH = 4
"""Crops in a batch of an exported network. More are no faster on a CPU, and a single image would take longer."""

MANIFEST = "manifest.json"

REQUIRED_PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "pillow",
    "opencv-python-headless",
    "xgboost-cpu",
    "xgboost",
    "scikit-learn",
    "pydantic",
    "click",
    "rich",
    "filelock",
    "onnxruntime",
)
"""Packages that `infer` needs without torch; of the two XGBoost packages, the one that is installed."""


def is_export(folder: Path) -> bool:
    """Whether a folder holds a complete export."""
    return (folder / MANIFEST).exists()


@dataclass(frozen=True)
class Exported:
    """An export's folder."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Exported:
        """Raises FacecadeError where there is no export, or one of another format."""
        if not is_export(folder):
            raise FacecadeError(f"{folder} holds no export", f"write one: {command(f'export {folder}')}")
        manifest = read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT:
            raise FacecadeError(
                f"{folder} is an export of format {manifest['format']}, not {FORMAT}", "export it again"
            )
        return cls(folder, manifest)

    @classmethod
    def open_if_current(cls, folder: Path, made_of: Mapping[str, Any]) -> Exported | None:
        """The export in a folder; None where there is none, or one with another format or `made_of`."""
        manifest = read_json(folder / MANIFEST) if is_export(folder) else {}
        current = manifest.get("format") == FORMAT and manifest["made_of"] == made_of
        return cls(folder, manifest) if current else None

    @property
    def made_of(self) -> dict[str, Any]:
        """What decides the predictions: fits, ensemble, combiner."""
        return dict(self.manifest["made_of"])

    @property
    def face(self) -> Face:
        """How faces are found and cropped."""
        return Face.model_validate(self.manifest["face"])

    def trained_on(self) -> dict[str, str]:
        """Flags of the images that the run trained on, by content hash."""
        return read_json(self.folder / "seen.json")

    def mtcnn(self, streams: int) -> MTCNNNetworks | None:
        """MTCNN's networks; None where the recipe does not use it.

        ONNX Runtime runs them, because it takes images of any size as they are; OpenVINO where it is not installed.
        """
        files: dict[str, str] = self.manifest["detector"]
        if not files:
            return None
        engine = "onnx" if installed("onnx") else "openvino"
        return MTCNNNetworks(**{name: load(engine, self.folder / path, streams) for name, path in files.items()})

    def precision(self, engine: str, requested: str) -> str:
        """The precision to run in: `auto` is bf16 where the processor has it and the fallback margin is known, else fp32.

        Raises:
            FacecadeError: bf16 was requested, but the engine lacks it or the fallback margin is not known.
        """
        require(engine, requested)
        if requested == "bf16" and self.fallback_margin is None:
            raise FacecadeError(
                f"the fallback margin of {self.folder} is not known, so bf16 could change predictions: it was exported on a "
                "processor without bf16, without face crops, or with a method that has no margin",
                "--precision fp32",
            )
        if requested != "auto":
            return requested
        return "bf16" if engine == "openvino" and self.fallback_margin is not None and has_bf16() else "fp32"

    @property
    def fallback_margin(self) -> float | None:
        """Margin, in nats, below which bf16 could change a prediction, as measured; None where it was not measured."""
        return self.manifest["fallback_margin"]

    @property
    def fallback_share(self) -> float:
        """Share of the images whose bf16 margin is below that, as measured; they run in fp32 as well."""
        return float(self.manifest["fallback_share"])

    @property
    def combiner(self) -> Path:
        """Folder of the fitted combiner."""
        return self.folder / "combiner"

    def ensemble(self, engine: str, streams: int, precision: str = "fp32", folds: int | None = None) -> Ensemble:
        """The networks of all stages, or of their first `folds` folds, run by an engine of `inference.engines.ENGINES`."""
        selected = [
            (network, path, folds_of_file)
            for network in self.manifest["networks"]
            for path, folds_of_file in zip(network["files"], network["folds"], strict=True)
            if folds is None or min(folds_of_file) < folds
        ]
        # In total as many streams as calls at once: more would compete for the cores.
        each = math.ceil(streams / len(selected))
        members = [
            Member(
                network["stages"],
                folds_of_file,
                tuple(network["size"]),
                load(engine, self.folder / path, each, precision),
            )
            for network, path, folds_of_file in selected
        ]
        columns = {stage: tuple(names) for stage, names in self.manifest["columns"].items()}
        return Ensemble(members, columns, BATCH, streams)
