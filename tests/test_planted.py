"""`audit` finds wrong labels planted among drawn faces, and its corrections can be applied."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

from facecade.combiner.audit import Finding
from facecade.faces.synthetic import draw_data
from facecade.recipe_file import parse, read_toml
from facecade.runs.run import open_run

PEOPLE_PER_ERROR = 4
"""People with a wrong gender; as many with a wrong age, and as many with two files swapped."""

RECIPE = """
seed = 1
folds = 3
[face]
detector = "centre"
size = [64, 48]
fallback = 1.0
[augment]
plain = [
  { name = "HorizontalFlip", p = 0.5 },
  { name = "Affine", scale = [0.9, 1.1], rotate = [-8, 8], p = 0.7 },
  { name = "RandomBrightnessContrast", brightness_limit = 0.2, contrast_limit = 0.2, p = 0.5 },
]
[defaults]
weights = "none"
size = [64, 48]
batch_size = 32
lr = 3e-3
ema = 0.95
augment = "plain"
[stages.joint]
backbone = "test_efficientnet"
loss = "huber"
epochs = 16
[combiner]
anchors = 60
components = 4
rounds = 3
"""
"""One small joint network: fast to train, and good enough for drawn faces."""


def plant(train: Path) -> set[tuple[str, str]]:
    """Write wrong labels into drawn data; returns kind and path of each error."""
    with open(train / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    generator = np.random.default_rng(1)
    selected = generator.permutation(len(rows))[: 3 * PEOPLE_PER_ERROR]
    planted = set()
    for number, index in enumerate(selected):
        row, kind = rows[index], ("gender", "age", "swap")[number % 3]
        planted.add((kind, row["path"]))
        if kind == "gender":
            row["gender"] = {"male": "female", "female": "male"}[row["gender"]]
        elif kind == "age":
            far_ages = [age for age in range(18, 81) if abs(age - int(row["age"])) >= 30]
            row["age"] = str(generator.choice(far_ages))
        else:
            normal, incorrect = (
                train / "images" / row["path"] / f"{name}.jpg" for name in ("normal", "incorrect_mask")
            )
            temporary = normal.rename(normal.with_name("beside.jpg"))
            incorrect.rename(normal)
            temporary.rename(incorrect)
    pd.DataFrame(rows).to_csv(train / "train.csv", index=False)
    return planted


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[tuple[str, str]]]:
    """A folder with data/, the run in artifacts/ and audit's files in output/; and the planted errors."""
    folder = tmp_path_factory.mktemp("planted")
    draw_data(folder / "data", people=84, seed=7)
    planted = plant(folder / "data/train")
    (folder / "recipe.toml").write_text(RECIPE)
    run = ["--artifacts", folder / "artifacts"]
    succeed("fit-stage", "all", "--data", folder / "data/train", "--recipe", folder / "recipe.toml", *run)
    succeed("fit-meta", *run)
    succeed("audit", *run, "--output", folder / "output", "--most", 20)
    return folder, planted


def test_first_rows_hold_nine_of_ten_planted_errors(audited: tuple[Path, set[tuple[str, str]]]) -> None:
    folder, planted = audited
    table = pd.read_csv(folder / "output/audit.csv")
    first = table.head(int(1.5 * len(planted)))
    found = planted & set(zip(first["kind"], first["id"], strict=True))
    assert len(found) >= 0.9 * len(planted), f"missed {planted - found}\n{first.to_string()}"
    assert table["probability"].is_monotonic_decreasing and table["rank"].tolist() == list(range(1, len(table) + 1))


def test_page_shows_the_first_findings(audited: tuple[Path, set[tuple[str, str]]]) -> None:
    folder, _ = audited
    page, table = (folder / "output/audit.html").read_text(), pd.read_csv(folder / "output/audit.csv")
    assert page.count("<figure>") == min(20, len(table))
    assert page.count("data:image/jpeg") == 7 * min(20, len(table))
    for row in table.head(20).itertuples():
        assert f"{row.rank}. {row.kind}: {row.probability:.2f}" in page and Path(str(row.id)).name in page
    assert "<script" not in page and 'src="http' not in page


def test_corrections_file_is_accepted_by_fit_stage(audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path) -> None:
    folder, _ = audited
    sheet, artifacts = folder / "output/corrections.csv", tmp_path / "anew"
    corrections = pd.read_csv(sheet, dtype=str)
    assert corrections.columns[:3].tolist() == ["id", "field", "value"] and len(corrections) >= 3
    assert corrections["probability"].astype(float).min() >= 0.5
    data = ["--data", folder / "data/train", "--recipe", folder / "recipe.toml", "--artifacts", artifacts]
    result = call("fit-stage", "all", *data, "--corrections", sheet, "--dry-run")
    assert result.exit_code == 0, result.stderr
    for row in corrections.itertuples():
        line = "swapped normal and incorrect" if row.value == "swap" else f"{row.field} {row.recorded} → "
        assert any(f"{row.id}: {line}" in text for text in result.stderr.replace(".0 →", " →").splitlines()), row
    assert len(result.stderr.split("correction: ")) - 1 == len(corrections)


def test_corrections_file_holds_only_probable_errors(
    audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path
) -> None:
    run = ["--artifacts", audited[0] / "artifacts", "--output", tmp_path]
    result = json.loads(succeed("audit", *run, "--most", 0, "--confidence", 0.9, "--json"))
    assert [Path(file).name for file in result["files"]] == ["audit.html", "audit.csv", "corrections.csv"]
    probable = [each for each in result["findings"] if each["score"] >= 0.9]
    assert 0 < len(pd.read_csv(tmp_path / "corrections.csv")) == len(probable) < len(result["findings"])
    assert "data:image/jpeg" not in (tmp_path / "audit.html").read_text()


def test_edited_corrections_are_never_overwritten(audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path) -> None:
    run = ["--artifacts", audited[0] / "artifacts", "--output", tmp_path, "--most", 0]
    for _ in range(2):  # an unedited file is overwritten
        succeed("audit", *run)
    assert [path.name for path in tmp_path.glob("corrections*")] == ["corrections.csv"]
    (tmp_path / "corrections.csv").write_text("id,field,value\nmine,age,30\n")
    assert "corrections-2.csv" in succeed("audit", *run)
    assert (tmp_path / "corrections.csv").read_text() == "id,field,value\nmine,age,30\n"
    assert (tmp_path / "corrections-2.csv").read_text() == (audited[0] / "output/corrections.csv").read_text()


def test_earlier_corrections_are_part_of_the_proposed_command(
    audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path
) -> None:
    artifacts = shutil.copytree(audited[0] / "artifacts", tmp_path / "run")
    run = ["--artifacts", artifacts, "--output", tmp_path / "output"]
    assert call("audit", *run, "--most", 0).stderr.count("--corrections") == 1
    (artifacts / "corrections.csv").write_text("id,field,value\n000000,age,33\n")
    proposed = f"--corrections {artifacts}/corrections.csv --corrections {tmp_path}/output/corrections.csv"
    assert proposed in call("audit", *run, "--most", 0).stderr
    succeed("report", *run)
    assert "started with 1 label correction." in (tmp_path / "output/MODEL_CARD.md").read_text()


def test_the_proposed_command_fits_the_same_recipe_in_another_folder(
    audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path
) -> None:
    """Which is not there yet, so that nothing is fitted over; and the recipe is that of the run."""
    artifacts, output = shutil.copytree(audited[0] / "artifacts", tmp_path / "run"), tmp_path / "out put"
    for name in ("corrected", "corrected-2"):
        result = call("audit", "--artifacts", artifacts, "--output", output, "--most", 0)
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("Next: ")]
        words = shlex.split(line.partition(", then python cli.py ")[2])
        assert words[words.index("--artifacts") + 1] == str(artifacts / name)
        planned = succeed(*words, "--dry-run")
        assert planned.splitlines() == [f"would fit joint fold {fold} (now missing)" for fold in range(3)]
        assert "Next: " not in result.stdout and "labels are probably wrong" in result.stdout.splitlines()[0]
        (artifacts / name).mkdir()
        (artifacts / name / "run.json").write_text("{}")
    recipe = Path(words[words.index("--recipe") + 1])
    assert parse(read_toml(recipe)) == open_run(artifacts).recipe


def test_without_a_probable_error_the_audit_says_so_and_recommends_nothing(
    audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlikely = [Finding("age", "000001", "000001", (0,), "age", "27", "75", "about 27", 0.04, "it looks younger")] * 6
    monkeypatch.setattr("facecade.pages.audit.audit", lambda *arguments: unlikely)
    result = call("audit", "--artifacts", audited[0] / "artifacts", "--output", tmp_path, "--most", 0)
    verdict = "0 labels are probably wrong (probability 0.5 or more); the least unlikely 6 are in audit.csv."
    assert result.exit_code == 0 and result.stdout.splitlines()[0] == verdict and result.stderr == ""
    assert "looks younger" not in result.stdout and verdict in (tmp_path / "audit.html").read_text()
    assert len(pd.read_csv(tmp_path / "audit.csv")) == 6 and pd.read_csv(tmp_path / "corrections.csv").empty


def test_missing_run_and_combiner_are_named(fitted: Path, tmp_path: Path) -> None:
    result = call("audit", "--artifacts", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.stderr
    run = shutil.copytree(fitted, tmp_path / "run")
    shutil.rmtree(run / "combiner")
    result = call("audit", "--artifacts", run, "--output", tmp_path)
    assert result.exit_code == 1 and "the combiner is missing" in result.stderr and "fit-meta" in result.stderr
    assert not list(tmp_path.glob("*.html"))
