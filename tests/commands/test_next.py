"""Commands end with the command that usually comes next, as it was called and with the folders that were used."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from conftest import call


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
    assert next_of("infer", drawn / "eval", *predict) == evaluate
    words = ["evaluate", output / "submission.csv", drawn / "eval/eval_labels.csv", "--output", output]
    assert next_of(*words) == f"report --output '{output}'"
    assert next_of("infer", tmp_path / "images", *predict[:2], "--output", tmp_path / "o") == "explain IMAGE" + here
    exported = tmp_path / "export"
    assert next_of("export", exported, "--artifacts", run) == f"infer DATA --artifacts {exported} --engine onnx"


def test_json_on_stdout_stays_json(fitted: Path, tmp_path: Path) -> None:
    result = call("draw", tmp_path / "d", "--people", 12, "--json")
    assert set(json.loads(result.stdout)) == {"train", "eval"} and "Next: " in result.stderr
