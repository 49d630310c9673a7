"""What was measured against a bar, together: read from the pages on speed, and put into benchmarks/RESULTS.md.

    python benchmarks/speed.py

Nothing is measured here. To be called after each of those pages is written; a test says where that was forgotten.
"""

from __future__ import annotations

import sys

import click
from steps import ROOT, into
from tables import barred, commit_of

sys.path.insert(0, str(ROOT))
from facecade.report.results import table

TIMED = ("INFERENCE", "TRAINING")


def speed() -> str:
    """The section, in Markdown."""
    pages = {name: (ROOT / f"benchmarks/{name}.md").read_text() for name in TIMED}
    rows = [
        [heading, what, measured, bar, "yes" if _met(measured, bar) else "**no**"]
        for text in pages.values()
        for heading, what, measured, bar in barred(text)
    ]
    commits = " and ".join(f"`benchmarks/{name}.md` (commit {commit_of(text)})" for name, text in pages.items())
    return f"""## Speed

Both sides of a ratio were measured in one run. Read from {commits},
which say what bounds each, and keep a line for every attempt that did not pay. (a) is the published way, (b) Facecade, *bound* what
decoding, finding faces and the networks allow on the same cores.

{table(["of", "ratio", "measured", "bar", "met"], rows)}

Why the networks of all folds answer, and what one alone would cost in score: `benchmarks/ANSWERING.md`. What bf16 does to answers:
`benchmarks/ROUNDING.md`. Scores before and after the changes for speed, side by side: `benchmarks/UNMOVED.md`."""


def _met(measured: str, bar: str) -> bool:
    sign, value = bar.split()
    return float(measured) >= float(value) if sign == "≥" else float(measured) <= float(value)


@click.command()
def main() -> None:
    """Write the section into benchmarks/RESULTS.md."""
    target = ROOT / "benchmarks/RESULTS.md"
    into(target, "speed", speed())
    click.echo(target)


if __name__ == "__main__":
    main()
