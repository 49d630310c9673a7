"""The Python API gives what the commands give."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import TINY, succeed
from nbclient import NotebookClient
from PIL import Image

import facecade
import facecade.api
from facecade.base.errors import FacecadeError
from facecade.faces.decode import decode
from facecade.faces.words import class_in_words
from facecade.runs.begin import DataOptions

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def cascade(fitted: Path) -> facecade.Cascade:
    return facecade.load(fitted, engine="torch")


@pytest.fixture(scope="module")
def images(drawn: Path) -> list[Path]:
    return sorted((drawn / "eval/images").iterdir())[:5]


def test_predictions_are_those_of_infer(
    cascade: facecade.Cascade, images: list[Path], fitted: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    for image in images:
        shutil.copy(image, folder)
    succeed("infer", folder, "--artifacts", fitted, "--engine", "torch", "--output", tmp_path / "output")
    rows = pd.read_csv(tmp_path / "output/predictions.csv").fillna({"flags": ""})
    table = cascade.predict(folder).to_pandas()
    nowhere = ["faces", "face", "left", "top", "right", "bottom"]  # the demo recipe looks for no faces
    assert rows[nowhere].isna().all(axis=None) and table[nowhere].isna().all(axis=None)
    pd.testing.assert_frame_equal(table.drop(columns=nowhere), rows.drop(columns=nowhere), check_dtype=False, atol=1e-6)
    again = cascade.infer(folder, tmp_path / "api")
    assert (tmp_path / "api/predictions.csv").read_bytes() == (tmp_path / "output/predictions.csv").read_bytes()
    assert again["images"] == len(images)


def test_a_path_an_array_and_a_pil_image_are_the_same_image(cascade: facecade.Cascade, images: list[Path]) -> None:
    pixels = decode(images[0])
    of_all = cascade.predict([images[0], str(images[0]), pixels, Image.fromarray(pixels)])
    for other in of_all[1:]:
        assert other.label == of_all[0].label and other.box == of_all[0].box
        np.testing.assert_allclose(other.probabilities, of_all[0].probabilities, atol=1e-6)
    assert [each.id for each in of_all] == [str(images[0]), str(images[0]), "image 2", "image 3"]
    (one,) = cascade.predict(images[0])
    assert (one.mask, one.gender, one.band) == tuple(one.name.split()) and one.name == of_all[0].name
    assert one.probability == max(one.probabilities) or cascade.explain(images[0]).method != "soft vote"
    assert one.flags in ((), ("unsure",)) and one.unsure == ("unsure" in one.flags) and one.image == images[0]
    assert one.faces is None and one.face == 0 and " · about " in one.words


def test_what_cannot_be_read_is_flagged_and_stops_nothing(
    cascade: facecade.Cascade, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    missing, broken, good = cascade.predict([tmp_path / "nowhere.jpg", tmp_path / "text.jpg", images[0]])
    assert missing.flags == ("no-file",) and broken.flags[0].startswith("unreadable") and set(good.flags) <= {"unsure"}
    assert np.isnan(missing.age) and missing.box is None and missing.label is broken.label is missing.mask is None
    assert np.isnan(missing.probability) and missing.words == "no-file"
    assert cascade.predict([tmp_path / "nowhere.jpg"]).to_pandas()["ans"].isna().all()


def test_a_training_image_is_flagged(cascade: facecade.Cascade, drawn: Path) -> None:
    image = next((drawn / "train/images").rglob("*.jpg"))
    assert "trained-on" in cascade.predict(image)[0].flags


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (7, "not int"),
        ([b"bytes"], "not bytes"),
        (None, "not NoneType"),
        (np.zeros((4, 4), np.uint8), r"not uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3)), "not float64"),
    ],
)
def test_a_wrong_type_says_what_is_taken(cascade: facecade.Cascade, wrong: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        cascade.predict(wrong)


def test_an_export_predicts_the_same(
    fitted: Path, images: list[Path], cascade: facecade.Cascade, tmp_path: Path
) -> None:
    succeed("export", tmp_path / "export", "--artifacts", fitted)
    exported = facecade.load(tmp_path / "export", engine="onnx")
    assert exported.engine == "onnx fp32"
    for mine, theirs in zip(exported.predict(images), cascade.predict(images), strict=True):
        assert mine.label == theirs.label
        np.testing.assert_allclose(mine.probabilities, theirs.probabilities, atol=1e-3)


def test_explain_says_what_the_command_says(cascade: facecade.Cascade, images: list[Path], fitted: Path) -> None:
    said = json.loads(succeed("explain", images[0], "--artifacts", fitted, "--json"))
    explanation = cascade.explain(images[0])
    assert json.loads(json.dumps(explanation.json())) == said
    assert class_in_words(explanation.faces[0].prediction) in explanation._repr_html_()
    assert explanation.faces[0].prediction == cascade.predict(images[0])[0].label


def test_fit_makes_the_run_that_the_commands_make(drawn: Path, fitted: Path, tmp_path: Path) -> None:
    settings = [words for words in TINY if "=" in words]
    run = facecade.fit(drawn / "train", "demo", tmp_path / "run", settings=settings, jobs=1)
    for file in ("stages/mask/fold1/weights.safetensors", "combiner/rule.npz"):
        assert (tmp_path / "run" / file).read_bytes() == (fitted / file).read_bytes(), file
    before = (tmp_path / "run/stages/mask/fold1/meta.json").stat().st_mtime_ns
    same = facecade.fit(drawn / "train", "demo", tmp_path / "run", settings=settings, jobs=1)
    assert (tmp_path / "run/stages/mask/fold1/meta.json").stat().st_mtime_ns == before, "it is fitted already"
    board = run.leaderboard()
    assert board["macro-F1"].is_monotonic_decreasing and board["kept"].sum() == 1
    assert (board["macro-F1 low"] <= board["macro-F1"]).all() and (board["macro-F1"] <= board["macro-F1 high"]).all()
    pd.testing.assert_frame_equal(board, same.leaderboard())
    fits = run.fits()
    assert set(fits["state"]) == {"fitted"} and len(fits) == 3 * fits["stage"].nunique()
    assert board["method"][0] in run._repr_html_() and "macro-F1" in set(run.expected()["score"])


def test_a_folder_without_a_run_says_what_next(tmp_path: Path) -> None:
    for call in (facecade.load, facecade.open_run):
        with pytest.raises(facecade.FacecadeError, match="holds no run") as error:
            call(tmp_path)
        assert "fit-stage all --data DATA" in error.value.hint


def test_unknown_options_name_the_choices(fitted: Path) -> None:
    with pytest.raises(facecade.FacecadeError, match="unknown engine 'onx'") as error:
        facecade.load(fitted, engine="onx")  # type: ignore[arg-type]
    assert "onnx" in error.value.hint
    with pytest.raises(facecade.FacecadeError, match="unknown faces 'every'"):
        facecade.load(fitted, engine="torch").predict([], faces="every")  # type: ignore[arg-type]


def test_importing_it_is_light() -> None:
    code = (
        "import sys, facecade; assert not {'torch', 'pandas', 'numpy', 'pydantic'} & sys.modules.keys(); facecade.load"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_notebook_runs(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, but for a smaller data set and shorter training."""
    notebook = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    shutil.copytree(drawn, tmp_path / "notebook/data")
    settings = [words for words in TINY if "=" in words]
    short = [cell for cell in notebook.cells if "facecade.fit(" in cell.source]
    assert len(short) == 1
    short[0].source = short[0].source.replace('recipe="demo"', f'recipe="demo", settings={settings}')
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds and not [each for each in shown if each["output_type"] == "error"]


def test_fit_is_told_how_to_read_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path, data: Path, options: DataOptions, *_: object, **__: object) -> None:
        raise FacecadeError(" ".join(options.reading.options))

    monkeypatch.setattr(facecade.api, "prepare_run", refuse)
    with pytest.raises(FacecadeError, match=re.escape("--map gender.M=male --person-pattern (p)")):
        facecade.fit(tmp_path, "demo", tmp_path / "run", maps=["gender.M=male"], person_pattern="(p)")
