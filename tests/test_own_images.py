"""Images of one's own, from a folder for each class to a fit, and from boxes to predictions."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from conftest import TINY, call, scene, succeed

from facecade.faces.source import read_source
from facecade.runs.run import open_run


def test_a_stage_is_fitted_on_a_folder_for_each_class(tmp_path: Path) -> None:
    names = ("mask", "no_mask", "incorrect_mask")
    for number in range(18):
        path = (
            tmp_path
            / "data"
            / f"{names[number % 3]}_{'MF'[number % 2]}_{('<30', '30-59')[number // 3 % 2]}"
            / f"p{number // 3}_{number}.png"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(number).save(path)
    words = ["--data", tmp_path / "data", "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "run", *TINY]
    pattern = ["--person-pattern", "(p[0-9]+)_"]
    refused = call("fit-stage", "mask", "--fold", 0, *words, *pattern)
    assert refused.exit_code == 1 and "person 'p0' is female here, and male in" in refused.stderr
    result = call("fit-stage", "mask", "--fold", 0, *words)
    assert result.exit_code == 0, result.stderr
    assert "no person is known: each image counts as a person of its own" in result.stderr
    run = open_run(tmp_path / "run")
    assert run.table["person"].nunique() == 18 and set(run.table["age"]) == {15, 45} and run.cap is None
    assert run.state("mask", 0) == "fitted"


def test_infer_crops_given_boxes(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    table = read_source(drawn / "eval").table[:4]
    paths = [str((drawn / "eval" / path).resolve()) for path in table["path"]]
    manifest = pd.DataFrame({"path": paths, "person": "", "mask": "", "gender": "", "age": ""})
    sides = {"left": [5, "", 5, "x"], "top": [5, "", 5, 1], "right": [30, "", 3000, 9], "bottom": [40, "", 4000, 9]}
    predictions = {}
    for name, rows in (("plain", manifest), ("boxed", manifest.assign(**sides))):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
        words = [
            "--artifacts",
            fitted,
            "--engine",
            "torch",
            "--overwrite",
            "--output",
            tmp_path / "out",
        ]  # the same: nothing of the other is resumed
        result = call("infer", tmp_path / f"{name}.csv", *words)
        assert result.exit_code == 0, result.stderr
        predictions[name] = pd.read_csv(tmp_path / "out/predictions.csv", dtype=str, keep_default_na=False)
    assert "boxed.csv row 5: left is 'x', expected pixels" in result.stderr
    plain, boxed = predictions["plain"], predictions["boxed"]
    assert boxed["flags"][2].startswith("unreadable: the face box 5,5,3000,4000 does not fit")
    assert (plain.iloc[[1, 3]] == boxed.iloc[[1, 3]]).all(axis=None) and plain["p0"][0] != boxed["p0"][0]
    succeed("infer", tmp_path / "boxed.csv", *words)
