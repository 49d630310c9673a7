"""What `infer` says of every photograph, as one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from faces.labels import BANDS, GENDERS, MASKS, decode


def predictions_table(
    ids: Sequence[str], answers: np.ndarray, probability: np.ndarray, years: np.ndarray, flags: Sequence[str]
) -> pd.DataFrame:
    """One row a photograph, in the order given.

    Args:
        answers: int (N,), classes. probability: float (N, 18).
        years: float (N, 3): the age estimate, and that of the male and of the female regressor; NaN where unseen.
    """
    mask, gender, band = decode(answers)
    return pd.DataFrame(
        {
            "ImageID": ids,
            "ans": answers,
            "mask": np.array(MASKS)[mask],
            "gender": np.array(GENDERS)[gender],
            "band": np.array(BANDS)[band],
            "age": years[:, 0].round(2),
            "age_if_male": years[:, 1].round(2),
            "age_if_female": years[:, 2].round(2),
            "confidence": probability[np.arange(len(answers)), answers].round(4),
            "flags": flags,
            **{f"p{label}": probability[:, label].round(5) for label in range(probability.shape[1])},
        }
    )
