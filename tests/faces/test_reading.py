"""`--map`, `--layout` and `--person-pattern` are checked before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.reading import make_reading


def test_words_are_replaced_whatever_their_case() -> None:
    reading = make_reading(["gender.M=male", "mask.with_mask=wear", "gender.unknown=", "age.n/a="])
    assert [reading.label("gender", text) for text in ("m", "M", "F", "Unknown")] == ["male", "male", "F", ""]
    assert reading.label("mask", "With-Mask") == "wear" and reading.label("age", "N/A") == ""


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("M=male", "expected FIELD.WORD=LABEL", "--map gender.M=male"),
        ("sex.M=male", "where FIELD is mask, gender, age", "--map gender.M=male"),
        ("gender.=male", "expected FIELD.WORD=LABEL", "--map gender.M=male"),
        ("gender.M=man", "gender is male or female", "did you mean male?"),
        ("age.adult=20-40", "age is years between 1 and 120", "give one of them"),
    ],
)
def test_a_wrong_map_is_refused(text: str, message: str, hint: str) -> None:
    with pytest.raises(FacecadeError, match=message) as caught:
        make_reading([text])
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "no regular expression"), ("a", "has 0 groups"), ("(a)(b)", "has 2 groups")]
)
def test_a_wrong_person_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(FacecadeError, match=message):
        make_reading(person_pattern=pattern)


def test_a_layout_names_folders(tmp_path: Path) -> None:
    file = tmp_path / "classes.toml"
    file.write_text('[classes."A 1"]\nmask = "wear"\ngender = "female"\nage = 45\n[classes.b]\nband = "30-59"\n')
    folders = make_reading(layout=file).folders
    assert folders == {"A 1": {"mask": "wear", "gender": "female", "age": "45"}, "b": {"age": "30-59"}}


def test_a_wrong_layout_is_refused_with_every_reason(tmp_path: Path) -> None:
    file = tmp_path / "classes.toml"
    file.write_text(
        '[classes.a]\nmask = "on"\nsex = "male"\n[classes.b]\nage = 30\nband = "30-59"\n[classes.c]\nage = true\n'
    )
    with pytest.raises(FacecadeError) as caught:
        make_reading(layout=file)
    for line in (
        "classes.a: mask is 'on'",
        "no key 'sex'",
        "classes.b: age and band are the same",
        "classes.c: age is 'True'",
    ):
        assert line in str(caught.value)
    file.write_text("mask = 1\n")
    with pytest.raises(FacecadeError, match="is not a table \\[classes\\] alone"):
        make_reading(layout=file)
