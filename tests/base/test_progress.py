"""Progress fits the terminal, says what people know, and reaches it from worker processes."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from facecade.base import progress
from facecade.base.machine import Machine
from facecade.base.progress import Bar, RemoteBars
from facecade.stages import jobs
from facecade.stages.executors import local

TITLES = ("all", "joint fold 0", "age-female fold 1", "mask fold 2: frozen part")
DETAILS = ("2 of 15 fits", "epoch 10/12 loss 0.412 val age mae 5.31", "epoch 3/8 loss 1.23 val acc 0.912", "")


def bars() -> list[Bar]:
    """Bars of four kinds, after ten seconds."""
    made = [Bar(title, 4200, "" if title == "all" else "images") for title in TITLES]
    for bar, detail in zip(made, DETAILS, strict=True):
        bar.started -= 10
        bar.advance(2120, detail)
    return made


def shown(width: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, force_terminal=True, color_system=None).print(progress._Lines(bars()))
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [72, 80, 100, 120])
def test_no_word_is_cut(width: int) -> None:
    lines = shown(width)
    words = {word for text in (*TITLES, *DETAILS) for word in text.split()} | {"212", "images/s", "00:10", "left"}
    words |= {"2120/4200"}
    assert len(lines) == 4 and all(len(line) <= width for line in lines)
    for line, title, detail in zip(lines, TITLES, DETAILS, strict=True):
        assert line.startswith(title) and detail in line
        assert {word for word in line.split() if set(word) - set("━╸╺")} <= words


def test_loss_held_out_metric_images_and_time_left_are_shown_at_80_columns() -> None:
    line = next(line for line in shown(100) if line.startswith("joint"))
    assert "loss 0.412 val age mae 5.31" in line and "212 images/s" in line and line.endswith("00:10 left")
    assert shown(80)[0].startswith("all") and "2 of 15 fits" in shown(80)[0]
    assert all(line.endswith("left") for line in shown(80))
    assert "flops" not in "".join(shown(120))


def test_the_rate_leaves_out_what_an_earlier_call_did_and_the_time_left_runs_down() -> None:
    bar = Bar("joint fold 0", 400, "images", done=200)
    bar.started -= 10
    bar.advance(100)
    assert bar.rate == "10 images/s" and bar.seconds_left == pytest.approx(10, abs=0.5)
    bar.changed -= 4
    bar.started -= 4
    assert bar.seconds_left == pytest.approx(6, abs=0.5)
    bar.advance(0, "3 of 15 fits")
    assert bar.seconds_left == pytest.approx(6, abs=0.5), "a new text is no progress"


def test_bars_of_a_worker_are_shown_with_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[progress.Message] = []
    monkeypatch.setattr(progress, "_send", sent.append)
    monkeypatch.setattr(progress, "SEND_SECONDS", 0.0)
    with Bar("joint fold 0", 60, "images", done=20) as bar:
        time.sleep(0.01)
        bar.advance(32, "epoch 1/2 loss 0.5")
    monkeypatch.setattr(progress, "_send", None)
    remote = RemoteBars()
    for message in sent[:-1]:
        remote.receive("joint fold 0", message)
    (received,) = remote.bars.values()
    assert (received.title, received.done, received.detail) == ("joint fold 0", 52, "epoch 1/2 loss 0.5")
    remote.receive("joint fold 0", sent[-1])
    assert not remote.bars


def test_bars_of_a_lost_process_are_removed() -> None:
    """Its fit begins again in another process, which counts its bars anew; messages may be lost."""
    remote = RemoteBars()
    remote.receive("mask fold 0", ("advance", 3, 1, ""))
    for process in range(2):
        remote.receive("mask fold 0", ("begin", 0, f"process {process}", 60, "images", 0))
    remote.receive("mask fold 1", ("begin", 0, "other", 60, "images", 0))
    assert [bar.title for bar in remote.bars.values()] == ["process 1", "other"]
    remote.end("mask fold 0")
    remote.receive("mask fold 0", ("end", 0))
    assert [bar.title for bar in remote.bars.values()] == ["other"]


def test_without_a_terminal_lines_say_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.0)
    with Bar("mask fold 0", 100, "images") as bar:
        bar.started -= 1
        bar.advance(50, "epoch 1/2 loss 0.5 val acc 0.9")
    line = capsys.readouterr().err
    assert line.startswith("mask fold 0 epoch 1/2 loss 0.5 val acc 0.9 50/100  50 images/s  ends ")


def test_the_overall_bar_counts_fits_and_weighs_them_by_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three fits, one of them as dear as three of the others."""

    class Stub:
        needs: tuple[()] = ()

        def __init__(self, key: tuple[str, int]) -> None:
            self.key = key

    fits = [Stub(("joint", 0)), Stub(("mask", 0)), Stub(("mask", 1))]
    seen: list[tuple[int, int, str, str]] = []
    monkeypatch.setattr(jobs, "_gigaflops", lambda fits, table: {("joint", 0): 3, ("mask", 0): 1, ("mask", 1): 1})
    monkeypatch.setattr(jobs, "discard_earlier", lambda fit, resume: None)
    monkeypatch.setattr(local, "try_fit", lambda *arguments: "outcome")
    advance = Bar.advance

    def record(bar: Bar, count: int = 1, detail: str | None = None) -> None:
        advance(bar, count, detail)
        seen.append((bar.done, bar.total, bar.unit, bar.detail))

    monkeypatch.setattr(Bar, "advance", record)
    executor = local.LocalExecutor(Machine("cpu"), None)  # type: ignore[arg-type]
    jobs.fit_all(fits, None, executor, False, lambda fit, outcome: None)  # type: ignore[arg-type]
    assert seen == [(n, 5, "", f"{i} of 3 fits") for i, n in enumerate((0, 3, 4, 5))]


def test_training_says_epoch_loss_and_the_last_held_out_score(tmp_path: Path) -> None:
    import torch

    from facecade.training.loop import _Shown

    history: list[dict[str, float]] = []
    text = _Shown(12, history)
    losses = [torch.tensor(0.5), torch.tensor(0.3)]
    assert text.text(0, losses) == "epoch 1/12 loss 0.4"
    history.append(
        {"epoch": 1, "loss": 0.4, "val_loss": 0.6, "val_mask_accuracy": 0.9, "val_age_mae": 5.314, "lr": 1.0}
    )
    assert text.text(1, losses) == "epoch 2/12 loss 0.4 val age mae 5.31"
    history[0] = {"epoch": 1, "loss": 0.4, "val_loss": 0.6, "val_accuracy": 0.9123, "seconds": 2.0}
    assert text.text(1, losses) == "epoch 2/12 loss 0.4 val acc 0.912"
