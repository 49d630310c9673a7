"""Records are read as if a stranger had written them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field

from facecade.base.artifact import Record, read_checked, read_record, valid_record, write_record
from facecade.base.errors import FacecadeError
from facecade.base.fields import Content, Text
from facecade.base.files import bytes_hash, require_links_inside


class Example(Record):
    made_by: ClassVar[str] = "fit-meta"
    max_bytes: ClassVar[int] = 300_000

    count: Annotated[int, Field(ge=0)]
    sizes: tuple[int, int]
    share: float = 0.5
    names: dict[Text, Content] = Field(default_factory=dict)
    tables: dict[str, Any] = Field(default_factory=dict)


RECORD = Example(count=3, sizes=(4, 5), names={"a": "0" * 32}, tables={"x": [1, {"y": "é"}]})


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = write_record(tmp_path / "r.json", RECORD)
    assert read_record(tmp_path / "r.json", Example) == RECORD
    assert bytes_hash((tmp_path / "r.json").read_bytes()) == content
    assert valid_record(tmp_path / "gone.json", Example) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("null", "should be an object"),
        ("[]", "should be an object"),
        ('{"count": 1', "is not JSON"),
        ('{"sizes": [4, 5]}', "count: field required"),
        ('{"count": -1, "sizes": [4, 5]}', "count: input should be greater"),
        ('{"count": "1", "sizes": [4, 5]}', "count: input should be a valid integer"),
        ('{"count": 1.5, "sizes": [4, 5]}', "count: input should be a valid integer"),
        ('{"count": 1, "sizes": [4]}', "sizes.1: field required"),
        ('{"count": 1, "sizes": [4, 5], "more": 1}', "more: extra inputs"),
        ('{"count": 1, "sizes": [4, 5], "share": NaN}', "is not JSON"),
        ('{"count": 1, "sizes": [4, 5], "share": 1e999}', "share: input should be a finite number"),
        ('{"count": 1, "sizes": [4, 5], "tables": {"x": Infinity}}', "is not JSON"),
        ('{"count": 1' + "0" * 5000 + ', "sizes": [4, 5]}', "number out of range"),
        ('{"count": 1, "sizes": [4, 5], "names": {"a": "../x"}}', "names.a: string should match pattern"),
        ('{"count": 1, "sizes": [4, 5], "names": {"\\u001b[2J": "' + "0" * 32 + '"}}', "should match pattern"),
        ('{"count": 1, "sizes": [4, 5], "tables": ' + "[" * 100_000, "recursion limit exceeded"),
        ('{"' + "k" * 100_000 + '": 1, "count": 1, "sizes": [4, 5]}', "extra inputs"),
        ('"' + "x" * 400_000 + '"', "more than the allowed 300,000"),
    ],
)
def test_whatever_is_wrong_is_one_error_with_the_command_that_helps(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(FacecadeError) as error:
        read_record(path, Example)
    assert words in str(error.value) and str(path) in str(error.value) and len(str(error.value)) < 600
    assert error.value.hint == "make it again: python cli.py fit-meta"


def test_all_problems_are_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"count": "x", "sizes": [1, null], "share": []}')
    with pytest.raises(FacecadeError, match=r"3 problem\(s\):\n  count.*\n  sizes\.1.*\n  share"):
        read_record(tmp_path / "r.json", Example)


def test_what_is_not_a_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path, "not a regular"),
        (tmp_path / "x", "exist"),
    ):
        with pytest.raises(FacecadeError, match=words):
            read_record(path, Example)
        with pytest.raises(FacecadeError, match=words):
            read_checked(path, "0" * 32, "fit-meta")


def test_changed_file_is_named_with_the_command_that_makes_it_again(tmp_path: Path) -> None:
    path = tmp_path / "w.bin"
    path.write_bytes(b"abc")
    assert read_checked(path, bytes_hash(b"abc"), "fit-stage mask") == b"abc"
    path.write_bytes(b"abd")
    with pytest.raises(FacecadeError, match=r"w\.bin was changed or is damaged") as error:
        read_checked(path, bytes_hash(b"abc"), "fit-stage mask")
    assert error.value.hint == "make it again: python cli.py fit-stage mask"


def test_links_may_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run/sub").mkdir(parents=True)
    (tmp_path / "run/sub/file").write_text("x")
    (tmp_path / "run/inside").symlink_to("sub/file")
    (tmp_path / "run/circle").symlink_to("circle")
    (tmp_path / "link").symlink_to("run")
    require_links_inside(tmp_path / "run")
    require_links_inside(tmp_path / "link")
    require_links_inside(tmp_path / "nowhere")
    for target in ("/etc", "../../other", str(tmp_path / "running")):
        (tmp_path / "run/sub/out").unlink(missing_ok=True)
        (tmp_path / "run/sub/out").symlink_to(target)
        for folder in ("run", "link"):
            with pytest.raises(FacecadeError, match="out is a link that leads out of"):
                require_links_inside(tmp_path / folder)
