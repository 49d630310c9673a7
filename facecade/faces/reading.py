"""How labelled data are to be read, where they do not say it themselves: what words mean (`--map`), what folders mean (`--layout`),
and where in a path the person is (`--person-pattern`)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facecade.base.errors import FacecadeError, excerpt, problems
from facecade.base.toml import read_toml_file
from facecade.faces.label_text import EXPECTED, LABELS, is_label, spaced, suggestion

Labels = Mapping[str, str]
"""Labels as text, by `mask`, `gender` and `age`; those that are missing are unknown."""


@dataclass(frozen=True)
class Reading:
    """words: `mask`, `gender` or `age` → a word of the data, as `spaced` writes it → the label it means, empty for unknown.
    folders: the labels of folders by their name; None if the names tell. person: finds the person in an image's path.
    options: what all of this was made of, as words of a command line."""

    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    folders: Mapping[str, Labels] | None = None
    person: re.Pattern[str] | None = None
    options: tuple[str, ...] = ()

    def label(self, name: str, text: str) -> str:
        """What a text means as a label: itself, unless it is mapped."""
        return self.words.get(name, {}).get(spaced(text), text) if self.words else text

    def person_of(self, path: str) -> str:
        """The person that an image's path names; empty if none."""
        found = self.person.search(path) if self.person else None
        return (found[1] or "") if found else ""


AS_WRITTEN = Reading()
"""Nothing is mapped."""


def make_reading(maps: Sequence[str] = (), layout: Path | None = None, person_pattern: str | None = None) -> Reading:
    """
    Args:
        maps: each `FIELD.WORD=LABEL`, as `gender.M=male`; a blank label is unknown.
        layout: TOML with the labels of folders, `[classes."folder name"]`.
        person_pattern: a regular expression with one group.

    Raises:
        FacecadeError: one of them is wrong.
    """
    words: dict[str, dict[str, str]] = {}
    for each in maps:
        name, word, label = _mapping(each)
        words.setdefault(name, {})[spaced(word)] = label
    options = [word for each in maps for word in ("--map", each)]
    options += ["--layout", str(layout.resolve())] if layout else []
    options += ["--person-pattern", person_pattern] if person_pattern is not None else []
    return Reading(words, _read_folders(layout) if layout else None, _pattern(person_pattern), tuple(options))


def _mapping(text: str) -> tuple[str, str, str]:
    name, dot, rest = text.partition(".")
    word, equals, label = rest.rpartition("=")
    name, label = name.strip().lower(), label.strip().lower()
    if not dot or not equals or not word.strip() or name not in LABELS:
        raise FacecadeError(
            f"--map {excerpt(text)}: expected FIELD.WORD=LABEL, where FIELD is {', '.join(LABELS)}",
            "for example --map gender.M=male",
        )
    if label and not is_label(name, label):
        raise FacecadeError(f"--map {excerpt(text)}: {name} is {EXPECTED[name]}", _did_you_mean(name, label))
    return name, word, label


def _did_you_mean(name: str, text: str) -> str:
    near = suggestion(name, text)
    return f"did you mean {near}?" if near else "give one of them, or nothing for unknown"


def _pattern(text: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise FacecadeError(f"--person-pattern {excerpt(text)} is no regular expression: {error}") from None
    if pattern.groups != 1:
        raise FacecadeError(
            f"--person-pattern {excerpt(text)} has {pattern.groups} groups, and one is the person",
            "put parentheses around the part of the path that names the person, and (?:…) around others",
        )
    return pattern


def _read_folders(file: Path) -> dict[str, Labels]:
    """The labels of folders from TOML: `[classes."NAME"]` with `mask`, `gender`, and `age` in years or `band`."""
    tables = read_toml_file(file)
    example = '[classes."folder name"] with mask = "wear", gender = "female", age = 45 or band = "30-59"'
    classes = tables.get("classes")
    if set(tables) != {"classes"} or not isinstance(classes, Mapping) or not classes:
        raise FacecadeError(f"{file} is not a table [classes] alone", f"write {example}")
    lines: list[str] = []
    folders: dict[str, Labels] = {}
    for folder, keys in classes.items():
        where, labels = f"classes.{excerpt(folder)}", dict[str, str]()
        if not isinstance(keys, Mapping):
            lines.append(f"{where}: not a table")
            continue
        if "age" in keys and "band" in keys:
            lines.append(f"{where}: age and band are the same label: give one")
        for key, value in keys.items():
            name = "age" if key == "band" else key
            if name not in LABELS:
                lines.append(f"{where}: no key '{excerpt(key)}'; keys are mask, gender, age, band")
            elif isinstance(value, bool) or not is_label(name, text := str(value).lower()):
                lines.append(f"{where}: {key} is '{excerpt(value)}', expected {EXPECTED[name]}")
            else:
                labels[name] = text
        folders[folder] = labels
    if lines:
        raise problems(file, lines, f"write {example}", max_lines=20)
    return folders
