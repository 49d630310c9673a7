"""`infer --abstain`: what is unsure changes, and nothing else; `evaluate` checks the promise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

import facecade
from facecade.base.errors import FacecadeError
from facecade.records import read_combiner_record


def infer(run: Path, data: Path, output: Path, *words: object) -> pd.DataFrame:
    succeed("infer", data, "--artifacts", run, "--engine", "torch", "--output", output, *words)
    return pd.read_csv(output / "predictions.csv", keep_default_na=False)


def test_abstaining_changes_flags_alone(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """With a record that promises something: the tiny run has learned next to nothing."""
    run, meta = tmp_path / "run", tmp_path / "run/combiner/meta.json"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock", "export"))
    plain = infer(fitted, drawn / "eval", tmp_path / "plain")
    unsure = plain["flags"].str.contains("unsure")
    assert (unsure == (plain["confidence"] < 0.5)).all()
    record, middle = json.loads(meta.read_text()), float(plain["confidence"].median())
    record["reliability"]["risks"] = [{"confidence": middle, "coverage": 0.5, "error": 0.04, "bound": 0.09}]
    meta.write_text(json.dumps(record))
    reliability = read_combiner_record(run / "combiner").reliability
    for risk in (0.01, 0.1):
        output = tmp_path / f"{risk}"
        table = infer(run, drawn / "eval", output, "--abstain", risk)
        assert (output / "submission.csv").read_bytes() == (tmp_path / "plain/submission.csv").read_bytes()
        pd.testing.assert_frame_equal(table.drop(columns="flags"), plain.drop(columns="flags"))
        sure = ~table["flags"].str.contains("unsure")
        assert (sure == (table["confidence"] >= reliability.sure_from(risk))).all()
        text = succeed("evaluate", output / "submission.csv", drawn / "eval/eval_labels.csv", "--output", output)
        answered = json.loads((output / "evaluation.json").read_text())["answered"]
        assert (answered is None) == sure.all() == ("The others are unsure" not in text)
        assert answered is None or answered["images"] == sure.sum()
    assert 0.4 < sure.mean() < 0.6 and f"Answered: {sure.sum()} images" in text


def test_a_risk_that_cannot_be_promised_is_said_with_the_lowest_one(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    """24 people and a network that learned next to nothing."""
    image = next((drawn / "eval/images").rglob("*.*"))
    words = ["--artifacts", fitted, "--engine", "torch", "--output", tmp_path]
    text = succeed("predict", image, *words, "--abstain", 0.01)
    assert "answered: 0 of 1 (0 %)" in text and "Everything is unsure" in text
    summary = json.loads(succeed("infer", image, *words, "--abstain", 0.01, "--json"))
    assert summary["abstain"]["answered"] == 0 and summary["abstain"]["answering"] is None
    assert summary["flags"]["unsure"] == 1 and summary["prediction"]["ans"] is not None
    assert "abstain" not in json.loads(succeed("infer", image, *words, "--json"))
    assert "Unsure:" in succeed("explain", image, "--artifacts", fitted, "--abstain", 0.01)
    assert call("infer", image, *words, "--abstain", 1.5).exit_code == 2


def test_api_and_export_abstain_as_the_command_does(fitted: Path, exported: Path, drawn: Path) -> None:
    images = sorted((drawn / "eval/images").rglob("*.*"))[:3]
    for cascade in (facecade.load(fitted, engine="torch"), facecade.load(exported)):
        plain, strict = cascade.predict(images), cascade.predict(images, abstain=0.01)
        assert all(each.unsure for each in strict) and [each.label for each in plain] == [each.label for each in strict]
        assert [each.unsure for each in plain] == [each.confidence < 0.5 for each in plain]
        face = cascade.explain(images[0], abstain=0.01).faces[0]
        assert face.unsure and face.confidence == pytest.approx(plain[0].confidence, abs=1e-3)
        with pytest.raises(FacecadeError, match=r"abstain is 2\.0"):
            cascade.predict(images, abstain=2.0)


def test_evaluate_scores_what_is_answered(tmp_path: Path) -> None:
    """Images that cannot be read are no answers either."""
    flags = ["", "unsure", "several-faces unsure", "", "unreadable: not an image, unsure"]
    ids = [f"{number}.jpg" for number in range(5)]
    pd.DataFrame({"ImageID": ids, "ans": [1, 2, 3, 4, 5], "flags": flags}).to_csv(
        tmp_path / "predictions.csv", index=False
    )
    labels = pd.DataFrame({"ImageID": ids, "ans": [1, 0, 0, 4, 0], "person": np.arange(5)})
    labels.to_csv(tmp_path / "labels.csv", index=False)
    words = ["evaluate", tmp_path / "predictions.csv", tmp_path / "labels.csv", "--output", tmp_path]
    text = succeed(*words)
    assert "Answered: 2 images (40 %): macro-F1 1.0000" in text and "accuracy 1.0000" in text
    answered = json.loads(succeed(*words, "--json"))["answered"]
    assert (answered["images"], answered["coverage"]) == (2, 0.4) and set(answered["score"]) == {"macro-F1", "accuracy"}
