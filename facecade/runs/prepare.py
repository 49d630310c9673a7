"""The run that `fit_stage` works on: begun with data, or the one that is there, with the recipe and the changes asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facecade import shipped
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.progress import note
from facecade.recipe_file import override, parse, read_toml
from facecade.runs.begin import begin_run
from facecade.runs.run import Run, change_recipe, open_run

DEFAULT_RECIPE = "cpu"


@dataclass(frozen=True)
class Beginning:
    """What a run begins with, besides its recipe.

    data: a folder or a manifest CSV. corrections: CSV files of label corrections. pseudo: a run that labelled images to train
    on. extra: labelled images to train on that are never scored. skip_bad: go on without bad rows and files.
    """

    data: Path | None = None
    corrections: Sequence[Path] = ()
    pseudo: Path | None = None
    extra: Path | None = None
    skip_bad: bool = False


def prepare_run(
    folder: Path,
    beginning: Beginning,
    recipe: Path | None,
    stages: Sequence[str],
    settings: Sequence[str] = (),
    weights: str | None = None,
    workers: int = 2,
    dry: bool = False,
) -> tuple[Run, list[str]]:
    """Begin a run, or open the one in `folder`, and change its recipe as asked.

    Args:
        recipe: file; by default the recipe of the run that is there, or `cpu`.
        stages: names, or `all`.
        settings: `key=value`, as `recipe_file.override` takes them. weights: short for `weights=…`.
        dry: check, and write nothing.

    Returns:
        The run, and the names of the stages.

    Raises:
        FacecadeError: no data for a run that is not there; a stage, key or part that does not exist; bad data.
    """
    from facecade.stages.check import check_recipe

    data, begun = beginning.data, (folder / "run.json").exists()
    if (beginning.corrections or beginning.pseudo or beginning.extra) and not data:
        raise FacecadeError("--corrections, --pseudo and --extra change what a run begins with", "give --data as well")
    if not data and not begun:
        raise FacecadeError(f"{folder} holds no run yet", "name the training data: --data DATA")
    old = open_run(folder) if begun and not (data and recipe) else None
    tables = _tables(recipe, old)
    source = str(recipe or "the recipe")
    chosen = _stage_names(stages, list(parse(tables, source).stages))
    if weights:
        settings = (*settings, f"weights={json.dumps(weights)}")
    tables = override(tables, settings, chosen)
    check_recipe(parse(tables, source), chosen)
    if not data:
        assert old, "without data there is a run"
        return (change_recipe(old, tables, dry) if tables != old.tables else old), chosen
    if old:
        note(f"with the recipe of the run in {folder}; name another with --recipe")
    run = begin_run(
        folder,
        data,
        tables,
        beginning.corrections,
        beginning.skip_bad,
        workers,
        dry,
        pseudo=beginning.pseudo,
        extra=beginning.extra,
    )
    return run, chosen


def _tables(recipe: Path | None, run: Run | None) -> Mapping[str, Any]:
    if recipe:
        return read_toml(recipe)
    return run.tables if run else read_toml(shipped.find("recipe", DEFAULT_RECIPE))


def _stage_names(wanted: Sequence[str], known: Sequence[str]) -> list[str]:
    for stage in wanted:
        if stage != "all" and stage not in known:
            raise unknown_name("stage", stage, [*known, "all"])
    return list(known) if "all" in wanted else list(dict.fromkeys(wanted))
