"""What is an image in a folder is decided once; what is not is counted; names in another spelling are found."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from facecade.faces.listing import IMAGE_SUFFIXES, NamedFiles, list_images, passed_over_text


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    return path


def test_every_extension_of_an_image_is_taken_in_any_case(tmp_path: Path) -> None:
    for number, suffix in enumerate(IMAGE_SUFFIXES):
        image(tmp_path / f"{number}{suffix}")
        image(tmp_path / f"{number}-large{suffix.upper()}")
    listing = list_images(tmp_path)
    assert len(listing.images) == 2 * len(IMAGE_SUFFIXES) and not listing.passed_over


def test_what_is_passed_over_is_counted_by_reason(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    for name in (".ipynb_checkpoints/a.png", ".Trash-1000/b.png", "@eaDir/c.png", "__MACOSX/d.png", "._a.png", "e.txt"):
        image(tmp_path / name)
    (tmp_path / "README").touch()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    listing = list_images(tmp_path)
    assert listing.images == ["a.png"]
    assert listing.passed_over == {
        ".txt file": 1,
        "file without extension": 1,
        "hidden file": 1,
        "hidden folder": 2,
        "pipe, device or broken link": 2,
        "system folder": 2,
    }
    assert "2 × hidden folder" in passed_over_text(listing.passed_over)


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    image(tmp_path / "real/a.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "day1").symlink_to(tmp_path / "real")
    (tmp_path / "real/loop").symlink_to(data)
    listing = list_images(data)
    assert listing.images == ["day1/a.png"]
    assert listing.passed_over == {"folder that is already listed": 1}


@pytest.mark.parametrize(
    ("named", "found"),
    [
        ("a.png", "a.png"),
        ("A.PNG", "a.png"),
        ("a", "a.png"),
        ("sub/é.JPG", unicodedata.normalize("NFD", "sub/é.jpg")),
        ("sub/é", unicodedata.normalize("NFD", "sub/é.jpg")),
        ("b", None),  # b.png and b.jpg
        ("c.png", None),
        ("", None),
        ("../outside.png", None),
        ("/etc/hostname", None),
    ],
)
def test_names_are_found_in_other_spellings_if_it_is_one_file(named: str, found: str | None, tmp_path: Path) -> None:
    image(tmp_path / "outside.png")
    data = tmp_path / "data"
    for name in ("a.png", "b.png", "b.jpg", unicodedata.normalize("NFD", "sub/é.jpg")):
        image(data / name)
    files = NamedFiles(data)
    assert files.find(named) == found
    assert files.respelled == (found is not None and found != named)
