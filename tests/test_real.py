"""Real images, where they are available: layout, counts, and fit-stage, fit-meta and infer with MTCNN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from conftest import REAL, TINY, real_images, succeed

from facecade.faces.labels import GENDERS, band_of
from facecade.faces.source import read_source, require_no_problems
from facecade.faces.table import age_cap, classes

pytestmark = real_images

# images of each class in train, from the dataset's description
TRAIN = [1500, 1340, 360, 2260, 2010, 530, 300, 268, 72, 452, 402, 106, 300, 268, 72, 452, 402, 106]


def test_the_training_set_is_read_as_described() -> None:
    table = require_no_problems(read_source(REAL / "train"))
    assert np.bincount(classes(table), minlength=18).tolist() == TRAIN
    assert table["person"].nunique() == 1600
    assert age_cap(table.groupby("person")["age"].first().to_numpy(float)) is None


def test_eval_labels_have_our_class_encoding() -> None:
    labels = pd.read_csv(REAL / "eval/eval_labels.csv")
    mask = labels["mask"].map({"wear": 0, "incorrect": 1, "normal": 2})
    encoded = 6 * mask + 3 * labels["gender"].map(GENDERS.index) + band_of(labels["age"])
    assert (encoded == labels["ans"]).all()


def test_fit_and_infer_on_real_faces(tmp_path: Path) -> None:
    """Fit on four people of each gender and age band, by a manifest and MTCNN; infer images of others."""
    table = read_source(REAL / "train").table
    table["band"] = band_of(table["age"])
    people = table.drop_duplicates("person").groupby(["gender", "band"])["person"].head(4)
    selected = table[table["person"].isin(people)].copy()
    selected["path"] = [str(REAL / "train" / path) for path in selected["path"]]
    selected[["path", "person", "mask", "gender", "age"]].to_csv(tmp_path / "some.csv", index=False)
    run = ["--artifacts", tmp_path / "a"]
    fit = ["--recipe", "recipes/demo.toml", "--set", "face.detector=mtcnn", *TINY]
    succeed("fit-stage", "all", "--data", tmp_path / "some.csv", *run, *fit)
    succeed("fit-meta", *run)
    folder = tmp_path / "eval"
    (folder / "images").mkdir(parents=True)
    info = pd.read_csv(REAL / "eval/info.csv").head(20)
    for name in info["ImageID"]:
        (folder / "images" / name).symlink_to(REAL / "eval/images" / name)
    info.to_csv(folder / "info.csv", index=False)
    succeed("infer", folder, *run, "--output", tmp_path)
    predictions = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert predictions["ImageID"].tolist() == info["ImageID"].tolist()
    flags = {flag for text in predictions["flags"] for flag in text.split()}
    assert flags <= {"no-face", "unsure", "several-faces"} and (predictions["faces"].astype(int) > 0).sum() >= 15
    assert "trained-on" not in predictions["flags"].to_numpy()
