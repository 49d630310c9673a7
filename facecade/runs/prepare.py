"""Prepare the run for `fit_stage`: begin a new one, or open an existing one and change its recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from facecade import shipped
from facecade.base.errors import FacecadeError, unknown_name
from facecade.base.progress import note
from facecade.recipe_file import changed_by, override, parse, read_toml
from facecade.runs.begin import DataOptions, begin_run
from facecade.runs.locks import held_to_begin
from facecade.runs.run import Run, change_recipe, open_run

DEFAULT_RECIPE = "cpu"


def prepare_run(
    folder: Path,
    data: Path | None,
    options: DataOptions,
    recipe: Path | None,
    stages: Sequence[str],
    settings: Sequence[str] = (),
    weights: str | None = None,
    workers: int = 2,
    dry: bool = False,
) -> tuple[Run, list[str]]:
    """Begin a run, or open the one in `folder`, and change its recipe.

    Args:
        data: of a new run; none to keep those of the existing one.
        recipe: file; by default the existing run's recipe, or `cpu`.
        stages: names, or `all`.
        settings: `key=value`, as `recipe_file.override` takes them. weights: short for `weights=…`.
        dry: check only, and write nothing.

    Returns:
        The run, and the names of the stages.

    Raises:
        FacecadeError: no data for a new run; a stage, key or name that does not exist; bad data; another process works
            in `folder`.
    """
    from facecade.stages.check import check_recipe

    exists = (folder / "run.json").exists()
    if options != DataOptions(skip_bad=options.skip_bad) and not data:
        raise FacecadeError(
            "--corrections, --pseudo, --extra, --same-person, --map, --layout and --person-pattern change the data of a run",
            "give --data as well",
        )
    if not data and not exists:
        raise FacecadeError(f"{folder} holds no run yet", "give the training data: --data DATA")
    old = open_run(folder) if exists and not (data and recipe) else None
    tables = _tables(recipe, old)
    source = str(recipe or "the recipe")
    selected = _stage_names(stages, list(parse(tables, source).stages))
    if weights:
        settings = (*settings, f"weights={json.dumps(weights)}")
    tables = override(tables, settings, selected)
    # the recipe was valid, so a problem is one of the settings
    check_recipe(parse(tables, f"{source} with {changed_by(settings)}" if settings else source), selected)
    if not data:
        assert old, "without data, the run exists"
        return (change_recipe(old, tables, dry) if tables != old.tables else old), selected
    if old:
        note(f"with the recipe of the run in {folder}; give another with --recipe")
    with nullcontext() if dry else held_to_begin(folder):
        run = begin_run(folder, data, tables, options, workers, dry)
    return run, selected


def _tables(recipe: Path | None, run: Run | None) -> Mapping[str, Any]:
    if recipe:
        return read_toml(recipe)
    return run.tables if run else read_toml(shipped.find("recipe", DEFAULT_RECIPE))


def _stage_names(names: Sequence[str], known: Sequence[str]) -> list[str]:
    for stage in names:
        if stage != "all" and stage not in known:
            raise unknown_name("stage", stage, [*known, "all"])
    return list(known) if "all" in names else list(dict.fromkeys(names))
