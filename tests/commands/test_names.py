"""Names that other programs use lead to the right ones, and help can be typed where the user is."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from conftest import call

from facecade import shipped
from facecade.cli import COMMANDS, main
from facecade.commands.command import OTHER_NAMES, SAME
from facecade.recipe_file import parse, read_toml

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train", "fit-stage, then fit-meta"),
        ("fit", "fit-stage, then fit-meta"),
        ("Predict", "infer"),
        ("classify", "infer"),
        ("val", "evaluate"),
        ("test", "evaluate"),
        ("validate", "evaluate"),
        ("status", "ls"),
        ("fit_stage", "fit-stage"),
        ("fit-stagge", "fit-stage"),
        ("predct", "infer"),
        ("raport", "report"),
        ("auditt", "audit"),
    ],
)
def test_a_word_of_other_programs_gets_the_command(typed: str, meant: str) -> None:
    result = call(typed, "--data", "x")
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    question = line.removeprefix(f"Error: No such command '{typed}'. Did you mean ")
    assert question == f"{meant}?" or question.startswith(f"{meant} or "), line


def test_a_word_that_is_near_nothing_gets_no_suggestion() -> None:
    result = call("xyzzy")
    assert result.exit_code == 2 and "No such command 'xyzzy'." in result.stderr and "mean" not in result.stderr


def test_predict_is_infer_and_the_help_lists_one_of_them() -> None:
    assert call("predict", "--help").stdout == call("infer", "--help").stdout
    listed = re.findall(r"^  ([a-z-]+) ", call("--help").stdout, re.MULTILINE)
    assert "infer" in listed and not set(SAME) & set(listed)
    assert set(SAME.values()) <= set(COMMANDS)


def test_other_names_are_no_commands_and_lead_to_commands() -> None:
    others = [*SAME, *(name for names in OTHER_NAMES.values() for name in names)]
    assert len(others) == len(set(others)) and not set(others) & set(COMMANDS)
    assert {word for here in OTHER_NAMES for word in here.split(", then ")} <= set(COMMANDS)


def test_set_blames_the_option_and_names_the_nearest_key(drawn: Path, tmp_path: Path) -> None:
    words = ["--data", drawn / "train", "--recipe", "demo", "--artifacts", tmp_path / "a", "--dry-run"]
    result = call("fit-stage", "mask", *words, "--set", "epoch=2")
    assert result.exit_code == 1 and "did you mean epochs" in result.stderr
    assert result.stderr.startswith("Error: --set epoch=2: ") and ".toml" not in result.stderr


def test_recipes_go_by_name_and_only_recipes_are_offered(drawn: Path, tmp_path: Path) -> None:
    assert {"demo", "cpu", "quick", "gpu"} <= set(shipped.names("recipe"))
    for path in shipped.names("recipe").values():
        assert parse(read_toml(path)).stages
    words = ["--data", drawn / "train", "--artifacts", tmp_path / "a", "--dry-run"]
    assert call("fit-stage", "mask", *words, "--recipe", "demo").exit_code == 0
    offered = call("fit-stage", "mask", *words, "--recipe", "nothing.toml").stderr.partition("choose from: ")[2]
    assert set(offered.strip().split(", ")) == set(shipped.names("recipe"))


def test_help_runs_where_the_user_is() -> None:
    context = click.Context(main)
    texts = [COMMANDS[name] and main.get_command(context, name).get_help(click.Context(main)) for name in COMMANDS]  # type: ignore[union-attr]
    texts += [path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]]
    assert not [text for text in texts if "../shared" in text]


def test_help_of_fit_stage_lists_the_stages_of_its_default_recipe() -> None:
    text = " ".join(call("fit-stage", "--help").stdout.split())
    listed = re.search(r"The recipe cpu has ([\w, -]+);", text)
    assert listed
    stages = parse(read_toml(shipped.find("recipe", "cpu"))).stages
    assert re.split(", | and ", listed[1]) == list(stages)
