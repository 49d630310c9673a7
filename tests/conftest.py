"""Drawn faces, and one small fitted run that several tests look at."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before NumPy is there: tests run side by side, and threads would wait for each other

import pytest
from click.testing import CliRunner, Result

from facecade.cli import main
from facecade.faces.synthetic import draw_data
from facecade.report.tracking import EXPERIMENT

REAL = Path(__file__).resolve().parents[2] / "shared/data/faces"
TINY = [
    "--set",
    "folds=3",
    "--set",
    "epochs=1",
    "--set",
    "combiner.rounds=3",
    "--set",
    "combiner.anchors=60",
    "--set",
    "combiner.components=4",
    "--jobs",
    "1",
]
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


def tracked(store: Path) -> list[Any]:
    """The runs in a file of MLflow's."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}")
    return list(client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id]))


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
