"""The entries of a comparison as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from facecade.report.results import table
from facecade.report.text import difference, interval


def markdown(result: Mapping[str, Any]) -> str:
    """The leaderboard, what the budget changed, and what failed."""
    rows = []
    for rank, row in enumerate(result["entries"], 1):
        nested, held_out = row["nested"], row["eval"]
        rows.append(
            [
                str(rank),
                row["recipe"],
                f"{row['kind']}: {row['method']}",
                interval(nested["macro-F1"], 3),
                _gap(row["to_best"], rank),
                interval(nested["accuracy"], 3),
                interval(nested["age MAE"], 2) if "age MAE" in nested else "-",
                *([interval(held_out["macro-F1"], 3), _gap(row["eval_to_best"], rank)] if held_out else []),
                f"{row['training_seconds'] / 60:.1f} min",
                f"{row['images_per_second']:.0f}",
                f"{row['parameters'] / 1e6:.1f} M in {row['models']}",
            ]
        )
    head = ["", "recipe", "method", "nested macro-F1", "to the best", "accuracy", "age MAE"]
    head += ["eval macro-F1", "to the best"] if result["entries"] and result["entries"][0]["eval"] else []
    head += ["training", "images/s", "parameters"]
    lines = [table(head, rows)] if rows else []
    changes = {row["recipe"]: row["changes"] for row in result["entries"] if row["changes"]}
    if changes:
        lines += ["", "What the budget changed:", ""]
        lines += [f"* {name}: {'; '.join(each)}" for name, each in changes.items()]
    if result["failed"]:
        lines += ["", "Failed:", ""] + [f"* {name}: {reason}" for name, reason in result["failed"].items()]
    return "\n".join(lines) + "\n"


def _gap(to_best: Mapping[str, float], rank: int) -> str:
    return difference(to_best, 3) if rank > 1 else "best"


@dataclass(frozen=True)
class Comparison:
    """A comparison's result, the command that made it, the commits of its calls, and their machine. note: what a reader of its times
    must know."""

    result: Mapping[str, Any]
    command: str
    commits: Sequence[str]
    machine: str
    note: str = ""

    def origin(self) -> str:
        return f"Machine: {self.machine}. Commit: {', '.join(self.commits)}. `{self.command}`"


def page(comparisons: Sequence[Comparison], own: str) -> str:
    """The leaderboard as a page: what was compared, under which conditions, and the results.

    Args:
        comparisons: the main one, and further ones of the same recipes from other weights or with `repeats`, each a
            section.
        own: name of Facecade's own recipe.
    """
    first, *others = comparisons
    result = first.result
    budget = result["budget"]
    return "\n".join(
        [
            "# Published systems and Facecade on the same people, folds and operations",
            "",
            f"{first.origin()},",
            "run by `python benchmarks/comparison.py`; every number is read from its output.",
            "",
            f"{result['folds']} folds by person, seed {result['seed']}; {budget['teraflops']:g}·10¹² operations of training per fold, inputs of at most",
            f"{budget['pixels']} pixels; each published recipe has one kind of backbone from the same ImageNet weights (a small network that a",
            f"recipe trains from scratch is not changed). `{own}` is Facecade's own recipe, designed for about this budget. Its settings were chosen on folds of these people, never on",
            "eval, so the eval column is the fairest. The others are scaled to the budget, as listed below, and not tuned for it.",
            f"Training is the sum of the fits' times; fits ran in parallel. {first.note}".strip(),
            "*As published* is the prediction of the system itself, *combined* that of the same models stacked by Facecade. Intervals are 95 %,",
            "by bootstrap over people; differences are paired by person.",
            "",
            markdown(result),
            "## Summary",
            "",
            summary(result, own),
            "",
            *(line for other in others for line in _part(other, own)),
        ]
    )


def _part(comparison: Comparison, own: str) -> list[str]:
    """The section of a further comparison: its initial weights, and how often each network was trained."""
    result = comparison.result
    weights, repeats = result["budget"]["weights"], result["repeats"]
    starts = "ImageNet" if weights == "package" else "a face network"
    averaged = f", every network {repeats} times, averaged" if repeats > 1 else ""
    lines = []
    if weights != "package":
        lines += [
            f"Here every recipe starts from `{weights}`, as `{own}` does, so the weights do not explain the differences."
        ]
    if repeats > 1:
        lines += [
            f"The networks of one fold predict a held-out person, but the mean of those of {result['folds']} folds predicts eval: the nested scores above do not",
            f"include what a recipe gains from averaging. Here each network was trained {repeats} times, each time with the same budget and another",
            "seed, and the nested predictions are averages too. The published recipes are the best ones of the comparison without averaging.",
        ]
    title = f"## The published recipes from {starts}{averaged}"
    return [
        title,
        "",
        *lines,
        f"{comparison.origin()}: {comparison.note}".strip(),
        "",
        markdown(result),
        summary(result, own),
        "",
    ]


def best_published(result: Mapping[str, Any], own: str, count: int) -> list[str]:
    """The published recipes with the best scores as published, the best first."""
    published = [row["recipe"] for row in result["entries"] if row["kind"] == "as published" and row["recipe"] != own]
    return published[:count]


def summary(result: Mapping[str, Any], own: str) -> str:
    """A table of Facecade's own recipe and the best of the others, and a sentence that compares them."""
    entries = result["entries"]
    own_row = next(row for row in entries if row["recipe"] == own and row["kind"] == "combined")
    kinds = ("as published", "combined")
    rivals = [next(row for row in entries if row["recipe"] != own and row["kind"] == kind) for kind in kinds]
    with_eval = bool(own_row["eval"])
    rows = [
        [
            name,
            interval(row["nested"]["macro-F1"], 3),
            *([interval(row["eval"]["macro-F1"], 3)] if with_eval else []),
            *("-" if row is entries[0] else _gap(row[gap], 2) for gap in ("to_best", "eval_to_best")[: 1 + with_eval]),
        ]
        for name, row in [
            ("Facecade's cascade, combined", own_row),
            *((f"best other system, {row['kind']}: `{row['recipe']}`", row) for row in rivals),
        ]
    ]
    head = ["macro-F1", "nested", *["eval"] * with_eval, "difference, nested", *["difference, eval"] * with_eval]
    return f"{table(head, rows)}\n\n{_conclusion(own_row, rivals, is_best=own_row is entries[0])}"


def _conclusion(own_row: Mapping[str, Any], rivals: Sequence[Mapping[str, Any]], is_best: bool) -> str:
    """Whether Facecade is better or worse than the others, or not significantly different, nested and on eval."""
    if not is_best:
        return "Facecade's cascade does not have the best nested score. Differences are to the best, paired by person."
    nested = _compared([row["to_best"] for row in rivals])
    on_eval = _compared([row["eval_to_best"] for row in rivals]) if own_row["eval"] else nested
    words = f"Nested, Facecade's cascade {nested}" + ("" if nested == on_eval else f"; on eval, it {on_eval}")
    if own_row["eval"] and nested == on_eval:
        words = f"Nested and on eval, Facecade's cascade {nested}"
    return f"{words}. Differences are to Facecade's, paired by person."


def _compared(differences: Sequence[Mapping[str, float]]) -> str:
    """What differences (another system minus Facecade's) say, with their 95 % intervals."""
    if all(each["high"] < 0 for each in differences):
        return "is significantly better than the other two rows"
    if all(each["low"] > 0 for each in differences):
        return "is significantly worse than the other two rows"
    if all(each["low"] <= 0 <= each["high"] for each in differences):
        return "does not differ significantly from the other two rows"
    return "differs significantly from one of the other two rows"


def flat_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row per entry, one column per number: scores with the ends of their intervals."""
    rows = []
    for entry in result["entries"]:
        row = {key: entry[key] for key in ("recipe", "kind", "method", "training_seconds", "images_per_second")}
        row |= {"parameters": entry["parameters"], "models": entry["models"], "changes": "; ".join(entry["changes"])}
        for where in ("nested", "eval"):
            for name, value in (entry[where] or {}).items():
                row |= {
                    f"{where} {name}{end}": value[key]
                    for end, key in (("", "value"), (" low", "low"), (" high", "high"))
                }
        for name, gap in (("to best", entry["to_best"]), ("eval to best", entry["eval_to_best"] or {})):
            row |= {f"{name} {key}": value for key, value in gap.items()}
        rows.append(row)
    return pd.DataFrame(rows)
