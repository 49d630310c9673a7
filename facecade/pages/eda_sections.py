"""The sections of the page that describes a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from facecade.faces.crop import crop
from facecade.faces.decode import decode
from facecade.faces.duplicates import (
    HASH_BITS,
    NEAR_DUPLICATE_BITS,
    ExactDuplicates,
    NearDuplicates,
    Pair,
    look_alike,
)
from facecade.faces.labels import AXES, BAND_EDGES, BANDS, GENDERS, MASKS, N_CLASSES, band_of, class_name
from facecade.faces.labels import decode as parts_of
from facecade.faces.people import people_of, recorded_ages
from facecade.faces.source import Source
from facecade.faces.survey import largest_face
from facecade.faces.table import classes
from facecade.html import elements
from facecade.html.charts import COLOURS, chart
from facecade.pages.page import Section
from facecade.recipe import Face

IMAGES_PER_GALLERY = 10
"""Two rows on a wide screen."""

MAX_PROBLEMS, MAX_NEAR_DUPLICATES = 200, 50
"""Rows of the two tables; `--json` has more."""

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""Of brightness and sharpness, on the page and in the JSON."""

MAX_IMAGE_SIDE = 320
"""Pixels of the longer side of an image on the page."""


@dataclass(frozen=True)
class SurveyedDataset:
    """A dataset and the measurements of its images.

    table, measured: the readable images (N rows), and the measurements of each (faces/survey.py). person: int (N,), -1 if
    unknown. distinct: rows of files with different bytes; `near_duplicates` are among these.
    """

    source: Source
    table: pd.DataFrame
    measured: np.ndarray
    face: Face
    problems: Sequence[str]
    person: np.ndarray
    distinct: np.ndarray
    near_duplicates: NearDuplicates
    exact_duplicates: ExactDuplicates

    @cached_property
    def label(self) -> np.ndarray:
        """Class 0..17 of each row, -1 if unknown."""
        return classes(self.table)

    @property
    def has_labels(self) -> bool:
        return bool((self.label >= 0).any())

    @cached_property
    def look_alike(self) -> bool:
        """Whether images of different people resemble each other so much that near-duplicates mean nothing."""
        known = self.person >= 0
        return bool(known.any()) and look_alike(self.measured["hashes"][known], pd.factorize(self.person[known])[0])

    @property
    def person_count(self) -> int:
        """Number of known people."""
        return len(np.unique(self.person[self.person >= 0]))

    def person_ages(self) -> pd.DataFrame:
        """Gender and age in years of each person whose age is known."""
        people = people_of(self.table[self.table["person"] != ""])
        return people[people["age"].notna()]

    def recorded_ages(self) -> np.ndarray:
        """The people's ages in years, without those of whom a band is known."""
        return recorded_ages(self.table[self.table["person"] != ""])

    def rows(self, pair: Pair) -> tuple[int, int]:
        """The rows of a pair's two images."""
        return int(self.distinct[pair.first]), int(self.distinct[pair.second])

    def image(self, row: int) -> Markup:
        """A row's image, scaled down."""
        return elements.picture(decode(self._path(row)), self.table["path"][row], MAX_IMAGE_SIDE)

    def face_crop(self, row: int) -> Markup:
        """The face crop of a row, as the models get it."""
        face_crop = crop(decode(self._path(row)), largest_face(self.measured[row]), self.face)
        return elements.picture(face_crop, f"face in {self.table['path'][row]}")

    def caption(self, row: int) -> list[str]:
        """Lines of a caption: the file, and the labels if there are any."""
        sample = self.table.iloc[row]
        labels = [str(sample[name]) for name in ("mask", "gender") if sample[name]]
        labels += [] if np.isnan(sample["age"]) else [f"{sample['age']:.0f} years"]
        file = Markup("/<wbr>").join(Path(sample["path"]).parts[-2:])  # <wbr> allows a line break
        return [file, *([", ".join(labels)] if labels else [])]

    def _path(self, row: int) -> Path:
        return self.source.root / str(self.table["path"][row])


def overview(dataset: SurveyedDataset, summary: Mapping[str, Any]) -> Section:
    """The most important numbers."""
    class_sizes = [each["images"] for each in summary["classes"]]
    duplicate_counts, face_counts = summary["duplicates"], summary["faces"]
    values = [("images", f"{summary['images']:,}", f"{summary['readable']:,} are readable")]
    if dataset.person_count:
        per_person = summary["readable"] / dataset.person_count
        values.append(("people", f"{dataset.person_count:,}", f"{per_person:.1f} images each, on average"))
    if class_sizes:
        sizes = f"smallest {min(class_sizes):,}, largest {max(class_sizes):,}"
        values.append(("classes", f"{sum(map(bool, class_sizes))} of {N_CLASSES}", sizes))
    if face_counts:
        share = _share(face_counts["none"], len(dataset.measured))
        values.append(("no face found", share, f"{face_counts['none']:,} images"))
    if dataset.look_alike:
        duplicates = duplicate_counts["same_files_across"], "images that are equal files; all look alike"
    else:
        duplicates = duplicate_counts["images_across"], "images, exact or near-duplicates"
    values.append((f"duplicates {_scope(dataset)}", f"{duplicates[0]:,}", duplicates[1]))
    values.append(
        (
            "problems",
            f"{len(dataset.problems):,}",
            "bad rows and files" if dataset.problems else "all rows and files are valid",
        )
    )
    parts = [elements.tiles(values)]
    if not dataset.has_labels:
        parts.append(elements.text("The dataset has no labels: class balance and ages are left out."))
    return Section("Overview", parts)


def problems(dataset: SurveyedDataset) -> Section:
    """Every bad row and file, and what else was noted of them."""
    notes = [
        elements.text(line[:1].upper() + line[1:] + ".")
        for line in (*dataset.source.notes, *dataset.source.label_notes)
    ]
    if not dataset.problems:
        return Section("Problems" if not notes else "Files", notes)
    rows = [[*problem.split(": ", 1)] for problem in dataset.problems[:MAX_PROBLEMS]]
    more = len(dataset.problems) - len(rows)
    rest = [elements.text(f"And {more:,} more; the command check lists them all.")] if more else []
    return Section(
        "Problems",
        [
            elements.text("These rows and files are left out of all sections below."),
            elements.table(["row or file", "problem"], rows, text_column=1),
            *rest,
            *notes,
        ],
    )


def class_balance(dataset: SurveyedDataset) -> Section:
    """How many images and people each class has."""
    if not dataset.has_labels:
        return Section("Classes", [])
    label, known = dataset.label, int((dataset.label >= 0).sum())
    counts = np.bincount(label[label >= 0], minlength=N_CLASSES)
    names = [f"{number} {class_name(number)}" for number in range(N_CLASSES)]

    def draw(axes: Axes) -> None:
        bars = axes.barh(names, counts, color=[COLOURS[parts_of(number)[0]] for number in range(N_CLASSES)])
        axes.bar_label(bars, [f"{count:,}" for count in counts], padding=3, fontsize=8)
        axes.margins(x=0.1, y=0.02)
        axes.invert_yaxis()
        axes.set(xlabel="images")
        axes.grid(False, axis="y")

    rows = [
        [name, f"{count:,}", _share(count, known), f"{dataset.table['person'][label == number].nunique():,}"]
        for number, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    axes_of_label = parts_of(np.maximum(label, 0))
    by_axis = [
        [f"{axis}: {value}", f"{count:,}", _share(count, known), f"{dataset.table['person'][inside].nunique():,}"]
        for index, (axis, values) in enumerate(AXES.items())
        for number, value in enumerate(values)
        for inside in [(axes_of_label[index] == number) & (label >= 0)]
        for count in [int(inside.sum())]
    ]
    smallest = int(np.argmin(counts))
    comment = (
        f"The largest class has {counts.max():,} images"
        + (f", {counts.max() / counts.min():.0f} times as many as" if counts.min() else ",")
        + f" the smallest, {class_name(smallest)}{'' if counts.min() else ', has none'}."
        + " Macro-F1 weights all classes equally."
    )
    head = ["images", "share", "people"]
    return Section(
        "Classes",
        [
            elements.figure(chart(draw, 4.4, 4.6), "Images of each class, colored by mask."),
            elements.text(comment),
            elements.row([elements.table(["class", *head], rows), elements.table(["label", *head], by_axis)]),
        ],
    )


def ages(dataset: SurveyedDataset, summary: Mapping[str, Any] | None) -> Section:
    """The people's ages by gender, and whether ages are censored."""
    people = dataset.person_ages()
    if summary is None:
        return Section("Ages", [])
    low, high = 5 * int(summary["lowest"] // 5), 5 * int(summary["highest"] // 5) + 5
    bins = np.arange(low, high + 1, 5)  # the band edges are multiples of 5, so no bar crosses one
    counts = {name: np.histogram(people["age"][people["gender"] == name], bins)[0] for name in GENDERS}

    def draw(axes: Axes) -> None:
        for index, (name, sign) in enumerate(zip(GENDERS, (-1, 1), strict=True)):
            axes.barh(
                bins[:-1] + 2.5,
                sign * counts[name],
                height=4.4,
                color=COLOURS[index],
                label=f"{name}: {counts[name].sum():,}",
            )
        max_count = max(1, *(int(each.max()) for each in counts.values()))
        for edge in (edge for edge in BAND_EDGES if low < edge < high):
            axes.axhline(edge, color=COLOURS[6], linewidth=1, linestyle="--")
            axes.text(1.08 * max_count, edge + 0.4, f"{edge:.0f}", ha="right", fontsize=8)
        axes.axvline(0, color=COLOURS[6], linewidth=0.8)
        axes.set(
            xlabel="people",
            ylabel="age, years",
            xlim=(-1.1 * max_count, 1.1 * max_count),
            yticks=bins[bins % 10 == 0] if len(bins) > 8 else bins,
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper left", fontsize=8)
        axes.grid(False, axis="y")

    band, gender = band_of(people["age"]), people["gender"].to_numpy()
    rows = [
        [
            name,
            *(f"{((band == index) & (gender == each)).sum():,}" for each in GENDERS),
            _share((band == index).sum(), len(people)),
        ]
        for index, name in enumerate(BANDS)
    ]
    drawing = elements.figure(
        chart(draw, 4.4, 4.2), "People per five years of age; dashed: the edges of the age bands."
    )
    near = {
        edge: int((np.abs(people["age"] - edge + 0.5) < 2).sum()) for edge in BAND_EDGES
    }  # the two years on either side
    return Section(
        "Ages",
        [
            elements.row([drawing, elements.table(["people", *GENDERS, "share"], rows)]),
            elements.text(
                f"{summary['people']:,} people from {summary['lowest']:.0f} to {summary['highest']:.0f} years. Within two years of an edge, where bands are "
                "hard to tell apart: " + ", ".join(f"{count:,} at {edge:.0f}" for edge, count in near.items()) + "."
            ),
            elements.heading("Censoring"),
            elements.text(_censoring(people["age"].to_numpy(float), summary)),
        ],
    )


def _censoring(age: np.ndarray, summary: Mapping[str, Any]) -> str:
    top, at_top = summary["highest"], summary["at_highest"]
    below = int(((age < top) & (age >= top - 5)).sum()) / 5
    observation = f"{_count(at_top, 'person has', 'people have')} the highest age, {top:.0f} ({_share(at_top, len(age))}); the five ages below have {below:.1f} each on average."
    if summary["censored_at"] is None:
        return f"{observation} That is within chance: the ages do not look censored."
    return (
        f"{observation} That is more than chance: ages of {top:.0f} and over seem to be recorded as {top:.0f}. A run applies the same test, and its age "
        f"stages treat this age as “at least {top:.0f}”."
    )


def files(dataset: SurveyedDataset) -> Section:
    """Image sizes, formats, color modes and EXIF rotation."""
    measured = dataset.measured
    if not len(measured):
        return Section("Files", [])
    sizes = Counter(zip(measured["width"].tolist(), measured["height"].tolist(), strict=True)).most_common()
    rows = [
        [f"{width} × {height}", f"{count:,}", _share(count, len(measured))]
        for (width, height), count in sizes[:IMAGES_PER_GALLERY]
    ]
    if len(sizes) > IMAGES_PER_GALLERY:
        rest = sum(count for _, count in sizes[IMAGES_PER_GALLERY:])
        rows.append([f"{len(sizes) - IMAGES_PER_GALLERY:,} other sizes", f"{rest:,}", _share(rest, len(measured))])
    formats = Counter(zip(measured["format"].tolist(), measured["mode"].tolist(), strict=True)).most_common()
    format_rows = [[f"{form}, {mode}", f"{count:,}", _share(count, len(measured))] for (form, mode), count in formats]
    format_rows.append(
        ["rotated by EXIF", f"{measured['turned'].sum():,}", _share(measured["turned"].sum(), len(measured))]
    )
    head = ["images", "share"]
    return Section(
        "Files",
        [
            elements.row(
                [
                    elements.table(["width × height, pixels", *head], rows),
                    elements.table(["format and mode", *head], format_rows),
                ]
            ),
            elements.text(
                "Sizes are those after EXIF rotation. All images are read as RGB: transparent ones on white, grey and CMYK converted.",
                faint=True,
            ),
        ],
    )


def brightness_and_blur(dataset: SurveyedDataset) -> Section:
    """Brightness and sharpness of the face crops."""
    measured = dataset.measured
    if not len(measured):
        return Section("Brightness and blur", [])
    sharpness = np.maximum(measured["sharpness"], 1e-2)  # 0 for a uniform image, and the axis is logarithmic

    def draw_brightness(axes: Axes) -> None:
        axes.hist(measured["brightness"], np.arange(0, 261, 5).tolist(), color=COLOURS[0])
        axes.set(xlabel="brightness (mean luma, 0 to 255)", ylabel="images")

    def draw_sharpness(axes: Axes) -> None:
        axes.hist(
            sharpness, np.geomspace(sharpness.min() / 1.01, sharpness.max() * 1.01, 50).tolist(), color=COLOURS[0]
        )
        axes.set(xlabel="sharpness (variance of the Laplacian)", ylabel="images", xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())

    rows = [
        [name, *(f"{value:.0f}" for value in np.percentile(measured[name], PERCENTILES))]
        for name in ("brightness", "sharpness")
    ]
    height, width = dataset.face.size
    about = (
        f"Measured on the face crop of {width} × {height} pixels that a model gets: the mean of the luma, and the variance of its Laplacian, which is low "
        "for images that are blurred or were enlarged."
    )
    extremes = [
        ("Darkest", "brightness", 1),
        ("Brightest", "brightness", -1),
        ("Most blurred", "sharpness", 1),
    ]
    galleries = [
        part
        for title, name, sign in extremes
        for part in (
            elements.heading(title),
            elements.gallery(
                [
                    ([dataset.face_crop(row)], [*dataset.caption(row), f"{name} {measured[name][row]:.0f}"])
                    for row in _one_per_person(
                        np.argsort(sign * measured[name], kind="stable"), dataset.person, IMAGES_PER_GALLERY // 2
                    )
                ]
            ),
        )
    ]
    drawings = elements.row([chart(draw_brightness, 4.4, 2.6), chart(draw_sharpness, 4.4, 2.6)])
    names = {0: "lowest", 50: "median", 100: "highest"}
    table = elements.table(["", *(names.get(percent, f"{percent} %") for percent in PERCENTILES)], rows)
    return Section("Brightness and blur", [elements.text(about), drawings, table, *galleries])


def faces(dataset: SurveyedDataset) -> Section:
    """Images where the detector finds no face, several faces, or a doubtful one."""
    measured, face = dataset.measured, dataset.face
    if face.detector != "mtcnn":
        note = "The recipe takes images that are already cropped to the face: no detector runs."
        return Section("Faces", [elements.text(note)])
    if not len(measured):
        return Section("Faces", [])
    has_face = measured["faces"] > 0
    height = measured["box"][:, 3] - measured["box"][:, 1]

    def row(name: str, inside: np.ndarray) -> list[str]:
        total, detected = int(inside.sum()), inside & has_face
        several = int((measured["faces"][inside] > 1).sum())
        missed = total - int(detected.sum())
        statistics = (
            [f"{np.median(height[detected]):.0f}", f"{np.percentile(measured['probability'][detected], 5):.3f}"]
            if detected.any()
            else ["-", "-"]
        )
        return [name, f"{total:,}", f"{missed:,}", _share(missed, total), f"{several:,}", *statistics]

    groups = {"all": np.ones(len(measured), bool)}
    groups |= {f"mask: {name}": (dataset.table["mask"] == name).to_numpy() for name in MASKS}
    groups |= {f"gender: {name}": (dataset.table["gender"] == name).to_numpy() for name in GENDERS}
    groups |= {
        f"age: {name}": dataset.table["age"].notna().to_numpy() & (band_of(dataset.table["age"]) == index)
        for index, name in enumerate(BANDS)
    }
    head = ["", "images", "no face", "share", "several faces", "height, median", "probability, 5 %"]
    parts = [
        elements.text(
            f"Faces of at least {face.min_face} pixels, detected as in the recipe (MTCNN, thresholds {', '.join(map(str, face.thresholds))}). Height and probability are those of the "
            "largest face; where none is found, a model gets the center crop."
        ),
        elements.table(head, [row(name, inside) for name, inside in groups.items() if inside.any()], highlighted_row=0),
    ]
    if has_face.any():
        parts.append(
            elements.row(
                [
                    chart(_histogram(height[has_face], "face height, pixels"), 4.4, 2.6),
                    chart(_probability_histogram(measured["probability"][has_face]), 4.4, 2.6),
                ]
            )
        )
        smallest = np.flatnonzero(has_face)[np.argsort(height[has_face], kind="stable")]
        parts += [
            elements.heading("Smallest detections"),
            elements.gallery(
                [
                    (
                        [dataset.face_crop(row)],
                        [
                            *dataset.caption(row),
                            f"{height[row]:.0f} pixels, probability {measured['probability'][row]:.2f}",
                        ],
                    )
                    for row in _one_per_person(smallest, dataset.person, IMAGES_PER_GALLERY // 2)
                ]
            ),
        ]
    missed, several = np.flatnonzero(~has_face), np.flatnonzero(measured["faces"] > 1)
    sizes = Counter(measured["faces"][several].tolist())
    if len(missed):
        rows = _one_per_person(missed, dataset.person, 2 * IMAGES_PER_GALLERY)
        parts += [
            elements.heading(f"No face found: {len(missed):,}{_shown_note(rows, missed, dataset)}"),
            _images(dataset, rows),
        ]
    if len(several):
        rows = _one_per_person(
            several[np.argsort(-measured["faces"][several], kind="stable")], dataset.person, IMAGES_PER_GALLERY // 2
        )
        counted = ", ".join(f"{sizes[number]:,} with {number}" for number in sorted(sizes))
        parts += [
            elements.heading(f"Several faces: {len(several):,} ({counted}){_shown_note(rows, several, dataset)}"),
            _images(dataset, rows),
        ]
    return Section("Faces", parts)


def duplicates(dataset: SurveyedDataset, summary: Mapping[str, Any]) -> Section:
    """Exact and near-duplicates, within a person and across people."""
    if len(dataset.measured) < 2:
        return Section("Duplicates", [])
    near_duplicates, scope = dataset.near_duplicates, _scope(dataset)
    rows = [
        ["same bytes", f"{summary['same_files_within']:,} images", f"{summary['same_files_across']:,} images"],
        [
            "near-duplicates",
            f"{summary['near_pairs_within']:,} of {near_duplicates.within.sum():,} pairs",
            f"{summary['near_pairs_across']:,} of {near_duplicates.across.sum():,} pairs",
        ],
    ]
    if dataset.person_count:
        table = elements.table(["", "within a person", "across people"], rows)
        about = (
            "Images of one person are often similar: taken in a row, or edited copies. The same image under two people is an error: one of the two has the wrong person, "
            "and folds by person cannot separate them."
        )
    else:
        table = elements.table(["", "images"], [[row[0], row[2]] for row in rows])
        about = (
            "The person of each image is unknown: all pairs are compared, so similar images of one person are expected."
        )
    method = (
        f"Near-duplicates differ in at most {NEAR_DUPLICATE_BITS} of {HASH_BITS} bits of a perceptual hash of the whole image (pHash), as it is or mirrored. This finds copies that were saved again, "
        "resized, mirrored, brightened or cropped by a few per cent. It misses copies that were rotated or cropped by more, and other images of the same moment."
    )
    parts = [
        elements.text(about),
        table,
        elements.text(method),
        elements.figure(chart(_distances(dataset), 4.4, 3), _distance_caption(dataset, summary)),
    ]
    if dataset.look_alike:
        parts.insert(
            0,
            elements.text(
                "Here the images of different people look alike, as drawings do: their near-duplicates mean nothing, and are not listed."
            ),
        )
    parts += _exact_duplicates(dataset)
    pairs = [] if dataset.look_alike else _closest_pairs(dataset)
    if pairs:
        figures = [
            (
                [dataset.image(row) for row in dataset.rows(pair)],
                [
                    f"{pair.bits} of {HASH_BITS} bits differ{': near-duplicates' if pair.bits <= NEAR_DUPLICATE_BITS else ''}",
                    *(line for row in dataset.rows(pair) for line in dataset.caption(row)),
                ],
            )
            for pair in pairs[:IMAGES_PER_GALLERY]
        ]
        parts += [
            elements.heading(f"The most similar pairs {scope}"),
            elements.text(
                f"Pairs beyond {NEAR_DUPLICATE_BITS} bits are similar by chance: the same pose, lighting and background."
            ),
            elements.gallery(figures),
        ]
    near = summary["near_across"]
    if near and not dataset.look_alike:
        near_rows = [[*each["images"], str(each["bits"])] for each in near[:MAX_NEAR_DUPLICATES]]
        total = summary["near_pairs_across"]
        shown = f": the nearest {len(near_rows):,} of {total:,}" if total > len(near_rows) else ""
        parts += [
            elements.heading(f"Near-duplicates {scope}{shown}"),
            elements.table(["image", "other image", "bits"], near_rows),
        ]
    return Section("Duplicates", parts)


def _exact_duplicates(dataset: SurveyedDataset) -> list[Markup]:
    """Groups of files with the same bytes."""
    all_groups = [*dataset.exact_duplicates.across, *dataset.exact_duplicates.within]
    groups = all_groups[:IMAGES_PER_GALLERY]
    if not groups:
        return []
    figures = []
    for group in groups:
        names = [str(dataset.table["path"][row]) for row in group[:4]]
        more = [f"and {len(group) - 4:,} more"] if len(group) > 4 else []
        figures.append(([dataset.image(group[0])], [f"{len(group)} files with the same bytes", *names, *more]))
    rest = len(all_groups) - len(groups)
    return [
        elements.heading("Identical files" + (f": {len(groups)} of {len(groups) + rest:,}" if rest else "")),
        elements.gallery(figures),
    ]


def _closest_pairs(dataset: SurveyedDataset) -> list[Pair]:
    """The closest pairs, one for each two people; where people are unknown, each image once."""
    used: set[frozenset[int]] = set()
    chosen = []
    for pair in dataset.near_duplicates.closest:
        rows = dataset.rows(pair)
        people = [int(dataset.person[row]) if dataset.person[row] >= 0 else -1 - row for row in rows]
        keys = {frozenset(people)} if dataset.person_count else {frozenset([each]) for each in people}
        if not keys & used:
            chosen.append(pair)
        used |= keys
    return chosen


def _distances(dataset: SurveyedDataset) -> Callable[[Axes], None]:
    """Histogram of the pairs by the bits in which they differ."""
    step = 4
    kinds = {f"{_scope(dataset)}": dataset.near_duplicates.across, "within a person": dataset.near_duplicates.within}

    def draw(axes: Axes) -> None:
        for index, (name, counts) in enumerate(kinds.items()):
            summed = np.add.reduceat(counts, np.arange(0, HASH_BITS + 1, step))
            if counts.any():
                axes.stairs(
                    summed,
                    np.arange(0, step * (len(summed) + 1), step),
                    label=name,
                    color=COLOURS[index],
                    linewidth=1.4,
                )
        axes.axvline(NEAR_DUPLICATE_BITS, color=COLOURS[6], linewidth=1, linestyle="--")
        axes.set(
            xlabel=f"bits of {HASH_BITS} that differ",
            ylabel=f"pairs, in steps of {step} bits",
            yscale="log",
            xlim=(0, 180),
        )
        axes.set_ylim(bottom=0.7)
        axes.legend(loc="upper left", fontsize=8)

    return draw


def _distance_caption(dataset: SurveyedDataset, summary: Mapping[str, Any]) -> str:
    distances = np.flatnonzero(dataset.near_duplicates.across)
    nearest = f" The closest pair {_scope(dataset)} differs in {distances[0]} bits." if len(distances) else ""
    return f"Pairs of images by the number of bits in which they differ; dashed: {NEAR_DUPLICATE_BITS} bits.{nearest}"


def _histogram(values: np.ndarray, name: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        axes.hist(values, 50, color=COLOURS[0])
        axes.set(xlabel=name, ylabel="images")

    return draw


def _probability_histogram(probability: np.ndarray) -> Callable[[Axes], None]:
    """Histogram of probabilities, most of them near 1, with a logarithmic count axis."""

    def draw(axes: Axes) -> None:
        axes.hist(probability, 40, color=COLOURS[0])
        axes.set(xlabel="probability of the largest face", ylabel="images", yscale="log")

    return draw


def _images(dataset: SurveyedDataset, rows: Sequence[int]) -> Markup:
    return elements.gallery([([dataset.image(row)], dataset.caption(row)) for row in rows])


def _one_per_person(rows: np.ndarray, person: np.ndarray, limit: int) -> list[int]:
    """The first `limit` rows, one per person."""
    group = np.where(person[rows] >= 0, person[rows], -1 - rows)
    _, first = np.unique(group, return_index=True)
    return [int(row) for row in rows[np.sort(first)][:limit]]


def _shown_note(rows: Sequence[int], all_rows: np.ndarray, dataset: SurveyedDataset) -> str:
    """For a heading: how many images are shown, if not all."""
    if len(rows) == len(all_rows):
        return ""
    return f"; {len(rows):,} shown" + (", one per person" if dataset.person_count else "")


def _scope(dataset: SurveyedDataset) -> str:
    return "across people" if dataset.person_count else "among images"


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number:,} {singular if number == 1 else plural}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
