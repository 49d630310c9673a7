"""Trials of one stage on one fold of train, side by side: what a key of the recipe is worth.

    python benchmarks/tuning.py age-female DATA --trial size=[144,112] --trial other_gender=0.0

Every trial is `fit-stage STAGE --fold K` with the recipe's settings but one (or several, separated by
spaces); the score is on the people that the fold holds out. The eval set is never touched. Writes
benchmarks/TUNING.md, adding to what is there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from base.artifact import write_json, write_text  # noqa: E402
from benchmarks.results import commit, machine  # noqa: E402
from report.results import table  # noqa: E402

HEAD = """# What the recipe's keys are worth

Each row is one fit of one stage on one fold of `train`, scored on the people that fold holds out. One trial each:
small differences are noise. Made by `python benchmarks/tuning.py`; machine: {machine}.

"""


def trial(stage: str, data: Path, recipe: Path, artifacts: Path, fold: int, settings: list[str]) -> dict[str, Any]:
    """Fit once; raises where it fails."""
    keys = [part for setting in settings for part in ("--set", setting)]
    arguments = ["fit-stage", stage, "--fold", str(fold), "--data", str(data), "--recipe", str(recipe), *keys]
    command = [sys.executable, "cli.py", *arguments, "--artifacts", str(artifacts), "--json"]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    record = json.loads(said)[0]
    return {
        "stage": stage, "fold": fold, "settings": " ".join(settings) or "as the recipe says",
        "score": record["score"], "seconds": record["seconds"], "commit": commit(),
    }  # fmt: skip


@click.command()
@click.argument("stage")
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--trial", "trials", multiple=True, metavar="'KEY=VALUE …'", help="Settings of one trial; '' for none.")
@click.option("--fold", type=int, default=0, show_default=True)
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/cpu.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts/tuning"), show_default=True)
def main(stage: str, data: Path, trials: tuple[str, ...], fold: int, recipe: Path, artifacts: Path) -> None:
    """Fit STAGE on DATA once for every --trial, and write the table anew."""
    kept = ROOT / "benchmarks/tuning.json"
    rows: list[dict[str, Any]] = json.loads(kept.read_text())["trials"] if kept.exists() else []
    for settings in trials:
        rows.append(trial(stage, data, recipe, artifacts, fold, settings.split()))
        write_json(kept, {"machine": machine(), "trials": rows})
        write_text(ROOT / "benchmarks/TUNING.md", HEAD.format(machine=machine()) + _table(rows) + "\n")
        click.echo(rows[-1])


def _table(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["stage"], str(row["fold"]), f"`{row['settings']}`",
            ", ".join(f"{name} {value:.4f}" for name, value in row["score"].items()), f"{row['seconds']:.0f} s", row["commit"],
        ]
        for row in rows
    ]  # fmt: skip
    return table(["stage", "fold", "settings", "held-out score", "training", "commit"], cells)


if __name__ == "__main__":
    main()
