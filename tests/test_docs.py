"""What the documentation tells people to type works as typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import TINY, succeed

from cli import main
from recipe import StageRecipe, parse, read_toml
from training.losses.age import AGE_LOSSES
from training.losses.classes import CLASS_LOSSES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def commands(text: str) -> list[list[str]]:
    """Every `python cli.py …` line of the fenced blocks."""
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[2:] for line in lines if line.startswith("python cli.py")]


def test_the_readmes_commands_run_in_their_order(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As written, in a folder of their own; only the data is drawn and the training cut short."""
    found = commands(README)
    assert [command[0] for command in found] == ["check", "fit-stage", "fit-meta", "infer", "evaluate"]
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "eval").symlink_to(drawn / "eval")
    monkeypatch.chdir(tmp_path)
    places = {"DATA": str(drawn / "train"), "LABELS": "eval/eval_labels.csv"}
    for command in found:
        filled = [places.get(word, word) for word in command]
        if command[0] == "fit-stage":
            filled += [*TINY, "--weights", "none", "--set", "backbone=test_efficientnet", "--set", "backbone_args={}"]
            filled += ["--set", "face.detector=centre", "--set", "per_person=1"]
        succeed(*filled)
    assert (tmp_path / "output/submission.csv").exists() and (tmp_path / "output/evaluation.json").exists()


def test_the_readme_lists_every_command_and_recipe() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)[ `]", README, re.MULTILINE))
    assert set(main.commands) <= listed
    assert {path.name for path in (ROOT / "recipes").glob("*.toml")} == set(
        re.findall(r"`recipes/(\w+\.toml)` \|", README)
    )


def test_the_readme_names_the_keys_and_losses_that_there_are() -> None:
    rows = dict(re.findall(r"^\| (`[a-z_`, ]+`) \| (.*) \|$", README.partition("| key |")[2], re.MULTILINE))
    keys = {key for cell in rows for key in re.findall(r"`(\w+)`", cell)}
    assert "backbone" in keys and keys <= set(StageRecipe.model_fields)
    assert set(re.findall(r"`(\w+)`", rows["`loss`"])) == {*CLASS_LOSSES, *AGE_LOSSES}


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "recipes").glob("*.toml"), *(ROOT / "recipes/published").glob("*.toml")]),
    ids=lambda path: path.stem,
)
def test_every_recipe_parses_and_its_parts_exist(path: Path) -> None:
    import timm

    from stages import make_stage
    from training.augment import build

    recipe = parse(read_toml(path), str(path))
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)
    for name, stage in recipe.stages.items():
        assert timm.is_model(stage.backbone)
        make_stage(name, stage.loss, stage.auxiliary)


def test_files_that_the_documentation_names_exist() -> None:
    for page in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "artifacts/README.md"):
        for name in re.findall(
            r"`((?:base|faces|training|stages|combiner|inference|report|recipes|tests|benchmarks|docs)/[\w./-]+\.\w+)`",
            (ROOT / page).read_text(),
        ):
            assert (ROOT / name).exists(), f"{page} names {name}"
