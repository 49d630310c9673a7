"""The whole stack on labels that mean nothing scores chance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import succeed

from facecade.faces.table import read_source


def test_shuffled_labels_score_chance_through_the_whole_stack(drawn: Path, tmp_path: Path) -> None:
    """People exchange gender and age, images their masks; then stages, folds, combiner as ever.

    A leak anywhere (a person in two folds, a threshold or a rule scored where it was learned, a row described by
    a model that saw it) would let the networks' memory of training labels through.
    """
    table = read_source(drawn / "train").table
    generator = np.random.default_rng(0)
    people = table.drop_duplicates("person").set_index("person")[["gender", "age"]]
    exchanged = pd.DataFrame(generator.permutation(people.to_numpy()), index=people.index, columns=["gender", "age"])
    table[["gender", "age"]] = exchanged.loc[table["person"]].to_numpy()
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

    # Chance: always saying the commonest class of 18 scores 1/18 × its F1; guessing by frequency about 1/18.
    by_way = {name: scores["macro-F1"]["value"] for name, scores in record["nested"].items()}
    by_way["the nested choice"] = record["nested_choice"]["macro-F1"]["value"]
    assert max(by_way.values()) < 0.14, by_way
    # The networks did learn their training labels: what they remember is what a leak would have shown.
    last = [
        json.loads(path.read_text().splitlines()[-1])["loss"]
        for path in (tmp_path / "a").glob("stages/gender/*/history.jsonl")
    ]
    assert max(last) < 0.66, last
