"""Broken tables and recipes: read as meant, or refused in words; no row vanishes without being named."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from facecade.base.errors import FacecadeError
from facecade.faces.corrections import apply_corrections
from facecade.faces.csv_rows import read_csv_rows
from facecade.faces.source import Source, read_source
from facecade.recipe_file import parse, read_toml
from facecade.report.evaluate import read_labels

from .tally import Tally

HEADS = {
    "train": ["id", "gender", "race", "age", "path"],
    "info": ["ImageID", "ans"],
    "manifest": ["path", "person", "mask", "gender", "age"],
    "corrections": ["id", "field", "value"],
    "labels": ["ImageID", "ans", "age", "person"],
}

CELLS = st.one_of(
    st.sampled_from(
        ["male", "female", "wear", "normal", "25", "61", "a.jpg", "person1", "gender", "age", "0", "17", ""]
    ),
    st.sampled_from(
        ["nan", "inf", "-1", "1e400", "5_8", "٣٤", "0x1A", "../../etc/passwd", "/dev/zero", "a" * 300, "'", '"']
    ),
    st.sampled_from(
        ["\r", "\n", "a\rb", "\0", "\ufeff", "é", "e\u0301", "김", "=1+1", " a ", "\t", ";", "swap", "None", "True"]
    ),
    st.text(max_size=20),
)
ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp949", "latin-1"])
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=10),
        st.sampled_from(["none", "mtcnn", "joint", "resnet18", "../x", "stage:joint", "auto", 1e308, 10**9, -1]),
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *(
            "seed",
            "folds",
            "face",
            "augment",
            "defaults",
            "stages",
            "combiner",
            "ensemble",
            "age_cap",
            "size",
            "epochs",
        ),
        *("backbone", "lr", "weights", "freeze", "loss", "views", "joint", "mask", "gender", "detector", "thresholds"),
        *("anchors", "rounds"),
    ]
)
RECIPES = st.dictionaries(
    KEYS, st.one_of(VALUES, st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES))))
)


def fuzz_tables(kind: str, count: int) -> Tally:
    """`count` tables of a kind in HEADS."""
    tally = Tally()
    row = st.lists(CELLS, min_size=0, max_size=7)

    @given(
        st.permutations(HEADS[kind]),
        st.lists(row, max_size=8),
        st.sampled_from(",;\t"),
        ENCODINGS,
        st.binary(max_size=3),
    )
    def one(head: list[str], rows: list[list[str]], delimiter: str, encoding: str, noise: bytes) -> None:
        text = "\n".join(delimiter.join(cells) for cells in [head, *rows])
        data = text.encode(encoding, "replace")
        with tempfile.TemporaryDirectory() as folder:
            _try(tally, f"{kind} {data!r}", lambda: _read(kind, Path(folder), data + noise))

    _many(count)(one)()
    return tally


def fuzz_recipes(count: int) -> Tally:
    """`count` recipes: TOML of known keys with other values, and text that is nearly TOML."""
    tally = Tally()

    @given(RECIPES, st.binary(max_size=4), st.integers(0, 10_000))
    def one(recipe: dict[str, object], noise: bytes, position: int) -> None:
        try:
            data = tomli_w.dumps(recipe).encode()
        except (TypeError, ValueError):  # TOML has no null
            data = repr(recipe).encode()
        position %= len(data) + 1
        data = data[:position] + noise + data[position:]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "recipe.toml")
            file.write_bytes(data)
            _try(tally, f"recipe {data[:500]!r}", lambda: parse(read_toml(file), "recipe.toml") and None)

    _many(count)(one)()
    return tally


def _many(count: int) -> settings:
    """hypothesis as a generator of cases: failures are counted, not searched for the smallest."""
    return settings(
        max_examples=count,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def _try(tally: Tally, case: str, read: object) -> None:
    tally.tried += 1
    began = time.monotonic()
    try:
        lost = read()  # type: ignore[operator]
        tally.lost += lost or 0
        if lost:
            tally.wrong.append(f"{case}: {lost} rows are neither used nor named")
    except FacecadeError as error:
        tally.refused += 1
        if len(f"{error}{error.hint}") > 20_000:
            tally.wrong.append(f"{case}: a message of {len(str(error))} characters")
    except BaseException as error:
        tally.crashed.append(f"{case}: {type(error).__name__}: {str(error)[:200]}")
    tally.slowest = max(tally.slowest, time.monotonic() - began)


def _read(kind: str, folder: Path, data: bytes) -> int:
    """Read a table as the commands do. Returns how many of its rows are neither in the result nor named in a problem."""
    (folder / "images/person1").mkdir(parents=True)
    for name in ("a.jpg", "images/a.jpg", "images/person1/mask1.jpg"):
        (folder / name).write_bytes(b"not decoded here")
    names = {"train": "train.csv", "info": "info.csv", "manifest": "manifest.csv"}
    file = folder / names.get(kind, "table.csv")
    file.write_bytes(data)
    if kind == "labels":
        read_labels(file)
        return 0
    if kind == "corrections":
        (folder / "manifest.csv").write_text("path,person,mask,gender,age\na.jpg,person1,wear,male,25\n")
        rows = read_csv_rows(file, HEADS[kind])
        _, _, messages = apply_corrections(read_source(folder).table, file)
        return len(rows) - len(messages)
    source = read_source(folder)
    rows = read_csv_rows(file, [name for name in HEADS[kind] if name not in ("race", "ans")])
    if kind == "info":
        return len(rows) - len(source.table)
    used = set(source.table["path"]) | set(source.table["person"])
    return sum(row.cells["path"] not in used and row.number not in _named(source) for row in rows)


def _named(source: Source) -> set[int]:
    """Numbers of the rows that a problem names."""
    return {int(found[1]) for problem in source.problems if (found := re.search(r"row (\d+)$", problem.where))}
