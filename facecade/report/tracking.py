"""Runs written to MLflow, for people who keep their experiments there."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError
from facecade.base.program import install
from facecade.base.progress import note

EXPERIMENT = "facecade"


class Tracker:
    """An MLflow store: a file of SQLite, or any tracking URI.

    MLflow's older store, a folder of files, is closed to new data unless a variable of the environment
    opens it; a database in one file has taken its place.
    """

    def __init__(self, where: str) -> None:
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
        uri = where if "://" in where else f"sqlite:///{Path(where).resolve()}"
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = known.experiment_id if known else self._client.create_experiment(EXPERIMENT)
        except MlflowException as error:
            raise FacecadeError(
                f"MLflow cannot open {where}: {str(error).splitlines()[0]}",
                "give a file, as --mlflow mlflow.db, or a URI",
            ) from None

    def keep(
        self,
        name: str,
        settings: Mapping[str, Any],
        scores: Mapping[str, float],
        tags: Mapping[str, str],
        history: Iterable[Mapping[str, float]] = (),
    ) -> None:
        """Write one finished run.

        Args:
            settings: may hold mappings in mappings; their keys are joined by dots.
            history: a mapping for each epoch, with its number as `epoch`.
        """
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException

        now = int(time.time() * 1000)
        metrics = [Metric(_safe(key), value, now, 0) for key, value in scores.items()]
        for line in history:
            step = int(line["epoch"])
            metrics += [Metric(_safe(key), value, now, step) for key, value in line.items() if key != "epoch"]
        params = [Param(key, str(value)) for key, value in _flat(settings)]
        try:
            run = self._client.create_run(self._experiment, run_name=name, tags=dict(tags)).info.run_id
            for pieces in _pieces(params):
                self._client.log_batch(run, params=pieces)
            for pieces in _pieces(metrics):
                self._client.log_batch(run, metrics=pieces)
            self._client.set_terminated(run)
        except MlflowException as error:  # hours of training must not end for want of a note on them
            note(f"MLflow did not take {name}: {str(error).splitlines()[0]}")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield _safe(f"{prefix}{key}"), value


def _pieces(items: list[Any]) -> Iterator[list[Any]]:
    """Lists of at most a hundred, which is what MLflow takes at once."""
    for start in range(0, len(items), 100):
        yield items[start : start + 100]


def _safe(name: str) -> str:
    """MLflow allows letters, digits and some signs in names."""
    return "".join(sign if sign.isalnum() or sign in "_-./ " else "_" for sign in name)
