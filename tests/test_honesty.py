"""With random labels the whole stack scores at chance level."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import succeed

from facecade.faces.source import read_source


def test_shuffled_labels_score_at_chance_level(drawn: Path, tmp_path: Path) -> None:
    """Shuffle gender and age among people, and mask among images; then fit stages and combiner as usual.

    A leak anywhere (a person in two folds, cuts or a method scored on the rows they were fitted on, a row's outputs by a
    model that trained on it) would raise the score through memorized training labels.
    """
    table = read_source(drawn / "train").table
    generator = np.random.default_rng(0)
    people = table.drop_duplicates("person").set_index("person")[["gender", "age"]]
    shuffled = pd.DataFrame(generator.permutation(people.to_numpy()), index=people.index, columns=["gender", "age"])
    table[["gender", "age"]] = shuffled.loc[table["person"]].to_numpy()
    table["mask"] = generator.permutation(table["mask"].to_numpy())
    table["path"] = [str(drawn / "train" / path) for path in table["path"]]
    table[["path", "person", "mask", "gender", "age"]].to_csv(tmp_path / "shuffled.csv", index=False)

    fit = [
        "--recipe",
        "recipes/demo.toml",
        "--artifacts",
        tmp_path / "a",
        "--set",
        "folds=3",
        "--set",
        "combiner.rounds=10",
        "--set",
        "stages.gender.epochs=10",
    ]
    succeed("fit-stage", "all", "--data", tmp_path / "shuffled.csv", *fit)
    record = json.loads(succeed("fit-meta", "--artifacts", tmp_path / "a", "--json"))

    # Chance: always predicting the most frequent of 18 classes scores 1/18 × its F1; guessing by frequency about 1/18.
    by_method = {name: scores["macro-F1"]["value"] for name, scores in record["nested"].items()}
    by_method["the nested choice"] = record["nested_choice"]["macro-F1"]["value"]
    assert max(by_method.values()) < 0.14, by_method
    # The networks did fit their training labels, so a leak would have raised the score.
    final_losses = [
        json.loads(path.read_text().splitlines()[-1])["loss"]
        for path in (tmp_path / "a").glob("stages/gender/*/history.jsonl")
    ]
    assert max(final_losses) < 0.66, final_losses
