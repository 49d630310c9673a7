"""Three processes train one model to the weights of one process, and say what became of them. torchrun runs this file as a script."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facecade.base.errors import FacecadeError
from facecade.base.interrupt import exit_on_interrupt
from facecade.recipe import StageRecipe
from facecade.training.distributed import ProcessGroup
from facecade.training.loop import TrainingData, fit
from facecade.training.losses import class_loss
from facecade.training.ranks import ALONE, Ranks, joined

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 47


class Network(nn.Module):
    """Two convolutions with batch norms, in float64, so that only mistakes make a difference."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = [(nn.Conv2d(width, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()) for width in (3, 8)]
        self.model = nn.Sequential(*layers[0], *layers[1]).double()
        self.head = nn.Linear(8, 3).double()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        embedding = self.model(images.permute(0, 3, 1, 2).double() / 255).mean((2, 3))
        return embedding, self.head(embedding)


class Samples:
    """Noise."""

    def __init__(self) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (IMAGES, 16, 12, 3), np.uint8)

    def sample(self, row: int, seed: int) -> np.ndarray:
        return np.asarray(np.roll(self.images[row], seed % 12, axis=1))

    def outputs(self, model: nn.Module, rows: np.ndarray, first_view: bool = False) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(torch.from_numpy(self.images[rows]))[1].float().numpy())


def train(folder: Path, batch_size: int, ranks: Ranks) -> None:
    """Train with whatever acts on more than one image; of the main process, the weights are in the folder."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(1)
    target, weight = random.integers(0, 3, IMAGES).astype(np.float32), random.uniform(0.5, 1, IMAGES).astype(np.float32)
    stratum, old = np.zeros(IMAGES, np.int64), random.random(IMAGES) < 0.3
    rows = np.arange(IMAGES)
    training_data = TrainingData(rows, np.arange(5), target, weight, rows, stratum, old, Samples())
    settings = {"mixup": 0.4, "cutmix": 1.0, "mix_chance": 0.7, "ema": 0.9, "clip_grad": 0.5, "patience": 9}
    recipe = StageRecipe(backbone="x", batch_size=batch_size, epochs=3, lr=0.1, optimizer="sgd", **settings)
    loss = class_loss("0.5*ce + 0.5*f1", torch.ones(3))
    model = fit(Network(), training_data, loss, recipe, 3, folder / f"state-{batch_size}", folder, "t", ranks=ranks)
    if ranks.main:
        np.savez(folder / f"{batch_size}.npz", **{name: value.numpy() for name, value in model.state_dict().items()})


BATCH_SIZES = (7, 100)
"""Three processes cannot share 7 images evenly, and 100 are more than there are: one batch of 47."""


def test_three_processes_train_as_one(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", __file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([*words, str(tmp_path / "three")], env=environment, check=True, timeout=300)
    for batch_size in BATCH_SIZES:
        train(tmp_path / "one", batch_size, ALONE)
        with np.load(tmp_path / f"one/{batch_size}.npz") as one, np.load(tmp_path / f"three/{batch_size}.npz") as three:
            assert one.files == three.files
            for name in one:
                # 7e-10 were measured: the loss is in float32
                np.testing.assert_allclose(three[name], one[name], rtol=0, atol=1e-7, err_msg=name)


def groups(monkeypatch: pytest.MonkeyPatch, count: int, answering: Sequence[int]) -> list[ProcessGroup]:
    """Processes, as far as they talk by a store; some of them answer when the roll is called."""
    from facecade.training import distributed

    monkeypatch.setattr(distributed, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(distributed, "TIMEOUT", 1.0)
    store, result = torch.distributed.HashStore(), []
    for index in range(count):
        group = object.__new__(ProcessGroup)
        group.index, group.count, group._store, group._ending = index, count, store, threading.Lock()
        group._sent = group._settled = group._met = group._gathered = 0
        store.set(f"place/{index}", f"pid {10 + index} on host")
        result.append(group)
        if index in answering:
            threading.Thread(target=group._answer, args=(store,), daemon=True).start()
    return result


def test_the_error_of_one_process_is_told_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(monkeypatch, 2, [0, 1])
    with pytest.raises(FacecadeError, match=r"^process 0 of 2 \(pid 10 on host\): the disk is full$") as told:
        first.settle(FacecadeError("the disk is full", "free some space"))
    assert told.value.hint.startswith("free some space; the same command with --resume")
    with pytest.raises(SystemExit):
        second.settle(RuntimeError("[gloo/pair.cc:1] Connection closed by peer"))


def test_a_process_that_has_ended_its_fit_lets_the_other_one_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(monkeypatch, 2, [0, 1])
    ended: list[BaseException] = []

    def settle_second() -> None:
        try:
            second.settle(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=settle_second)
    thread.start()
    with pytest.raises(FacecadeError, match=r"process 0 of 2 .*: the disk is full"):
        first.settle(FacecadeError("the disk is full"))
    thread.join()
    assert [type(error) for error in ended] == [SystemExit]


def test_processes_that_do_not_answer_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    group = groups(monkeypatch, 3, [0, 2])[0]
    with pytest.raises(
        FacecadeError, match=r"^process 1 of 3 \(pid 11 on host\) no longer answers: killed, stopped or"
    ):
        group.settle(RuntimeError("[gloo/pair.cc:1] Connection closed by peer"))


def test_a_process_that_stays_behind_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(monkeypatch, 2, [0, 1])
    first._gathered, second._gathered = 8, 7
    with pytest.raises(FacecadeError, match=r"^process 1 of 2 \(pid 11 on host\) stays behind the others"):
        first.settle(RuntimeError("[gloo/unbound_buffer.cc:1] Timed out waiting 1000ms for send operation to complete"))


def test_after_the_same_error_the_next_fit_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(monkeypatch, 2, [])
    for error in (FacecadeError("diverged"), None):
        thread = threading.Thread(target=second.settle, args=(error,))
        thread.start()
        first.settle(error)
        thread.join()


def test_processes_that_see_other_checkpoints_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = groups(monkeypatch, 2, [])
    thread = threading.Thread(target=second._meet, args=("0",))
    thread.start()
    with pytest.raises(FacecadeError, match="the epochs are not the same for all processes: 3, 0"):
        first.require_same("the epochs", 3)
    thread.join()


def test_a_batch_needs_an_image_for_each_process() -> None:
    group = object.__new__(ProcessGroup)
    group.index, group.count = 0, 8
    group.require_share(8)
    with pytest.raises(FacecadeError, match="a batch of 7 images has none for some of 8 processes"):
        group.require_share(7)


def test_one_process_initializes_nothing() -> None:
    with joined() as ranks:
        assert ranks is ALONE and not torch.distributed.is_initialized()


if __name__ == "__main__":
    with exit_on_interrupt(lambda: None), joined() as joined_ranks:
        for size in BATCH_SIZES:
            train(Path(sys.argv[1]), size, joined_ranks)
