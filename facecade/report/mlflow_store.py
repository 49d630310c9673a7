"""Runs in MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError, first_line
from facecade.base.program import install
from facecade.report.tracking import EXPERIMENT, TrackedRun, flat


class MlflowStore:
    """An MLflow store: an SQLite file, or any tracking URI.

    A folder is not accepted: newer versions of MLflow write to their old file store only if an environment
    variable allows it.
    """

    name = "MLflow"

    def __init__(self, store: str) -> None:
        """
        Raises:
            FacecadeError: MLflow is not installed, or cannot open the store.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise FacecadeError("MLflow is not installed", install("mlflow")) from None
        uri, files = store if "://" in store else f"sqlite:///{Path(store).resolve()}", None
        if uri.startswith("sqlite:///"):
            database = Path(uri.removeprefix("sqlite:///"))
            database.parent.mkdir(parents=True, exist_ok=True)
            # MLflow's default is a folder of the working directory
            files = database.resolve().with_name(f"{database.stem}-files").as_uri()
        try:
            self._client = MlflowClient(tracking_uri=uri)
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = (
                experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT, files)
            )
        except MlflowException as error:
            raise FacecadeError(
                f"MLflow cannot open {store}: {first_line(error)}", "give a file, as --mlflow mlflow.db, or a URI"
            ) from None

    def log_run(self, run: TrackedRun) -> None:
        """Write one finished run: settings as parameters, scores and curves as metrics, files as artifacts."""
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        metrics = [Metric(_safe(key), value, now, 0) for key, value in run.scores.items()]
        for line in run.history:
            step = int(line["epoch"])
            metrics += [Metric(_safe(key), value, now, step) for key, value in line.items() if key != "epoch"]
        params = [Param(_safe(key), str(value)) for key, value in flat(run.settings)]
        run_id = self._client.create_run(self._experiment, run_name=run.name, tags=dict(run.tags)).info.run_id
        for batch in _batches(params):
            self._client.log_batch(run_id, params=batch)
        for batch in _batches(metrics):
            self._client.log_batch(run_id, metrics=batch)
        for file in run.files:
            self._client.log_artifact(run_id, str(file))
        self._client.set_terminated(run_id)


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    """Lists of at most 100 items, the limit of MLflow's log_batch."""
    for start in range(0, len(items), 100):
        yield items[start : start + 100]


def _safe(name: str) -> str:
    """A name in which `_` replaces the characters that MLflow does not allow."""
    return "".join(character if character.isalnum() or character in "_-./ " else "_" for character in name)
