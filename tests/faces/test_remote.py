"""Datasets at URLs are copied to this machine: once, whole, and nothing out of their folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import call, succeed

from facecade.base import storage
from facecade.base.errors import FacecadeError
from facecade.faces import remote
from facecade.faces.remote import RECORD, local_copy

fsspec = pytest.importorskip("fsspec")
MemoryFile = pytest.importorskip("fsspec.implementations.memory").MemoryFile


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """fsspec's file system in memory, empty, as if it were an object store; copies go to a temporary folder."""
    monkeypatch.setattr(storage, "STORES", storage.STORES | {"memory"})
    monkeypatch.setenv("FACECADE_COPIES", str(tmp_path / "copies"))
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def fail(*arguments: object, says: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 1 and says in result.stderr, result.stderr


def upload(store: Any, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            store.pipe_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def test_a_dataset_at_a_url_is_checked_and_trained_on(store: Any, drawn: Path, tmp_path: Path) -> None:
    upload(store, drawn / "train", "/bucket/train")
    here = json.loads(succeed("check", drawn / "train", "--json", "--set", "folds=3"))
    result = call("check", "memory://bucket/train", "--json", "--set", "folds=3")
    there = json.loads(result.stdout)
    assert here["images"] == there["images"] > 100 and here["people"] == there["people"]
    assert "files copied, 0 were there" in result.stderr
    words = ["fit-stage", "mask", "--recipe", "demo", "--artifacts", tmp_path / "run"]
    result = call(*words, "--data", "memory://bucket/train", "--set", "folds=3", "--dry-run")
    assert result.exit_code == 0 and "would fit mask fold 0" in result.stdout
    assert " 0 files copied, " in result.stderr


def test_a_copy_follows_the_store(store: Any) -> None:
    for name in ("a.jpg", "b/c.PNG", "manifest.csv", "notes.txt", ".hidden.jpg"):
        store.pipe_file(f"/bucket/set/{name}", name.encode())
    store.pipe_file("/bucket/settings/other.jpg", b"of another folder with the same begin")
    copy = local_copy("memory://bucket/set/")

    def names() -> list[str]:
        return sorted(path.relative_to(copy).as_posix() for path in copy.rglob("[!.]*") if path.is_file())

    assert names() == ["a.jpg", "b/c.PNG", "manifest.csv"]
    assert (copy / "b/c.PNG").read_bytes() == b"b/c.PNG"
    store.pipe_file("/bucket/set/a.jpg", b"A.JPG")  # as many bytes
    store.rm_file("/bucket/set/b/c.PNG")
    store.pipe_file("/bucket/set/d.jpg", b"d")
    assert local_copy("memory://bucket/set") == copy
    assert names() == ["a.jpg", "d.jpg", "manifest.csv"] and (copy / "a.jpg").read_bytes() == b"A.JPG"


def test_a_table_comes_with_its_images_and_an_image_alone(store: Any) -> None:
    for name in ("a.jpg", "b.jpg", "people.csv"):
        store.pipe_file(f"/bucket/set/{name}", b"x")
    image = local_copy("memory://bucket/set/a.jpg")
    assert image.name == "a.jpg" and not image.with_name("b.jpg").exists()
    table = local_copy("memory://bucket/set/people.csv")
    assert table.parent == image.parent and table.with_name("b.jpg").exists()
    local_copy("memory://bucket/set/a.jpg")
    assert table.with_name("b.jpg").exists(), "one image is no reason to remove others"


def test_what_was_copied_is_kept_when_the_store_fails(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        store.pipe_file(f"/bucket/set/{number}.jpg", b"x" * number)
    get, fetched = store.get_file, []

    def get_some(key: str, path: str) -> None:
        fetched.append(key)
        if key.endswith("3.jpg") and len(fetched) < 6:
            raise ConnectionError("no route to host")
        get(key, path)

    monkeypatch.setattr(type(store), "get_file", staticmethod(get_some))
    monkeypatch.setattr(remote, "REQUESTS", 1)
    with pytest.raises(FacecadeError, match=r"3\.jpg: no route to host") as caught:
        local_copy("memory://bucket/set")
    assert "it continues" in caught.value.hint
    fetched.extend(["-"] * 6)
    copy = local_copy("memory://bucket/set")
    assert sorted(path.name for path in copy.iterdir() if path.suffix == ".jpg") == [f"{i}.jpg" for i in range(5)]
    assert sum(key.endswith("0.jpg") for key in fetched) == 1 and not list(copy.glob(".tmp*"))


@pytest.mark.parametrize("name", ["../x.jpg", "a/../../x.jpg", "a//b.jpg", "C:x.jpg", "a\\b.jpg", "n" * 300 + ".jpg"])
def test_names_that_lead_out_of_the_folder_are_passed_over(store: Any, name: str, tmp_path: Path) -> None:
    for path in ("/bucket/set/a.jpg", f"/bucket/set/{name}"):
        store.store[path] = MemoryFile(store, path, b"x")
    copy = local_copy("memory://bucket/set")
    found = [path for path in tmp_path.rglob("*") if path.suffix == ".jpg"]
    assert found == [copy / "a.jpg"]


def test_limits(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        store.pipe_file(f"/bucket/set/{number}.jpg", b"x" * 100)
    with monkeypatch.context() as patch:
        patch.setattr(remote, "MAX_FILES", 3)
        fail("check", "memory://bucket/set", says="4 files, more than 3")
    with monkeypatch.context() as patch:
        patch.setattr(remote.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 300}))
        fail("check", "memory://bucket/set", says="FACECADE_COPIES")
    fail("check", "memory://bucket/none", says="no images or tables there")
    fail("check", "memory://bucket/set/none.csv", says="no images or tables there")
    fail("check", "https://example.org/set", says="https:// is not allowed")
    fail("eda", "file:///etc", says="file:// is not allowed")
    copy = local_copy("memory://bucket/set")
    (copy / RECORD).write_text("[" * 1000)
    assert local_copy("memory://bucket/set") == copy, "a damaged record: all is fetched again"
