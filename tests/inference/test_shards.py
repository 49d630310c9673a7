"""A listing predicted shard by shard: parts, what is skipped and refused, the merged submission, the cost, other processes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
from conftest import call, succeed

from facecade.base import storage
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.inference import merge as merge_module
from facecade.inference import shards as shards_module
from facecade.inference.batch import SPARK_SCHEMA, BatchPredictor
from facecade.inference.cascade import Cascade
from facecade.inference.shards import ListingOptions, ListingRun, _in_this_process

fsspec = pytest.importorskip("fsspec")
pq = pytest.importorskip("pyarrow.parquet")

MACHINE = Machine("cpu", workers=2, engine="torch")
ROWS = 10
"""Rows of a shard: the listing has three."""


@pytest.fixture(scope="module")
def photos(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 22 drawn photographs, two that cannot be read, and their listings."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    for image in sorted((drawn / "eval/images").iterdir())[:22]:
        shutil.copy(image, folder / "images")
    names = sorted(path.name for path in (folder / "images").iterdir())
    (folder / "images/zz.jpg").write_text("no image")
    rows = [(f"id {name}", f"images/{name}") for name in [*names, "zz.jpg", "missing.jpg"]]
    table = pd.DataFrame(rows, columns=["id", "uri"])
    table.to_csv(folder / "list.csv", index=False)
    table.to_parquet(folder / "list.parquet")
    pd.DataFrame({"ImageID": [Path(uri).name for _, uri in rows]}).to_csv(folder / "info.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def loaded(fitted: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    """The run's networks, loaded once for all tests."""
    output = tmp_path_factory.mktemp("loaded")
    return ListingRun(fitted, photos / "list.csv", output, MACHINE, ListingOptions()).predictor().cascade


@pytest.fixture(autouse=True)
def load_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "loaded" in request.fixturenames:
        cascade = request.getfixturevalue("loaded")
        monkeypatch.setattr(shards_module, "load_cascade", lambda *_: cascade)


@pytest.fixture(scope="module")
def parts(fitted: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all parts, with embeddings."""
    output = tmp_path_factory.mktemp("parts")
    ListingRun(fitted, photos / "list.csv", output, MACHINE, options(embeddings=True)).infer()
    return output


def options(**values: Any) -> ListingOptions:
    return ListingOptions(**{"shard_rows": ROWS, **values})


def read(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_parts_hold_what_predictions_csv_holds(fitted: Path, photos: Path, parts: Path, tmp_path: Path) -> None:
    words = ["--artifacts", fitted, "--engine", "torch", "--output", tmp_path]
    succeed("infer", photos, *words)
    expected, found = pd.read_csv(tmp_path / "predictions.csv"), read(parts)
    assert sorted(contents(parts)) == ["part-000000.parquet", "part-000001.parquet", "part-000002.parquet"]
    assert found["id"].tolist() == [f"id {name}" for name in expected["ImageID"]]
    assert found["label"].tolist()[:22] == expected["ans"].tolist()[:22] and found["label"].isna().sum() == 2
    for name in ("mask", "gender", "band"):
        assert (
            found[name].tolist()[:22] == expected[name].tolist()[:22] and found[name].isna().tolist()[22:] == [True] * 2
        )
    for name in ("age", "age_if_male", "age_if_female", "confidence"):
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], expected[name], atol=0.006)
    for label in range(18):
        assert found[f"p{label}"].dtype == np.float16
        np.testing.assert_allclose(found[f"p{label}"], expected[f"p{label}"], atol=6e-4)
    assert found["flags"].tolist() == expected["flags"].fillna("").tolist()
    assert found["flags"].tolist()[-2:] == ["unreadable: not an image", "no-file"], "a bad photograph is a flag"
    assert found["embedding"][22] is None and {each.dtype for each in found["embedding"][:22]} == {np.dtype(np.float16)}


def test_a_part_says_whose_it_is(fitted: Path, parts: Path) -> None:
    schema = pq.read_schema(parts / "part-000001.parquet")
    record = json.loads(schema.metadata[b"facecade"])
    assert record["first"] == 10 and record["images"] == 10 and record["engine"] == "torch cpu" and record["version"]
    assert record["request"]["ensemble"] == "mean" and len(record["request"]["run"]) == 16
    assert schema.field("embedding").type.list_size == sum(record["widths"].values())


def test_processes_share_the_shards_and_finished_parts_are_kept(
    fitted: Path, photos: Path, loaded: Cascade, parts: Path, tmp_path: Path
) -> None:
    words = [
        "infer",
        photos / "list.csv",
        "--artifacts",
        fitted,
        "--output",
        tmp_path,
        "--shard-rows",
        ROWS,
        "--embeddings",
    ]
    first = call(*words, "--shards", 2, "--shard", 1)
    assert first.exit_code == 0 and sorted(contents(tmp_path)) == ["part-000001.parquet"]
    assert "1 of 3 parts are in" in first.stdout and "--merge" not in first.stderr
    before = (tmp_path / "part-000001.parquet").stat().st_mtime_ns
    second = call(*words, "--json")
    assert "1 of 3 parts are there" in second.stderr and json.loads(second.stdout)["written"] == 2
    assert f"--shard-rows {ROWS} --embeddings" in second.stderr and second.stderr.rstrip().endswith("--merge")
    assert (tmp_path / "part-000001.parquet").stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(parts), "shared or not, the same bytes"
    third = call(*words)
    assert third.exit_code == 0 and "3 of 3 parts are there" in third.stderr and "photographs:" not in third.stdout


def test_a_stop_loses_only_the_shard_in_work(
    fitted: Path, photos: Path, loaded: Cascade, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    own = shards_module.write_part

    def stop(folder: Any, number: int, table: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(number)
        own(folder, number, table)

    run = ListingRun(fitted, photos / "list.parquet", tmp_path, MACHINE, options())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards_module, "write_part", stop)
        run.infer()
    assert sorted(contents(tmp_path)) == ["part-000000.parquet"]
    assert run.infer()["written"] == 2
    assert read(tmp_path).equals(read(parts).drop(columns="embedding")), "CSV or Parquet, stopped or not"


def test_two_processes_with_the_same_shards_end_with_the_same_bytes(
    fitted: Path, photos: Path, loaded: Cascade, tmp_path: Path
) -> None:
    """Here this process has seen no part; then another writes all of them, and this one writes them again."""

    def deal(run: ListingRun, todo: set[int], bar: Any) -> Any:
        words = ["infer", photos / "list.csv", "--artifacts", fitted, "--engine", "torch", "--device", "cpu"]
        words += ["--output", tmp_path, "--shard-rows", ROWS]
        subprocess.run([sys.executable, "-m", "facecade", *map(str, words)], check=True, capture_output=True)
        other.update(contents(tmp_path))
        return _in_this_process(run, todo, bar)

    other: dict[str, bytes] = {}
    assert ListingRun(fitted, photos / "list.csv", tmp_path, MACHINE, options()).infer(deal)["written"] == 3
    assert len(other) == 3 and contents(tmp_path) == other


def test_parts_of_others_are_not_replaced(
    fitted: Path, photos: Path, loaded: Cascade, parts: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(parts, tmp_path / "parts")
    before = contents(output)
    refused = {
        "another listing": (photos / "list.parquet", {"embeddings": True}),
        "--shard-rows 10": (photos / "list.csv", {"embeddings": True, "shard_rows": 9}),
        "--ensemble mean": (photos / "list.csv", {"embeddings": True, "ensemble": "first"}),
        "--faces largest": (photos / "list.csv", {"embeddings": True, "faces": "all"}),
        "embeddings": (photos / "list.csv", {}),
    }
    for words, (listing, values) in refused.items():
        run = ListingRun(fitted, listing, output, MACHINE, options(**values))
        with pytest.raises(FacecadeError, match=r"holds part-000000\.parquet of") as caught:
            run.infer()
        assert str(caught.value).endswith(words) and "--overwrite" in caught.value.hint
    other = ListingRun(fitted, photos / "list.csv", output, MACHINE, options(embeddings=True))
    other.request = other.request.model_copy(update={"run": "0" * 16})
    with pytest.raises(FacecadeError, match="of another run"):
        other.infer()
    (output / "part-000001.parquet").write_text("no part")
    with pytest.raises(FacecadeError, match=r"part-000001\.parquet is no part that infer wrote"):
        ListingRun(fitted, photos / "list.csv", output, MACHINE, options(embeddings=True)).infer()
    (output / "part-000001.parquet").write_bytes(before["part-000001.parquet"])
    replaced = ListingRun(fitted, photos / "list.csv", output, MACHINE, options(overwrite=True, shard_rows=12)).infer()
    assert replaced["written"] == 2 and len(contents(output)) == 2, "a part beyond the new last one is removed"


def test_a_wrong_folder_is_an_error_and_no_part(
    fitted: Path, photos: Path, loaded: Cascade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "list.csv").write_text("id,uri\n" + "".join(f"{n},gone/{n}.jpg\n" for n in range(5)))
    run = ListingRun(fitted, tmp_path / "list.csv", tmp_path / "o", MACHINE, options())
    with pytest.raises(FacecadeError, match="5 of 5 photographs of shard 0 do not exist") as caught:
        run.infer()
    assert "row 1 'gone/0.jpg': no-file" in str(caught.value) and not (tmp_path / "o").exists()
    allowed = ListingRun(fitted, tmp_path / "list.csv", tmp_path / "o", MACHINE, options(allow_missing=True))
    assert allowed.infer()["flags"] == {"no-file": 5}


def test_hostile_photographs_are_flags(fitted: Path, photos: Path, loaded: Cascade, tmp_path: Path) -> None:
    good = next((photos / "images").iterdir())
    shutil.copy(good, tmp_path / "good.jpg")
    shutil.copy(good, tmp_path.parent / "outside.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(5 << 30)  # takes no room
    uris = [
        "good.jpg",
        "../outside.jpg",
        str(good),
        "a\0.jpg",
        "huge.jpg",
        "pipe.jpg",
        "file:///etc/passwd",
        "a" * 3000,
    ]
    pd.DataFrame({"id": map(str, range(8)), "uri": uris}).to_parquet(tmp_path / "list.parquet")
    ListingRun(fitted, tmp_path / "list.parquet", tmp_path / "o", MACHINE, options()).infer()
    flags = read(tmp_path / "o")["flags"].tolist()
    assert "unreadable" not in flags[0] and all(each.startswith("unreadable: ") for each in flags[1:])
    assert [flags[n] for n in (1, 2)] == ["unreadable: the path leads out of the listing's folder"] * 2
    assert "too large" in flags[4] and "not a regular file" in flags[5] and "not allowed" in flags[6]


def test_merge_writes_a_submission_in_the_order_of_the_listing(
    fitted: Path, photos: Path, parts: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(parts, tmp_path / "o")
    (output / f".tmp-{'0' * 32}-part-000001.parquet").write_text("left by a process that was killed")
    words = ["infer", photos / "list.csv", "--artifacts", fitted, "--output", output, "--shard-rows", ROWS]
    result = call(*words, "--merge")
    assert result.exit_code == 0 and "2 photographs have no prediction" in result.stderr
    submission, listing = pd.read_csv(output / "submission.csv"), pd.read_csv(photos / "list.csv")
    assert list(submission) == ["ImageID", "ans"] and submission["ImageID"].tolist() == listing["id"].tolist()
    assert submission["ans"].tolist()[:22] == read(parts)["label"].tolist()[:22]
    prior = json.loads((fitted / "combiner/meta.json").read_text())["prior"]
    assert submission["ans"].tolist()[22:] == [int(np.argmax(prior))] * 2
    origin = json.loads((output / "made-from.json").read_text())["results"]["predictions"]
    assert origin["run"] and not list(output.glob(".tmp-*"))
    before = contents(output)
    assert call(*words, "--merge", "--overwrite").exit_code == 0 and contents(output) == before


def test_merge_names_what_is_missing_or_wrong(
    fitted: Path, photos: Path, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shutil.copytree(parts, tmp_path / "o")
    words = ["infer", photos / "list.csv", "--artifacts", fitted, "--output", output, "--merge", "--shard-rows"]
    (output / "part-000001.parquet").rename(tmp_path / "aside.parquet")
    result = call(*words, ROWS)
    assert result.exit_code == 1 and f"1 of 3 parts are missing in {output}: part-000001.parquet" in result.stderr
    shutil.copy(output / "part-000000.parquet", output / "part-000001.parquet")
    result = call(*words, ROWS)
    assert result.exit_code == 1 and "part-000001.parquet" in result.stderr and "rows 11 to 20" in result.stderr
    shutil.copy(tmp_path / "aside.parquet", output / "part-000001.parquet")
    result = call(*words, 24)
    assert result.exit_code == 1 and "the listing has 1 shards" in result.stderr
    result = call(*words, ROWS, "--faces", "all")
    assert result.exit_code == 1 and "one for each face" in result.stderr
    assert not (output / "submission.csv").exists()
    twice = pd.read_csv(photos / "list.csv")
    twice.loc[15, "id"] = twice.loc[2, "id"]  # of another shard, so that only all ids together show it
    twice.to_csv(photos / "twice.csv", index=False)
    monkeypatch.setattr(merge_module, "IDS_AT_ONCE", 7)
    result = call("infer", photos / "twice.csv", *words[2:], ROWS)
    assert result.exit_code == 1 and f"2 rows have the id '{twice.loc[2, 'id']}'" in result.stderr


def test_the_cost_is_measured_and_nothing_is_written(
    fitted: Path, photos: Path, loaded: Cascade, parts: Path, tmp_path: Path
) -> None:
    words = ["infer", photos / "list.csv", "--artifacts", fitted, "--output", tmp_path / "o", "--dry-run"]
    text = succeed(*words, "--shards", 4)
    assert "photographs: 24; parts: 1" in text and "photographs/s here by torch cpu, measured on 24" in text
    assert "by 4 processes" in text and "output: " in text and not (tmp_path / "o").exists()
    cost = json.loads(succeed(*words, "--shards", 4, "--json"))
    assert cost["hours"] == pytest.approx(24 / cost["images_per_second"] / 4 / 3600, rel=0.01)
    succeed("infer", photos / "list.csv", "--artifacts", fitted, "--output", tmp_path / "o")
    assert cost["bytes"] == pytest.approx((tmp_path / "o/part-000000.parquet").stat().st_size, rel=0.02)


def test_everything_may_be_in_an_object_store(
    fitted: Path, photos: Path, loaded: Cascade, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "STORES", storage.STORES | {"memory"})
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.put(str(photos), "/bucket/photos", recursive=True)
    words = ["infer", "memory://bucket/photos/list.csv", "--artifacts", fitted, "--output", "memory://bucket/out"]
    summary = json.loads(succeed(*words, "--shard-rows", ROWS, "--embeddings", "--json"))
    assert summary["written"] == 3 and summary["output"] == "memory://bucket/out"
    stored = {path.rpartition("/")[2]: files.cat_file(path) for path in files.ls("/bucket/out", detail=False)}
    assert stored == contents(parts), "the same bytes as from files"
    again = call(*words, "--shard-rows", ROWS, "--embeddings")
    assert again.exit_code == 0 and "3 of 3 parts are there" in again.stderr
    succeed(*words, "--shard-rows", ROWS, "--merge")
    assert files.cat_file("/bucket/out/submission.csv").startswith(b"ImageID,ans\nid ")


def test_usage_errors(fitted: Path, photos: Path, tmp_path: Path) -> None:
    words = ["infer", photos / "list.csv", "--artifacts", fitted, "--output", tmp_path]
    for given, error in (
        (["--shard", 1], "--shard needs --shards N"),
        (["--shards", 2], "needs --shard K"),
        (["--shards", 2, "--shard", 2], "not below --shards 2"),
        (["--merge", "--dry-run"], "give one of them"),
        (["--executor", "dask"], "'dask' is none"),
    ):
        result = call(*words, *given)
        assert result.exit_code == 2 and error in result.stderr
    result = call("infer", photos / "images", "--shard-rows", 5)
    assert result.exit_code == 2 and "only for a listing" in result.stderr
    result = call("infer", photos, "--output", "s3://bucket/out")
    assert result.exit_code == 2 and "only the parts of a listing" in result.stderr
    (tmp_path / "empty.csv").write_text("id,uri\n")
    assert "has no rows" in call("infer", tmp_path / "empty.csv", "--artifacts", fitted).stderr


def batch(photos: Path) -> pd.DataFrame:
    table = pd.read_csv(photos / "list.csv")
    table["bytes"] = [path.read_bytes() if (path := photos / uri).exists() else b"" for uri in table["uri"]]
    return table


def test_a_class_predicts_batches_of_other_engines(
    fitted: Path, photos: Path, parts: Path, loaded: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facecade.inference.batch.load_cascade", lambda *_, **__: loaded)
    predict, frame, expected = BatchPredictor(fitted, embeddings=True), batch(photos), read(parts)
    found = predict(frame)
    assert found["label"].tolist() == expected["label"].fillna(-1).tolist() and "bytes" not in found and "uri" in found
    np.testing.assert_allclose(found["p3"], expected["p3"], atol=6e-4)
    assert found["flags"].tolist()[-2:] == ["unreadable: not an image", "unreadable: empty file"]
    assert found["embedding"][0].shape == expected["embedding"][0].shape
    columns = predict({name: frame[name].to_numpy() for name in frame})
    assert all(each.shape[0] == 24 for each in columns.values()) and columns["embedding"].dtype == np.float32
    np.testing.assert_array_equal(columns["label"], found["label"])
    assert len(predict(frame.iloc[:0])) == 0, "Spark gives empty batches"
    by_path = BatchPredictor(fitted, root=photos)(frame.drop(columns="bytes"))
    assert by_path["label"].tolist() == found["label"].tolist()
    assert by_path["flags"].tolist()[-1] == "no-file"
    without_root = BatchPredictor(fitted)(frame.drop(columns="bytes"))
    assert set(without_root["flags"]) == {"unreadable: a path, but no root is given"}
    pixels = np.zeros((40, 30, 3), np.uint8)
    images = predict({"image": np.array([pixels, None, pixels[..., 0]], object)})
    assert [label >= 0 for label in images["label"]] == [True, False, False]
    with pytest.raises(FacecadeError, match="no column bytes, image, uri"):
        predict({"path": np.array(["a"])})


def test_sparks_schema_names_the_columns_of_the_class(
    fitted: Path, photos: Path, loaded: Cascade, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyspark is not installed here: this checks names and types, not Spark."""
    monkeypatch.setattr("facecade.inference.batch.load_cascade", lambda *_, **__: loaded)
    kinds = {"int": "int32", "float": "float32"}
    schema = dict(each.split() for each in SPARK_SCHEMA.split(", "))
    found = BatchPredictor(fitted)(batch(photos)).drop(columns=["id", "uri"])
    assert list(found) == list(schema)
    assert all(str(found[name].dtype) == kinds[kind] for name, kind in schema.items() if kind in kinds)


def test_the_recipe_for_spark_works_on_pandas_tables(
    fitted: Path, photos: Path, loaded: Cascade, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/scale-inference.md shows it; a stand-in calls the function as Spark does."""
    monkeypatch.setattr("facecade.inference.batch.load_cascade", lambda *_, **__: loaded)
    text = (Path(__file__).resolve().parents[2] / "docs/scale-inference.md").read_text()
    block = next(
        each for each in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if "spark" in each
    )
    spark = MagicMock()
    exec(block.replace("/data/artifacts", str(fitted)).replace('root="/data"', f'root="{photos}"'), {"spark": spark})
    function, schema = spark.read.parquet().select().mapInPandas.call_args.args
    listing = pd.read_parquet(photos / "list.parquet")
    table = pd.concat(list(function(iter([listing.iloc[:20], listing.iloc[20:]]))))
    assert list(table) == [each.split()[0] for each in schema.split(", ")]
    assert table["label"].tolist() == read(parts)["label"].fillna(-1).tolist()
