"""Recipes as TOML: reading, checking with every mistake named, and changing keys from the command line."""

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
    """The tables of a TOML file; raises FacecadeError naming the line of a syntax error."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", unknown_name("recipe", path.stem, names("recipe")).hint) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FacecadeError(f"{path} is not TOML: {error}") from None


def parse(tables: Mapping[str, Any], source: str = "the recipe") -> Recipe:
    """Check a recipe's tables; raises one FacecadeError that names everything wrong with them.

    Stage keys given in a table `[defaults]` hold for every stage that does not say otherwise.
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
        raise problems(source, [explain(problem, _section(problem["loc"])) for problem in error.errors()]) from None
    lines = [
        f"stages.{name}.augment: no list '{stage.augment}' in [augment]"
        for name, stage in recipe.stages.items()
        if stage.augment != "none" and stage.augment not in recipe.augment
    ]
    lines += [
        f"stages.{name}.swa averages the last epochs, and patience stops before them: give one of the two"
        for name, stage in recipe.stages.items()
        if stage.swa and stage.patience
    ]
    for name, stage in recipe.stages.items():
        changing = [key for key in ("augment", "mixup", "cutmix") if getattr(stage, key) not in ("none", 0)]
        if stage.freeze != "none" and changing:
            lines.append(
                f"stages.{name}.freeze computes what images become once, and {', '.join(changing)} would change them: leave out one or the other"
            )
    names = list(recipe.stages)
    for place, (name, stage) in enumerate(recipe.stages.items()):
        if stage.start is None:
            continue
        if stage.start not in names[:place]:
            lines.append(f"stages.{name}.weights: no stage '{stage.start}' before it in the recipe")
        elif _architecture(stage) != _architecture(recipe.stages[stage.start]):
            lines.append(
                f"stages.{name}.weights: stage '{stage.start}' has backbone {recipe.stages[stage.start].backbone}, not {stage.backbone}; give both the same, or start from other weights"
            )
    if lines:
        raise problems(source, lines)
    return recipe


def _architecture(stage: StageRecipe) -> tuple[str, dict[str, Any]]:
    return stage.backbone, stage.backbone_args


def explain(problem: ErrorDetails, section: type[Section] | None) -> str:
    """One validation problem in words, with the nearest of the section's keys for an unknown one."""
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        hint = unknown_name("key", where[-1], section.model_fields).hint if section else ""
        return f"{'.'.join(where)}: no such key; {hint}"
    return f"{'.'.join(where)}: {problem['msg'].lower()}, not {problem.get('input')!r}"


def _section(where: Sequence[str | int]) -> type[Section] | None:
    """The section of a recipe that a key stands in."""
    path = [str(part) for part in where[:-1]]
    if not path:
        return Recipe
    sections: dict[str, type[Section]] = {"face": Face, "stages": StageRecipe, "combiner": CombinerRecipe}
    return sections.get(path[0])


def require_folds(wanted: Sequence[int], folds: int) -> None:
    """Raises FacecadeError for folds that a run of so many has not."""
    if max(wanted, default=0) >= folds:
        raise FacecadeError(f"there is no fold {max(wanted)}", f"this run has folds 0 to {folds - 1}")


def override(tables: Mapping[str, Any], settings: Sequence[str], stages: Sequence[str]) -> dict[str, Any]:
    """The tables with `key=value` settings applied.

    A key is a path in the recipe (`face.margin`, `stages.mask.lr`), or a stage's key alone
    (`epochs`), which then holds for each of `stages`. A value is TOML; what is not is text.
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
        alone = len(path) == 1 and path[0] in StageRecipe.model_fields
        for target in [["stages", stage, path[0]] for stage in stages] if alone else [path]:
            table = result
            for part in target[:-1]:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise FacecadeError(f"--set {setting}: '{part}' is not a table")
            table[target[-1]] = value
    return result


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value
