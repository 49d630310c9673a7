"""A fitted cascade as a folder that needs no torch: networks as ONNX, the combiner, and a manifest that names them.

manifest.json           the contents with a hash of each file, the run, how far each network's outputs differ from torch's, and
                        how far bf16 moves a margin
networks/joint-fold0.onnx   crops, uint8 (batch, h, w, 3), RGB → `embedding-joint` in the shared basis, `logits-joint`; the
                        same for each stage that shares the backbone, and per fold (`logits-joint-0`) where all folds do
detector/pnet.onnx, rnet.onnx, onet.onnx     MTCNN's, where the recipe finds faces with it
combiner/               as fit-meta saved it
seen.json               content hashes and flags of the images that the run trained on
requirements.txt        the packages that `infer` needs for this export
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import ConfigDict, Field, model_validator

from facecade.base.artifact import Record, again, read_checked, read_checked_record, read_record, valid_record
from facecade.base.choices import EnsembleKind
from facecade.base.errors import FacecadeError
from facecade.base.fields import Content, Count, Digest, PathText, Probability, Text, Versions, one_of
from facecade.base.files import file_hash, require_links_inside
from facecade.base.program import command, option
from facecade.combiner.stage_outputs import require_columns
from facecade.faces.extra import Flag
from facecade.faces.mtcnn import N_LANDMARKS, MTCNNNetworks, Net
from facecade.inference.engines import has_bf16, installed, load, require
from facecade.inference.ensemble import Ensemble, Member
from facecade.recipe import Face, Size, StageName

FORMAT = 6

BATCH = 4
"""Crops in a batch of an exported network. More are no faster on a CPU, and a single image would take longer."""

MANIFEST, SEEN, COMBINER = "manifest.json", "seen.json", "combiner/meta.json"

NETS = ("pnet", "rnet", "onet")
"""MTCNN's networks."""


def export_command(folder: Path, run: str | None = None) -> str:
    """The command that writes an export again; `run`: its run's folder, if that is known."""
    return f"export {shlex.quote(str(folder))}" + (option("--artifacts", Path(run), "artifacts") if run else "")


class ExportRecord(Record):
    """A record in the folder of an export."""

    made_by: ClassVar[str] = "export FOLDER"

    @classmethod
    def remake(cls, path: Path) -> str:
        return export_command(path.parent)


MAX_ITEMS = 1000
"""Maximum number of folds, networks and the like in a manifest."""

File = Annotated[str, Field(pattern=r"^((networks|detector|combiner)/[A-Za-z0-9_-]+\.(onnx|npz|json)|seen\.json)$")]
"""A file of an export, relative to its folder."""

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


class MadeOf(Record):
    """What decides an export's predictions: the fits, which of their networks, the combiner (hash of its meta.json), and whether the
    networks' tensors are float16."""

    fits: Digest
    ensemble: EnsembleKind
    combiner: Content
    half: bool = False


class Networks(Record):
    """The networks of the stages that share a backbone.

    size: height and width of their inputs. files: one for each entry of `folds` and `off`. off: largest difference to torch's
    outputs, in standard deviations.
    """

    stages: Annotated[tuple[StageName, ...], Field(min_length=1, max_length=MAX_ITEMS)]
    size: Size
    files: Annotated[tuple[File, ...], Field(min_length=1, max_length=MAX_ITEMS)]
    folds: tuple[Annotated[tuple[Count, ...], Field(min_length=1, max_length=MAX_ITEMS)], ...]
    off: tuple[float, ...]


class Manifest(ExportRecord):
    """manifest.json, the record of an export.

    files: hash of every file that is read. detector: files of MTCNN's networks; empty where the recipe does not use it.
    columns: names of each stage's logits. fallback_margin: in nats, below which bf16 could change a prediction, as
    measured; None where it was not. fallback_share: share of the images whose bf16 margin is below that. half_agreement: share of
    face crops whose class float16 tensors did not change; None for float32.
    """

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    run: PathText
    made_of: MadeOf
    versions: Versions
    face: Face
    detector: dict[Annotated[str, one_of(*NETS)], File]
    columns: dict[StageName, tuple[Text, ...]]
    networks: Annotated[tuple[Networks, ...], Field(max_length=MAX_ITEMS)]
    files: dict[File, Content]
    fallback_margin: Annotated[float, Field(ge=0)] | None
    fallback_share: Probability
    half_agreement: Probability | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        named = [*self.detector.values(), *(file for each in self.networks for file in each.files), SEEN, COMBINER]
        if missing := [file for file in named if file not in self.files]:
            raise ValueError(f"files lacks the hash of {missing[0]}")
        if self.files[COMBINER] != self.made_of.combiner:
            raise ValueError(f"made_of has another hash of {COMBINER} than files")
        if len(self.detector) != len(NETS) * (self.face.detector == "mtcnn"):
            raise ValueError("detector has other networks than the face needs")
        if any(not len(each.files) == len(each.folds) == len(each.off) for each in self.networks):
            raise ValueError("files, folds and off of a network have different lengths")
        if sorted(stage for each in self.networks for stage in each.stages) != sorted(self.columns):
            raise ValueError("the networks are not those of the stages in columns")
        folds = {tuple(sorted(fold for part in each.folds for fold in part)) for each in self.networks}
        if len(folds) != 1 or any(len(set(each)) < len(each) for each in folds):
            raise ValueError("the networks are not those of the same folds")
        return self


class Format(ExportRecord):
    """The format of any manifest."""

    model_config = ConfigDict(extra="ignore")
    format: Count


class Seen(ExportRecord):
    """seen.json: flags of the images that the run trained on, by content hash."""

    max_bytes: ClassVar[int] = 32 << 20  # 600,000 images
    indent: ClassVar[int | None] = None

    flags: dict[Content, Flag]


@dataclass(frozen=True)
class Exported:
    """An export's folder."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Exported:
        """Raises FacecadeError where there is no export, a damaged one, or one of another format."""
        if not is_export(folder):
            raise FacecadeError(f"{folder} holds no export", f"write one: {command(f'export {folder}')}")
        require_links_inside(folder)
        version = read_record(folder / MANIFEST, Format).format
        if version != FORMAT:
            raise FacecadeError(
                f"{folder} is an export of format {version}, not {FORMAT}", again(export_command(folder))
            )
        manifest = read_record(folder / MANIFEST, Manifest)
        require_columns(manifest.columns, again(export_command(folder, manifest.run)))
        return cls(folder, manifest)

    @classmethod
    def open_if_current(cls, folder: Path, made_of: MadeOf) -> Exported | None:
        """The export in a folder; None where there is none, or one that is damaged or has another format or `made_of`."""
        manifest = valid_record(folder / MANIFEST, Manifest)
        exported = cls(folder, manifest) if manifest and manifest.made_of == made_of else None
        return exported if exported and exported._is_whole() else None

    def _is_whole(self) -> bool:
        """Whether every file has the hash in the manifest."""
        try:
            return all(file_hash(self.folder / file) == content for file, content in self.manifest.files.items())
        except OSError:
            return False

    @property
    def made_of(self) -> MadeOf:
        """What decides the predictions."""
        return self.manifest.made_of

    @property
    def face(self) -> Face:
        """How faces are found and cropped."""
        return self.manifest.face

    def trained_on(self) -> dict[str, Flag]:
        """Flags of the images that the run trained on, by content hash."""
        return read_checked_record(self.folder / SEEN, self.manifest.files[SEEN], Seen).flags

    @property
    def _remake(self) -> str:
        return export_command(self.folder, self.manifest.run)

    def _network(self, file: str) -> tuple[bytes, Path]:
        """A network as ONNX, and its file."""
        path = self.folder / file
        return read_checked(path, self.manifest.files[file], self._remake), path

    def mtcnn(self, streams: int) -> MTCNNNetworks | None:
        """MTCNN's networks; None where the recipe does not use it.

        ONNX Runtime runs them, because it takes images of any size as they are; OpenVINO where it is not installed.
        """
        if not self.manifest.detector:
            return None
        engine = "onnx" if installed("onnx") else "openvino"
        nets = {name: load(engine, *self._network(file), streams) for name, file in self.manifest.detector.items()}
        return MTCNNNetworks(**{name: checked_net(net, name) for name, net in nets.items()})

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
        return self.manifest.fallback_margin

    @property
    def fallback_share(self) -> float:
        """Share of the images whose bf16 margin is below that, as measured; they run in fp32 as well."""
        return self.manifest.fallback_share

    @property
    def combiner(self) -> Path:
        """Folder of the fitted combiner; raises FacecadeError where it is not the one that was exported."""
        for file, content in self.manifest.files.items():
            if file.startswith("combiner/"):
                read_checked(self.folder / file, content, self._remake)
        return self.folder / "combiner"

    def ensemble(self, engine: str, streams: int, precision: str = "fp32", folds: int | None = None) -> Ensemble:
        """The networks of all stages, or of their first `folds` folds, run by an engine of `inference.engines.ENGINES`."""
        numbers = sorted({fold for part in self.manifest.networks[0].folds for fold in part})[:folds]
        selected = [
            (networks, file, folds_of_file)
            for networks in self.manifest.networks
            for file, folds_of_file in zip(networks.files, networks.folds, strict=True)
            if not set(numbers).isdisjoint(folds_of_file)
        ]
        # In total as many streams as calls at once: more would compete for the cores.
        each = math.ceil(streams / len(selected))
        members = [
            Member(networks.stages, folds_of_file, networks.size, load(engine, *self._network(file), each, precision))
            for networks, file, folds_of_file in selected
        ]
        return Ensemble(members, self.manifest.columns, BATCH, streams)


def checked_net(net: Net, name: str) -> Net:
    """A network of MTCNN; its calls raise FacecadeError where its outputs have other shapes than MTCNN's."""

    def call(pixels: np.ndarray) -> Sequence[np.ndarray]:
        outputs = net(pixels)
        boxes = outputs[1].shape[1:] if name == "pnet" and len(outputs) > 1 else ()
        count = len(pixels)
        shapes = [(count, 4, *boxes), (count, *boxes)] + [(count, 2 * N_LANDMARKS)] * (name == "onet")
        floats = all(each.dtype == np.float32 and np.isfinite(each).all() for each in outputs)
        if [each.shape for each in outputs] != shapes or not floats or (name == "pnet") != (len(boxes) == 2):
            raise FacecadeError(
                f"the network {name} of the face detector gives other outputs than MTCNN's", again(ExportRecord.made_by)
            )
        return outputs

    return call
