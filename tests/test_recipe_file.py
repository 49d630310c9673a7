"""A recipe of a stranger is a Recipe, or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facecade.base.errors import FacecadeError
from facecade.comparison.budget import Budget, read_budget
from facecade.recipe import CombinerRecipe, Face, Recipe, StageRecipe
from facecade.recipe_file import override, parse, read_toml

STAGE: dict[str, Any] = {"backbone": "test_efficientnet"}
DEMO = Path("recipes/demo.toml")


def recipe(stage: dict[str, Any] | None = None, **tables: Any) -> dict[str, Any]:
    return {"stages": {"mask": {**STAGE, **(stage or {})}}, **tables}


def refusal(action: Callable[[], object]) -> str:
    """What a FacecadeError says, with its hint."""
    with pytest.raises(FacecadeError) as caught:
        action()
    return f"{caught.value}\n{caught.value.hint}"


@pytest.mark.parametrize("text", ["", "# only a comment", "[stages]", "[face]\nmargin = 0.2"])
def test_a_recipe_without_stages_is_refused(text: str, tmp_path: Path, drawn: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    words = ["--data", drawn / "train", "--artifacts", tmp_path / "a", "--recipe", path, "--dry-run"]
    result = call("fit-stage", "all", *words)
    assert result.exit_code == 1 and f"Error: {path} holds no stages\nNext: add a table" in result.stderr


@pytest.mark.parametrize("value", [True, 3, "text", [1], [[]]])
@pytest.mark.parametrize("key", ["defaults", "stages", "face", "augment", "combiner"])
def test_a_table_of_another_type_is_named(key: str, value: object) -> None:
    assert f"{key}: expected a table, not {value!r}" in refusal(lambda: parse({**recipe(), key: value}))


@pytest.mark.parametrize("stages", [{}, {"mask": STAGE}, {"mask": {**STAGE, "epochs": 3}}])
def test_defaults_are_checked_whether_or_not_a_stage_uses_them(stages: dict[str, Any]) -> None:
    said = refusal(lambda: parse({"stages": stages, "defaults": {"epoch": 2, "epochs": 0, "lr": 1e-3}}))
    assert "defaults.epoch: no such key; did you mean epochs" in said
    assert "defaults.epochs: input should be greater than or equal to 1, not 0" in said
    assert "stages.mask" not in said, "each is named once, where it is written"


def test_defaults_apply_to_stages_that_do_not_set_them() -> None:
    parsed = parse({"stages": {"mask": {}, "gender": {"lr": 0.5}}, "defaults": {**STAGE, "lr": 0.25}})
    assert [stage.lr for stage in parsed.stages.values()] == [0.25, 0.5]


ABSURD: dict[str, list[Any]] = {
    "seed": [-1, 2**32, 0.5],
    "folds": [2, 101, 10**23],
    "age_cap": [-5, 0, 1e9, True, "never", 10**400],
    "face.min_face": [0, 10**6],
    "face.thresholds": [[0.5, 0.5], [0.5, 0.5, 1.5], [0.5, 0.5, float("nan")]],
    "face.size": [[0, 64], [10**6, 10**6], [64]],
    "combiner.anchors": [10**9],
    "combiner.components": [-1, 10**9],
    "combiner.rounds": [0, 10**9],
    "combiner.reg_lambda": [1e300, float("inf")],
    "combiner.min_child_weight": [1e300],
    "stages.mask.epochs": [0, 99999999999999999999999, 10**9],
    "stages.mask.patience": [-1, 10**9],
    "stages.mask.frozen_epochs": [10**9],
    "stages.mask.batch_size": [1, 10**9],
    "stages.mask.lr": [0, 1e9, float("nan"), float("inf"), 10**400],
    "stages.mask.weight_decay": [-1, 1e9],
    "stages.mask.dropout_samples": [0, 10**9],
    "stages.mask.clip_grad": [0, 1e300],
    "stages.mask.per_person": [-1, 10**9],
    "stages.mask.copies_of_old": [10**9],
    "stages.mask.mixup": [-1, 1e9],
    "stages.mask.cutmix": [-1, 1e9],
    "stages.mask.leave_out": [[60, 58], [-1, 3], [0, 1e9]],
    "stages.mask.mean": [[0.5, 0.5], [0.5, 0.5, 1e9]],
    "stages.mask.std": [[0, 0, 0]],
    "stages.mask.views": [[], ["plain"] * 1000, "plain"],
    "stages.mask.loss": ["ce" * 1000],
    "stages.mask.backbone": ["", "x" * 300, "\x1b[31m"],
    "stages.mask.weights": ["", "x" * 5000, "a\0b"],
    "stages.mask.backbone_args": [{"layers": [10**9]}, {"checkpoint_path": "x.pth"}, {"pretrained": True}],
    "stages.mask.optimizer_args": [{"eps": float("nan")}, {"eps": 10**30}],
    "augment.long": [[{"name": "HorizontalFlip"}] * 200, [{"name": "Resize", "height": 10**6, "width": 10**6}]],
}


@pytest.mark.parametrize("key", ABSURD)
def test_absurd_values_are_refused_by_name(key: str) -> None:
    for value in ABSURD[key]:
        tables = recipe()
        *parents, last = key.split(".")
        table = tables
        for parent in parents:
            table = table.setdefault(parent, {})
        table[last] = value
        said = refusal(lambda tables=tables: parse(tables))
        assert f"\n  {key}" in said and len(said) < 400, said


def test_every_number_of_a_recipe_has_an_upper_limit() -> None:
    for section in (StageRecipe, Face, CombinerRecipe, Recipe, Budget):
        for name, field in section.model_fields.items():
            if field.annotation in (int, float):
                limits = {
                    attribute for rule in field.metadata for attribute in ("le", "lt") if hasattr(rule, attribute)
                }
                assert limits, f"{section.__name__}.{name}"


def test_messages_are_short_and_printable() -> None:
    tables = {f"{'k' * 500}{number}\x1b[31m": "\x1b]0;title\x07" * 100 for number in range(1000)}
    said = refusal(lambda: parse(tables))
    assert len(said) < 4000 and said.replace("\n", "").isprintable()
    tables = {f"{'k' * 500}{number}\x1b[31m": {"a": ["b" * 5000] * 3} for number in range(300)}
    said = refusal(lambda: parse(tables))
    assert "has 301 problem(s)" in said and "and 291 more" in said
    assert len(said) < 4000 and said.replace("\n", "").isprintable()
    for stage in ({"augment": "\x9b" * 100}, {"weights": "stage:" + "s" * 4000}, {"loss": "\x1b"}):
        said = refusal(lambda stage=stage: parse(recipe(stage)))
        assert len(said) < 400 and said.replace("\n", "").isprintable()


# --set


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=2", "--set epoch=2: 'epoch' is no key of a recipe or its stages\ndid you mean epochs"),
        ("stages.mask.epoch=2", "'epoch' is no key of a stage\ndid you mean epochs"),
        ("defaults.epoch=2", "'epoch' is no key of a stage\ndid you mean epochs"),
        ("face.margn=2", "'margn' is no key of [face]\ndid you mean margin"),
        ("combiner.round=2", "'round' is no key of [combiner]\ndid you mean rounds"),
        ("fcae.margin=2", "'fcae' is no key of a recipe or its stages\ndid you mean face"),
        ("seed.x=2", "'seed' is not a table"),
        ("epochs", "expected key=value"),
        ("=2", "expected key=value"),
        ("lr=" + "[" * 100 + "]" * 100, "deep"),
        ("lr=" + "[" * 5000 + "]" * 5000, "deep"),
        ("lr=" + "9" * 5000, "thousands of digits"),
        ("lr=0x" + "f" * 100, "more than 64 bits"),
        ("lr=nan", "not a finite number"),
        ("x" * 100_000, "(100,000 characters)"),
        ("\x1b[31m=1", "\\x1b[31m"),
    ],
)
def test_a_setting_that_no_recipe_has_is_named(setting: str, message: str) -> None:
    said = refusal(lambda: override(read_toml(DEMO), [setting], ["mask"]))
    assert message in said and len(said) < 400 and said.replace("\n", "").isprintable()


def test_settings_change_the_recipe() -> None:
    changed = override(read_toml(DEMO), ["epochs=7", "face.margin=0.5", "stages.gender.lr=1", "weights=none"], ["mask"])
    parsed = parse(changed)
    assert (parsed.stages["mask"].epochs, parsed.stages["gender"].epochs, parsed.face.margin) == (7, 2, 0.5)
    assert parsed.stages["gender"].lr == 1 and parsed.stages["mask"].weights == "none"
    text = override(read_toml(DEMO), ["weights=a b\nlr = 3"], ["mask"])["stages"]["mask"]["weights"]
    assert text == "a b\nlr = 3", "one value, or text"


def test_a_key_of_stages_needs_a_stage() -> None:
    assert "--set stages.NAME.epochs=…" in refusal(lambda: override(read_toml(DEMO), ["epochs=2"], []))


def test_a_wrong_value_of_a_setting_is_not_a_problem_of_the_file(drawn: Path, tmp_path: Path) -> None:
    words = ["--data", drawn / "train", "--recipe", DEMO, "--artifacts", tmp_path / "a", "--set", "epochs=0"]
    for arguments in (["fit-stage", "mask", "--dry-run"], ["tune", "mask"]):
        said = call(*arguments, *words).stderr
        assert f"Error: {DEMO} with --set epochs=0 has 1 problem(s):\n  stages.mask.epochs: input" in said


# Budgets


def test_budgets_are_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    for text, message in (
        ("teraflops = -1", "teraflops: input should be greater than 0"),
        ("teraflop = 1", "did you mean teraflops"),
        ("backbones = 3", "backbones: expected a table"),
        ("backbone_args = { checkpoint_path = 'x' }", "checkpoint_path is no argument of a backbone"),
        ("lr = inf", "not a finite number"),
        ("x = " + "[" * 5000 + "]" * 5000, "deep"),
    ):
        path.write_text(text)
        said = refusal(lambda: read_budget(path))
        assert message in said and len(said) < 500
    assert "did you mean faces" in refusal(lambda: read_budget(tmp_path / "facess.toml"))


# Anything at all

KEYS = st.sampled_from(
    [
        *("defaults", "mask", "joint", "x", "a" * 2000, "\x1b[2J", ""),
        *Recipe.model_fields,
        *StageRecipe.model_fields,
        *Face.model_fields,
        *CombinerRecipe.model_fields,
    ]
)
ATOMS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(0, 50),
    st.floats(),
    st.floats(0, 1),
    st.text(max_size=8),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.sampled_from(["none", "stage:joint", "resnet18", "plain", "auto", "\x1b[31m", "b" * 50_000]),
    st.just(16).map(lambda base: base**5000),  # hypothesis cannot print it
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
STAGES = st.dictionaries(
    st.sampled_from(["mask", "joint", "joint-2", "gender", "../x", "a b"]),
    st.dictionaries(KEYS, VALUES, max_size=4).map(lambda table: {**STAGE, **table}),
    max_size=3,
)
RECIPES = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=6),
    st.builds(lambda tables, stages: {**tables, "stages": stages}, st.dictionaries(KEYS, VALUES, max_size=2), STAGES),
)


@settings(max_examples=100, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(RECIPES)
def test_any_tables_are_a_recipe_or_refused_in_words(tables: dict[str, Any]) -> None:
    try:
        assert isinstance(parse(tables), Recipe)
    except FacecadeError as error:
        said = f"{error}\n{error.hint}"
        assert len(said) < 4000 and said.replace("\n", "").isprintable()
