"""A fitted cascade as a folder that needs no torch: networks as ONNX, the combiner, and a manifest that names them.

manifest.json           what is here, of which run, how far each network's answers are from torch's, and how far bf16 moves
                        an answer's lead
networks/joint-fold0.onnx   crops, uint8 (batch, h, w, 3), RGB → `embedding-joint` in the shared basis, `logits-joint`; so
                        of each stage on one backbone, and of each fold, `logits-joint-0`, where all folds have it
detector/pnet.onnx, rnet.onnx, onet.onnx     MTCNN's, where the recipe finds faces by it
combiner/               as fit-meta left it
seen.json               fingerprints of the images that the run learned from
requirements.txt        the packages that `infer` needs to run from here
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
"""Crops that an exported network is shown at once. On a processor more are no quicker, and one image waits less."""

MANIFEST = "manifest.json"

NEEDED = (
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
"""Packages that `infer` needs without torch; of XGBoost's two, the one that is installed."""


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export, whole."""
    return (folder / MANIFEST).exists()


@dataclass(frozen=True)
class Exported:
    """An export's folder."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Exported:
        """Raises FacecadeError where there is no export, or one of another version."""
        if not is_export(folder):
            raise FacecadeError(f"{folder} holds no export", f"write one: {command(f'export {folder}')}")
        manifest = read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT:
            raise FacecadeError(
                f"{folder} is an export of format {manifest['format']}, not {FORMAT}", "export it again"
            )
        return cls(folder, manifest)

    @classmethod
    def known(cls, folder: Path, made_of: Mapping[str, Any]) -> Exported | None:
        """The export in a folder, where it is one of just this."""
        manifest = read_json(folder / MANIFEST) if is_export(folder) else {}
        same = manifest.get("format") == FORMAT and manifest["made_of"] == made_of
        return cls(folder, manifest) if same else None

    @property
    def made_of(self) -> dict[str, Any]:
        """What decides the answers: fits, which of them answer, combiner."""
        return dict(self.manifest["made_of"])

    @property
    def face(self) -> Face:
        """How it finds and cuts faces."""
        return Face.model_validate(self.manifest["face"])

    def seen(self) -> dict[str, str]:
        """The images that the run learned from, by content, and how `infer` marks each."""
        return read_json(self.folder / "seen.json")

    def mtcnn(self, streams: int) -> MTCNNNetworks | None:
        """MTCNN's networks; None where the recipe does without. ONNX Runtime runs them, which takes pictures of any size as they
        come; OpenVINO where there is nothing else."""
        files: dict[str, str] = self.manifest["detector"]
        if not files:
            return None
        engine = "onnx" if installed("onnx") else "openvino"
        return MTCNNNetworks(**{name: load(engine, self.folder / path, streams) for name, path in files.items()})

    def precision(self, engine: str, asked: str) -> str:
        """`auto` is bf16 where the processor has it and it was measured how near another class an answer must be for it to
        matter; fp32 otherwise.

        Raises:
            FacecadeError: bf16 was asked for of an engine that has it not, or where that is not known.
        """
        require(engine, asked)
        if asked == "bf16" and self.fallback_margin is None:
            raise FacecadeError(
                f"nothing tells which answers of {self.folder} bf16 might change: it was written on a processor without bf16, "
                "without the images' crops, or combines by a rule that jumps at a cut",
                "--precision fp32",
            )
        if asked != "auto":
            return asked
        return "bf16" if engine == "openvino" and self.fallback_margin is not None and has_bf16() else "fp32"

    @property
    def fallback_margin(self) -> float | None:
        """Lead, in nats, below which bf16 might answer otherwise than fp32, as measured; None where it was not."""
        return self.manifest["fallback_margin"]

    @property
    def fallback_share(self) -> float:
        """Share of the images whose lead in bf16 is below that, as measured; they are asked about in fp32 too."""
        return float(self.manifest["fallback_share"])

    @property
    def combiner(self) -> Path:
        """Folder of the fitted combiner."""
        return self.folder / "combiner"

    def ensemble(self, engine: str, streams: int, precision: str = "fp32", folds: int | None = None) -> Ensemble:
        """The networks of all stages, or of their first folds, run by an engine of `inference.engines.ENGINES`."""
        wanted = [
            (network, path, of)
            for network in self.manifest["networks"]
            for path, of in zip(network["files"], network["folds"], strict=True)
            if folds is None or min(of) < folds
        ]
        # As many streams in all as there are calls at once, and no more: they would fight for the cores.
        each = math.ceil(streams / len(wanted))
        members = [
            Member(network["stages"], of, tuple(network["size"]), load(engine, self.folder / path, each, precision))
            for network, path, of in wanted
        ]
        columns = {stage: tuple(names) for stage, names in self.manifest["columns"].items()}
        return Ensemble(members, columns, BATCH, streams)
