"""The competition's layouts: `train.csv` with seven images of each person, and `info.csv` with images to predict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.layouts.given import MISSING_FILE, Given, GivenRow
from facecade.faces.listing import NamedFiles, composed, file_reason, passed_over_text
from facecade.faces.problems import Problem

FILE_MASKS = {**{f"mask{i}": "wear" for i in range(1, 6)}, "incorrect_mask": "incorrect", "normal": "normal"}
"""The competition's file names and the mask state of each."""


def training(root: Path) -> Given:
    """`train.csv` (id,gender,race,age,path) with seven files for each person in `images/<path>/`."""
    sheet = root / "train.csv"
    rows: list[GivenRow] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    passed_over: Counter[str] = Counter()
    folders = _folders(root / "images")
    by_composed, used = {composed(name): name for name in folders}, set[str]()
    for line in read_csv_rows(sheet, ["id", "gender", "age", "path"]):
        cells, where = line.cells, f"{sheet.name} row {line.number}"
        labels = {"gender": cells["gender"], "age": cells["age"]}
        errors = [Problem(where, message) for message in line.problems]
        person = cells["path"]
        if person in seen:
            errors.append(Problem(where, f"path '{person}' is already in row {seen[person]}", "path of another row"))
        seen.setdefault(person, line.number)
        name = person if person in folders else by_composed.get(composed(person), "")
        used.add(name)
        if name not in folders:
            errors.append(Problem(where, f"no folder images/{person}", "no folder in images/"))
        if errors:
            rows.append(GivenRow(where, "", person, labels, problems=errors))
            continue
        files: dict[str, str] = {}
        for path in sorted(folders[name].iterdir()):
            if reason := file_reason(path):
                passed_over[reason] += 1
                continue
            state, relative = path.stem.lower(), path.relative_to(root).as_posix()
            if state not in FILE_MASKS:
                problems.append(Problem(relative, f"unknown file name; expected {', '.join(FILE_MASKS)}"))
            elif state in files:
                problems.append(Problem(relative, f"a second {state}, next to {files[state]}", f"a second {state}"))
            else:
                files[state] = relative
        missing = ", ".join(state for state in FILE_MASKS if state not in files)
        if missing:
            problems.append(Problem(where, f"images/{person} lacks {missing}", f"a person lacks {missing}"))
        rows += [
            GivenRow(where, path, person, {"mask": FILE_MASKS[state], **labels}, cells["id"])
            for state, path in sorted(files.items())
        ]
    notes = [passed_over_text(passed_over)] if passed_over else []
    if unnamed := sorted(folders.keys() - used):
        notes.append(f"{len(unnamed)} folder(s) in images/ that train.csv does not name: {', '.join(unnamed[:5])}")
    return Given(root, "competition", rows, ["gender", "age"], problems, notes, passed_over=passed_over)


def _folders(images: Path) -> dict[str, Path]:
    """The folders of people by their name."""
    found = sorted(images.iterdir()) if images.is_dir() else []
    return {path.name: path for path in found if path.is_dir() and not path.name.startswith(".")}


def evaluation(root: Path) -> Given:
    """`info.csv` (ImageID,ans) with `images/`: one row for each line, in its order, also if the image is missing."""
    lines = read_csv_rows(root / "info.csv", ["ImageID"])
    files = NamedFiles(root / "images")
    rows: list[GivenRow] = []
    first: dict[str, int] = {}
    for line in lines:
        name, where = line.cells["ImageID"], f"info.csv row {line.number}"
        problems, missing = [Problem(where, message) for message in line.problems], None
        found = files.find(name)
        if found is None:
            missing = Problem(where, f"no file images/{name}" if name else "no ImageID", MISSING_FILE)
        if name and name in first:
            problems.append(Problem(where, f"ImageID '{name}' is already in row {first[name]}", "ImageID twice"))
        first.setdefault(name, line.number)
        path = found or name.replace("..", "__").lstrip("/")  # never outside of images/
        rows.append(GivenRow(where, f"images/{path}", name=name, problems=problems, missing=missing))
    notes = [f"{files.respelled} name(s) of info.csv found in another spelling"] if files.respelled else []
    return Given(root, "evaluation", rows, notes=notes)
