"""The released cascade predicts where no run is named and none is there, without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import call, succeed

import facecade
from facecade.inference import released
from facecade.inference.released import cascade_folder
from facecade.web.limits import Limits
from facecade.web.predictor import Predictor

NOTE = "the released cascade predicts (research use); --artifacts DIR chooses another"


@pytest.fixture
def place(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the tiny export as the released cascade."""
    monkeypatch.setattr(released, "RELEASED", exported)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_named_run_comes_before_the_folders_own_and_that_before_the_released_one(
    place: Path, exported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cascade_folder(None) == exported
    assert capsys.readouterr().err.strip() == NOTE
    assert cascade_folder(Path("mine")) == Path("mine"), "an error is for a folder that is named"
    for file in ("run.json", "manifest.json"):
        (place / "artifacts").mkdir()
        (place / "artifacts" / file).touch()
        assert cascade_folder(None) == Path("artifacts")
        shutil.rmtree(place / "artifacts")
    assert not capsys.readouterr().err


def test_without_a_released_cascade_the_error_is_that_of_the_folder(
    place: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(released, "RELEASED", place / "none")
    image = next((drawn / "eval/images").iterdir())
    for command in ("infer", "explain"):
        result = call(command, image)
        assert result.exit_code == 1 and "artifacts holds no run" in result.stderr and "released" not in result.stderr


def test_every_way_to_predict_uses_it(
    place: Path, exported: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next((drawn / "eval/images").iterdir())
    results = [call("predict", image, "--json"), call("explain", image, "--json")]
    assert [result.exit_code for result in results] == [0, 0]
    assert all(NOTE in result.stderr for result in results)
    named = json.loads(succeed("infer", image, "--artifacts", exported, "--json"))
    assert json.loads(results[0].stdout)["prediction"] == named["prediction"]
    assert "Next: python cli.py explain IMAGE\n" in results[0].stderr
    assert facecade.load().predict(image)[0].label == named["prediction"]["ans"]
    monkeypatch.setenv("FACECADE_ARTIFACTS", str(place / "mine"))
    assert "mine holds no run" in call("infer", image).stderr


def test_the_page_names_it(place: Path, exported: Path, fitted: Path) -> None:
    from facecade.base.machine import Machine

    assert "The released cascade: nested macro-F1" in Predictor.open(exported, Machine(), Limits()).about
    assert f"Run “{fitted.name}”: nested macro-F1" in Predictor.open(fitted, Machine(engine="torch"), Limits()).about


def test_it_predicts_without_torch(place: Path, exported: Path, drawn: Path) -> None:
    """Torch is installed, and not imported: by the commands, the API and the page's predictor."""
    image = next((drawn / "eval/images").iterdir())
    code = f"""
import sys
from pathlib import Path
from facecade.inference import released
released.RELEASED = Path({str(exported)!r})
import facecade
from facecade.cli import main
from facecade.base.machine import Machine
from facecade.web.limits import Limits
from facecade.web.predictor import Predictor
main(["infer", {str(image)!r}], standalone_mode=False)
before = [name for name in ("sklearn", "xgboost") if name in sys.modules]  # which explain needs
main(["explain", {str(image)!r}], standalone_mode=False)
facecade.load().predict({str(image)!r})
Predictor.open(released.cascade_folder(None), Machine(), Limits())(Path({str(image)!r}), "image")
print(before + [name for name in ("torch", "timm", "onnx") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
