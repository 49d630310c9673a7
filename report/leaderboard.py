"""A comparison's rows as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from report.results import interval, table


def markdown(result: Mapping[str, Any]) -> str:
    """The leaderboard, what was scaled, and what failed."""
    rows = []
    for place, row in enumerate(result["entries"], 1):
        nested, held_out, behind = row["nested"], row["eval"], row["to_best"]
        gap = f"{behind['value']:+.3f} [{behind['low']:+.3f}, {behind['high']:+.3f}]" if place > 1 else "best"
        rows.append(
            [
                str(place),
                row["recipe"],
                f"{row['kind']}: {row['way']}",
                interval(nested["macro-F1"], 3),
                gap,
                interval(nested["accuracy"], 3),
                interval(nested["age MAE"], 2) if "age MAE" in nested else "-",
                *([interval(held_out["macro-F1"], 3)] if held_out else []),
                f"{row['training_seconds'] / 60:.1f} min",
                f"{row['photographs_per_second']:.0f}",
                f"{row['parameters'] / 1e6:.1f} M in {row['models']}",
            ]
        )
    head = ["", "recipe", "answer", "nested macro-F1", "to the best", "accuracy", "age MAE"]
    head += ["eval macro-F1"] if result["entries"] and result["entries"][0]["eval"] else []
    head += ["training", "photographs/s", "parameters"]
    lines = [table(head, rows)]
    changes = {row["recipe"]: row["changes"] for row in result["entries"] if row["changes"]}
    if changes:
        lines += ["", "What the budget changed:", ""]
        lines += [f"* {name}: {'; '.join(said)}" for name, said in changes.items()]
    if result["failed"]:
        lines += ["", "Failed:", ""] + [f"* {name}: {why}" for name, why in result["failed"].items()]
    return "\n".join(lines) + "\n"


def flat_table(result: Mapping[str, Any]) -> pd.DataFrame:
    """One row an entry, one column a number: scores with the ends of their intervals."""
    rows = []
    for entry in result["entries"]:
        row = {key: entry[key] for key in ("recipe", "kind", "way", "training_seconds", "photographs_per_second")}
        row |= {"parameters": entry["parameters"], "models": entry["models"], "changes": "; ".join(entry["changes"])}
        for where in ("nested", "eval"):
            for name, value in (entry[where] or {}).items():
                row |= {
                    f"{where} {name}{end}": value[key]
                    for end, key in (("", "value"), (" low", "low"), (" high", "high"))
                }
        row |= {
            f"to best{end}": entry["to_best"][key] for end, key in (("", "value"), (" low", "low"), (" high", "high"))
        }
        rows.append(row)
    return pd.DataFrame(rows)
