"""Which labels a fold is taught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from facecade.base.errors import FacecadeError
from facecade.recipe import StageRecipe
from facecade.stages import make_stage
from facecade.stages.fit import Fit, _left_out, _taught

TABLE = pd.DataFrame({"mask": "wear", "gender": "female", "age": [20.0, 57.5, 58.0, 59.9, 60.0, 75.0]})


def wanted(stage: str, loss: str, **settings: Any) -> Fit:
    recipe = StageRecipe.model_validate({"backbone": "x", "loss": loss, **settings})
    made = make_stage(stage, loss, 0.0)
    return Fit(made, 0, "fold 0", recipe, "none", [], [], None, 0, "signature", "folds", Path("nowhere"))


def test_people_are_taught_as_old_from_the_recipes_age_on() -> None:
    fit = wanted("flat", "ce", old_from=58.0)
    assert fit.stage.target(_taught(TABLE, fit)).tolist() == [3, 4, 5, 5, 5, 5]
    assert fit.stage.stratum(_taught(TABLE, fit)).tolist() == [3, 4, 5, 5, 5, 5], "classes are balanced as taught"
    assert fit.stage.target(TABLE).tolist() == [3, 4, 4, 4, 5, 5], "and scored as they are"
    with pytest.raises(FacecadeError, match="learns years"):
        years = wanted("age-male", "l1", old_from=58.0)
        _taught(TABLE, years)


def test_a_band_of_ages_teaches_nothing() -> None:
    assert np.flatnonzero(_left_out(TABLE, wanted("flat", "ce", leave_out=(58.0, 60.0)).recipe)).tolist() == [2, 3]
    assert not _left_out(TABLE, wanted("flat", "ce").recipe).any()
