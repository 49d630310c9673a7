"""How far answers for the eval set are another's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.text import interval


def eval_labels(data: Path, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Class and person of images of DATA's eval/, int and str (N,)."""
    labels = pd.read_csv(data / "eval/eval_labels.csv", dtype={"ImageID": str}).set_index("ImageID").loc[list(ids)]
    return labels["ans"].to_numpy(), labels["person"].to_numpy()


def agreement(answer: np.ndarray, reference: np.ndarray, label: np.ndarray, person: np.ndarray) -> dict[str, Any]:
    """How many answers differ from the reference's, and what that does to macro-F1."""
    return {
        "predictions": len(answer),
        "differ": int((answer != reference).sum()),
        "macro-F1": as_json(score(label, answer, person))["macro-F1"],
        "change": paired_difference(label, answer, reference, person).json(),
    }


def cells(said: Mapping[str, Any]) -> list[str]:
    """The same as a table has it: same class, macro-F1, change."""
    same = f"{100 * (1 - said['differ'] / said['answers']):.2f} % ({said['differ']} of {said['answers']} differ)"
    return [same, interval(said["macro-F1"]), f"{said['change']['value']:+.4f}"]
