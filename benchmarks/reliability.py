"""How much broken input was tried, and what was lost; write benchmarks/RELIABILITY.md.

    python benchmarks/reliability.py

Everything is drawn and mutated from seeds, so a case can be repeated by its number. What is done is kept in `--work`, and a call
that was stopped goes on from there. `--only PART` measures some parts again; the page keeps the rows of the others, each with its
commit, from benchmarks/reliability.json. `tests/test_reliability.py` runs a short form.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from fuzz import artifacts, images, processes, running, server, tables
from fuzz.tally import Tally, resumable
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_text

Chunks = list[tuple[str, Callable[[], Tally]]]

MEASURED = ROOT / "benchmarks/reliability.json"

PARSERS = ("image", "csv", "recipe", "dlib_resnet29", "sface", "faceres", "face_reid_0095")


@click.command()
@click.option(
    "--work", type=click.Path(path_type=Path), default=ROOT / "artifacts/reliability", help="Folder of what is done."
)
@click.option("--share", type=float, default=1.0, help="Share of the cases that are tried; below 1 no page is written.")
@click.option("--only", multiple=True, help="Parts to run.")
def main(work: Path, share: float, only: tuple[str, ...]) -> None:
    """Try broken images, tables, artifacts, kills, disks and requests, and write down what happened."""
    measured = {title: Part(**part) for title, part in json.loads(MEASURED.read_text()).items()}
    for name, (title, chunks) in parts(work, share).items():
        if not only or name in only:
            commits = record_commit(work / name)
            tally = resumable(
                work / name, chunks, lambda text: click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)
            )
            measured[title] = Part(asdict(tally), commits, machine())
            click.echo(f"{title}: {tally}"[:2000])
    if share == 1:
        write_text(MEASURED, json.dumps({title: asdict(part) for title, part in measured.items()}, indent=1) + "\n")
        write_text(ROOT / "benchmarks/RELIABILITY.md", page(measured))
        click.echo("benchmarks/RELIABILITY.md")


@dataclass(frozen=True)
class Part:
    """A row of the page. result: of a Tally."""

    result: dict[str, Any]
    commits: list[str]
    machine: str

    @property
    def tally(self) -> Tally:
        return Tally(**self.result)


def parts(work: Path, share: float = 1.0) -> dict[str, tuple[str, Chunks]]:
    """Title and chunks of every part, by its name."""

    def number(count: int) -> int:
        return max(1, round(count * share))

    run = running.small_run(work / "source", "face.detector=mtcnn")
    export = _export(run, work / "source/export")
    jobs = processes.jobs(work / "source")
    faces = sorted((work / "source/data/eval/images").iterdir())[:3]
    scratch = work / "scratch"

    def each(count: int, size: int, function: Callable[[int, int], Tally]) -> Chunks:
        return [(f"{start:06d}", partial(function, start, min(size, count - start))) for start in range(0, count, size)]

    def stops(name: str, count: int, stop: Callable[[subprocess.Popen[bytes]], str]) -> Chunks:
        def chunk(start: int, size: int) -> Tally:
            return processes.stop_at_random(jobs[name], stop, scratch / name, size, start)

        return each(number(count), 10, chunk)

    image_chunks = each(number(10_000), 500, partial(images.infer_mutated, run, scratch))
    large = [("large", partial(images.infer_large, run, scratch))]
    return {
        "images": ("mutated images", image_chunks),
        "large": ("images at the limits of size", large),
        "tables": ("tables", [(kind, partial(tables.fuzz_tables, kind, number(300))) for kind in tables.HEADS]),
        "recipes": ("recipes", [("recipes", partial(tables.fuzz_recipes, number(500)))]),
        "parsers": (
            "inputs of parsers, coverage-guided",
            [(name, partial(fuzz_parser, name, number(20_000))) for name in PARSERS],
        ),
        "runs": ("damaged runs", each(number(250), 50, partial(artifacts.fuzz_artifacts, run, faces, scratch))),
        "exports": (
            "damaged exports",
            each(number(250), 50, partial(artifacts.fuzz_artifacts, export, faces, scratch)),
        ),
        "kills-fit-stage": ("kills of `fit-stage`", stops("fit-stage", 100, running.kill)),
        "kills-fit-meta": ("kills of `fit-meta`", stops("fit-meta", 50, running.kill)),
        "kills-infer": ("kills of `infer`", stops("infer", 50, running.kill)),
        **{f"interrupts-{name}": (f"Ctrl-C in `{name}`", stops(name, 20, running.interrupt)) for name in jobs},
        "twice": (
            "two commands at once in one folder",
            [(name, partial(processes.run_twice, job, scratch / "twice", number(10))) for name, job in jobs.items()],
        ),
        "disk": ("full disks", _disks(jobs, scratch)),
        "requests": ("requests to `serve`", [("requests", partial(server.fuzz_server, run, number(2000)))]),
    }


def fuzz_parser(name: str, runs: int) -> Tally:
    """Inputs of one parser, found by atheris; none where it is not installed."""
    with TemporaryDirectory() as folder:
        limits = ["-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={folder}/"]
        words = [sys.executable, "-m", "benchmarks.fuzz.parsers", name, f"-atheris_runs={runs}", "-seed=1", *limits]
        result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, errors="replace")
    done = re.findall(r"^(?:#|Done )(\d+)\s", result.stderr, re.MULTILINE)
    tally = Tally(tried=int(done[-1]) if done else 0)
    if result.returncode:
        tally.crashed.append(f"{name}: exit {result.returncode}: {result.stdout[-300:]} {result.stderr[-300:]}")
    return tally


def record_commit(folder: Path) -> list[str]:
    """Note the commit of this call, and return those of all calls: the chunks of a part may be of several."""
    file = folder / "commits"
    commits = file.read_text().split() if file.exists() else []
    commits = list(dict.fromkeys([*commits, commit()]))
    write_text(file, "\n".join(commits))
    return commits


def page(measured: dict[str, Part]) -> str:
    """The page's Markdown."""
    results = {title: part.tally for title, part in measured.items()}
    rows = [
        f"| {title} | {tally.tried:,} | {tally.refused:,} | {tally.lost} | {len(tally.crashed)} | {len(tally.wrong)} | "
        f"{f'{tally.slowest:.1f} s' if tally.slowest else ''} | {f'{tally.peak_mib:,.0f} MiB' if tally.peak_mib else ''} | "
        f"{', '.join(measured[title].commits)} |"
        for title, tally in results.items()
    ]
    machines = dict.fromkeys(part.machine for part in measured.values())
    failures = [
        f"* {title}: `{case[:200]}`" for title, tally in results.items() for case in [*tally.crashed, *tally.wrong]
    ]
    bars = [
        ("rows lost or doubled", sum(tally.lost for tally in results.values()), 0, ""),
        (
            "tracebacks, hangs, unexpected exceptions, signals",
            sum(len(tally.crashed) for tally in results.values()),
            0,
            "",
        ),
        (
            "other bytes, flags, predictions or statuses than expected",
            sum(len(tally.wrong) for tally in results.values()),
            0,
            "",
        ),
        ("slowest image", max(results[title].slowest for title in results if "image" in title), 10, " s"),
        ("peak memory of `infer`", max(results[title].peak_mib for title in results if "image" in title), 2048, " MiB"),
    ]
    bar_rows = [
        f"| {what} | {value:.4g}{unit} | ≤ {bar:,}{unit} | {'yes' if value <= bar else 'no'} |"
        for what, value, bar, unit in bars
    ]
    return (
        f"""# What broken input does

Machine: {"; ".join(machines)}. Written by `python benchmarks/reliability.py`. All cases come from seeds.

| what | measured | bar | met |
| --- | --- | --- | --- |
{chr(10).join(bar_rows)}

*Refused* cases ended in an error in words, or in a flag on the row: broken input should end so. *Lost* are rows or files that are missing or
doubled. *Crashed* are tracebacks, unexpected exceptions, hangs and signals. *Wrong* are other bytes, flags, predictions or statuses than
expected, images that took over 10 s, temporary files that were left, and a server whose memory grew by over a tenth.

| tried | cases | refused | lost | crashed | wrong | slowest | peak memory | commit |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(rows)}

* Images: {len(images.seeds())} valid files of every format that is read, with flipped bits, cuts, zeros, insertions, splices, repetitions, extreme
  numbers in headers, declared sizes up to 2³⁰, wrong extensions, and bombs. `infer` must give every row in order, with the flag that decoding alone gives.
* Tables: train.csv, info.csv, manifests, corrections and labels with strange cells, delimiters and encodings (hypothesis). Each row must be used or reported.
* Parsers: of images, tables, recipes and four formats of weights (atheris), at most 10 s and 2 GB for an input.
* Runs and exports: one file damaged, or one value of a JSON file deleted or replaced. They must be refused, or predict the same.
* Kills: SIGKILL to the whole process group at a random moment, {processes.PYTHON_SECONDS} s after its start or later; the same command, with `--resume` where it has it, must end with the bytes of an unbroken run.
* Ctrl-C: the same with SIGINT; the command must end within {running.INTERRUPT_SECONDS} s, and leave no process.
* Requests: valid and broken images, bodies that are no forms, values that the page never sends, other hosts, methods and paths, four at a time.

{"## Failures" if failures else "No failures."}

{chr(10).join(failures)}
""".rstrip()
        + "\n"
    )


def _disks(jobs: dict[str, processes.Job], scratch: Path) -> Chunks:
    """None where this user may not mount a disk."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        return []
    return [
        (f"{name}-{megabytes}", partial(processes.fill_disk, job, scratch / f"disk-{name}", megabytes))
        for name, job in jobs.items()
        for megabytes in (0, 1, 5, 20)
    ]


def _export(run: Path, folder: Path) -> Path:
    if not (folder / "manifest.json").exists():
        outcome = running.run("export", folder, "--artifacts", run)
        if outcome.code:
            raise click.ClickException(outcome.output)
    return folder


if __name__ == "__main__":
    main()
