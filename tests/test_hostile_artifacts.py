"""A run or an export that is damaged, or made by a stranger: every use of it ends in one sentence, or as if nothing had been changed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xgboost as xgb
from conftest import arrays, call, succeed

from facecade.base.artifact import Record, read_record
from facecade.base.errors import FacecadeError
from facecade.base.files import file_hash
from facecade.base.machine import Machine
from facecade.combiner import methods
from facecade.combiner.meta import Boosted
from facecade.combiner.stage_outputs import StageOutputs
from facecade.combiner.trees import Trees
from facecade.faces.extra import ExtraRecord
from facecade.faces.labels import N_CLASSES
from facecade.faces.pseudo import PseudoRecord
from facecade.faces.table import classes
from facecade.inference.choose import EngineRecord, recorded_choice
from facecade.inference.engines import ENGINES, installed
from facecade.inference.exported import Exported, Manifest, Seen
from facecade.inference.loading import cascade_of_run
from facecade.records import CombinerRecord, CombinerSummary, FitRecord, read_combiner_record
from facecade.report.evaluate import Evaluation
from facecade.report.nested import NestedPredictions
from facecade.report.predictions import PredictionFiles, State
from facecade.runs.describe import describe
from facecade.runs.fits import make_fit, out_of_fold_outputs, read_alignments
from facecade.runs.run import RunRecord, open_run
from facecade.stages.fit import load_fold
from facecade.training.tracking import read_history

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Folders:
    """A copy of the tiny run and of its export, and a folder outside, which must stay as it is."""

    run: Path
    export: Path
    outside: Path


@pytest.fixture(scope="module")
def folders(fitted: Path, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folders]:
    top = tmp_path_factory.mktemp("hostile")
    made = Folders(top / "run", top / "export", top / "outside")
    shutil.copytree(fitted, made.run, ignore=shutil.ignore_patterns("events", "export", ".lock"))
    shutil.copytree(exported, made.export)
    made.outside.mkdir()
    np.save(made.outside / "secret.npy", np.arange(9))
    yield made
    assert sorted(path.name for path in top.iterdir()) == ["export", "outside", "run"], "a file was made beside"
    assert [path.name for path in made.outside.iterdir()] == ["secret.npy"], "a file was made outside"


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """Files are as they were before, whatever is done to them."""
    before = {path: path.read_bytes() for path in paths}
    try:
        yield
    finally:
        for path, data in before.items():
            path.unlink(missing_ok=True)
            path.write_bytes(data)


@pytest.fixture(scope="module")
def records(fitted: Path, exported: Path) -> dict[type[Record], dict[str, Any]]:
    """One of each record, as it is in its file."""

    def read(path: Path) -> dict[str, Any]:
        return json.loads(path.read_text())  # type: ignore[no-any-return]

    combiner, few = (
        read(fitted / "combiner/meta.json"),
        xgb.DMatrix(np.eye(18), np.arange(18), feature_names=[*map(str, range(18))]),
    )
    stumps = xgb.train({"objective": "multi:softprob", "num_class": 18, "max_depth": 1, "min_child_weight": 0}, few, 1)
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    names = ("macro-F1", "accuracy", "mask accuracy", "gender accuracy", "band accuracy")
    extra = {"data": "d", "text": "t", "flag": "trained-on", "years": True}
    pseudo = {"run": "r", "confidence": 0.9, "folds_hash": "0" * 16, "offered": 9, "new": 8, "labels": [4, 4]}
    measured = {"networks": "0" * 16, "machine": "x86", "cores": 2, "bf16": False, "versions": {"torch": "2"}}
    rates = {"engine": "torch", "precision": "fp32", "images_per_second": {"torch fp32": 9.5}, "measured": measured}
    scores = {"score": dict.fromkeys(names, score), "per_class_f1": [None] * 18, "per_class_count": [1] * 18}
    return {
        RunRecord: read(fitted / "run.json"),
        FitRecord: read(fitted / "stages/mask/fold0/meta.json"),
        CombinerRecord: {**combiner, "nested": {combiner["method"]: combiner["nested"][combiner["method"]]}},
        Trees: Trees.of(stumps).json_value(),
        Manifest: read(exported / "manifest.json"),
        Seen: {"flags": {"0" * 32: "trained-on", "1" * 32: "pseudo-labelled"}},
        ExtraRecord: extra,
        PseudoRecord: {**extra, **pseudo, "held_out": {"share": 0.5, "accuracy": 0.9}},
        EngineRecord: rates,
        State: {"request": "0" * 16, "rows": 4, "images": 4, "bytes": 100},
        Evaluation: {
            "images": 9,
            "people": 3,
            **scores,
            "confusion": [[1] * 18] * 18,
            "run": "0" * 16,
            "answered": {"images": 3, "coverage": 0.5, "score": {"accuracy": score}},
        },
    }


@pytest.fixture(scope="module")
def boosted(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A combiner with trees on the tiny run's stages."""
    run, folder = open_run(fitted), tmp_path_factory.mktemp("boosted")
    outputs = out_of_fold_outputs(run)
    estimator = Boosted.fit(outputs, classes(run.table), run.recipe.combiner, 0)
    combiner = methods.FittedCombiner("XGBoost, aligned embeddings + decision rule", estimator, np.zeros(6))
    summary = read_combiner_record(run.combiner)
    fields = {name: getattr(summary, name) for name in CombinerSummary.model_fields}
    methods.save(folder, combiner, CombinerSummary(**fields), summary.reliability)
    return folder


MUTATIONS: dict[str, Callable[[Any], Any]] = {
    "null": lambda value: None,
    "text": lambda value: 7 if isinstance(value, str) else "x",
    "list": lambda value: {} if isinstance(value, list) else [value],
    "huge": lambda value: 2**100,
    "float": lambda value: 1e308,
    "negative": lambda value: -1,
    "path": lambda value: "../../../../etc/passwd",
}


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value; of long lists and of trees only the first items."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items)[: 60 if isinstance(value, dict) else 2]:
        yield (*place, key)
        yield from places(item, (*place, key))


def changed(value: Any, place: tuple[Any, ...], change: Callable[[Any], Any] | None) -> Any:
    """A copy with another value in a place; without it, where `change` is None."""
    result = deepcopy(value)
    parent = result
    for key in place[:-1]:
        parent = parent[key]
    if change is None:
        del parent[place[-1]]
    else:
        parent[place[-1]] = change(parent[place[-1]])
    return result


KINDS: list[type[Record]] = [
    RunRecord,
    FitRecord,
    CombinerRecord,
    Trees,
    Manifest,
    Seen,
    ExtraRecord,
    PseudoRecord,
    EngineRecord,
    State,
    Evaluation,
]


@pytest.mark.parametrize("kind", KINDS)
def test_record_with_any_other_value_is_refused_or_holds_it(
    kind: type[Record], records: dict[type[Record], dict[str, Any]], tmp_path: Path
) -> None:
    """What is accepted is exactly what the file says: nothing is dropped, converted or filled in."""
    value, path, refused = records[kind], tmp_path / "record.json", 0
    path.write_text(json.dumps(value))
    assert read_record(path, kind).json_value() == value
    every = list(places(value))
    cases = [(place, name, change) for place in every for name, change in MUTATIONS.items()]
    for place, name, change in [*cases, *((place, "missing", None) for place in every)]:
        mutated = changed(value, place, change)
        path.write_text(json.dumps(mutated))
        try:
            read = read_record(path, kind).json_value()
        except FacecadeError as error:
            refused += 1
            assert (
                str(path) in str(error)
                and error.hint.startswith("make it again: python cli.py ")
                and len(str(error)) < 1500
            )
        else:
            required = len(place) > 1 or not kind.model_fields[place[0]].is_required()
            assert name != "missing" or required, f"{place} may be missing"
            left_out = kind is Trees or name == "missing"
            assert left_out or read == mutated, f"{place} {name}"
    assert refused > len(every), "most of it is refused"


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_not_finite_and_endless_brackets_are_refused(
    kind: type[Record], records: dict[type[Record], dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "record.json"
    for place in places(records[kind]):
        text = json.dumps(changed(records[kind], place, lambda value: "HERE"))
        if '"HERE"' not in text:
            continue
        for other in ("NaN", "-Infinity", "[" * 100_000, "1" + "0" * 5000) if len(place) == 1 else ("NaN",):
            path.write_text(text.replace('"HERE"', other))
            with pytest.raises(FacecadeError):
                read_record(path, kind)


def images(count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 48, 3), np.uint8)


def predict(export: Path) -> dict[str, np.ndarray]:
    """All that `infer` reads of an export, and its first fold's predictions of a few crops."""
    read = Exported.open(export)
    read.trained_on(), read.mtcnn(1), read.precision("onnx", "auto")
    combiner, record = methods.load(read.combiner)
    outputs = read.ensemble("onnx", 1, folds=1).predict_all(images())[0]
    probability, label = combiner(outputs)
    return {"probability": probability, "label": label, "prior": np.array(record.prior), "age": outputs.age()}


@pytest.fixture(scope="module")
def expected(exported: Path) -> dict[str, np.ndarray]:
    return predict(exported)


def predicts_the_same(export: Path, expected: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(values, expected[name]) for name, values in predict(export).items())


MANIFEST_CHANGES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "a network elsewhere": (("networks", 0, "files", 0), "/elsewhere/x.onnx"),
    "a network above": (("networks", 0, "files", 0), "networks/../../x.onnx"),
    "a network without hash": (("networks", 0, "files", 0), "networks/other.onnx"),
    "the combiner as a network": (("networks", 0, "files", 0), "combiner/rule.npz"),
    "a hash of a file above": (("files", "../x.onnx"), "0" * 32),
    "another network": (("networks", 0, "files", 0), "networks/mask-fold0.onnx"),
    "other folds": (("networks", 0, "folds", 0), [7]),
    "a fold twice": (("networks", 0, "folds"), [[0], [0], [2]]),
    "no folds": (("networks", 0, "folds"), []),
    "no networks": (("networks",), []),
    "a stage less": (("networks", 0, "stages"), []),
    "a size of terabytes": (("networks", 0, "size"), [100_000, 100_000]),
    "another size": (("networks", 0, "size"), [128, 96]),
    "a face of terabytes": (("face", "size"), [100_000, 100_000]),
    "a detector": (("face", "detector"), "mtcnn"),
    "the detector's files": (("detector",), {"pnet": "networks/mask-fold0.onnx"}),
    "a column less": (("columns", "mask"), ["wear", "normal"]),
    "columns of another stage": (("columns", "gender"), ["wear", "incorrect", "normal"]),
    "a stage of the same kind": (("columns", "mask-2"), ["wear", "incorrect", "normal"]),
    "no stage for the mask": (("columns",), {"gender": ["male", "female"]}),
}


@pytest.mark.parametrize("name", MANIFEST_CHANGES)
def test_manifest_that_names_other_things_is_refused(name: str, folders: Folders) -> None:
    (*place, last), value = MANIFEST_CHANGES[name]
    path = folders.export / "manifest.json"
    with restored(path):
        manifest = json.loads(path.read_text())
        parent = manifest
        for key in place:
            parent = parent[key]
        parent[last] = value
        path.write_text(json.dumps(manifest))
        with pytest.raises(FacecadeError) as error:
            predict(folders.export)
    assert "export" in error.value.hint and len(str(error.value)) < 1000


def empty(path: Path, other: Path, secret: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path, other: Path, secret: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path, other: Path, secret: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replaced(path: Path, other: Path, secret: Path) -> None:
    shutil.copyfile(other, path)


def pickled(path: Path, other: Path, secret: Path) -> None:
    path.write_bytes(pickle.dumps({"rows": [1, 2]}))


def removed(path: Path, other: Path, secret: Path) -> None:
    path.unlink()


def pipe(path: Path, other: Path, secret: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(path: Path, other: Path, secret: Path) -> None:
    path.unlink()
    path.symlink_to(secret)


DAMAGES = [empty, cut, flipped, replaced, pickled, removed, pipe, linked]

RUN_FILES: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "run.json": ("table.csv", "fit-stage all --data DATA", open_run),
    "table.csv": ("run.json", "--data", open_run),
    "stages/mask/fold0/weights.safetensors": (
        "stages/mask/fold1/weights.safetensors",
        "fit-stage mask --fold 0",
        lambda run: load_fold(make_fit(open_run(run), "mask", 0), CPU),
    ),
    "stages/mask/fold0/outputs.npz": (
        "stages/mask/fold1/outputs.npz",
        "fit-stage mask --fold 0",
        lambda run: out_of_fold_outputs(open_run(run)),
    ),
    "combiner/rule.npz": ("combiner/nested.npz", "fit-meta", lambda run: methods.load(open_run(run).combiner)),
    "combiner/alignment-mask.npz": (
        "combiner/alignment-joint.npz",
        "fit-meta",
        lambda run: read_alignments(open_run(run)),
    ),
    "combiner/nested.npz": ("combiner/rule.npz", "fit-meta", lambda run: NestedPredictions.read(open_run(run).folder)),
}
"""Files of a run: another to replace each by, the command that makes it again, and what reads it."""


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", RUN_FILES)
def test_damaged_file_of_a_run_is_named_with_the_command_that_makes_it_again(
    name: str, damage: Callable[[Path, Path, Path], None], folders: Folders
) -> None:
    other, command, read = RUN_FILES[name]
    path = folders.run / name
    read(folders.run)
    with restored(path):
        damage(path, folders.run / other, folders.outside / "secret.npy")
        with pytest.raises(FacecadeError) as error:
            read(folders.run)
    assert str(path.parent) in str(error.value) and len(str(error.value)) < 1500
    assert damage is linked or command in error.value.hint, error.value.hint


EXPORT_FILES = ["manifest.json", "seen.json", "combiner/meta.json", "combiner/rule.npz", "networks/mask-fold0.onnx"]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", EXPORT_FILES)
def test_damaged_file_of_an_export_is_named(
    name: str, damage: Callable[[Path, Path, Path], None], folders: Folders, expected: dict[str, np.ndarray]
) -> None:
    path = folders.export / name
    with restored(path):
        damage(path, folders.export / "networks/gender-fold0.onnx", folders.outside / "secret.npy")
        if (name, damage) == ("manifest.json", flipped):  # in the name of a version, for example
            with suppress(FacecadeError):
                assert predicts_the_same(folders.export, expected)
            return
        with pytest.raises(FacecadeError, match="export") as error:
            predict(folders.export)
    assert damage is linked or damage is removed or "export" in error.value.hint
    assert len(str(error.value)) < 1500


def test_what_was_not_touched_predicts_the_same(folders: Folders, expected: dict[str, np.ndarray]) -> None:
    """After all that was done to the copies."""
    assert predicts_the_same(folders.export, expected)
    assert describe(open_run(folders.run))["combiner"]["state"] == "fitted"


def rehash(record: Path, keys: tuple[str, ...], file: Path) -> None:
    """Write the hash of a file into a record, as whoever makes a hostile one would."""
    value = json.loads(record.read_text())
    parent = value
    for key in keys[:-1]:
        parent = parent[key]
    parent[keys[-1]] = file_hash(file)
    record.write_text(json.dumps(value))


@pytest.mark.parametrize("engine", [name for name in ENGINES if installed(name)])
@pytest.mark.parametrize("damage", [empty, cut, replaced, pickled])
def test_strange_network_with_its_hash_is_one_sentence(
    engine: str, damage: Callable[[Path, Path, Path], None], folders: Folders
) -> None:
    name = "networks/mask-fold0.onnx"
    path, manifest = folders.export / name, folders.export / "manifest.json"
    with restored(path, manifest):
        damage(path, folders.export / "networks/gender-fold0.onnx", path)
        rehash(manifest, ("files", name), path)
        with pytest.raises(FacecadeError, match="mask") as error:
            Exported.open(folders.export).ensemble(engine, 1, folds=1).predict_all(images())
    assert "Exception from" not in str(error.value) and "\n" not in str(error.value) and "export" in error.value.hint


@pytest.mark.parametrize("damage", [empty, cut, replaced, pickled])
def test_strange_weights_with_their_hash_are_one_sentence(
    damage: Callable[[Path, Path, Path], None], folders: Folders
) -> None:
    folder = folders.run / "stages/mask/fold0"
    path, meta = folder / "weights.safetensors", folder / "meta.json"
    with restored(path, meta):
        damage(path, folders.run / "stages/joint/fold0/weights.safetensors", path)
        rehash(meta, ("weights",), path)
        with pytest.raises(FacecadeError, match="do not fit its model") as error:
            load_fold(make_fit(open_run(folders.run), "mask", 0), CPU)
    assert "fit-stage mask --fold 0 --artifacts" in error.value.hint and len(str(error.value)) < 500


OUTPUT_CHANGES: dict[str, Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "rows of another fold": lambda found: {**found, "rows": found["rows"] + 1},
    "rows that do not exist": lambda found: {**found, "rows": found["rows"] + 10**6},
    "fewer logits": lambda found: {**found, "logits": found["logits"][:, :1]},
    "other anchors": lambda found: {**found, "anchors": found["anchors"][::-1].copy()},
    "logits of NaN": lambda found: {**found, "logits": found["logits"] * np.nan},
    "objects": lambda found: {**found, "rows": found["rows"].astype(object)},
    "no embedding": lambda found: {name: values for name, values in found.items() if name != "embedding"},
}


@pytest.mark.parametrize("name", OUTPUT_CHANGES)
def test_strange_outputs_with_their_hash_are_refused(name: str, folders: Folders) -> None:
    folder = folders.run / "stages/mask/fold0"
    path, meta = folder / "outputs.npz", folder / "meta.json"
    with restored(path, meta):
        changed_arrays = OUTPUT_CHANGES[name](arrays(path))
        with open(path, "wb") as file:
            np.savez(file, **changed_arrays)  # type: ignore[arg-type]
        rehash(meta, ("outputs",), path)
        with pytest.raises(FacecadeError) as error:
            out_of_fold_outputs(open_run(folders.run), read_alignments(open_run(folders.run)))
    assert "fit-stage mask --fold 0" in error.value.hint


def test_alignment_of_another_network_with_its_hash_is_refused(folders: Folders) -> None:
    path, meta = folders.run / "combiner/alignment-mask.npz", folders.run / "combiner/meta.json"
    with restored(path, meta):
        replaced(path, folders.run / "combiner/alignment-joint.npz", path)
        rehash(meta, ("files", path.name), path)
        with pytest.raises(FacecadeError, match="the alignment of mask is that of another network"):
            cascade_of_run(open_run(folders.run), Machine(engine="torch")).ensemble.predict_all(images())


def test_strange_combiner_with_its_hashes_is_refused(
    folders: Folders, boosted: Path, expected: dict[str, np.ndarray]
) -> None:
    """One of other stages, trees that are not consistent, and rules with other arrays."""
    outputs = Exported.open(folders.export).ensemble("onnx", 1, folds=1).predict_all(images())[0]
    combiner, _ = methods.load(boosted)
    assert combiner(outputs)[0].shape == (3, N_CLASSES)
    fewer = StageOutputs(
        outputs.logits, outputs.columns, {name: each[:, :2] for name, each in outputs.embedding.items()}
    )
    for other in (outputs.select(["joint"]), fewer, outputs.without_embedding()):
        with pytest.raises(FacecadeError, match="other stages"):
            combiner(other)
    meta = boosted / "meta.json"
    for name, data in (
        ("model.json", b""),
        ("model.json", (boosted / "model.json").read_bytes().replace(b'"tree_info":[0', b'"tree_info":[99')),
        ("model.json", pickle.dumps(1)),
        ("rule.npz", (folders.run / "combiner/nested.npz").read_bytes()),
        ("rule.npz", b""),
    ):
        with restored(boosted / name, meta):
            (boosted / name).write_bytes(data)
            rehash(meta, ("files", name), boosted / name)
            with pytest.raises(FacecadeError, match=name):
                methods.load(boosted)


@pytest.mark.parametrize("weights", [[float("nan")] * 6, [None] * 6, [0.0] * 5, [[0.0]] * 6, ["0"] * 6])
def test_decision_weights_are_six_finite_numbers(weights: list[Any], folders: Folders) -> None:
    meta = folders.run / "combiner/meta.json"
    with restored(meta):
        meta.write_text(json.dumps({**json.loads(meta.read_text()), "decision_weights": weights}))
        with pytest.raises(FacecadeError):
            methods.load(folders.run / "combiner")


@pytest.mark.parametrize("line", ["null", "5", "[1, 2]", '["a", 0, null]', "{}", "[" * 3000, "NaN", "x" * 9000])
def test_damaged_line_of_the_cache_names_the_folder_to_remove(line: str, folders: Folders) -> None:
    run = open_run(folders.run)
    index = run.store().folder / "index.jsonl"
    before = index.read_text().splitlines()
    for lines in ([line, *before[1:]], [*before, line], [*before, before[0]], [*before[1:], before[0]]):
        with restored(index):
            index.write_text("".join(f"{each}\n" for each in lines))
            with pytest.raises(FacecadeError) as error:
                run.store().fill([])
        assert f"remove {index.parent}" in error.value.hint


def test_cache_with_too_few_crops_is_damaged(folders: Folders) -> None:
    run = open_run(folders.run)
    pixels = run.store().pixels
    with restored(pixels):
        pixels.write_bytes(pixels.read_bytes()[:-1])
        with pytest.raises(FacecadeError, match="fewer crops"):
            run.faces(1)


def test_what_only_speeds_up_is_made_again(folders: Folders, tmp_path: Path) -> None:
    """The record of the fastest engine, and the state of predictions that were stopped."""
    for text in ("", "{}", "[" * 1000, '{"engine": 5}'):
        (tmp_path / "engine.json").write_text(text)
        (tmp_path / ".predictions.json").write_text(text)
        (tmp_path / ".predictions.csv").write_text("half a row")
        assert recorded_choice(tmp_path / "engine.json", "0" * 16) is None
        assert PredictionFiles(tmp_path, {}).images == 0 and not (tmp_path / ".predictions.csv").read_text()


def test_damaged_history_is_named(tmp_path: Path) -> None:
    for text in ("x", "[1]", '{"epoch": 1}', '{"epoch": 1, "loss": "x", "seconds": 1}', "[" * 100_000):
        (tmp_path / "history.jsonl").write_text(text + "\n")
        with pytest.raises(FacecadeError, match=r"history\.jsonl is damaged"):
            read_history(tmp_path)


TABLE_CHANGES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "no fold": lambda table: table.drop(columns="fold"),
    "a fold less": lambda table: table.assign(fold=0),
    "a fold more": lambda table: table.assign(fold=table["fold"] + 1),
    "a fold of text": lambda table: table.assign(fold="x"),
    "another mask": lambda table: table.assign(mask="m" * 10_000),
    "an endless age": lambda table: table.assign(age=np.inf),
    "another content": lambda table: table.assign(content="../x"),
    "fewer rows": lambda table: table.iloc[1:],
    "another person": lambda table: table.assign(person="p"),
    "no rows": lambda table: table.iloc[:0],
}


@pytest.mark.parametrize("name", TABLE_CHANGES)
def test_other_table_is_refused(name: str, folders: Folders) -> None:
    path = folders.run / "table.csv"
    with restored(path):
        TABLE_CHANGES[name](pd.read_csv(path)).to_csv(path, index=False)
        with pytest.raises(FacecadeError, match=r"table\.csv") as error:
            open_run(folders.run)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "name", ["stages", "combiner", "cache", "stages/mask", "stages/mask/fold0", "export", "stages/x"]
)
def test_linked_folder_is_neither_read_nor_written(name: str, folders: Folders, drawn: Path) -> None:
    path, kept = folders.run / name, folders.run.with_name("kept")
    if path.exists():
        path.rename(kept)
    try:
        path.symlink_to(folders.outside)
        for words in (
            ["infer", drawn / "eval"],
            ["fit-stage", "mask"],
            ["ls"],
            ["fit-meta"],
            ["export", folders.export],
        ):
            result = call(*words, "--artifacts", folders.run)
            assert result.exit_code == 1 and f"{path} is a link that leads out of" in result.stderr, result.output
    finally:
        path.unlink()
        if kept.exists():
            kept.rename(path)


@pytest.mark.parametrize("stage", ["../mask", "/mask", "..", "a/b", "mask\u0000", ""])
def test_stage_is_no_path(stage: str, folders: Folders) -> None:
    path = folders.run / "run.json"
    with restored(path):
        record = json.loads(path.read_text())
        record["recipe"]["stages"] = {stage: record["recipe"]["stages"]["mask"]}
        path.write_text(json.dumps(record))
        with pytest.raises(FacecadeError, match=r"the recipe in .*run\.json has"):
            open_run(folders.run)


def test_inference_makes_no_cache(folders: Folders, drawn: Path, tmp_path: Path) -> None:
    """Neither in the run nor beside it, where a shared one would be, nor where an earlier format named one."""
    path, cache = folders.run / "run.json", folders.run / "cache"
    shutil.rmtree(cache)
    image = next((drawn / "eval/images").iterdir())
    for shared in (False, True):
        record = {**json.loads(path.read_text()), "shared_cache": shared}
        path.write_text(json.dumps(record))
        succeed("infer", image, "--artifacts", folders.run, "--output", tmp_path / "o", "--engine", "torch")
        open_run(folders.run).store().sample(9, 0)
        assert not cache.exists() and not (folders.run.parent / "cache").exists()
    path.write_text(json.dumps({**record, "cache": str(folders.outside)}))
    result = call("infer", image, "--artifacts", folders.run, "--output", tmp_path / "o")
    assert result.exit_code == 1 and "cache: extra inputs are not permitted" in result.stderr


def test_user_reads_one_sentence_and_what_to_do(fitted: Path, exported: Path, drawn: Path, tmp_path: Path) -> None:
    """From the damaged file, by the command in the hint, to the same predictions as before."""
    run, export = tmp_path / "run", tmp_path / "export"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock"))
    shutil.copytree(exported, export)
    image = next((drawn / "eval/images").iterdir())

    def infer(folder: Path, engine: str) -> Any:
        return call("infer", image, "--artifacts", folder, "--engine", engine, "--output", tmp_path / "o")

    assert infer(run, "torch").exit_code == 0
    before = (tmp_path / "o/predictions.csv").read_bytes()
    flipped(export / "networks/joint-fold0.onnx", image, image)
    result = infer(export, "onnx")
    lines = result.stderr.splitlines()
    assert result.exit_code == 1 and lines[0].startswith("Error: ") and "joint-fold0.onnx was changed" in lines[0]
    assert lines[1] == f"Next: make it again: python cli.py export {export} --artifacts {fitted}" and len(lines) == 2

    flipped(run / "stages/mask/fold1/weights.safetensors", image, image)
    result = infer(run, "torch")
    assert result.exit_code == 1 and "fold1/weights.safetensors was changed or is damaged" in result.stderr
    assert f"Next: make it again: python cli.py fit-stage mask --fold 1 --artifacts {run}" in result.stderr
    succeed("fit-stage", "mask", "--fold", 1, "--artifacts", run, "--jobs", 1)

    (run / "stages/gender/fold0/meta.json").write_text("{}")
    (run / "combiner/meta.json").write_text("[" * 100_000)
    text = succeed("ls", "--artifacts", run)
    assert "1 damaged, 2 fitted" in text and "combiner: damaged" in text
    result = infer(run, "torch")
    assert (
        result.exit_code == 1
        and "gender: fold 0 damaged" in result.stderr
        and "fit-stage gender --resume" in result.stderr
    )
    succeed("fit-stage", "gender", "--resume", "--artifacts", run, "--jobs", 1)
    assert "the combiner is damaged" in infer(run, "torch").stderr
    succeed("fit-meta", "--artifacts", run)
    assert infer(run, "torch").exit_code == 0
    assert (tmp_path / "o/predictions.csv").read_bytes() == before


def test_damaged_start_is_not_trained_from(fitted: Path, tmp_path: Path) -> None:
    """Neither by a stage that starts from another, nor by the mean of the folds."""
    run = tmp_path / "run"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock"))
    flipped(run / "stages/joint/fold0/weights.safetensors", run, run)
    result = call("fit-stage", "gender", "--fold", 0, "--artifacts", run, "--jobs", 1)
    assert result.exit_code == 1 and "joint/fold0/weights.safetensors was changed" in result.stderr
    assert f"fit-stage joint --fold 0 --artifacts {run}" in result.stderr
    words = ["--resume", "--set", "ensemble=soup", "--artifacts", run, "--jobs", 1]
    result = call("fit-stage", "joint", *words)
    assert result.exit_code == 1 and "joint full: " in result.stderr and "was changed or is damaged" in result.stderr


@pytest.mark.parametrize("damage", [empty, flipped, removed, replaced])
@pytest.mark.parametrize("name", EXPORT_FILES)
def test_damaged_export_is_not_current_so_the_same_command_writes_it_again(
    name: str, damage: Callable[[Path, Path, Path], None], folders: Folders
) -> None:
    made_of, path = Exported.open(folders.export).made_of, folders.export / name
    assert Exported.open_if_current(folders.export, made_of)
    with restored(path):
        damage(path, folders.export / "networks/gender-fold0.onnx", path)
        assert (name, damage) == ("manifest.json", flipped) or not Exported.open_if_current(folders.export, made_of)
