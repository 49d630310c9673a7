"""The dataset page counts correctly, shows problems, and needs neither labels nor a network."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import call, scenes, succeed
from PIL import Image

from facecade.faces.duplicates import NEAR_DUPLICATE_BITS
from facecade.faces.layouts.competition import FILE_MASKS

NO_DETECTOR = ("--recipe", "recipes/demo.toml")
"""A recipe without a face detector: drawn faces need not be detected."""

SECTIONS = ("Overview", "Problems", "Classes", "Ages", "Files", "Brightness and blur", "Faces", "Duplicates")


def person_folder(data: Path, number: int) -> Path:
    return sorted((data / "images").iterdir())[number]


def random_image(seed: int) -> Image.Image:
    """A random image, unlike all others."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((192, 256), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def edited(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn people, with copied images, ages capped at 60, and a broken file."""
    data = Path(shutil.copytree(drawn / "train", tmp_path_factory.mktemp("edited") / "train"))
    folders = [person_folder(data, number) for number in range(12)]
    shutil.copy(folders[0] / "mask1.jpg", folders[1] / "mask1.jpg")  # the same bytes under another person
    shutil.copy(folders[2] / "mask1.jpg", folders[2] / "mask2.jpg")  # and under the same person
    for seed, (source, copy) in enumerate(((3, 4), (5, 6), (7, 8))):
        original = random_image(seed)
        original.save(folders[source] / "normal.jpg", quality=95)
        changed = [
            original.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            original.resize((96, 128)),
            original.crop((1, 2, 190, 254)),
        ][seed]
        changed.save(folders[copy] / "normal.jpg", quality=60)
    exif = Image.Exif()
    exif[0x0112] = 6
    random_image(9).save(folders[9] / "normal.jpg", exif=exif)
    (folders[10] / "normal.jpg").write_bytes(b"no image")
    lines = (data / "train.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    rows = [[*row[:3], str(min(60, int(row[3]))), row[4]] for row in rows]
    (data / "train.csv").write_text("\n".join([lines[0], *map(",".join, rows), "999,male,Drawn,no,nobody"]))
    return data


@pytest.fixture(scope="module")
def result_and_page(edited: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The command's JSON, and the page."""
    output = tmp_path_factory.mktemp("eda")
    result = json.loads(succeed("eda", edited, *NO_DETECTOR, "--output", output, "--json"))
    assert sorted(path.name for path in output.iterdir()) == [".lock", "eda.html", "made-from.json"]
    assert result["files"] == [str(output / "eda.html")]
    return result, (output / "eda.html").read_text()


def test_images_people_classes_and_files_are_counted(result_and_page: tuple[dict[str, Any], str], edited: Path) -> None:
    result, page = result_and_page
    assert (result["images"], result["readable"], result["people"]) == (168, 167, 24)
    assert sum(each["images"] for each in result["classes"]) == 167
    assert len(result["classes"]) == 18 and sum(each["people"] for each in result["classes"][:6]) == 24
    assert result["sizes"]["256×192"] == result["turned"] == 1  # rotated by EXIF
    assert result["sizes"]["96×128"] + result["sizes"]["192×256"] + result["sizes"]["189×252"] + 1 == 167
    assert result["formats"] == {"JPEG": 167} and result["faces"] is None
    checked = json.loads(call("check", edited, "--json").stdout)
    assert [pair["count"] for pair in checked["pairs"]] == [1]  # drawn faces look alike: only equal files are found
    assert len(result["problems"]) >= 3 and set(checked["problems"]) - set(result["problems"]) == {
        f"images/{person_folder(edited, 0).name}/mask1.jpg of '{person_folder(edited, 0).name[:30]}' and "
        f"images/{person_folder(edited, 1).name}/mask1.jpg of '{person_folder(edited, 1).name[:30]}' are equal files"
    }
    for each in result["classes"]:
        name = f"{each['class']} {each['name']}".replace("<", "&lt;").replace(">", "&gt;")
        assert f"<td>{name}</td><td>{each['images']}</td>" in page


def test_censored_ages_are_reported(result_and_page: tuple[dict[str, Any], str]) -> None:
    result, page = result_and_page
    assert result["ages"] == {"people": 24, "lowest": 19.0, "highest": 60.0, "at_highest": 8, "censored_at": 60.0}
    assert "ages of 60 and over seem to be recorded as 60" in page


def test_duplicates_are_found_across_people(result_and_page: tuple[dict[str, Any], str], edited: Path) -> None:
    result, page = result_and_page
    duplicates = result["duplicates"]
    assert (duplicates["same_files_within"], duplicates["same_files_across"]) == (2, 2)
    names = [f"images/{person_folder(edited, number).name}/normal.jpg" for number in range(9)]
    pairs = {tuple(each["images"]): each["bits"] for each in duplicates["near_across"]}
    assert all(pairs[names[source], names[source + 1]] <= NEAR_DUPLICATE_BITS for source in (3, 5, 7))
    assert len(pairs) == duplicates["near_pairs_across"] and duplicates["images_across"] >= 8
    first = page[page.index("Identical files") :]
    assert f"images/{person_folder(edited, 0).name}/mask1.jpg" in first[: first.index("</figcaption>")]


def test_where_all_images_look_alike_near_duplicates_are_no_alarm(
    result_and_page: tuple[dict[str, Any], str], drawn: Path, tmp_path: Path
) -> None:
    """Drawings resemble each other; photographs do not."""
    result, page = result_and_page
    assert result["duplicates"]["look_alike"] and "look alike, as drawings do" in page
    assert "<h3>Near-duplicates across people" not in page and "The most similar pairs" not in page
    printed = succeed("eda", drawn / "train", *NO_DETECTOR, "--output", tmp_path)
    ages = json.loads(succeed("eda", drawn / "train", *NO_DETECTOR, "--output", tmp_path, "--json"))["ages"]
    assert (
        "duplicates across people: 0 equal files; all images look alike, so that none can be called a copy" in printed
    )
    assert f"ages: {ages['lowest']:.0f} to {ages['highest']:.0f} years, of 24 people\n" in printed
    manifest = scenes(tmp_path / "scenes", 6, near={"p1-wear": "p0-wear"})
    printed = succeed("eda", manifest, *NO_DETECTOR, "--output", tmp_path / "page")
    assert "duplicates across people: 0 equal files; 1 pair of nearly equal images" in printed
    assert "<h3>Near-duplicates across people" in (tmp_path / "page/eda.html").read_text()


def test_capped_ages_are_told_in_plain_words(edited: Path, tmp_path: Path) -> None:
    printed = succeed("eda", edited, *NO_DETECTOR, "--output", tmp_path)
    assert "ages: 19 to 60 years, of 24 people; 8 people of 60 stand for everybody of 60 and over" in printed


def test_the_page_is_one_file_with_every_section(result_and_page: tuple[dict[str, Any], str]) -> None:
    _, page = result_and_page
    for section in SECTIONS:
        assert f"<h2>{section}</h2>" in page
    for forbidden in ("<script", 'src="http', 'href="http', "url(http", ">nan"):
        assert forbidden not in page
    assert "normal.jpg" in page and "not an image" in page and "nobody" in page


def test_a_folder_without_labels_is_enough(drawn: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number, path in enumerate(sorted((drawn / "eval/images").iterdir())[:20]):
        shutil.copy(path, images / f"{number}.jpg")
    Image.new("RGBA", (50, 40), (0, 0, 0, 128)).save(images / "flat.png")
    (images / "empty.jpg").touch()
    result = json.loads(succeed("eda", images, *NO_DETECTOR, "--output", tmp_path, "--json"))
    assert (result["people"], result["classes"], result["ages"]) == (0, [], None)
    assert result["modes"] == {"RGB": 20, "RGBA": 1} and result["problems"] == ["empty.jpg: empty file"]
    page = (tmp_path / "eda.html").read_text()
    headed = [section for section in SECTIONS if f"<h2>{section}</h2>" in page]
    assert headed == ["Overview", "Problems", "Files", "Brightness and blur", "Faces", "Duplicates"]
    assert "are left out" in page and "within a person" not in page


def test_info_csv_with_unreadable_images(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"broken")
    (tmp_path / "info.csv").write_text("ImageID,ans\na.jpg,0\nb.jpg,0\n")
    result = json.loads(succeed("eda", tmp_path, *NO_DETECTOR, "--output", tmp_path, "--json"))
    assert (result["images"], result["readable"], result["quality"]) == (2, 0, {})
    assert result["problems"] == ["info.csv row 3: no file images/b.jpg", "images/a.jpg: not an image"]
    assert "a.jpg" in (tmp_path / "eda.html").read_text()


def test_faces_are_detected_with_the_recipes_settings(drawn: Path, tmp_path: Path) -> None:
    folder = person_folder(drawn / "train", 0)
    sheet = ["path,person,mask,gender,age"]
    for state, mask in FILE_MASKS.items():
        Image.open(folder / f"{state}.jpg").resize((192, 256)).save(tmp_path / f"{state}.png")
        sheet.append(f"{state}.png,somebody,{mask},male,33")
    Image.new("RGB", (192, 256)).save(tmp_path / "black.png")
    (tmp_path / "manifest.csv").write_text("\n".join([*sheet, "black.png,nobody,normal,male,34"]))
    result = json.loads(succeed("eda", tmp_path, "--output", tmp_path, "--json"))
    assert sum(result["faces"].values()) == 8 and result["faces"]["none"] >= 1
    assert result["ages"]["censored_at"] is None and result["problems"] == []
    page = (tmp_path / "eda.html").read_text()
    shown = page[page.index("No face found") :]
    assert "nobody" not in shown and "black.png" in shown and "mask: normal" in page
    assert "do not look censored" in page and "<h2>Problems" not in page


def test_missing_data_and_a_missing_package_are_reported(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = call("eda", tmp_path / "nowhere", "--output", tmp_path)
    assert result.exit_code == 1 and "does not exist" in result.stderr
    for name in ("pages.eda", "pages.eda_sections", "html.charts"):
        monkeypatch.delitem(sys.modules, f"facecade.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = call("eda", drawn / "train", "--output", tmp_path)
    assert (
        result.exit_code == 1 and "needs matplotlib" in result.stderr and "pip install -e '.[report]'" in result.stderr
    )
    assert not list(tmp_path.glob("*.html"))
