"""Drawn faces with known labels: data for the demo and the tests, in the competition's layout.

Gender changes the length of the hair and the brows, age the gray of the hair and the wrinkles, the mask state where the
mask is. A drawing depends only on its labels and a seed.
"""

from __future__ import annotations

import csv
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from facecade.base.artifact import write_bytes, write_text
from facecade.faces.labels import GENDERS, band_of, encode
from facecade.faces.layouts.competition import FILE_MASKS

WIDTH, HEIGHT = 96, 128


def draw_face(mask: str, gender: str, age: float, person_seed: int, image_seed: int) -> Image.Image:
    """One drawing, RGB, 96×128 (width × height).

    Args:
        mask: `wear`, `incorrect` or `normal`. age: in years.
        person_seed: for the person's appearance. image_seed: for this image's rotation, brightness and mask.
    """
    person_rng, image_rng = np.random.default_rng([person_seed, 1]), np.random.default_rng([person_seed, image_seed, 2])
    skin = tuple(int(value) for value in np.array([222, 180, 150]) + person_rng.integers(-25, 20))
    grey = float(np.clip((age - 20) / 55, 0, 1))
    dark = np.array([45, 30, 25]) + person_rng.integers(0, 40)
    hair = tuple(int(value) for value in dark * (1 - grey) + np.array([215, 215, 215]) * grey)
    background = tuple(int(value) for value in person_rng.integers(90, 200, 3))
    image = Image.new("RGB", (WIDTH, HEIGHT), background)
    draw = ImageDraw.Draw(image)
    if gender == "female":
        draw.ellipse((12, 8, 84, 78), fill=hair)
        draw.rectangle((12, 44, 84, 112), fill=hair)
    else:
        draw.ellipse((18, 8, 78, 66), fill=hair)
    draw.rectangle((38, 90, 58, 122), fill=skin)
    draw.ellipse((20, 18, 76, 104), fill=skin)
    for left in (32, 54):
        thick = 2 if gender == "female" else 5
        draw.line((left, 48, left + 12, 47), fill=tuple(int(value * 0.8) for value in hair), width=thick)
        draw.ellipse((left + 2, 54, left + 10, 60), fill="white")
        draw.ellipse((left + 4, 55, left + 8, 59), fill=(30, 20, 20))
    shade = tuple(int(value * 0.72) for value in skin)
    for wrinkle in range(int(grey * 5.5)):
        draw.line((32, 40 - 4 * wrinkle, 64, 40 - 4 * wrinkle), fill=shade, width=1)
        draw.line((24, 62 + 3 * wrinkle, 31, 60 + 3 * wrinkle), fill=shade, width=1)
        draw.line((65, 60 + 3 * wrinkle, 72, 62 + 3 * wrinkle), fill=shade, width=1)
    draw.line((48, 60, 45, 74, 51, 75), fill=shade, width=2)
    draw.arc((38, 76, 58, 90), 20, 160, fill=(170, 60, 60), width=3)
    if mask != "normal":
        cloth = tuple(int(value) for value in image_rng.integers(60, 250, 3))
        top = 66 if mask == "wear" else 84
        draw.polygon([(22, top), (48, top - 4), (74, top), (68, top + 26), (48, 108), (28, top + 26)], fill=cloth)
    image = image.rotate(float(image_rng.uniform(-8, 8)), Image.Resampling.BILINEAR, fillcolor=background)
    image = ImageEnhance.Brightness(image).enhance(float(image_rng.uniform(0.75, 1.25)))
    noisy = np.asarray(image, float) + image_rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def draw_people(people: int, seed: int) -> list[tuple[str, str, int]]:
    """(id, gender, age in years) of people; the gender × age bands alternate, so each is equally frequent."""
    generator = np.random.default_rng([seed, 3])
    spans = ((18, 30), (30, 60), (60, 81))
    return [
        (f"{number:06d}", GENDERS[number % 2], int(generator.integers(*spans[number // 2 % 3])))
        for number in range(people)
    ]


def draw_data(folder: Path, people: int, seed: int = 0) -> None:
    """Draw `people` persons into `folder/train` (train.csv) and a third as many others into `folder/eval`."""
    rows = draw_people(people, seed)
    sheet = [["id", "gender", "race", "age", "path"]]
    for number, (name, gender, age) in enumerate(rows):
        path = f"{name}_{gender}_Drawn_{age}"
        sheet.append([name, gender, "Drawn", str(age), path])
        for image, (state, mask) in enumerate(FILE_MASKS.items()):
            _save(
                draw_face(mask, gender, age, number + 1000 * seed, image),
                folder / "train/images" / path / f"{state}.jpg",
            )
    _write_csv(folder / "train/train.csv", sheet)

    info, labels = [["ImageID", "ans"]], [["ImageID", "ans", "mask", "gender", "age", "person"]]
    for number, (name, gender, age) in enumerate(draw_people(max(12, people // 3), seed + 1)):
        for image, mask in enumerate(FILE_MASKS.values()):
            image_id = f"{(number * 7 + image) * 7919 % 100003:06d}.jpg"
            _save(
                draw_face(mask, gender, age, number + 1000 * seed + 500_000, image), folder / "eval/images" / image_id
            )
            label = int(encode(("wear", "incorrect", "normal").index(mask), GENDERS.index(gender), band_of(age)))
            info.append([image_id, "0"])
            labels.append([image_id, str(label), mask, gender, str(age), name])
    _write_csv(folder / "eval/info.csv", [info[0], *sorted(info[1:])])
    _write_csv(folder / "eval/eval_labels.csv", [labels[0], *sorted(labels[1:])])


def _save(image: Image.Image, path: Path) -> None:
    data = BytesIO()
    image.save(data, "JPEG", quality=92)
    write_bytes(path, data.getvalue())


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    text = StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())
