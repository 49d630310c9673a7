"""The fits of the demo recipe by processes, by Ray on one and several raylets, and by two hosts; and with one of them lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from facecade.base.files import content_hash

from ..fuzz.running import ROOT, kill, run, start_program
from .clusters import HEAD, not_permitted, of_hosts, raylets, two_hosts
from .watching import Fits, Sockets, Watcher

RESULTS = ("stages/**/weights.safetensors", "stages/**/outputs.npz", "table.csv")
"""Files that every executor must write alike."""

PEOPLE = 24

SECONDS = 1800
"""Within which a command must end."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """What a command did. seconds: of all its calls; finished: fits that had ended when something was killed; again: of these, those
    that were fitted again."""

    seconds: float
    fits: Fits
    sockets: Sockets
    finished: int = 0
    begun: int = 0
    again: int = 0

    def row(self, what: str, expected: Mapping[str, str]) -> Row:
        found = hashes(self.fits.run)
        return {
            "what": what,
            "fits": len(self.fits.finished()),
            "seconds": round(self.seconds, 1),
            "other_bytes": sorted(name for name in expected if found.get(name) != expected[name]),
            "epochs": len(self.fits.epochs),
            "epochs_twice": self.fits.trained_twice,
            "finished_before": self.finished,
            "begun_before": self.begun,
            "finished_again": self.again,
            "outside": sorted(self.sockets.outside),
        }


def hashes(run_folder: Path) -> dict[str, str]:
    """Of the files that must be alike."""
    files = sorted(path for pattern in RESULTS for path in run_folder.glob(pattern))
    return {path.relative_to(run_folder).as_posix(): content_hash(path) for path in files}


def data(work: Path) -> Path:
    """Drawn faces, drawn once."""
    folder = work / "hidden/data"
    if not (folder / "train/train.csv").exists():
        outcome = run("draw", folder, "--people", PEOPLE)
        if outcome.code:
            raise RuntimeError(outcome.output)
    return folder


def words(work: Path, run_folder: Path) -> list[object]:
    """The command that fits all."""
    return [
        *("fit-stage", "all", "--data", data(work) / "train", "--recipe", ROOT / "recipes/demo.toml"),
        *("--device", "cpu", "--artifacts", run_folder),
    ]


def expected(work: Path) -> dict[str, str]:
    """Hashes of the fits of one process after another."""
    folder = work / "shared/expected"
    if not (folder / "done").exists():
        course(work, folder, ["--jobs", 1], {})
        (folder / "done").touch()
    return hashes(folder)


def course(
    work: Path,
    folder: Path,
    options: Sequence[object],
    environment: Mapping[str, str],
    stop: Callable[[Fits, subprocess.Popen[bytes]], bool] | None = None,
    prefix: Sequence[str] = (),
    resume: bool = False,
) -> Course:
    """Fit all in a new folder, and watch.

    Args:
        stop: kills something once it returns True; it is called again and again.
        prefix: words before the command, as to run it on a host.
        resume: the command itself is killed by `stop`, and called again.
    """
    shutil.rmtree(folder, ignore_errors=True)
    fits, sockets, before, begun = Fits(folder), Sockets(), dict[str, int](), dict[str, int]()
    command = [*prefix, sys.executable, ROOT / "cli.py", *words(work, folder), *options]
    log = work / f"log-{folder.name}"
    started = time.monotonic()
    process, killed = start_program(command, log, environment), False
    try:
        with Watcher(fits.look), Watcher(sockets.look, 1.0):
            while process.poll() is None:
                if time.monotonic() - started > SECONDS:
                    raise RuntimeError(f"{command} hangs: {log.read_text()[-500:]}")
                if stop and not killed:
                    now, unfinished = fits.finished(), fits.begun()
                    killed = stop(fits, process)
                    before, begun = (now, unfinished) if killed else (before, begun)
                time.sleep(0.05)
            if resume and killed:
                process = start_program([*command, "--resume"], log, environment)
                process.wait(SECONDS)
    finally:
        if process.poll() is None:
            kill(process)
    if process.returncode:
        raise RuntimeError(f"{command} failed: {log.read_text(errors='replace')[-1500:]}")
    if stop and not killed:
        raise RuntimeError(f"{command} ended before anything was killed")
    after = fits.finished()
    again = sum(after.get(name) != at for name, at in before.items())
    return Course(time.monotonic() - started, fits, sockets, len(before), len(begun), again)


def in_the_middle(fits: Fits, of: Callable[[str], bool] = lambda fit: True) -> bool:
    """Whether some fits have ended, and one of these is between its epochs."""
    return len(fits.finished()) >= 2 and any(of(fit) and count >= 2 for fit, count in fits.begun().items())


def compare(work: Path) -> list[Row]:
    """Processes, an own instance of Ray, one raylet and two raylets, each with as many fits at a time."""
    wanted, folder, rows = expected(work), work / "shared/fits", []
    rows.append(course(work, folder, ["--jobs", 2], {}).row("two processes (`--jobs 2`)", wanted))
    ray = ["--executor", "ray"]
    rows.append(course(work, folder, ray, {}).row("own instance of Ray (`--executor ray`), its start included", wanted))
    for count, what in ((1, "one raylet with 2 CPUs"), (2, "two raylets with 1 CPU each")):
        with raylets(count, cpus=2 // count) as cluster:
            done = course(work, folder, ray, {"RAY_ADDRESS": cluster.address})
        rows.append(done.row(f"Ray, {what}", wanted))
    for row in rows:
        row["overhead"] = round((row["seconds"] - rows[0]["seconds"]) / row["fits"], 2)
    return rows


def lose(work: Path) -> list[Row]:
    """Two raylets: one is killed; then the command is killed and called again at once."""
    wanted, folder, ray = expected(work), work / "shared/lost", ["--executor", "ray"]

    def lose_raylet(fits: Fits, process: subprocess.Popen[bytes]) -> bool:
        victim = cluster.process(1)

        def on_victim(fit: str) -> bool:
            return any(_parent(pid) == victim for _, pid in [*fits.holders[fit]])

        if not in_the_middle(fits, on_victim):
            return False
        cluster.kill(1)
        return True

    def lose_command(fits: Fits, process: subprocess.Popen[bytes]) -> bool:
        if not in_the_middle(fits):
            return False
        kill(process)
        return True

    with raylets(2) as cluster:
        raylet = course(work, folder, ray, {"RAY_ADDRESS": cluster.address}, lose_raylet)
    with raylets(2) as cluster:
        command = course(work, folder, ray, {"RAY_ADDRESS": cluster.address}, lose_command, resume=True)
    return [
        raylet.row("two raylets, one killed in the middle of a fit", wanted),
        command.row("two raylets, the command killed, and called again with `--resume`", wanted),
    ]


def hosts(work: Path) -> list[Row] | str:
    """Two hosts that share the run's folder alone; then one of them loses its power. A text: why this was not run."""
    if reason := not_permitted():
        return reason
    wanted, folder, rows, ray = expected(work), work / "shared/hosts", [], ["--executor", "ray"]

    def lose_second(fits: Fits, process: subprocess.Popen[bytes]) -> bool:
        if not in_the_middle(fits, lambda fit: any(host == "host-b" for host, _ in [*fits.holders[fit]])):
            return False
        second.kill()
        return True

    for stop, what in ((None, "two hosts"), (lose_second, "two hosts, one lost in the middle of a fit")):
        with two_hosts(work / "hidden", work) as (first, second):
            done = course(work, folder, ray, {**of_hosts(), "RAY_ADDRESS": HEAD}, stop, first.words())
            alive = (first, second) if stop is None else (first,)
            copies = [host.run("sh", "-c", "ls /tmp/facecade-*/*/crops.u8 | wc -l").strip() for host in alive]
        row = done.row(what, wanted)
        row["outside"] = []  # they have a network of their own, which ends here
        by_host = {host for holders in done.fits.holders.values() for host, _ in holders}
        rows.append({**row, "hosts": sorted(by_host), "copies_of_crops": copies})
    return rows


def _parent(process: int) -> int:
    try:
        return psutil.Process(process).ppid()
    except psutil.Error:
        return 0


PARTS: dict[str, Callable[[Path], Any]] = {"fits": compare, "lost": lose, "hosts": hosts}
