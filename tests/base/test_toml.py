"""TOML of strangers is read in bounded time and memory, or refused in a sentence."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from facecade.base.errors import FacecadeError
from facecade.base.toml import MAX_BYTES, MAX_DEPTH, MAX_VALUES, parse_toml, read_toml_file, unusable

HOSTILE = {
    "lists in lists": ("x = " + "[" * 400 + "]" * 400, "deep"),
    "lists in many lists": ("x = " + "[" * 20_000 + "]" * 20_000, "deep"),
    "tables in many tables": ("x = " + "{a = " * 20_000 + "1" + "}" * 20_000, "deep"),
    "a long dotted key": (".".join("a" * 50_000) + " = 1", "dots"),
    "many dotted keys": ("\n".join(".".join([f"k{row}", *"a" * 30]) + " = 1" for row in range(2000)), "values"),
    "a long name of a table": ("[" + ".".join("a" * 50) + "]", "deep"),
    "many keys": ("\n".join(f"k{row} = 1" for row in range(MAX_VALUES + 1)), f"more than {MAX_VALUES:,} values"),
    "a long list": (f"x = [{'1, ' * (MAX_VALUES + 1)}]", f"more than {MAX_VALUES:,} values"),
    "a long number": ("x = " + "9" * 5000, "thousands of digits"),
    "a number of 65 bits": ("x = 0x1" + "0" * 16, "more than 64 bits"),
    "no number": ("x = nan", "not a finite number"),
    "a number that is infinite": ("x = [1e999]", "x.0: inf is not a finite number"),
    "a date": ("x = 2020-02-20", "a date"),
    "a long text": (f"x = '{'a' * 20_000}'", "a text of 20,000 characters"),
    "control characters": (r'x = "\u001b[31m"', r"control characters, \\x1b\[31m"),
    "a long key": ("a" * 100_000 + " = nan", "not a finite number"),
    "no syntax": ("y = 1\nx = = 2", r"not TOML.*line 2"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_text_is_refused_at_once(case: str, tmp_path: Path) -> None:
    text, message = HOSTILE[case]
    (tmp_path / "x.toml").write_text(text)
    started = time.monotonic()
    with pytest.raises(FacecadeError, match=message) as caught:
        read_toml_file(tmp_path / "x.toml")
    assert time.monotonic() - started < 5
    assert len(str(caught.value).replace(str(tmp_path), "")) < 200 and str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["large", "pipe", "folder", "binary"])
def test_only_small_regular_files_of_text_are_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    if kind == "large":
        path.write_bytes(b"#" * (MAX_BYTES + 1))
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\xff\xfe\x00")
    message = {"large": "more than the allowed", "binary": "not UTF-8"}.get(kind, "not a regular file")
    with pytest.raises(FacecadeError, match=message):
        read_toml_file(path)


def test_what_a_recipe_has_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xef\xbb\xbf[a.b]\nc = [1, 0.5, true, 'text', { d = -9223372036854775808 }]\n")
    expected = {"a": {"b": {"c": [1, 0.5, True, "text", {"d": -(2**63)}]}}}
    assert read_toml_file(tmp_path / "x.toml") == expected
    deep = "x = " + "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_toml(deep, "it")["x"] and not list(unusable({"a": None, "b": (1, 2)}))
