"""A few real images, where they are at hand: layout, counts, and the three verbs with MTCNN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from conftest import REAL, TINY, real_images, succeed

from facecade.faces.labels import GENDERS, band_of
from facecade.faces.table import age_cap, classes, read_source, require_sound

pytestmark = real_images

# images of each class in train, from the data's own description
TRAIN = [1500, 1340, 360, 2260, 2010, 530, 300, 268, 72, 452, 402, 106, 300, 268, 72, 452, 402, 106]


def test_the_training_set_is_read_as_described() -> None:
    table = require_sound(read_source(REAL / "train"))
    assert np.bincount(classes(table), minlength=18).tolist() == TRAIN
    assert table["person"].nunique() == 1600
    assert age_cap(table.groupby("person")["age"].first().to_numpy(float)) is None


def test_eval_labels_agree_with_our_encoding() -> None:
    labels = pd.read_csv(REAL / "eval/eval_labels.csv")
    mask = labels["mask"].map({"wear": 0, "incorrect": 1, "normal": 2})
    ours = 6 * mask + 3 * labels["gender"].map(GENDERS.index) + band_of(labels["age"])
    assert (ours == labels["ans"]).all()


def test_the_three_verbs_on_real_faces(tmp_path: Path) -> None:
    """Four people of every gender and age band, MTCNN, a manifest; then images of others."""
    table = read_source(REAL / "train").table
    table["band"] = band_of(table["age"])
    people = table.drop_duplicates("person").groupby(["gender", "band"])["person"].head(4)
    some = table[table["person"].isin(people)].copy()
    some["path"] = [str(REAL / "train" / path) for path in some["path"]]
    some[["path", "person", "mask", "gender", "age"]].to_csv(tmp_path / "some.csv", index=False)
    run = ["--artifacts", tmp_path / "a"]
    fit = ["--recipe", "recipes/demo.toml", "--set", "face.detector=mtcnn", *TINY]
    succeed("fit-stage", "all", "--data", tmp_path / "some.csv", *run, *fit)
    succeed("fit-meta", *run)
    folder = tmp_path / "eval"
    (folder / "images").mkdir(parents=True)
    asked = pd.read_csv(REAL / "eval/info.csv").head(20)
    for name in asked["ImageID"]:
        (folder / "images" / name).symlink_to(REAL / "eval/images" / name)
    asked.to_csv(folder / "info.csv", index=False)
    succeed("infer", folder, *run, "--output", tmp_path)
    said = pd.read_csv(tmp_path / "predictions.csv", keep_default_na=False)
    assert said["ImageID"].tolist() == asked["ImageID"].tolist()
    assert set(said["flags"]) <= {"", "no-face"} and (said["flags"] == "").sum() >= 15
    assert "trained-on" not in said["flags"].to_numpy()
