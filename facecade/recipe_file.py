"""Recipes in TOML: read them, validate them with all errors at once, and override keys from the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from facecade.base.errors import FacecadeError, excerpt, problems, unknown_name
from facecade.base.toml import TOMLSyntaxError, parse_toml, read_toml_file, unusable, where
from facecade.recipe import CombinerRecipe, Face, Recipe, Section, StageRecipe
from facecade.shipped import Kind, names

MAX_PROBLEMS = 10
"""How many problems of a file are listed."""

NO_STAGES = "it holds no stages"

EXPECTED = {
    "model_type": "expected a table",
    "dict_type": "expected a table",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "string_pattern_mismatch": "expected letters, digits, - and _",  # the name of a stage
}
"""Messages for types of validation errors, where pydantic's speak of Python."""

SECTIONS: dict[str, type[Section]] = {
    "face": Face,
    "defaults": StageRecipe,
    "stages": StageRecipe,
    "combiner": CombinerRecipe,
}
"""The section of each of a recipe's tables, or of the tables in it."""


def read_toml(path: Path, kind: Kind = "recipe") -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        kind: of shipped file whose names are suggested if the file does not exist.

    Raises:
        FacecadeError: it does not exist, is too large, or is not TOML (with the line).
    """
    try:
        path.stat()
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", unknown_name(kind, path.stem, names(kind)).hint) from None
    except OSError:
        pass  # `read_toml_file` says why
    return read_toml_file(path)


def parse(tables: Mapping[str, Any], source: str = "the recipe") -> Recipe:
    """Validate a recipe's tables; raises one FacecadeError that lists all errors.

    Stage keys in the table `[defaults]` apply to every stage that does not set them.
    """
    if lines := list(islice(unusable(tables), MAX_PROBLEMS)):
        raise problems(source, lines)
    tables = dict(tables)
    defaults, lines = _defaults(tables.pop("defaults", {}))
    stages = tables.get("stages", {})
    if isinstance(stages, Mapping):
        tables["stages"] = {
            name: {**defaults, **stage} if isinstance(stage, Mapping) else stage for name, stage in stages.items()
        }
    try:
        recipe = Recipe.model_validate(tables)
    except ValidationError as error:
        lines += validation_messages(error, _section)
    if lines == [NO_STAGES]:
        raise FacecadeError(
            f"{source} holds no stages",
            "add a table for each, as [stages.mask] with its backbone; or begin with a recipe of the package: --recipe quick",
        )
    if lines:
        raise problems(source, lines, max_lines=MAX_PROBLEMS)
    lines = [
        f"stages.{name}.augment: no list '{excerpt(stage.augment)}' in [augment]"
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
            lines.append(f"stages.{name}.weights: no stage '{excerpt(stage.start_stage)}' before it in the recipe")
        elif _architecture(stage) != _architecture(recipe.stages[stage.start_stage]):
            lines.append(
                f"stages.{name}.weights: stage '{stage.start_stage}' has backbone {excerpt(recipe.stages[stage.start_stage].backbone)}, not {excerpt(stage.backbone)}, or other backbone_args; give both the same, or start from other weights"
            )
    if lines:
        raise problems(source, lines, max_lines=MAX_PROBLEMS)
    return recipe


def _architecture(stage: StageRecipe) -> tuple[str, dict[str, Any]]:
    return stage.backbone, stage.backbone_args


def _defaults(table: Any) -> tuple[dict[str, Any], list[str]]:
    """The keys of `[defaults]` that are a stage's, and what is wrong with the others, whether or not a stage uses them."""
    if not isinstance(table, Mapping):
        return {}, [f"defaults: expected a table, not {_shown(table)}"]
    try:
        StageRecipe.model_validate({"backbone": "any", **table})
    except ValidationError as error:
        wrong = {problem["loc"][0] for problem in error.errors(include_url=False)}
        lines = validation_messages(error, lambda _: StageRecipe, ("defaults",))
        return {key: value for key, value in table.items() if key not in wrong}, lines
    return dict(table), []


def validation_messages(
    error: ValidationError,
    section_of: Callable[[Sequence[str | int]], type[Section] | None],
    table: tuple[str, ...] = (),
) -> list[str]:
    """A message for each validation error.

    Args:
        section_of: a key's location → the section that contains it.
        table: the location of what was validated.
    """
    return [
        validation_message(problem, section_of(problem["loc"]), table) for problem in error.errors(include_url=False)
    ]


def validation_message(problem: ErrorDetails, section: type[Section] | None, table: tuple[str, ...] = ()) -> str:
    """Message for one validation error; for an unknown key it suggests the section's closest keys."""
    location = tuple(part for part in (*table, *problem["loc"]) if part != "[key]")
    kind = problem["type"]
    if location == ("stages",) and kind in ("missing", "too_short"):
        return NO_STAGES
    path = where(location)
    if kind == "extra_forbidden":
        hint = unknown_name("key", str(location[-1]), section.model_fields).hint if section else ""
        return f"{path}: no such key; {hint}"
    if kind == "missing":
        in_list = isinstance(location[-1], int)
        return f"{where(location[:-1])}: the list is too short" if in_list else f"{path}: the key is missing"
    message = EXPECTED.get(kind, problem["msg"].removeprefix("Value error, "))
    return f"{path}: {message[:1].lower()}{message[1:]}, not {_shown(problem.get('input'))}"


def _shown(value: object) -> str:
    return excerpt(repr(value), 60)


def _section(location: Sequence[str | int]) -> type[Section] | None:
    """The section of a recipe that contains a key."""
    return Recipe if len(location) == 1 else SECTIONS.get(str(location[0]))


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
            raise FacecadeError(
                f"--set {excerpt(setting)}: expected key=value", "for example --set stages.mask.epochs=2"
            )
        path = key.strip().split(".")
        _require_key(setting, path)
        value = _value(setting, text)
        is_stage_key = len(path) == 1 and path[0] in StageRecipe.model_fields
        if is_stage_key and not stages:
            raise FacecadeError(
                f"--set {excerpt(setting)}: {path[0]} is a key of stages",
                f"name the stage: --set stages.NAME.{path[0]}=…",
            )
        for target in [["stages", stage, path[0]] for stage in stages] if is_stage_key else [path]:
            table = result
            for part in target[:-1]:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    raise FacecadeError(
                        f"--set {excerpt(setting)}: '{excerpt(part)}' is not a table", "give the key of a table"
                    )
            table[target[-1]] = value
    return result


def changed_by(settings: Sequence[str]) -> str:
    """The settings as they are written, for messages."""
    return excerpt(" ".join(f"--set {setting}" for setting in settings), 120)


def _require_key(setting: str, path: Sequence[str]) -> None:
    """Raises FacecadeError, which names the nearest, if no recipe has the key of a setting."""
    if path[0] in SECTIONS and len(path) > 1:
        of_stage = SECTIONS[path[0]] is StageRecipe
        owner, known = "a stage" if of_stage else f"[{path[0]}]", list(SECTIONS[path[0]].model_fields)
        path = path[2 if path[0] == "stages" else 1 :]
    else:
        owner, known = "a recipe or its stages", [*Recipe.model_fields, "defaults", *StageRecipe.model_fields]
    if path and path[0] not in known:
        raise FacecadeError(
            f"--set {excerpt(setting)}: '{excerpt(path[0])}' is no key of {owner}",
            unknown_name("key", path[0], known).hint,
        )


def _value(setting: str, text: str) -> Any:
    """The value of a setting."""
    try:
        values = parse_toml(f"value = {text}", f"--set {excerpt(setting)}")
    except TOMLSyntaxError:
        return text
    return values["value"] if len(values) == 1 else text


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, Mapping) else value
