"""Run the whole job on real photographs, step by step, and write benchmarks/RESULTS.md
and the README's results from what it left.

    python benchmarks/results.py ../shared/data/faces --recipe recipes/cpu.toml

Each step is the command a user would type, timed, with its peak memory. A step that is done is not run
again, so a run that was cut goes on. Scores are read from the artifacts; nothing here is typed in.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from base.artifact import write_json  # noqa: E402

OPENING, CLOSING = "<!-- results: written by benchmarks/results.py -->", "<!-- end of results -->"


def run_step(name: str, arguments: list[str], log: Path) -> dict[str, Any]:
    """Run a command of cli.py; its wall time and peak memory. Raises where it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started, peak = time.monotonic(), 0
    with open(log, "ab") as file:
        process = psutil.Popen([sys.executable, "cli.py", *arguments], cwd=ROOT, stdout=file, stderr=file)
        while process.poll() is None:
            peak = max(peak, _memory(process))
            # Reading the memory of processes holds them up, so a long step is sampled less often than a short one.
            time.sleep(min(5.0, 0.2 + (time.monotonic() - started) / 20))
    if process.returncode:
        raise click.ClickException(f"{name} failed; see {log}")
    return {
        "step": name,
        "command": "python cli.py " + " ".join(arguments),
        "seconds": round(time.monotonic() - started, 1),
        "peak_mib": round(peak / 2**20),
        "commit": commit(),
    }


def _memory(process: psutil.Process) -> int:
    """Bytes that a process and its children hold now; what they share counts once (PSS)."""
    held = 0
    with contextlib.suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            held += each.memory_full_info().pss
    return held


def commit() -> str:
    """The commit that runs, with a mark where the tree differs from it."""
    said = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return said.stdout.strip() or "unknown"


def machine() -> str:
    """The processor, cores, memory and Python that ran."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB, Python {platform.python_version()}"


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--recipe", type=click.Path(path_type=Path), default=Path("recipes/cpu.toml"), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), default=Path("artifacts"), show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("output"), show_default=True)
@click.option("--again", multiple=True, metavar="STEP", help="Run this step again though it is done, as 'fit-meta'.")
def main(data: Path, recipe: Path, artifacts: Path, output: Path, again: tuple[str, ...]) -> None:
    """Fit, stack, infer and score on DATA (with train/ and eval/); write benchmarks/RESULTS.md."""
    where = ["--artifacts", str(artifacts)]
    first = ["--data", str(data / "train"), "--recipe", str(recipe)]
    plan = [
        ("fit-stage all", ["fit-stage", "all", "--resume", *first, *where]),
        ("fit-meta", ["fit-meta", "--recipe", str(recipe), *where]),
        ("infer", ["infer", str(data / "eval"), *where, "--output", str(output)]),
        (
            "evaluate",
            ["evaluate", str(output / "submission.csv"), str(data / "eval/eval_labels.csv"), "--output", str(output)],
        ),
    ]
    record = artifacts / "steps.json"
    done: dict[str, dict[str, Any]] = json.loads(record.read_text()) if record.exists() else {}
    for place, (name, arguments) in enumerate(plan):
        if name in done and name not in again:
            continue
        click.echo(f"{time.strftime('%H:%M:%S')} {name}", err=True)
        done[name] = {**run_step(name, arguments, artifacts / "steps.log"), "machine": machine()}
        for later, _ in plan[place + 1 :]:  # what builds on this step is old now
            done.pop(later, None)
        write_json(record, done)
    steps = [done[name] for name, _ in plan]

    from report.results import render, summary

    target = ROOT / "benchmarks/RESULTS.md"
    target.write_text(render(artifacts, output, steps, recipe))
    _into_readme(summary(artifacts, output, steps))
    click.echo(target)


def _into_readme(text: str) -> None:
    """Put the summary between the README's markers."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text().split(OPENING)
    _, after = rest.split(CLOSING)
    readme.write_text(f"{before}{OPENING}\n{text}\n{CLOSING}{after}")


if __name__ == "__main__":
    main()
