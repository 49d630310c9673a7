"""What `infer` prints for people: the first predictions in a table, the classes counted, flags and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facecade.base.errors import excerpt
from facecade.faces.words import MASK_LEGEND, WORDS, band_note, class_in_words, prediction_in_words
from facecade.report.predictions import split_flags
from facecade.report.risk_text import percent, promise_text
from facecade.report.text import columns, terminal

ROWS_SHOWN = 10
"""Rows of the table; predictions.csv has all."""

MAX_NAME = 17
"""Letters of an image's name in the table."""

FLAG_WORDS = {"no-face": "NO FACE FOUND", "no-file": "no such file", "trained-on": "trained on it"}
"""Flags that say more in words."""


def summary_text(summary: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> str:
    """Text of a summary (inference/cascade.py) with the first rows of predictions.csv."""
    flags = ", ".join(f"{name} {count}" for name, count in summary["flags"].items()) or "none"
    more = "" if summary["rows"] == summary["images"] else f", {summary['rows']} rows"
    parts = [
        *_abstained(summary),
        f"images: {summary['images']}{more}; flagged: {flags}; {summary['seconds']:.0f} s by {summary['engine']}",
        *(summary[name] for name in ("submission", "predictions") if name in summary),
    ]
    if summary["rows"] == 1:
        shown = [_one(first[0], summary["cuts"])]
    else:
        table = [_table(first, summary["cuts"]), *_more(summary, first)]
        shown = [*table, "", *_counts(summary["counts"]), f"In files: {MASK_LEGEND}", ""]
    return terminal("\n".join([*shown, *parts]))


def _abstained(summary: Mapping[str, Any]) -> list[str]:
    """How many predictions are answered, and what that promises; nothing without `--abstain`."""
    if not (abstain := summary.get("abstain")):
        return []
    share = percent(abstain["answered"] / max(1, summary["rows"]))
    return [f"answered: {abstain['answered']} of {summary['rows']} ({share})", *promise_text(abstain)]


def _one(row: Mapping[str, Any], cuts: Mapping[str, Any]) -> str:
    """The prediction for one image; that there is no face comes first."""
    notes = _notes(row, cuts)
    if row["ans"] is None:
        return f"{excerpt(row['ImageID'])}: no prediction: {'; '.join(notes)}"
    loud = f"{FLAG_WORDS['no-face']}; the center of the image was predicted\n" if "no-face" in row["flags"] else ""
    rest = "; ".join(note for note in notes if note != FLAG_WORDS["no-face"])
    text = f"{excerpt(row['ImageID'])}: {prediction_in_words(row['ans'], row['age'])}"
    confidence = f"confidence {_confidence(row)}" if _confidence(row) else ""
    return f"{loud}{text}\n" + "; ".join(filter(None, [f"class {row['ans']}", confidence, rest]))


def _confidence(row: Mapping[str, Any]) -> str:
    """The confidence as text; empty for an image that cannot be read."""
    return "" if row["confidence"] is None else f"{row['confidence']:.2f}"


def _table(rows: Sequence[Mapping[str, Any]], cuts: Mapping[str, Any]) -> str:
    several = any((row["face"] or 0) > 1 for row in rows)
    shown = any(_confidence(row) for row in rows)
    cells = [
        [
            _short(row["ImageID"]) + (f" #{row['face']}" if several and row["face"] else ""),
            "" if row["ans"] is None else class_in_words(row["ans"]),
            "" if row["age"] is None else f"{row['age']:.0f}",
            *([_confidence(row)] if shown else []),
            ", ".join(_notes(row, cuts)),
        ]
        for row in rows
    ]
    return columns(cells, ["image", "prediction", "years", *["conf."] * shown, "note"])


def _more(summary: Mapping[str, Any], first: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"and {summary['rows'] - len(first)} more"] if summary["rows"] > len(first) else []


def _notes(row: Mapping[str, Any], cuts: Mapping[str, Any]) -> list[str]:
    """A row's flags in words, and why its years lie outside of the band."""
    flags = [
        f"{row['faces']} faces" if flag == "several-faces" else FLAG_WORDS.get(flag, flag)
        for flag in split_flags(row["flags"])
    ]
    return flags if row["ans"] is None else [*flags, *filter(None, [band_note(row["ans"], row["age"], cuts)])]


def _counts(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """How many predictions there are of each mask, gender and band."""
    return [
        f"{part + ':':8}" + ", ".join(f"{WORDS[name]} {count}" for name, count in of_name.items())
        for part, of_name in counts.items()
    ]


def _short(name: str) -> str:
    """A name that fits the table, cut in its middle."""
    name, half = excerpt(name, 1000), (MAX_NAME - 1) // 2
    return name if len(name) <= MAX_NAME else f"{name[:half]}…{name[-half:]}"
