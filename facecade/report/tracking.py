"""Write runs to MLflow."""

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
    """An MLflow store: an SQLite file, or any tracking URI.

    A folder is not accepted: newer versions of MLflow write to their old file store only if an environment
    variable allows it.
    """

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
        uri = store if "://" in store else f"sqlite:///{Path(store).resolve()}"
        if uri.startswith("sqlite:///"):
            Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client = MlflowClient(tracking_uri=uri)
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(EXPERIMENT)
        except MlflowException as error:
            raise FacecadeError(
                f"MLflow cannot open {store}: {str(error).splitlines()[0]}",
                "give a file, as --mlflow mlflow.db, or a URI",
            ) from None

    def log_run(
        self,
        name: str,
        settings: Mapping[str, Any],
        scores: Mapping[str, float],
        tags: Mapping[str, str],
        history: Iterable[Mapping[str, float]] = (),
    ) -> None:
        """Write one finished run.

        Args:
            settings: may be nested; nested keys are joined by dots.
            history: one mapping per epoch, with its number as `epoch`.
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
            for batch in _batches(params):
                self._client.log_batch(run, params=batch)
            for batch in _batches(metrics):
                self._client.log_batch(run, metrics=batch)
            self._client.set_terminated(run)
        except MlflowException as error:  # a failed log entry must not stop hours of training
            note(f"MLflow rejected {name}: {str(error).splitlines()[0]}")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield _safe(f"{prefix}{key}"), value


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    """Lists of at most 100 items, the limit of MLflow's log_batch."""
    for start in range(0, len(items), 100):
        yield items[start : start + 100]


def _safe(name: str) -> str:
    """A name in which `_` replaces the characters that MLflow does not allow."""
    return "".join(character if character.isalnum() or character in "_-./ " else "_" for character in name)
