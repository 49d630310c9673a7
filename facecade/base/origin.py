"""What the results in an output folder were made from, so that those of another run or other data are not overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from facecade.base.artifact import Record, digest, valid_record, write_record
from facecade.base.errors import FacecadeError
from facecade.base.fields import Digest, PathText, Text

FILE = "made-from.json"


class Origin(Record):
    """What a result was made from: in words, and as a digest of the inputs with full paths. run: `CombinerRecord.signature` of the run
    whose predictions it holds; None for other results."""

    text: PathText
    inputs: Digest
    run: Digest | None = None


class Origins(Record):
    """made-from.json: the origin of each kind of result in a folder."""

    made_by: ClassVar[str] = "the command that wrote the folder"

    results: dict[Text, Origin]


def read_origin(folder: Path, kind: str) -> Origin | None:
    """Where a kind of result in a folder comes from; None where that is not known."""
    origins = valid_record(folder / FILE, Origins)
    return origins.results.get(kind) if origins else None


class Claim:
    """The right to write a kind of result to a folder; the caller holds the folder (base/lock.py)."""

    def __init__(
        self, folder: Path, kind: str, files: Sequence[str], inputs: Mapping[str, Path | str], overwrite: bool = False
    ) -> None:
        """
        Args:
            kind: of result, in words: `predictions`.
            files: names that the result has in the folder.
            inputs: what tells it from others, by name: the paths of the run and of the data.
            overwrite: also replace the results of other inputs.

        Raises:
            FacecadeError: the folder holds such a result of other inputs.
        """
        full = {name: str(each.resolve()) if isinstance(each, Path) else each for name, each in inputs.items()}
        self.folder, self.kind = folder, kind
        self._origin = Origin(text=", ".join(f"{name} {each}" for name, each in inputs.items()), inputs=digest(full))
        known = read_origin(folder, kind)
        exists = any((folder / name).exists() for name in files)
        if known and exists and known.inputs != self._origin.inputs and not overwrite:
            raise FacecadeError(
                f"{folder} holds the {kind} of {known.text}; these are of {self._origin.text}",
                "give another folder (--output NEW), or replace them with --overwrite",
            )

    def write(self, run: str | None = None) -> None:
        """Note in the folder that its result is now of these inputs; `run`: see `Origin`."""
        known = valid_record(self.folder / FILE, Origins)
        origin = self._origin.model_copy(update={"run": run})
        write_record(self.folder / FILE, Origins(results={**(known.results if known else {}), self.kind: origin}))
