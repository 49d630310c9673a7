"""What every executor must do: the same fits, in an order that respects what they need, to the same bytes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import arrays

from facecade.base.errors import FacecadeError
from facecade.base.files import file_hash
from facecade.base.machine import Machine
from facecade.base.progress import RemoteBars
from facecade.recipe_file import override
from facecade.records import FitRecord
from facecade.runs.begin import DataOptions
from facecade.runs.fits import make_fit, run_data
from facecade.runs.prepare import prepare_run
from facecade.runs.run import Run, open_run
from facecade.stages.executors import make_executor
from facecade.stages.executors.executor import Executor, Outcome
from facecade.stages.executors.local import try_fit
from facecade.stages.executors.slurm_jobs import fit_words
from facecade.stages.fit import Fit
from facecade.stages.jobs import fit_all
from facecade.training import loop

RECIPE = """
seed = 1
folds = 3
[face]
detector = "centre"
size = [64, 48]
fallback = 1.0
[defaults]
backbone = "test_efficientnet"
weights = "none"
size = [64, 48]
batch_size = 16
epochs = 2
lr = 3e-3
[stages.joint]
loss = "huber"
[stages.joint-2]
loss = "huber"
old_from = 58
[stages.gender]
weights = "stage:joint"
epochs = 1
[stages.age-male]
weights = "stage:joint-2"
loss = "huber"
[combiner]
anchors = 50
components = 4
"""
"""joint-2 learns years, and cannot move a band's edge, so it fails, and age-male, which starts from it, is skipped."""

KEYS = [("joint", 0), ("joint-2", 0), ("gender", 0), ("age-male", 0)]


def installed(*packages: str) -> bool:
    return all(importlib.util.find_spec(package) for package in packages)


EXECUTORS = [
    pytest.param(Machine("cpu", 1), id="local"),
    pytest.param(Machine("cpu", 2), id="processes"),
    pytest.param(
        Machine("cpu", executor="ray"), id="ray", marks=pytest.mark.skipif(not installed("ray"), reason="no Ray")
    ),
    pytest.param(
        Machine("cpu", executor="slurm", executor_options=("cluster=local", "time=10"), workers=1),
        id="slurm",
        marks=pytest.mark.skipif(not installed("submitit"), reason="no submitit"),
    ),
]


@pytest.fixture(scope="module")
def begun(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose crops are cached, with a fit that was stopped after its first epoch."""
    folder = tmp_path_factory.mktemp("executors")
    (folder / "recipe.toml").write_text(RECIPE)
    run, _ = prepare_run(folder / "run", drawn / "train", DataOptions(), folder / "recipe.toml", ["all"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_history", stopped)
        with pytest.raises(KeyboardInterrupt):
            fit_in(run, Machine("cpu", 1), [("joint", 0)])
    assert len(list(run.folder.glob("stages/joint/fold0/checkpoint-*"))) == 1
    return run.folder


@pytest.fixture(scope="module")
def expected(begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same fits in this process, without a stop."""
    run = copied(begun, tmp_path_factory.mktemp("expected"))
    fit_in(run, Machine("cpu", 1), KEYS, resume=False)
    return run


def stopped(folder: Path, lines: list[dict[str, float]]) -> None:
    raise KeyboardInterrupt


def copied(begun: Path, folder: Path) -> Run:
    shutil.copytree(begun, folder / "run")
    return open_run(folder / "run")


def fit_in(run: Run, machine: Machine, keys: list[tuple[str, int]], resume: bool = True) -> list[Outcome]:
    fits, ended = [make_fit(run, *key) for key in keys], []
    with executor_of(run, machine, len(keys)) as executor:
        outcomes = fit_all(fits, run.table, executor, resume, lambda fit, outcome: ended.append(fit.key))
    assert sorted(ended) == sorted(keys)
    return outcomes


@contextmanager
def executor_of(run: Run, machine: Machine, fits: int) -> Iterator[Executor]:
    """An executor that refuses a fit before those that it needs have ended."""
    ended: list[tuple[str, int]] = []
    with make_executor(machine, run_data(run, 1), run.folder, fits) as executor:
        submit, wait = executor.submit, executor.wait

        def checked(fit: Fit) -> None:
            assert set(fit.needs) <= set(ended), fit.title
            submit(fit)

        def noted() -> list[tuple[Fit, Outcome]]:
            result = wait()
            ended.extend(fit.key for fit, _ in result)
            return result

        executor.submit, executor.wait = checked, noted  # type: ignore[method-assign]
        assert executor.wait() == [] and executor.slots >= 1
        yield executor


@pytest.mark.parametrize("machine", EXECUTORS)
def test_every_executor_fits_the_same(machine: Machine, begun: Path, expected: Run, tmp_path: Path) -> None:
    """Order, a failure and what is skipped for it, resuming, and the bytes; run from the folder above, by relative paths."""
    run = copied(begun, tmp_path)
    state = make_fit(run, "joint", 0).checkpoint
    assert state.exists()
    messages: set[tuple[str, str]] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(RemoteBars, "receive", lambda self, source, message: messages.add((source, message[0])))
        outcomes = dict(zip(KEYS, fit_in(replace(run, folder=Path("run")), machine, KEYS)))
    for key in (("joint", 0), ("gender", 0)):
        outcome, wanted = outcomes[key], expected.fit_record(*key)
        assert isinstance(outcome, FitRecord), outcome
        assert wanted and (outcome.weights, outcome.outputs) == (wanted.weights, wanted.outputs)
        assert file_hash(run.fold_folder(*key) / "weights.safetensors") == wanted.weights
        assert run.state(*key) == "fitted"
    failed, skipped = outcomes["joint-2", 0], outcomes["age-male", 0]
    assert isinstance(failed, FacecadeError) and "this stage learns years" in str(failed), failed
    assert isinstance(skipped, FacecadeError) and "joint-2, which it is made from, failed" in str(skipped)
    assert not (run.fold_folder("age-male", 0) / "meta.json").exists()
    assert not state.exists(), "it went on from its checkpoint, and removed it"
    if machine.executor == "ray" or machine.jobs == 2:
        assert ("joint fold 0", "begin") in messages, "its progress is shown here"
    assert not list(run.folder.rglob(".lease")) and not list(run.folder.rglob("*.pkl"))


def test_a_fit_goes_on_from_its_checkpoint_only_with_resume(begun: Path, tmp_path: Path) -> None:
    """The seconds of the first epoch are those of the stopped fit, or new ones."""
    for resume in (True, False):
        run = copied(begun, tmp_path / str(resume))
        (outcome,) = fit_in(run, Machine("cpu", 1), [("joint", 0)], resume)
        assert isinstance(outcome, FitRecord)
        (tmp_path / str(resume) / "history").write_text((run.fold_folder("joint", 0) / "history.jsonl").read_text())
    first = [json.loads((tmp_path / str(each) / "history").read_text().splitlines()[0]) for each in (True, False)]
    assert first[0]["loss"] == first[1]["loss"] and first[0]["seconds"] != first[1]["seconds"]
    assert arrays(tmp_path / "True/run/stages/joint/fold0/outputs.npz").keys() == {
        "rows",
        "embedding",
        "logits",
        "anchors",
        "anchor_embedding",
    }


def test_a_fit_that_has_ended_is_not_run_again(expected: Run, tmp_path: Path) -> None:
    """Its process may have been lost before it could say so; but what an earlier command left is fitted again."""
    run = copied(expected.folder, tmp_path)
    fit, weights = make_fit(run, "joint", 0), run.fold_folder("joint", 0) / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    assert try_fit(fit, run_data(run, 1), Machine("cpu", 1)) == expected.fit_record("joint", 0)
    assert weights.stat().st_mtime_ns == before
    (outcome,) = fit_in(run, Machine("cpu", 1), [("joint", 0)])
    assert isinstance(outcome, FitRecord) and weights.stat().st_mtime_ns != before


@pytest.mark.skipif(not installed("ray"), reason="no Ray")
def test_ray_goes_on_with_a_fit_whose_process_is_killed(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """In another process, from the checkpoint; where the crops are copied to the disk of each machine first."""
    run = copied(begun, tmp_path)
    run = replace(run, tables=override(run.tables, ["stages.joint.epochs=12"], []))
    run.save()
    machine = Machine("cpu", executor="ray", local_disk=tmp_path / "disk")
    fit, killed = make_fit(run, "joint", 1), []
    with executor_of(run, machine, 1) as executor:
        fit.folder.mkdir(parents=True)
        executor.submit(fit)
        while not (ended := executor.wait()):
            if (fit.folder / "history.jsonl").exists() and not killed:
                first = (fit.folder / "history.jsonl").read_text().splitlines()[0]
                killed = [json.loads((fit.folder / ".lease").read_text())["process"]]
                os.kill(killed[0], signal.SIGKILL)
    ((_, outcome),) = ended
    assert killed and isinstance(outcome, FitRecord) and outcome.epochs == 12, outcome
    assert (fit.folder / "history.jsonl").read_text().splitlines()[0] == first
    assert len(list((tmp_path / "disk").glob("*/crops.u8"))) == 1
    assert "RAY_USAGE_STATS_ENABLED" in os.environ and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


@pytest.mark.skipif(not installed("submitit"), reason="no submitit")
def test_a_job_of_slurm_is_one_fit_with_the_options_given(begun: Path, tmp_path: Path) -> None:
    """Programs that look like Slurm's: sbatch writes its script down, and runs it."""
    from facecade.stages.executors.slurm_jobs import SlurmExecutor

    (tmp_path / "bin").mkdir()
    programs = {
        "sbatch": f'cp "$1" {tmp_path}/script; grep "#SBATCH --output" "$1" | sed "s/.*=//; s/%j/7/" >{tmp_path}/log\n'
        "echo Submitted batch job 7; export SLURM_JOB_ID=7 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 "
        f'SLURM_PROCID=0 SLURM_LOCALID=0\n(sh "$1" </dev/null >"$(cat {tmp_path}/log)" 2>&1; touch {tmp_path}/ended) >/dev/null 2>&1 &',
        "srun": 'while [ "${1#-}" != "$1" ]; do [ "$1" = --output ] && shift; shift; done; exec "$@"',
        "sacct": f'echo "JobID|State|NodeList"; [ -e {tmp_path}/ended ] && echo "7|FAILED|n" || echo "7|RUNNING|n"',
        "scancel": f"echo $@ >>{tmp_path}/cancelled",
    }
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    run = copied(begun, tmp_path)
    options = ("partition=gpu", "time=90", "mem=8G", "--account=faces", "requeue=true")
    machine = Machine("cuda:0,1", threads=2, workers=3, executor="slurm", executor_options=options, autocast=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        (outcome,) = fit_in(run, machine, [("joint", 0)])
        script = (tmp_path / "script").read_text()
        for line in ("partition=gpu", "time=90", "mem=8G", "account=faces", "gpus-per-node=1", "cpus-per-task=3"):
            assert f"#SBATCH --{line}\n" in script
        assert "#SBATCH --job-name=joint-fold-0\n" in script and "#SBATCH --requeue\n" in script
        # there is no GPU here, and the error is what the job said
        assert isinstance(outcome, FacecadeError) and "there is no CUDA device here (job 7, " in str(outcome), outcome
        assert outcome.hint == f"see {run.folder / 'jobs/7_0_log.out'}"
        words = fit_words(make_fit(run, "joint", 0), machine, run.folder)
        assert words[:7] == ["fit-stage", "joint", "--fold", "0", "--resume", "--artifacts", str(run.folder)]
        assert words[-1] == "--bf16" and "--device cuda --workers 3" in " ".join(words)
        executor = SlurmExecutor(replace(machine, device="cpu"), run.folder)
        executor.submit(make_fit(run, "joint", 0))
        executor.close()
        assert (tmp_path / "cancelled").read_text().split() == ["7"]


@pytest.mark.skipif(not installed("submitit"), reason="no submitit")
@pytest.mark.parametrize("option", ["partition", "=gpu", "a b=c", "time=soon", "cluster=moon"])
def test_options_that_are_none_are_refused(option: str, tmp_path: Path) -> None:
    from facecade.stages.executors.slurm_jobs import SlurmExecutor

    with pytest.raises(FacecadeError):
        SlurmExecutor(Machine(executor="slurm", executor_options=("cluster=local", option)), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(FacecadeError, match="no Slurm here"):
            SlurmExecutor(Machine(executor="slurm"), tmp_path)
