"""Results of another run or of other data are not overwritten without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from facecade.base.errors import FacecadeError
from facecade.base.origin import FILE, Claim, read_origin


def write(folder: Path, run: str, overwrite: bool = False, kind: str = "report") -> None:
    claim = Claim(folder, kind, [f"{kind}.html"], {"run": folder / run}, overwrite)
    (folder / f"{kind}.html").write_text(run)
    claim.write("0" * 16)


def test_the_same_inputs_write_again_and_others_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "a")
    with pytest.raises(FacecadeError, match=r"holds the report of run .*a; these are of run .*b") as error:
        write(tmp_path, "b")
    assert "--output NEW" in error.value.hint and "--overwrite" in error.value.hint
    assert (tmp_path / "report.html").read_text() == "a"
    write(tmp_path, "b", overwrite=True)
    write(tmp_path, "b")
    assert (tmp_path / "report.html").read_text() == "b"


def test_kinds_of_results_are_kept_apart(tmp_path: Path) -> None:
    write(tmp_path, "a")
    write(tmp_path, "b", kind="audit")
    first, second = read_origin(tmp_path, "report"), read_origin(tmp_path, "audit")
    assert first and second and first.text.endswith("/a") and second.text.endswith("/b")
    assert read_origin(tmp_path, "other") is None


def test_what_was_removed_is_not_protected(tmp_path: Path) -> None:
    write(tmp_path, "a")
    (tmp_path / "report.html").unlink()
    write(tmp_path, "b")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"results": {"report": 1}}', '{"results": {}, "more": 1}'])
def test_a_damaged_note_protects_nothing_and_stops_nothing(tmp_path: Path, text: str) -> None:
    write(tmp_path, "a")
    (tmp_path / FILE).write_text(text)
    assert read_origin(tmp_path, "report") is None
    write(tmp_path, "b")
    assert read_origin(tmp_path, "report") is not None
