"""Commands end with the command that usually comes next, as it was called and with the folders that were used."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import call

from facecade import shipped


def next_of(*words: object) -> str:
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("Next: ")]
    assert lines and result.stderr.splitlines()[-1] == lines[-1]
    return lines[-1].removeprefix("Next: facecade ").removeprefix("Next: python cli.py ")


def test_each_command_names_the_next_with_the_folders_that_were_used(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    run, output = tmp_path / "a run", tmp_path / "out put"
    shutil.copytree(fitted, run)
    shutil.rmtree(run / "combiner")
    (tmp_path / "images").mkdir()
    shutil.copy(next((drawn / "eval/images").iterdir()), tmp_path / "images")
    here = f" --artifacts {shlex.quote(str(run))}"

    assert next_of("draw", tmp_path / "d", "--people", 12) == f"fit-stage all --data {tmp_path}/d/train --recipe demo"
    assert next_of("fit-stage", "all", "--resume", "--artifacts", run) == "fit-meta" + here
    assert next_of("fit-meta", "--artifacts", run) == "infer DATA" + here
    predict = ["--artifacts", run, "--output", output, "--engine", "torch"]
    evaluate = f"evaluate '{output}/submission.csv' LABELS --output '{output}'"
    assert next_of("infer", drawn / "eval", *predict) == evaluate + here
    words = ["evaluate", output / "submission.csv", drawn / "eval/eval_labels.csv", "--output", output]
    assert next_of(*words, "--artifacts", run) == f"report{here} --output '{output}'"
    assert next_of("infer", tmp_path / "images", *predict[:2], "--output", tmp_path / "o") == "explain IMAGE" + here
    exported = tmp_path / "export"
    assert next_of("export", exported, "--artifacts", run) == f"infer DATA --artifacts {exported} --engine onnx"


def test_json_on_stdout_stays_json(fitted: Path, tmp_path: Path) -> None:
    result = call("draw", tmp_path / "d", "--people", 12, "--json")
    assert set(json.loads(result.stdout)) == {"train", "eval"} and "Next: " in result.stderr


def test_data_in_which_nothing_is_wrong_are_trained_on_or_predicted_as_they_were_read(
    drawn: Path, tmp_path: Path
) -> None:
    plain, train, output = tmp_path / "images of us", drawn / "train", ["--output", tmp_path / "eda"]
    plain.mkdir()
    shutil.copy(next((drawn / "eval/images").iterdir()), plain)
    words = ["--recipe", "demo", "--set", "folds=4", "--map", "gender.M=male"]
    assert next_of("check", train, "--recipe", "demo") == f"fit-stage all --data {train} --recipe demo"
    read = "--map gender.M=male --recipe demo --set folds=4"
    assert next_of("check", train, *words) == f"fit-stage all --data {train} {read}"
    other = ["--output", tmp_path / "eda of us"]
    assert next_of("check", plain) == next_of("eda", plain, *other) == f"infer '{plain}'"
    assert next_of("eda", train, "--recipe", "demo", *output) == f"fit-stage all --data {train} --recipe demo"
    assert next_of("eda", train, *output) == f"fit-stage all --data {train}"
    manifest = tmp_path / "masks.csv"
    rows = [
        f"{drawn}/train/images/{path.parent.name}/{path.name},{path.parent.name},{mask},,"
        for path, mask in masks(train)
    ]
    manifest.write_text("\n".join(["path,person,mask,gender,age", *rows]))
    assert next_of("check", manifest, "--recipe", "demo").startswith("fit-stage mask --data")


def masks(train: Path) -> list[tuple[Path, str]]:
    """Images of a training set with their masks."""
    known = {"mask": "wear", "incorrect": "incorrect", "normal": "normal"}
    files = sorted(train.glob("images/*/*.jpg"))
    return [(path, next(value for name, value in known.items() if path.stem.startswith(name))) for path in files]


def test_bad_data_are_not_trained_on_next(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn / "train", tmp_path / "d")
    next((tmp_path / "d/images").glob("*/mask1.*")).write_bytes(b"")
    assert "fit-stage" not in call("check", tmp_path / "d").stderr
    result = call("eda", tmp_path / "d", "--output", tmp_path / "o", "--recipe", "demo")
    assert result.stderr.splitlines()[-1] == f"Next: python cli.py check {tmp_path / 'd'}"


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("combiner/meta.json", "fit-meta --artifacts {run}"),
        ("combiner/nested.npz", "fit-meta --artifacts {run}"),
        ("combiner/rule.npz", "fit-meta --artifacts {run}"),
        ("combiner/alignment-mask.npz", "fit-meta --artifacts {run}"),
        ("stages/mask/fold1/outputs.npz", "fit-stage mask --fold 1 --artifacts {run}"),
        ("run.json", "fit-stage all --data DATA --recipe RECIPE --artifacts {run}"),
    ],
)
def test_what_is_damaged_is_made_again_in_the_folder_that_was_used(
    file: str, command: str, fitted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    shutil.copytree(fitted, run)
    (run / file).write_bytes(b"damaged")
    hints = [
        line.removeprefix("Next: ").removeprefix("make it again: ").removeprefix("python cli.py ")
        for words in (["report"], ["ls"])
        for line in call(
            *words, "--artifacts", run, *(["--output", tmp_path] if words == ["report"] else [])
        ).stderr.splitlines()
        if line.startswith("Next: ")
    ]
    assert command.format(run=shlex.quote(str(run))) in hints


def test_a_damaged_evaluation_is_made_again_where_it_was(fitted: Path, tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{}")
    result = call("report", "--artifacts", fitted, "--output", tmp_path)
    assert result.stderr.endswith(
        f"Next: make it again: python cli.py evaluate PREDICTIONS LABELS --output {tmp_path}\n"
    )


def test_where_there_is_no_run_one_is_begun_there(tmp_path: Path) -> None:
    here = f"fit-stage all --data DATA --artifacts {tmp_path}"
    assert f"Next: begin one: python cli.py {here}" in call("ls", "--artifacts", tmp_path).stderr


def test_hints_name_recipes_as_they_were_named() -> None:
    assert shipped.name_of("recipe", shipped.find("recipe", "published/joint")) == "published/joint"
    assert shipped.name_of("recipe", Path("mine.toml")) == "mine.toml"
