"""Recipes in TOML: read them, validate them with all errors at once, and override keys from the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from facecade.base.errors import FacecadeError, problems, unknown_name
from facecade.recipe import CombinerRecipe, Face, Recipe, Section, StageRecipe
from facecade.shipped import names


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; raises FacecadeError with the line of a syntax error."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", unknown_name("recipe", path.stem, names("recipe")).hint) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FacecadeError(f"{path} is not TOML: {error}") from None


def parse(tables: Mapping[str, Any], source: str = "the recipe") -> Recipe:
    """Validate a recipe's tables; raises one FacecadeError that lists all errors.

    Stage keys in the table `[defaults]` apply to every stage that does not set them.
    """
    tables = dict(tables)
    defaults = tables.pop("defaults", {})
    stages = tables.get("stages", {})
    if isinstance(defaults, Mapping) and isinstance(stages, Mapping):
        tables["stages"] = {
            name: {**defaults, **stage} if isinstance(stage, Mapping) else stage for name, stage in stages.items()
        }
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        raise problems(
            source, [validation_message(problem, _section(problem["loc"])) for problem in error.errors()]
        ) from None
    lines = [
        f"stages.{name}.augment: no list '{stage.augment}' in [augment]"
        for name, stage in recipe.stages.items()
        if stage.augment != "none" and stage.augment not in recipe.augment
    ]
    lines += [
        f"stages.{name}.swa averages the last epochs, but patience stops before them: give only one of them"
        for name, stage in recipe.stages.items()
        if stage.swa and stage.patience
    ]
    for name, stage in recipe.stages.items():
        changing = [key for key in ("augment", "mixup", "cutmix") if getattr(stage, key) not in ("none", 0)]
        if stage.freeze != "none" and changing:
            lines.append(
                f"stages.{name}.freeze computes the outputs of the frozen part once, so {', '.join(changing)} cannot change the images: leave out one of them"
            )
    names = list(recipe.stages)
    for position, (name, stage) in enumerate(recipe.stages.items()):
        if stage.start_stage is None:
            continue
        if stage.start_stage not in names[:position]:
            lines.append(f"stages.{name}.weights: no stage '{stage.start_stage}' before it in the recipe")
        elif _architecture(stage) != _architecture(recipe.stages[stage.start_stage]):
            lines.append(
                f"stages.{name}.weights: stage '{stage.start_stage}' has backbone {recipe.stages[stage.start_stage].backbone}, not {stage.backbone}; give both the same, or start from other weights"
            )
    if lines:
        raise problems(source, lines)
    return recipe


def _architecture(stage: StageRecipe) -> tuple[str, dict[str, Any]]:
    return stage.backbone, stage.backbone_args


def validation_message(problem: ErrorDetails, section: type[Section] | None) -> str:
    """Message for one validation error; for an unknown key it suggests the section's closest keys."""
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        hint = unknown_name("key", path[-1], section.model_fields).hint if section else ""
        return f"{'.'.join(path)}: no such key; {hint}"
    return f"{'.'.join(path)}: {problem['msg'].lower()}, not {problem.get('input')!r}"


def _section(location: Sequence[str | int]) -> type[Section] | None:
    """The section of a recipe that contains a key."""
    path = [str(part) for part in location[:-1]]
    if not path:
        return Recipe
    sections: dict[str, type[Section]] = {"face": Face, "stages": StageRecipe, "combiner": CombinerRecipe}
    return sections.get(path[0])


def require_folds(requested: Sequence[int], folds: int) -> None:
    """Raises FacecadeError if a run with `folds` folds does not have all the requested ones."""
    if max(requested, default=0) >= folds:
        raise FacecadeError(f"there is no fold {max(requested)}", f"this run has folds 0 to {folds - 1}")


def override(tables: Mapping[str, Any], settings: Sequence[str], stages: Sequence[str]) -> dict[str, Any]:
    """The tables with `key=value` settings applied.

    A key is a path in the recipe (`face.margin`, `stages.mask.lr`), or only a stage's key (`epochs`), which then
    applies to each of `stages`. A value is parsed as TOML, or taken as text if that fails.
    """
    result = _copy(tables)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise FacecadeError(f"--set {setting}: expected key=value", "for example --set stages.mask.epochs=2")
        path = key.strip().split(".")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        is_stage_key = len(path) == 1 and path[0] in StageRecipe.model_fields
        for target in [["stages", stage, path[0]] for stage in stages] if is_stage_key else [path]:
            table = result
            for part in target[:-1]:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise FacecadeError(f"--set {setting}: '{part}' is not a table")
            table[target[-1]] = value
    return result


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value
