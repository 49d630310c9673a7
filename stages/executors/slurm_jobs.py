"""Fits as jobs of Slurm, by submitit: each is the command `facecade fit-stage NAME --fold K --resume`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError, excerpt, first_line
from facecade.base.lease import see_latest
from facecade.base.machine import Machine, user_temporary_folder
from facecade.base.program import clone_folder
from facecade.records import read_fit_record
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.fit import Fit

FOLDER = "jobs"
"""In the run's folder: what the jobs print."""

POLL_SECONDS = 1.0

CANCEL_SECONDS = 1.0

DEFAULT_MINUTES = 24 * 60
"""Time limit of a job, without `--executor-option time=…`."""

MAX_TIMEOUTS = 20
"""How often a job that reached its time limit, or was preempted, is queued again; it goes on from its checkpoint."""


class SlurmExecutor(Executor):
    """Runs each fit as a job. Slurm has the queue."""

    elsewhere = True

    def __init__(self, machine: Machine, run_folder: Path) -> None:
        import submitit

        self.slots = machine.jobs or sys.maxsize
        self._machine, self._run_folder = machine, run_folder.absolute()
        options = _options(machine.executor_options)
        cluster = options.pop("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise FacecadeError(f"unknown cluster '{cluster}'", "give slurm, or local for a trial on this machine")
        try:
            folder, limit = self._run_folder / FOLDER, {"slurm_max_num_timeout": MAX_TIMEOUTS}
            self._executor = submitit.AutoExecutor(folder, cluster=cluster, **limit)
        except RuntimeError as error:
            raise FacecadeError(f"there is no Slurm here: {first_line(error)}", "call it where sbatch works") from None
        minutes = options.pop("time", str(DEFAULT_MINUTES))
        if not minutes.isdigit():
            raise FacecadeError(f"time={minutes} is no number of minutes", "for example time=600")
        settings: dict[str, Any] = {"timeout_min": int(minutes), "cpus_per_task": max(machine.threads, machine.workers)}
        if machine.device.startswith("cuda") and not any(key.startswith("gpu") or key == "gres" for key in options):
            options["gpus-per-node"] = "1"
        if cluster == "slurm":
            flags = {key: True if value == "true" else value for key, value in options.items()}
            settings["slurm_additional_parameters"] = flags
        self._executor.update_parameters(**settings, stderr_to_stdout=True)
        self._jobs: list[tuple[Fit, Any]] = []

    def submit(self, fit: Fit) -> None:
        command = _command(fit_words(fit, self._machine, self._run_folder), clone_folder())
        try:
            self._executor.update_parameters(name=fit.title.replace(" ", "-"))
            job = self._executor.submit(command)
        except Exception as error:  # sbatch's own words are in the output of the process
            output = getattr(error, "stderr", b"") or str(error)
            text = output.decode(errors="replace") if isinstance(output, bytes) else output
            raise FacecadeError(f"Slurm refuses a job: {excerpt(text.strip(), 300)}", "see --executor-option") from None
        self._jobs.append((fit, job))

    def wait(self) -> list[tuple[Fit, Outcome]]:
        ended = [(fit, job) for fit, job in self._jobs if job.done()]
        self._jobs = [each for each in self._jobs if each not in ended]
        if self._jobs and not ended:
            time.sleep(POLL_SECONDS)
        return [(fit, self._outcome(fit, job)) for fit, job in ended]

    def close(self) -> None:
        jobs = [job for _, job in self._jobs]
        self._jobs = []
        if jobs and self._executor.cluster == "slurm":  # all at once: after Ctrl-C there is a second
            with suppress(OSError, subprocess.TimeoutExpired):
                subprocess.Popen(["scancel", *(job.job_id for job in jobs)], start_new_session=True).wait(
                    CANCEL_SECONDS
                )
        for job in jobs:
            if self._executor.cluster == "local":
                job.cancel()
            _remove_pickles(job)

    def _outcome(self, fit: Fit, job: Any) -> Outcome:
        _remove_pickles(job)
        see_latest(fit.folder)
        if not (fit.folder / "meta.json").exists():
            log = Path(str(job.paths.stdout))
            return FacecadeError(f"{_last_words(log)} (job {job.job_id}, {job.state.lower()})", f"see {log}")
        try:
            return read_fit_record(fit.folder)
        except FacecadeError as error:
            return error


def fit_words(fit: Fit, machine: Machine, run_folder: Path) -> list[str]:
    """The command that runs one fit, on another machine."""
    device = machine.device.partition(":")[0]  # Slurm says which GPU
    words = ["fit-stage", fit.stage.name, "--fold", str(fit.fold), "--resume", "--artifacts", str(run_folder)]
    words += [
        "--stored-crops",
        "--executor",
        "processes",
        "--jobs",
        "1",
        "--threads",
        str(machine.threads),
        "--device",
        device,
    ]
    words += ["--workers", str(machine.workers), "--local-disk", str(machine.local_disk or user_temporary_folder())]
    if machine.autocast is not None:
        words.append("--bf16" if machine.autocast else "--fp32")
    return [*words, "--compile"] if machine.compile else words


def _command(words: Sequence[str], clone: str) -> Callable[[], int]:
    """A call that runs a command of facecade, for a job. Its class is defined here so that it is pickled by value: the job's process
    need not find facecade, only the command's."""
    import submitit

    class Command(submitit.helpers.Checkpointable):
        def __init__(self) -> None:
            self.words = [sys.executable, "-m", "facecade", *words]

        def __call__(self) -> int:
            path = os.pathsep.join(filter(None, [clone, os.environ.get("PYTHONPATH", "")]))
            return subprocess.run(self.words, env={**os.environ, "PYTHONPATH": path}).returncode

    return Command()


def _options(texts: Sequence[str]) -> dict[str, str]:
    """Options of sbatch, as `partition=gpu`; `requeue=true` for one without a value."""
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        key = key.strip().removeprefix("--")
        if not equals or not key.replace("-", "").isalnum() or "\n" in value:
            raise FacecadeError(f"--executor-option {excerpt(text)}: expected KEY=VALUE", "for example partition=gpu")
        options[key] = value.strip()
    return options


def _last_words(log: Path) -> str:
    """What a job said last; an error as `fit-stage` prints it, before the line that says what comes next."""
    try:
        text = log.read_bytes()[-20_000:].decode(errors="replace")
    except OSError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("submitit ")]
    errors = [index for index, line in enumerate(lines) if line.startswith("Error: ")]
    if not errors:
        return excerpt(lines[-1], 300) if lines else "its job ended and printed nothing"
    said = lines[errors[-1] : errors[-1] + 2]
    fit_failed = len(said) == 2 and said[0].endswith("fits failed:")
    return excerpt(said[1].partition(": ")[2] if fit_failed else said[0].removeprefix("Error: "), 300)


def _remove_pickles(job: Any) -> None:
    """Remove what submitit needs to start a job; its log stays."""
    for path in (job.paths.submitted_pickle, job.paths.result_pickle):
        Path(str(path)).unlink(missing_ok=True)
