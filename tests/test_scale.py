"""What benchmarks/scale.py counts, and what it calculates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from benchmarks import scale
from benchmarks.scaling import listings, paper
from benchmarks.scaling.watching import Fits, growth, is_loopback

ROOT = Path(__file__).resolve().parents[1]
ONE = paper.Photograph(bytes=1e5, part_bytes=100, row=1e-6, request=1e-3, decoding=2e-3, networks=96e-3, part=1e-3)
GIVEN = paper.Assumptions(
    machines=10, cores=10, core_hour=0.1, thousand_gets=0.001, gigabits=1, latency=0.1, workers=10
)


def test_an_epoch_that_is_trained_again_is_counted(tmp_path: Path) -> None:
    fold = tmp_path / "stages/joint/fold0"
    fold.mkdir(parents=True)
    fits = Fits(tmp_path)

    def write(*seconds: float) -> None:
        lines = [json.dumps({"epoch": epoch, "seconds": each}) for epoch, each in enumerate(seconds, 1)]
        (fold / "history.jsonl").write_text("\n".join(lines))
        fits.look()

    write(1.5)
    (fold / ".lease").write_text(json.dumps({"host": "a", "process": 7}))
    write(1.5, 1.25)
    assert fits.begun() == {"joint/fold0": 2} and not fits.finished()
    assert fits.trained_twice == 0, "the first line is the same"
    write(1.5, 1.375)
    assert fits.trained_twice == 1 and len(fits.epochs) == 2
    (fold / "meta.json").touch()
    assert not fits.begun() and list(fits.finished()) == ["joint/fold0"] and fits.holders["joint/fold0"] == {("a", 7)}


def test_rates_and_growth_leave_out_the_start() -> None:
    late = [(0.0, 0), *((10 + each / 100, each) for each in range(1, 101))]
    assert listings.slope(late) == pytest.approx(100)
    assert growth([(0, 50), (1, 100), (2, 100), (3, 100)]) == 1
    assert growth([(0, 50), (1, 100), (2, 120), (3, 110)]) == 1.2


def test_addresses_of_this_machine() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "::ffff:127.0.0.1", "::1")))
    assert not any(map(is_loopback, ("10.0.0.2", "0.0.0.0", "::", "::ffff:10.0.0.2")))


def test_bounds_of_many_photographs() -> None:
    hours = {each.what: each.hours for each in paper.bounds(ONE, GIVEN)}
    assert hours["all work on cores"] == pytest.approx(1e8 * 0.1 / 100 / 3600)
    assert hours["listing: one process reads it and deals"] == pytest.approx(100 / 3600)
    assert hours["requests: waiting for the first byte"] == pytest.approx(1e8 * 0.1 / 100 / 3600)
    assert hours["bytes of photographs: network"] == pytest.approx(1e8 * 8e5 / 1e10 / 3600)
    whole = paper.hours(ONE, GIVEN)
    assert whole == max(hours.values())
    machines, requests = paper.dollars(ONE, GIVEN)
    assert machines == pytest.approx(whole * 100 * 0.1) and requests == pytest.approx(100)
    assert paper.hours(ONE, replace(GIVEN, machines=20)) == pytest.approx(whole / 2)
    assert paper.machines_for(ONE, GIVEN, whole) == 10


def test_networks_are_read_from_their_page() -> None:
    seconds, commit = scale.real_networks()
    assert 0 < seconds["finding"] < seconds["one network"] < seconds["all folds"] < 1
    assert commit != "unknown"


@pytest.mark.skipif(not scale.PAGE.exists(), reason="not measured")
def test_the_page_has_what_was_measured() -> None:
    """And the formulas of now."""
    measured = scale.read()
    assert set(measured) == set(scale.NAMES) and scale.PAGE.read_text() == scale.page(measured)
