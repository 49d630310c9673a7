"""How far two sets of predictions for the eval set agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from facecade.report.metrics import as_json, paired_difference, score
from facecade.report.text import interval


def eval_labels(data: Path, ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Class and person of the images of DATA's eval/, int and str (N,)."""
    labels = pd.read_csv(data / "eval/eval_labels.csv", dtype={"ImageID": str}).set_index("ImageID").loc[list(ids)]
    return labels["ans"].to_numpy(), labels["person"].to_numpy()


def agreement(prediction: np.ndarray, reference: np.ndarray, label: np.ndarray, person: np.ndarray) -> dict[str, Any]:
    """How many predictions differ from the reference, and the change in macro-F1."""
    return {
        "predictions": len(prediction),
        "differ": int((prediction != reference).sum()),
        "macro-F1": as_json(score(label, prediction, person))["macro-F1"],
        "change": paired_difference(label, prediction, reference, person).json(),
    }


def cells(result: Mapping[str, Any]) -> list[str]:
    """An agreement's cells in a table: same class, macro-F1, change."""
    count, differ = result["predictions"], result["differ"]
    same = f"{100 * (1 - differ / count):.2f} % ({differ} of {count} differ)"
    return [same, interval(result["macro-F1"]), f"{result['change']['value']:+.4f}"]
