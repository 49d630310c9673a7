"""Wrong labels that are planted among drawn faces are found by `audit`, which is never told of them, and can be corrected."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

from facecade.faces.synthetic import draw_data

EACH = 4
"""People with a wrong gender, with a wrong age, and with two files swapped."""

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
"""One small joint network: quick to train, and enough to tell drawn faces apart."""


def plant(train: Path) -> set[tuple[str, str]]:
    """Write wrong labels into drawn data; what was done to whom."""
    with open(train / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    generator = np.random.default_rng(1)
    chosen = generator.permutation(len(rows))[: 3 * EACH]
    planted = set()
    for number, place in enumerate(chosen):
        row, kind = rows[place], ("gender", "age", "swap")[number % 3]
        planted.add((kind, row["path"]))
        if kind == "gender":
            row["gender"] = {"male": "female", "female": "male"}[row["gender"]]
        elif kind == "age":
            far = [age for age in range(18, 81) if abs(age - int(row["age"])) >= 30]
            row["age"] = str(generator.choice(far))
        else:
            normal, incorrect = (
                train / "images" / row["path"] / f"{name}.jpg" for name in ("normal", "incorrect_mask")
            )
            beside = normal.rename(normal.with_name("beside.jpg"))
            incorrect.rename(normal)
            beside.rename(incorrect)
    pd.DataFrame(rows).to_csv(train / "train.csv", index=False)
    return planted


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[tuple[str, str]]]:
    """A folder with data/, the run in artifacts/, and what audit wrote in output/; and what was planted."""
    folder = tmp_path_factory.mktemp("planted")
    draw_data(folder / "data", people=84, seed=7)
    planted = plant(folder / "data/train")
    (folder / "recipe.toml").write_text(RECIPE)
    run = ["--artifacts", folder / "artifacts"]
    succeed("fit-stage", "all", "--data", folder / "data/train", "--recipe", folder / "recipe.toml", *run)
    succeed("fit-meta", *run)
    succeed("audit", *run, "--output", folder / "output", "--most", 20)
    return folder, planted


def test_nine_of_ten_planted_errors_are_among_the_first_rows(audited: tuple[Path, set[tuple[str, str]]]) -> None:
    folder, planted = audited
    table = pd.read_csv(folder / "output/audit.csv")
    first = table.head(int(1.5 * len(planted)))
    found = planted & set(zip(first["kind"], first["id"], strict=True))
    assert len(found) >= 0.9 * len(planted), f"missed {planted - found}\n{first.to_string()}"
    assert table["probability"].is_monotonic_decreasing and table["rank"].tolist() == list(range(1, len(table) + 1))


def test_the_sheet_shows_the_first_findings(audited: tuple[Path, set[tuple[str, str]]]) -> None:
    folder, _ = audited
    page, table = (folder / "output/audit.html").read_text(), pd.read_csv(folder / "output/audit.csv")
    assert page.count("<figure>") == min(20, len(table))
    assert page.count("data:image/jpeg") == 7 * min(20, len(table))
    for row in table.head(20).itertuples():
        assert f"{row.rank}. {row.kind}: {row.probability:.2f}" in page and Path(str(row.id)).name in page
    assert "<script" not in page and 'src="http' not in page


def test_corrections_are_taken_as_they_are_written(audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path) -> None:
    folder, _ = audited
    sheet, anew = folder / "output/corrections.csv", tmp_path / "anew"
    wrong = pd.read_csv(sheet, dtype=str)
    assert wrong.columns[:3].tolist() == ["id", "field", "value"] and len(wrong) >= 3
    assert wrong["probability"].astype(float).min() >= 0.5
    data = ["--data", folder / "data/train", "--recipe", folder / "recipe.toml", "--artifacts", anew]
    result = call("fit-stage", "all", *data, "--corrections", sheet, "--dry-run")
    assert result.exit_code == 0, result.stderr
    for row in wrong.itertuples():
        line = "exchanged normal and incorrect" if row.value == "swap" else f"{row.field} {row.recorded} → "
        assert any(f"{row.id}: {line}" in said for said in result.stderr.replace(".0 →", " →").splitlines()), row
    assert len(result.stderr.split("correction: ")) - 1 == len(wrong)


def test_only_what_is_probable_enough_is_put_down(audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path) -> None:
    run = ["--artifacts", audited[0] / "artifacts", "--output", tmp_path]
    said = json.loads(succeed("audit", *run, "--most", 0, "--confidence", 0.9, "--json"))
    assert [Path(file).name for file in said["files"]] == ["audit.html", "audit.csv", "corrections.csv"]
    sure = [one for one in said["findings"] if one["score"] >= 0.9]
    assert 0 < len(pd.read_csv(tmp_path / "corrections.csv")) == len(sure) < len(said["findings"])
    assert "data:image/jpeg" not in (tmp_path / "audit.html").read_text()


def test_corrections_that_somebody_edited_are_never_overwritten(
    audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path
) -> None:
    run = ["--artifacts", audited[0] / "artifacts", "--output", tmp_path, "--most", 0]
    for _ in range(2):  # what nobody edited is written to the same place
        succeed("audit", *run)
    assert [path.name for path in tmp_path.glob("corrections*")] == ["corrections.csv"]
    (tmp_path / "corrections.csv").write_text("id,field,value\nmine,age,30\n")
    assert "corrections-2.csv" in succeed("audit", *run)
    assert (tmp_path / "corrections.csv").read_text() == "id,field,value\nmine,age,30\n"
    assert (tmp_path / "corrections-2.csv").read_text() == (audited[0] / "output/corrections.csv").read_text()


def test_what_a_run_was_begun_with_is_given_to_the_next(
    audited: tuple[Path, set[tuple[str, str]]], tmp_path: Path
) -> None:
    artifacts = shutil.copytree(audited[0] / "artifacts", tmp_path / "run")
    run = ["--artifacts", artifacts, "--output", tmp_path / "output"]
    assert succeed("audit", *run, "--most", 0).count("--corrections") == 1
    (artifacts / "corrections.csv").write_text("id,field,value\n000000,age,33\n")
    proposed = f"--corrections {artifacts}/corrections.csv --corrections {tmp_path}/output/corrections.csv"
    assert proposed in succeed("audit", *run, "--most", 0)
    succeed("report", *run)
    assert "began with 1 label correction." in (tmp_path / "output/MODEL_CARD.md").read_text()


def test_what_stands_in_the_way_is_said(fitted: Path, tmp_path: Path) -> None:
    result = call("audit", "--artifacts", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.stderr
    run = shutil.copytree(fitted, tmp_path / "run")
    shutil.rmtree(run / "combiner")
    result = call("audit", "--artifacts", run, "--output", tmp_path)
    assert result.exit_code == 1 and "the combiner is missing" in result.stderr and "fit-meta" in result.stderr
    assert not list(tmp_path.glob("*.html"))
