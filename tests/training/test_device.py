"""Names of devices are understood in one place, and a device that is not here is named."""

from __future__ import annotations

import pytest
import torch
from conftest import call

import facecade
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, parse_device, parse_executor
from facecade.stages.executors import make_executor
from facecade.stages.executors.local import LocalExecutor
from facecade.stages.executors.processes import ProcessExecutor
from facecade.training.device import cuda_devices, torch_device

WRONG = [
    "gpu",
    "",
    "CUDA",
    "cuda:",
    "cuda:x",
    "cuda:-1",
    "cuda:0,",
    "cuda:0,0",
    "cuda:0 1",
    "cpu:0",
    "mps:0",
    "cuda:99999",
]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("auto", ("auto", ())),
        ("cpu", ("cpu", ())),
        ("cuda", ("cuda", ())),
        ("mps", ("mps", ())),
        ("cuda:1", ("cuda", (1,))),
        ("cuda:2,0", ("cuda", (2, 0))),
    ],
)
def test_devices_are_understood(text: str, meaning: tuple[str, tuple[int, ...]]) -> None:
    assert parse_device(text) == meaning


@pytest.mark.parametrize("text", WRONG)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(FacecadeError, match="unknown device"):
        parse_device(text)


def test_commands_and_the_api_refuse_them_before_they_work() -> None:
    for words in (["fit-stage", "all"], ["infer", "x"], ["compare", "demo", "--data", "x"]):
        result = call(*words, "--device", "gpu")
        assert result.exit_code == 2 and "unknown device 'gpu'; choose from: auto, cpu, cuda" in result.stderr
    for wrong in (lambda: facecade.fit("x", device="gpu"), lambda: facecade.load("x", device="gpu")):
        with pytest.raises(FacecadeError, match="unknown device 'gpu'"):
            wrong()


def test_executors_are_understood() -> None:
    for text in ("processes", "ray", "slurm", "ray://10.0.0.1:10001", "ray://auto"):
        assert parse_executor(text) == text
    for text in ("", "dask", "ray:", "ray://", "ray://a b", "ray://a/b", "RAY"):
        with pytest.raises(FacecadeError, match="unknown executor"):
            parse_executor(text)
    assert call("fit-stage", "all", "--executor", "dask").exit_code == 2
    with pytest.raises(FacecadeError, match="unknown executor"):
        facecade.fit("x", executor="dask")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_here_is_named() -> None:
    for text, message in (("cuda", "no CUDA device here"), ("cuda:1", "no CUDA device here"), ("mps", "no Apple GPU")):
        with pytest.raises(FacecadeError, match=message) as raised:
            torch_device(text)
        assert raised.value.hint == "--device cpu"
    assert torch_device("auto").type == "cpu" and cuda_devices("auto") == []


def test_one_process_for_each_of_several_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [cuda_devices(each) for each in ("auto", "cuda", "cuda:2,0", "cpu")] == [[0, 1, 2], [0, 1, 2], [2, 0], []]
    assert torch_device("cuda:2,0") == torch.device("cuda", 2)
    with pytest.raises(FacecadeError, match="no CUDA device 3 here") as raised:
        torch_device("cuda:0,3")
    assert raised.value.hint == "choose from: cuda:0, cuda:1, cuda:2"

    def slots(device: str, jobs: int, fits: int) -> int:
        with make_executor(Machine(device, jobs), None, None, fits) as executor:  # type: ignore[arg-type]
            assert isinstance(executor, ProcessExecutor if executor.slots > 1 else LocalExecutor)
            return executor.slots

    assert [slots(device, 0, 9) for device in ("auto", "cuda:0,2", "cuda:1")] == [3, 2, 1]
    assert (slots("cuda", 6, 9), slots("cuda", 0, 2), slots("cuda:1", 2, 9)) == (6, 2, 2)
    with pytest.raises(FacecadeError, match="--executor-option is for slurm"):
        make_executor(Machine(executor_options=("a=b",)), None, None, 1)  # type: ignore[arg-type]
