"""What `infer` shows to people, which files it writes, and whose results it leaves alone."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import call, succeed

from facecade.faces import mtcnn_networks
from facecade.report.prediction_text import ROWS_SHOWN, summary_text
from facecade.report.text import PLAIN


@pytest.fixture
def photos(drawn: Path, tmp_path: Path) -> Path:
    """A plain folder of twelve images and one that is damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for image in sorted((drawn / "eval/images").iterdir())[:12]:
        shutil.copy(image, folder)
    (folder / "000.jpg").write_text("no image")
    return folder


def test_a_folder_shows_its_first_predictions_and_counts(fitted: Path, photos: Path, tmp_path: Path) -> None:
    words = ["infer", photos, "--artifacts", fitted, "--engine", "torch", "--output", tmp_path / "o"]
    result = call(*words)
    assert result.exit_code == 0 and "This run looks for no faces" in result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["image", "prediction", "years", "conf.", "note"]
    assert lines[2].split() == ["000.jpg", "unreadable:", "not", "an", "image"]
    assert len([line for line in lines if ".jpg" in line]) == ROWS_SHOWN and "and 3 more" in lines
    table = pd.read_csv(tmp_path / "o/predictions.csv")
    counted = {line.partition(":")[0]: line for line in lines if line.startswith(("mask:", "gender:", "band:"))}
    assert f"no mask {(table['mask'] == 'normal').sum()}" in counted["mask"]
    assert counted["gender"].split() == [
        *("gender:", "man", f"{(table['gender'] == 'male').sum()},", "woman", f"{(table['gender'] == 'female').sum()}")
    ]
    assert f"60 or over {(table['band'] == '>=60').sum()}" in counted["band"]
    assert "unreadable 1" in lines[-2] and "images: 13;" in lines[-2] and lines[-1] == f"{tmp_path}/o/predictions.csv"
    assert not (tmp_path / "o/submission.csv").exists() and table["ans"].isna().tolist() == [True] + [False] * 12
    summary = json.loads(succeed(*words, "--json"))
    assert summary["counts"]["gender"] == {each: (table["gender"] == each).sum() for each in ("male", "female")}
    assert summary["rows"] == 13 and summary["detector"] == "centre" and set(summary["cuts"]) == {"male", "female"}


def row(**values: Any) -> dict[str, Any]:
    known = {"ImageID": "a-long-name-of-a-photograph-0001.jpeg", "ans": 11, "age": 61.0, "confidence": 0.4}
    return {**known, "flags": "", "faces": 1, "face": 1, **values}


def summary(rows: int) -> dict[str, Any]:
    counts = {"mask": {"wear": 1}, "gender": {"male": 1}, "band": {"30-59": 1}}
    files = {"predictions": "output/predictions.csv"}
    return {
        "images": rows,
        "rows": rows,
        "flags": {},
        "seconds": 1.0,
        "engine": "e",
        "counts": counts,
        "cuts": {},
        **files,
    }


def test_the_table_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [row(flags="no-face several-faces unsure trained-on", age=29.0), row(ans=0), row(ans=None, age=None)]
    text = summary_text(summary(12), [*rows, *[row()] * 7])
    assert max(map(len, text.splitlines())) <= 80 and "mask worn wrongly" in text and "NO FACE FOUND" in text
    assert "In files: wear = mask, incorrect = mask worn wrongly, normal = no mask" in text


def test_no_face_is_said_first_and_loud_of_one_image() -> None:
    text = summary_text(summary(1), [row(flags="no-face unsure", faces=0, face=None)])
    assert text.startswith("NO FACE FOUND") and "; unsure" in text
    assert summary_text(summary(1), [row()]).startswith(
        "a-long-name-of-a-photograph-0001.jpeg: mask worn wrongly · woman"
    )
    hostile = summary_text(summary(1), [row(ImageID="a\x1b[2Jb\n.jpg")])
    assert "\x1b" not in hostile and "\n.jpg" not in hostile
    assert "no prediction: unreadable: empty file" in summary_text(
        summary(1), [row(ans=None, age=None, flags="unreadable: empty file")]
    )


def test_terminals_without_utf_8_get_other_letters(fitted: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facecade.report import text

    class Ascii:
        encoding = "ascii"

    monkeypatch.setattr(text.sys, "stdout", Ascii())
    shown = text.terminal("no mask · woman · 30–59 …")
    assert shown == "no mask | woman | 30-59 ~" and shown.isascii() and all(chr(code) not in shown for code in PLAIN)


def test_one_image_is_printed_and_written_only_on_request(
    fitted: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = sorted(photos.iterdir())[1:3]
    words = ["--artifacts", fitted, "--engine", "torch"]
    for image in (first, second):
        assert succeed("infer", image, *words).startswith(f"{image.name}: ")
    assert not (tmp_path / "output").exists()
    assert "predictions" not in json.loads(succeed("infer", first, *words, "--json"))
    succeed("infer", first, *words, "--output", "o")
    assert (tmp_path / "o/predictions.csv").exists()


def test_predictions_of_other_data_or_runs_are_not_overwritten(
    fitted: Path, photos: Path, drawn: Path, tmp_path: Path
) -> None:
    output, file = tmp_path / "o", tmp_path / "o/predictions.csv"
    words = ["--engine", "torch", "--output", output]
    succeed("infer", photos, "--artifacts", fitted, *words)
    before = file.read_bytes()
    succeed("infer", photos, "--artifacts", fitted, *words)
    other = shutil.copytree(fitted, tmp_path / "other", ignore=shutil.ignore_patterns(".lock"))
    for data, run in ((drawn / "eval", fitted), (photos, other)):
        refused = call("infer", data, "--artifacts", run, *words)
        assert refused.exit_code == 1 and "holds the predictions of run" in refused.stderr
        assert "Next: give another folder (--output NEW), or replace them with --overwrite" in refused.stderr
        assert file.read_bytes() == before
    shutil.rmtree(photos / "more", ignore_errors=True)
    shutil.copy(sorted(photos.iterdir())[1], photos / "one-more.jpg")
    succeed("infer", photos, "--artifacts", fitted, *words)
    assert len(pd.read_csv(file)) == 14, "the same folder with one more image is the same request"
    succeed("infer", drawn / "eval", "--artifacts", fitted, *words, "--overwrite")
    assert len(pd.read_csv(output / "submission.csv")) == 84


def test_pages_of_another_run_are_not_overwritten(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    other = shutil.copytree(fitted, tmp_path / "other", ignore=shutil.ignore_patterns(".lock"))
    output = ["--output", tmp_path / "o"]
    succeed("audit", "--artifacts", fitted, *output)
    refused = call("audit", "--artifacts", other, *output)
    assert refused.exit_code == 1 and "holds the audit of run" in refused.stderr and "--overwrite" in refused.stderr
    succeed("audit", "--artifacts", fitted, *output)
    succeed("audit", "--artifacts", other, *output, "--overwrite")


def test_a_report_shows_only_the_evaluation_of_its_own_run(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    output = tmp_path / "o"
    succeed("infer", drawn / "eval", "--artifacts", fitted, "--engine", "torch", "--output", output)
    succeed("evaluate", output / "submission.csv", drawn / "eval/eval_labels.csv", "--output", output)
    file = output / "evaluation.json"
    scored = json.loads(file.read_text())
    own = call("report", "--artifacts", fitted, "--output", output)
    assert own.exit_code == 0 and "is not shown" not in own.stderr
    assert "84 images of 12 other people" in (output / "MODEL_CARD.md").read_text()
    for run, reason in (("0" * 16, "another run made its predictions"), (None, "it is not known which run")):
        file.write_text(json.dumps({**scored, "run": run}))
        result = call("report", "--artifacts", fitted, "--output", output)
        assert result.exit_code == 0 and f"{file} is not shown: {reason}" in result.stderr
        assert "84 images" not in (output / "MODEL_CARD.md").read_text()


def test_evaluate_counts_what_has_no_prediction(fitted: Path, photos: Path, drawn: Path, tmp_path: Path) -> None:
    labels = pd.read_csv(drawn / "eval/eval_labels.csv", dtype={"ImageID": str})
    labels = labels[labels["ImageID"].isin([path.name for path in photos.iterdir()])]
    bad = labels.iloc[0].copy()
    bad["ImageID"] = "000.jpg"
    pd.concat([labels, bad.to_frame().T]).to_csv(tmp_path / "labels.csv", index=False)
    succeed("infer", photos, "--artifacts", fitted, "--engine", "torch", "--output", tmp_path / "o")
    words = ["evaluate", tmp_path / "o/predictions.csv", tmp_path / "labels.csv", "--output", tmp_path / "o", "--json"]
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    assert "1 images have no prediction" in result.stderr and json.loads(result.stdout)["images"] == 12


def test_importing_the_detector_warns_of_nothing() -> None:
    """facenet-pytorch imports requests, and urllib3 then misses PySocks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mtcnn_networks.networks()
        warnings.warn("others still do", stacklevel=1)
    assert [str(each.message) for each in caught] == ["others still do"]
