"""A listing of many photographs by processes and by actors of Ray, each with a core and a thread of its own; and with one of them killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from facecade.base.files import content_hash

from ..fuzz.running import ROOT, kill, run, small_run, start, start_program
from .clusters import raylets
from .watching import Memory, Sockets, Watcher

SHARD_ROWS = 512
"""Small shards, so that a few thousand rows are many: enough to see a rate."""

ENGINE_SHARE = 0.25
"""Share of the rows that the engine alone predicts."""

SECONDS = 3600

Row = dict[str, Any]
Processes = Sequence[subprocess.Popen[bytes]]

ENGINE = """
import json, sys, time
from itertools import chain
from pathlib import Path
from facecade.base.machine import Machine
from facecade.inference.shards import ListingOptions, ListingRun
machine = Machine("cpu", workers=1, engine="openvino")
run = ListingRun(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), machine, ListingOptions())
images = list(chain.from_iterable(shard.images for shard in run.listing.read()))[: int(sys.argv[4])]
predict = run.predictor()
predict.batches(images[:64])
print("ready", flush=True)
sys.stdin.readline()
times = [(time.monotonic(), 0)]
predict.batches(images, lambda more: times.append((time.monotonic(), times[-1][1] + more)))
assert times[-1][1] == len(images)
print(json.dumps(times))
"""
"""Predicts photographs in one process, as `infer` does, but for shards and parts; prints when it had predicted how many."""


@dataclass(frozen=True)
class Job:
    """A listing and the run that predicts it."""

    work: Path
    artifacts: Path
    listing: Path
    rows: int

    def words(self, output: Path) -> list[object]:
        """The command that predicts it."""
        of_machine = ("--engine", "openvino", "--precision", "fp32", "--device", "cpu", "--workers", 1)
        paths = ("--artifacts", self.artifacts, "--output", output, "--shard-rows", SHARD_ROWS)
        return ["infer", self.listing, *paths, *of_machine, "--json"]

    @property
    def parts(self) -> int:
        return -(-self.rows // SHARD_ROWS)


def job(work: Path, rows: int) -> Job:
    """A small fitted run, its export, and a listing whose rows are a few hundred drawn faces again and again."""
    source = work / "source"
    artifacts = small_run(source)
    listing = source / f"data/eval/listing-{rows}.parquet"
    images = sorted((source / "data/eval/images").iterdir())
    uris = [f"images/{path.name}" for path in islice(cycle(images), rows)]
    if not listing.exists():
        pq.write_table(pa.table({"id": [f"p{number:09d}" for number in range(rows)], "uri": uris}), listing)
    prepared = Job(work, artifacts, listing, rows)
    outcome = run(*prepared.words(work / "parts/none"), "--dry-run")  # exports the run, if it is not yet
    if outcome.code:
        raise RuntimeError(outcome.output)
    return prepared


def cores() -> list[int]:
    return sorted(os.sched_getaffinity(0))


def engine(job: Job, processes: int) -> list[float]:
    """Photographs a second of the engine in each of some processes that work at once, each on a core of its own."""
    count = max(256, int(job.rows * ENGINE_SHARE))
    paths = map(str, (job.artifacts, job.listing, job.work / "parts/none"))
    arguments = [sys.executable, "-c", ENGINE, *paths, str(count)]
    started = []
    for core in cores()[:processes]:
        words, pipe = ["taskset", "-c", str(core), *arguments], subprocess.PIPE
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        with (job.work / f"engine-{core}").open("wb") as errors:
            started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=errors, env=environment, text=True))
    for each in started:
        assert each.stdout and each.stdin
        while each.stdout.readline() not in ("ready\n", ""):
            pass
    for each in started:
        each.stdin.write("go\n")  # type: ignore[union-attr]
        each.stdin.flush()  # type: ignore[union-attr]
    return [slope(json.loads(each.communicate()[0].splitlines()[-1])) for each in started]


def slope(times: Sequence[tuple[float, int]]) -> float:
    """Photographs a second, by a line through the times of all but the first tenth and the last twentieth."""
    seconds, done = np.array(times).T
    used = slice(len(times) // 10, max(len(times) - len(times) // 20, 3))
    return float(np.polyfit(seconds[used] - seconds[0], done[used], 1)[0])


def part_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def rate(folder: Path) -> float:
    """Photographs a second, by the times at which parts appeared."""
    times = sorted((path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in part_files(folder))
    if len(times) < 4:
        return 0.0
    done = np.cumsum([rows for _, rows in times])
    return slope([(at, int(count)) for (at, _), count in zip(times, done, strict=True)])


def ids_of(folder: Path) -> list[str]:
    """The ids of all parts, in their order."""
    return [name for path in part_files(folder) for name in pq.read_table(path, columns=["id"])["id"].to_pylist()]


def part_hashes(folder: Path) -> dict[str, str]:
    return {path.name: content_hash(path) for path in part_files(folder)}


def pinned(job: Job, folder: Path, options: Sequence[Sequence[object]]) -> list[subprocess.Popen[bytes]]:
    """Commands that predict the listing, each on a core of its own."""
    processes = []
    for core, more in zip(cycle(cores()), options, strict=False):
        words = ["taskset", "-c", core, sys.executable, ROOT / "cli.py", *job.words(folder), *more]
        processes.append(start_program(words, job.work / f"log-{len(processes)}"))
    return processes


def by_ray(job: Job, folder: Path, address: str) -> subprocess.Popen[bytes]:
    """The command that has the actors of a cluster predict the listing."""
    return start([*job.words(folder), "--executor", "ray"], job.work / "log-0", {"RAY_ADDRESS": address})


def actors() -> Iterator[psutil.Process]:
    """The processes of Ray's actors that predict."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::_Actor"):
                yield process


def finish(
    job: Job,
    what: str,
    folder: Path,
    processes: Processes,
    watched: Callable[[], Iterator[psutil.Process]],
    victim: Callable[[], int] | None = None,
) -> Row:
    """Wait for commands, and describe what they wrote.

    Args:
        watched: the processes whose memory is measured.
        victim: a process that is killed when a third of the parts are there; its command may fail.
    """
    memory, sockets, started, killed = Memory(watched), Sockets(), time.monotonic(), 0
    try:
        with Watcher(memory.look, 0.5), Watcher(sockets.look, 1.0):
            while any(process.poll() is None for process in processes):
                if time.monotonic() - started > SECONDS:
                    raise RuntimeError(f"{what} hangs")
                if victim and not killed and len(part_files(folder)) >= job.parts / 3 and (killed := victim()):
                    os.kill(killed, signal.SIGKILL)
                time.sleep(0.1)
    finally:
        for process in processes:
            if process.poll() is None:
                kill(process)
    seconds = time.monotonic() - started
    failed = [process.pid for process in processes if process.returncode and process.pid != killed]
    if failed or (victim and not killed):
        raise RuntimeError(
            f"{what} failed: {[(job.work / f'log-{n}').read_text()[-800:] for n in range(len(processes))]}"
        )
    ids = Counter(ids_of(folder))
    return {
        "what": what,
        "rows": sum(ids.values()),
        "lost": job.rows - len(ids),
        "doubled": sum(ids.values()) - len(ids),
        "seconds": round(seconds, 1),
        "rate": round(rate(folder), 1),
        "peak_mib": round(memory.peak_mib),
        "growth": round(memory.growth, 3),
        "outside": sorted(sockets.outside),
    }


@contextmanager
def output(job: Job, name: str) -> Iterator[Path]:
    """A new folder for parts, removed afterwards."""
    folder = job.work / "parts" / name
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder)


def reference(job: Job) -> dict[str, str]:
    """Hashes of the parts that one process writes; it writes them if they are not there."""
    folder = job.work / f"parts/reference-{job.rows}"
    if len(part_files(folder)) != job.parts:
        (process,) = pinned(job, folder, [[]])
        if process.wait(SECONDS):
            raise RuntimeError((job.work / "log-0").read_text())
    return part_hashes(folder)


def _compared(row: Row, folder: Path, expected: Mapping[str, str]) -> Row:
    found = part_hashes(folder)
    other = [name for name in expected if found.get(name) != expected[name]]
    return {**row, "other_bytes": other, "parts": len(found)}


def _of(processes: Processes) -> Callable[[], Iterator[psutil.Process]]:
    known = [psutil.Process(process.pid) for process in processes]
    return lambda: iter(known)


def throughput(work: Path, rows: int) -> dict[str, Any]:
    """The engine alone; one process; two processes that share the shards; one and two actors of Ray."""
    listed, done = job(work, rows), []
    alone, several = engine(listed, 1), engine(listed, len(cores()))
    shutil.rmtree(work / f"parts/reference-{rows}", ignore_errors=True)
    folder = work / f"parts/reference-{rows}"
    processes = pinned(listed, folder, [[]])
    row = finish(listed, "one process", folder, processes, _of(processes))
    expected = part_hashes(folder)
    done.append({**_compared(row, folder, expected), "processes": 1})
    with output(listed, "two") as folder:
        processes = pinned(listed, folder, [["--shards", 2, "--shard", number] for number in range(2)])
        row = finish(listed, "two processes, `--shards 2`", folder, processes, _of(processes))
        done.append({**_compared(row, folder, expected), "processes": 2})
    for count in (1, 2):
        with output(listed, f"ray{count}") as folder, raylets(count, pinned=True) as cluster:
            process = by_ray(listed, folder, cluster.address)
            what = f"{count} actor{'s' * (count > 1)} of Ray"
            row = finish(listed, what, folder, [process], actors)
            done.append({**_compared(row, folder, expected), "processes": count})
    return {"engine": alone[0], "engines": several, "cores": len(cores()), "rows": done}


def killed(work: Path, rows: int) -> list[Row]:
    """Two processes race on the same shards, and one is killed; two share them, one is killed and called again; one of two actors is
    killed."""
    listed, done = job(work, rows), []
    expected = reference(listed)
    with output(listed, "race") as folder:
        processes = pinned(listed, folder, [[], []])
        last = processes[-1].pid
        row = finish(
            listed, "two processes with the same shards, one killed", folder, processes, _of(processes), lambda: last
        )
        done.append(_compared(row, folder, expected))
    with output(listed, "again") as folder:
        share: list[list[object]] = [["--shards", 2, "--shard", number] for number in range(2)]
        processes = pinned(listed, folder, share)
        victim = processes[-1].pid
        first = finish(listed, "", folder, processes, _of(processes), lambda: victim)
        processes = pinned(listed, folder, share[-1:])
        row = finish(
            listed, "two processes that share them, one killed and called again", folder, processes, _of(processes)
        )
        row = {**row, "seconds": round(first["seconds"] + row["seconds"], 1), "rate": 0.0}
        row |= {name: max(first[name], row[name]) for name in ("peak_mib", "growth")}
        done.append(_compared(row, folder, expected))
    with output(listed, "killed-actor") as folder, raylets(2, pinned=True) as cluster:
        process = by_ray(listed, folder, cluster.address)

        def an_actor() -> int:
            return max((each.pid for each in actors()), default=0)

        row = finish(listed, "2 actors of Ray, one killed", folder, [process], actors, an_actor)
        done.append(_compared(row, folder, expected))
    return done
