"""benchmarks/released.py: who is held out, what is published, and what the numbers of its tables are."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.faces.labels import AXES, decode
from facecade.inference.exported import Exported
from facecade.records import Reliability, Risk
from facecade.report.calibration import confidence_calibration

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))  # where a script finds its neighbours
released: Any = import_module("released")


def test_a_tenth_of_the_people_is_held_out_the_same_each_time() -> None:
    ids = [f"u{number:05}" for number in range(5000)]
    share = np.mean([released.is_held_out(each) for each in ids])
    assert 0.08 < share < 0.12
    assert [each for each in ids[:30] if released.is_held_out(each)] == ["u00003", "u00010", "u00018", "u00027"]


def test_the_extra_people_are_split_and_the_held_out_ones_have_no_labels(drawn: Path, tmp_path: Path) -> None:
    released.split_extra(drawn / "train", tmp_path)
    trained, held_out, labels = (
        pd.read_csv(tmp_path / f"{name}.csv", dtype=str) for name in ("extra", "held-out", "held-out-labels")
    )
    assert len(set(trained["person"]) | set(held_out["person"])) == 24
    assert not set(trained["person"]) & set(held_out["person"]) and trained["mask"].notna().all()
    assert held_out[["mask", "gender", "age"]].isna().all(axis=None) and labels["ans"].notna().all()
    assert labels["ImageID"].tolist() == held_out["path"].tolist()


def test_each_person_is_one_of_the_few_once_and_all_others_are_scored(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "FEW", 3)
    people = pd.read_csv(drawn / "eval/eval_labels.csv", dtype=str)["person"].nunique()
    parts = released.split_few(drawn / "eval", tmp_path)
    assert parts == people // 3 >= 2
    seen: list[str] = []
    for part in range(parts):
        few, others, labels = (
            pd.read_csv(tmp_path / str(part) / f"{name}.csv", dtype=str) for name in ("few", "others", "others-labels")
        )
        seen += sorted(set(few["person"]))
        assert few["person"].nunique() == 3 and others["person"].nunique() == people - 3
        assert not set(few["person"]) & set(others["person"])
        assert few["mask"].notna().all() and others[["mask", "gender", "age"]].isna().all(axis=None)
        assert (
            all(Path(path).is_file() for path in few["path"]) and labels["ImageID"].tolist() == others["path"].tolist()
        )
    assert len(seen) == len(set(seen))


def test_only_what_the_manifest_names_is_published(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "released"
    (target / "networks").mkdir(parents=True)
    (target / "networks/old.onnx").touch()
    (target / "LICENSE").touch()
    released.publish(exported, target, [ROOT])
    manifest = Exported.open(target).manifest
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert files == {*manifest.files, "manifest.json", "LICENSE"}
    run = Path(manifest.run)
    with pytest.raises(FacecadeError, match="holds the path"):
        released.publish(exported, target, [run])
    monkeypatch.setattr(released, "MAX_MIB", 0.1)
    with pytest.raises(FacecadeError, match=r"more than 0\.1"):
        released.publish(exported, target, [])


def rows(people: int) -> pd.DataFrame:
    """Two images of each person, with made-up predictions."""
    generator, count = np.random.default_rng(0), 2 * people
    label, wrong = generator.integers(0, 18, count), generator.random(count) < 0.3
    columns = {"label": label, "prediction": np.where(wrong, (label + 1) % 18, label), "age": np.full(count, 40.0)}
    columns |= {"years": 40 + generator.normal(0, 5, count), "person": np.repeat(np.arange(people), 2)}
    confidence = np.where(wrong, 0.4, 0.9)
    return pd.DataFrame(columns | {"confidence": confidence, "probability": np.full(count, 0.99)})


def test_both_sides_of_a_gap_are_in_the_table() -> None:
    table = rows(60)
    gender = decode(table["label"].to_numpy())[1]
    text = released.gaps_table(table, released.groups_of(table, ["gender"]), ["gender accuracy", "age error"])
    right = gender == decode(table["prediction"].to_numpy())[1]
    for value, name in enumerate(AXES["gender"]):
        line = next(line for line in text.splitlines() if f"| {name} |" in line)
        assert f"{right[gender == value].mean():.3f} [" in line and f"| {(gender == value).sum()} |" in line
    assert "*difference (behind)*" in text


def test_confidence_and_abstaining() -> None:
    table = rows(60)
    right = (table["label"] == table["prediction"]).to_numpy()
    for column in ("confidence", "probability"):
        expected = confidence_calibration(table[column].to_numpy(), right).error
        found = released.calibration_error(table, column)
        assert found.value == pytest.approx(expected) and found.low < found.high
    reliability = Reliability(risks=(Risk(confidence=0.5, coverage=0.7, error=0.0, bound=0.15),))
    lines = released.abstain_table({"eval": table}, reliability).splitlines()[2:]
    assert lines[0] == "| 10% | eval | 0.000 [0.000, 0.000] | nothing is answered |"
    assert f"| {right.mean():.3f} [" in lines[1] and "| 0.000 [0.000, 0.000] |" in lines[1]
