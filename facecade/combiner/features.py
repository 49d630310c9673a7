"""Stage outputs of N rows as one named table of features."""

from __future__ import annotations

import numpy as np

from facecade.combiner.stage_outputs import AGE_STAGES, StageOutputs


def features(stage_outputs: StageOutputs, cuts: np.ndarray | None) -> tuple[np.ndarray, list[str]]:
    """The combiner's features and their names.

    They are the logits (of two classes only their difference: two columns would be redundant),
    ages in years, each regressor's age minus its own cuts, the same weighted by
    gender probability, and the embeddings.

    Args:
        cuts: float (2, 2), lower and upper cut of the male and the female regressor; None without years.

    Returns:
        float32 (N, F) and F names.
    """
    columns: dict[str, np.ndarray] = {}
    for stage, values in stage_outputs.logits.items():
        names = stage_outputs.columns[stage]
        if len(names) == 2:
            columns[f"{stage}.{names[1]}-{names[0]}"] = values[:, 1] - values[:, 0]
        else:
            columns |= {f"{stage}.{name}": values[:, column] for column, name in enumerate(names)}
    years = stage_outputs.years()
    if years is not None and cuts is not None:
        gender = stage_outputs.gender_probability()
        columns["age.weighted"] = (years * gender).sum(1)
        for edge, edge_name in enumerate(("lower", "upper")):
            distance = years - cuts[:, edge]
            for index, stage in enumerate(AGE_STAGES):
                columns[f"{stage}.above_{edge_name}"] = distance[:, index]
            columns[f"age.weighted_above_{edge_name}"] = (distance * gender).sum(1)
    for stage, values in stage_outputs.embedding.items():
        columns |= {f"{stage}.embedding{column}": values[:, column] for column in range(values.shape[1])}
    return np.column_stack(list(columns.values())).astype(np.float32), [_xgboost_name(name) for name in columns]


def _xgboost_name(name: str) -> str:
    """A name without `<`: XGBoost allows no [ ] < in names."""
    return name.replace("<", "under ")
