"""Drawn faces, and one small fitted run that several tests look at."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before NumPy is there: tests run side by side, and threads would wait for each other

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from scipy.special import expit

from benchmarks.fuzz.running import TINY as SMALL
from facecade.cli import main
from facecade.faces.labels import N_CLASSES
from facecade.faces.synthetic import draw_data
from facecade.recipe import CombinerRecipe, StageRecipe
from facecade.records import CombinerSummary, FitRecord
from facecade.report.tracking import EXPERIMENT

REAL = Path(__file__).resolve().parents[2] / "shared/data/faces"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
CHROMIUM_FLAGS += ["--disable-sync", "--no-first-run"]
TINY = [*SMALL, "--jobs", "1"]
"""Settings under which the demo recipe fits in seconds and learns next to nothing."""


def pytest_configure() -> None:
    """Messages name commands as they are typed in a clone."""
    sys.argv[0] = "cli.py"


real_images = pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not on this machine")


def call(*arguments: object) -> Result:
    """The command line, as a person would call it; output and errors apart."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> str:
    """The command's stdout; its failure fails the test, with what it said."""
    result = call(*arguments)
    assert result.exit_code == 0, f"{arguments}\n{result.stdout}\n{result.stderr}\n{result.exception!r}"
    return result.stdout


def scene(seed: int) -> Image.Image:
    """A random image, 192×256 (width × height), whose hash is unlike that of any other; drawn faces look alike."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((192, 256), Image.Resampling.BICUBIC)


def scenes(folder: Path, people: int, copies: dict[str, str] | None = None, near: dict[str, str] | None = None) -> Path:
    """A manifest of people p0, p1, … with three scenes each, one for each mask; every gender and band in turn.

    Args:
        copies: image, as `p1-normal`, → the image whose bytes it has instead. near: the same, halved in size.
    """
    (folder / "images").mkdir(parents=True)
    lines = ["path,person,mask,gender,age"]
    for person in range(people):
        for index, mask in enumerate(("wear", "incorrect", "normal")):
            path = folder / "images" / f"p{person}-{mask}.png"
            scene(3 * person + index).save(path)
            gender, age = ("male", "female")[person % 2], (25, 45, 70)[person // 2 % 3]
            lines.append(f"images/{path.name},p{person},{mask},{gender},{age}")
    for copy, original in (copies or {}).items():
        shutil.copy(folder / "images" / f"{original}.png", folder / "images" / f"{copy}.png")
    for copy, original in (near or {}).items():
        Image.open(folder / "images" / f"{original}.png").resize((96, 128)).save(folder / "images" / f"{copy}.png")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def tracked(store: Path) -> list[Any]:
    """The runs in a file of MLflow's."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))


def arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an npz."""
    with np.load(path) as file:
        return dict(file)


def fit_record(recipe: StageRecipe, **values: Any) -> FitRecord:
    """A fit's record, with made-up values for what is not given."""
    known: dict[str, Any] = {"stage": "mask", "fold": 0, "signature": "0" * 16, "folds_hash": "0" * 16, "seed": 0}
    known |= {"weights": "0" * 32, "outputs": "0" * 32, "recipe": recipe, "columns": ("wear", "incorrect", "normal")}
    known |= {"device": "cpu", "people": 1, "images": 1, "extra_data": 0, "epochs": 1, "seconds": 1.0, "parameters": 1}
    return FitRecord(**known | {"score": {}, "versions": {}} | values)


def combiner_summary(**values: Any) -> CombinerSummary:
    """What a combiner's record says of its scores, with made-up values for what is not given."""
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    names = ("macro-F1", "accuracy", "mask accuracy", "gender accuracy", "band accuracy")
    scores = dict.fromkeys(names, score)
    known: dict[str, Any] = {"nested": {"soft vote": scores}, "nested_choice": scores, "simplest": "soft vote"}
    known |= {"gain_over_simplest": score, "per_class_f1": [None] * N_CLASSES, "cuts": {}, "images": 1, "people": 1}
    known |= {
        "prior": [1 / N_CLASSES] * N_CLASSES,
        "fits": "0" * 16,
        "folds_hash": "0" * 16,
        "extra_data": [],
        "seed": 0,
    }
    return CombinerSummary(**known | {"recipe": CombinerRecipe(), "seconds": 1.0, "versions": {}} | values)


def drawn_predictions(
    generator: np.random.Generator, people: int, skill: float = 2.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Overconfident predictions for seven images of each person, whose errors are correlated: the probability of the predicted
    class, whether it is right, the person and the fold of each."""
    log_odds = generator.normal(skill, 1.5, (people, 1)) + generator.normal(0, 1, (people, 7))
    together = generator.random((people, 7)) < 0.7
    luck = np.where(together, generator.random((people, 1)), generator.random((people, 7)))
    person = np.repeat(np.arange(people), 7)
    return expit(log_odds + 1).ravel(), (luck < expit(log_odds)).ravel(), person, person % 5


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ (24 people) and eval/ (12 people)."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_data(folder, people=24)
    return folder


@pytest.fixture(scope="session")
def fitted(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of a tiny run: four stages, three folds, combiner."""
    artifacts = tmp_path_factory.mktemp("fitted")
    succeed(
        "fit-stage", "all", "--data", drawn / "train", "--recipe", "recipes/demo.toml", "--artifacts", artifacts, *TINY
    )
    succeed("fit-meta", "--artifacts", artifacts)
    return artifacts


@pytest.fixture(scope="session")
def exported(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, exported."""
    folder = tmp_path_factory.mktemp("exported")
    assert "max difference to torch" in succeed("export", folder, "--artifacts", fitted)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. Of one module: Playwright's event loop runs in this thread, and other modules' tests start their own."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install -e '.[dev]'")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()
