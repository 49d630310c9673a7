"""Write finished runs to experiment trackers: MLflow, Weights & Biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from facecade.base.errors import first_line
from facecade.base.progress import note

EXPERIMENT = "facecade"


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker gets of one finished run.

    settings: may be nested. history: a mapping for each epoch, with its number as `epoch`. files: such as the report.
    """

    name: str
    settings: Mapping[str, Any]
    scores: Mapping[str, float]
    tags: Mapping[str, str]
    history: Sequence[Mapping[str, float]] = ()
    files: Sequence[Path] = ()


class Store(Protocol):
    """Where runs are written to."""

    name: str

    def log_run(self, run: TrackedRun) -> None:
        """Write one finished run."""


class Tracker:
    """Writes every run to each of some stores."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores

    def log_run(self, run: TrackedRun) -> None:
        """Write one finished run. A store that fails is noted: it must not stop hours of training."""
        for store in self._stores:
            try:
                store.log_run(run)
            except Exception as error:  # MLflow's, wandb's, and those of the network and the disk
                note(f"{store.name} rejected {run.name}: {first_line(error)}")


def open_tracker(mlflow: str | None, wandb: str | None, folder: Path) -> Tracker | None:
    """A tracker for the options `--mlflow` and `--wandb`; None where neither is given.

    Args:
        mlflow: a file or a tracking URI. wandb: a project. folder: for the files of wandb.

    Raises:
        FacecadeError: a package is not installed, or a store cannot be opened.
    """
    stores: list[Store] = []
    if mlflow:
        from facecade.report.mlflow_store import MlflowStore

        stores.append(MlflowStore(mlflow))
    if wandb:
        from facecade.report.wandb_store import WandbStore

        stores.append(WandbStore(wandb, folder))
    return Tracker(stores) if stores else None


def with_intervals(scores: Mapping[str, Mapping[str, float]], prefix: str = "") -> dict[str, float]:
    """Scores with 95 % intervals as single numbers: `macro-F1`, `macro-F1 low`, `macro-F1 high`."""
    ends = {"value": "", "low": " low", "high": " high"}
    return {f"{prefix}{name}{words}": score[end] for name, score in scores.items() for end, words in ends.items()}


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and values of nested settings, the keys joined by dots."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
