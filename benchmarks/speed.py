"""All ratios that have a required value: read from the pages on speed, and written into benchmarks/RESULTS.md.

    python benchmarks/speed.py

Nothing is measured here. Call it after one of those pages is written; a test fails where that was forgotten.
"""

from __future__ import annotations

import sys

import click
from steps import ROOT, into
from tables import commit_of, required_ratios

sys.path.insert(0, str(ROOT))
from facecade.report.results import table

TIMED = ("INFERENCE", "TRAINING")


def speed() -> str:
    """The section, in Markdown."""
    pages = {name: (ROOT / f"benchmarks/{name}.md").read_text() for name in TIMED}
    rows = [
        [heading, ratio, measured, required, "yes" if _met(measured, required) else "**no**"]
        for text in pages.values()
        for heading, ratio, measured, required in required_ratios(text)
    ]
    commits = " and ".join(f"`benchmarks/{name}.md` (commit {commit_of(text)})" for name, text in pages.items())
    return f"""## Speed

Both sides of a ratio were measured in one run. Read from {commits},
which say what bounds each ratio and list the attempts without a gain. (a) is the published method, (b) Facecade, *bound* the
rate that decoding, finding faces and the networks allow on the same cores.

{table(["of", "ratio", "measured", "required", "met"], rows)}

Why the networks of all folds predict, and how much a single one lowers the score: `benchmarks/ANSWERING.md`. How bf16 changes
predictions: `benchmarks/ROUNDING.md`."""


def _met(measured: str, required: str) -> bool:
    sign, value = required.split()
    return float(measured) >= float(value) if sign == "≥" else float(measured) <= float(value)


@click.command()
def main() -> None:
    """Write the section into benchmarks/RESULTS.md."""
    target = ROOT / "benchmarks/RESULTS.md"
    into(target, "speed", speed())
    click.echo(target)


if __name__ == "__main__":
    main()
