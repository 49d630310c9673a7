"""What the page on a data set says, section by section."""

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
from facecade.faces.duplicates import BITS, NEAR, ExactDuplicates, NearDuplicates, Pair
from facecade.faces.labels import AXES, BAND_EDGES, BANDS, GENDERS, MASKS, N_CLASSES, band_of, class_name
from facecade.faces.labels import decode as parts_of
from facecade.faces.survey import largest_face
from facecade.faces.table import Source, classes
from facecade.pages import page
from facecade.pages.charts import COLOURS, chart
from facecade.pages.page import Section
from facecade.recipe import Face

SHOWN = 10
"""Images of a gallery: two rows on a wide screen."""

LISTED, NEAREST = 200, 50
"""Problems and near-duplicates in a table; `--json` has more."""

PARTS = (0, 1, 5, 25, 50, 75, 95, 99, 100)
"""Percentiles that are told."""

LONGEST = 320
"""Pixels of the longer side of an image on the page."""


@dataclass(frozen=True)
class Surveyed:
    """A data set and what was seen of it.

    table, seen: the images that can be read (N rows), `faces.survey.SEEN` of each. person: int (N,), -1 where it is not known.
    different: rows of files that differ in their bytes; `alike` compared these.
    """

    source: Source
    table: pd.DataFrame
    seen: np.ndarray
    face: Face
    problems: Sequence[str]
    person: np.ndarray
    different: np.ndarray
    alike: NearDuplicates
    copies: ExactDuplicates

    @cached_property
    def label(self) -> np.ndarray:
        """Class 0..17 of each row, -1 where it is not known."""
        return classes(self.table)

    @property
    def labelled(self) -> bool:
        return bool((self.label >= 0).any())

    @property
    def people(self) -> int:
        """How many are known to be shown."""
        return len(np.unique(self.person[self.person >= 0]))

    def person_ages(self) -> pd.DataFrame:
        """Gender and age in years of each person whose age is known."""
        known = self.table[self.table["age"].notna() & (self.table["person"] != "")]
        return known.groupby("person")[["gender", "age"]].first()

    def places(self, pair: Pair) -> tuple[int, int]:
        """The rows of two images that were compared."""
        return int(self.different[pair.first]), int(self.different[pair.second])

    def image(self, row: int) -> Markup:
        """A row's image, small enough for a page."""
        return page.picture(decode(self._path(row)), self.table["path"][row], LONGEST)

    def face_crop(self, row: int) -> Markup:
        """What the models get to see of a row's image."""
        cut = crop(decode(self._path(row)), largest_face(self.seen[row]), self.face)
        return page.picture(cut, f"face in {self.table['path'][row]}")

    def recorded(self, row: int) -> list[str]:
        """What is written of a row, as lines: its file, and its labels where it has any."""
        each = self.table.iloc[row]
        words = [str(each[name]) for name in ("mask", "gender") if each[name]]
        words += [] if np.isnan(each["age"]) else [f"{each['age']:.0f} years"]
        name = Markup("/<wbr>").join(Path(each["path"]).parts[-2:])  # where a line may end
        return [name, *([", ".join(words)] if words else [])]

    def _path(self, row: int) -> Path:
        return self.source.root / str(self.table["path"][row])


def overview(found: Surveyed, said: Mapping[str, Any]) -> Section:
    """The few numbers that matter most."""
    there, twice, lost = [each["images"] for each in said["classes"]], said["duplicates"], said["faces"]
    values = [("images", f"{said['images']:,}", f"{said['readable']:,} can be read")]
    if found.people:
        each = said["readable"] / found.people
        values.append(("people", f"{found.people:,}", f"{each:.1f} images each, on average"))
    if there:
        values.append(
            ("classes", f"{sum(map(bool, there))} of {N_CLASSES}", f"smallest {min(there):,}, largest {max(there):,}")
        )
    if lost:
        values.append(("no face found", _share(lost["none"], len(found.seen)), f"{lost['none']:,} images"))
    values.append((f"alike {_apart(found)}", f"{twice['images_across']:,}", "images, the same or nearly"))
    values.append(
        (
            "problems",
            f"{len(found.problems):,}",
            "bad rows and files" if found.problems else "every row and file is sound",
        )
    )
    parts = [page.tiles(values)]
    if not found.labelled:
        parts.append(page.text("The data say no mask, gender or age: class balance and ages are left out."))
    return Section("Overview", parts)


def problems(found: Surveyed) -> Section:
    """Every bad row and file."""
    if not found.problems:
        return Section("Problems", [])
    rows = [[*problem.split(": ", 1)] for problem in found.problems[:LISTED]]
    more = len(found.problems) - len(rows)
    rest = [page.text(f"And {more:,} more, all of which check names.")] if more else []
    return Section(
        "Problems",
        [
            page.text("What is bad is left out of everything below, and nothing else is."),
            page.table(["row or file", "what is wrong"], rows, words=1),
            *rest,
        ],
    )


def class_balance(found: Surveyed) -> Section:
    """How many images and people each class has."""
    if not found.labelled:
        return Section("Classes", [])
    label, known = found.label, int((found.label >= 0).sum())
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
        [name, f"{count:,}", _share(count, known), f"{found.table['person'][label == number].nunique():,}"]
        for number, (name, count) in enumerate(zip(names, counts, strict=True))
    ]
    parts = parts_of(np.maximum(label, 0))
    by_axis = [
        [f"{axis}: {value}", f"{count:,}", _share(count, known), f"{found.table['person'][inside].nunique():,}"]
        for place, (axis, values) in enumerate(AXES.items())
        for number, value in enumerate(values)
        for inside in [(parts[place] == number) & (label >= 0)]
        for count in [int(inside.sum())]
    ]
    smallest = int(np.argmin(counts))
    words = (
        f"The largest class has {counts.max():,} images"
        + (f", {counts.max() / counts.min():.0f} times as many as" if counts.min() else ",")
        + f" the smallest, {class_name(smallest)}{'' if counts.min() else ', none'}."
        + " Macro-F1 counts every class alike, however few there are of it."
    )
    head = ["images", "share", "people"]
    return Section(
        "Classes",
        [
            page.figure(chart(draw, 7, 4.6), "Images of each class; a colour is a mask state."),
            page.text(words),
            page.row([page.table(["class", *head], rows), page.table(["label", *head], by_axis)]),
        ],
    )


def ages(found: Surveyed, said: Mapping[str, Any] | None) -> Section:
    """The people's ages by gender, and whether the data stop telling at some age."""
    people = found.person_ages()
    if said is None:
        return Section("Ages", [])
    low, high = 5 * int(said["lowest"] // 5), 5 * int(said["highest"] // 5) + 5
    bins = np.arange(low, high + 1, 5)  # the bands' edges are multiples of 5: no bar lies in two bands
    counts = {name: np.histogram(people["age"][people["gender"] == name], bins)[0] for name in GENDERS}

    def draw(axes: Axes) -> None:
        for place, (name, sign) in enumerate(zip(GENDERS, (-1, 1), strict=True)):
            axes.barh(
                bins[:-1] + 2.5,
                sign * counts[name],
                height=4.4,
                color=COLOURS[place],
                label=f"{name}: {counts[name].sum():,}",
            )
        widest = max(1, *(int(each.max()) for each in counts.values()))
        for edge in (edge for edge in BAND_EDGES if low < edge < high):
            axes.axhline(edge, color=COLOURS[6], linewidth=1, linestyle="--")
            axes.text(1.08 * widest, edge + 0.4, f"{edge:.0f}", ha="right", fontsize=8)
        axes.axvline(0, color=COLOURS[6], linewidth=0.8)
        axes.set(
            xlabel="people",
            ylabel="age, years",
            xlim=(-1.1 * widest, 1.1 * widest),
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
            *(f"{((band == place) & (gender == who)).sum():,}" for who in GENDERS),
            _share((band == place).sum(), len(people)),
        ]
        for place, name in enumerate(BANDS)
    ]
    drawing = page.figure(chart(draw, 6.4, 4.2), "People in steps of five years; dashed, the edges of the age bands.")
    near = {
        edge: int((np.abs(people["age"] - edge + 0.5) < 2).sum()) for edge in BAND_EDGES
    }  # the two years either side
    return Section(
        "Ages",
        [
            page.row([drawing, page.table(["people", *GENDERS, "share"], rows)]),
            page.text(
                f"{said['people']:,} people from {said['lowest']:.0f} to {said['highest']:.0f} years. Within two years of an edge, where a band is "
                "decided by little: " + ", ".join(f"{count:,} at {edge:.0f}" for edge, count in near.items()) + "."
            ),
            page.heading("Censoring"),
            page.text(_censoring(people["age"].to_numpy(float), said)),
        ],
    )


def _censoring(age: np.ndarray, said: Mapping[str, Any]) -> str:
    top, at_top = said["highest"], said["at_highest"]
    below = int(((age < top) & (age >= top - 5)).sum()) / 5
    mass = f"{_count(at_top, 'person is', 'people are')} of the highest age, {top:.0f} ({_share(at_top, len(age))}); each of the five ages below has {below:.1f} on average."
    if said["censored_at"] is None:
        return f"{mass} That is no more than chance gives: the ages do not look censored."
    return (
        f"{mass} That is more than chance gives: everyone of {top:.0f} or over seems to be written {top:.0f}. A run notices by the same test, and its age "
        f"stages learn it as “at least {top:.0f}”."
    )


def files(found: Surveyed) -> Section:
    """Sizes, formats and what else a reader of files must cope with."""
    seen = found.seen
    if not len(seen):
        return Section("Files", [])
    sizes = Counter(zip(seen["width"].tolist(), seen["height"].tolist(), strict=True)).most_common()
    rows = [[f"{width} × {height}", f"{count:,}", _share(count, len(seen))] for (width, height), count in sizes[:SHOWN]]
    if len(sizes) > SHOWN:
        rest = sum(count for _, count in sizes[SHOWN:])
        rows.append([f"{len(sizes) - SHOWN:,} other sizes", f"{rest:,}", _share(rest, len(seen))])
    kinds = Counter(zip(seen["format"].tolist(), seen["mode"].tolist(), strict=True)).most_common()
    coded = [[f"{form}, {mode}", f"{count:,}", _share(count, len(seen))] for (form, mode), count in kinds]
    coded.append(["turned by EXIF when shown", f"{seen['turned'].sum():,}", _share(seen["turned"].sum(), len(seen))])
    head = ["images", "share"]
    return Section(
        "Files",
        [
            page.row(
                [page.table(["width × height, pixels", *head], rows), page.table(["format and mode", *head], coded)]
            ),
            page.text(
                "Sizes are as shown, after EXIF has turned them. All are read as RGB: alpha falls on white, grey and CMYK are converted.",
                faint=True,
            ),
        ],
    )


def light(found: Surveyed) -> Section:
    """How bright and how sharp the faces are."""
    seen = found.seen
    if not len(seen):
        return Section("Light and blur", [])
    sharpness = np.maximum(seen["sharpness"], 1e-2)  # a flat picture has none, and the axis is logarithmic

    def bright(axes: Axes) -> None:
        axes.hist(seen["brightness"], np.arange(0, 261, 5).tolist(), color=COLOURS[0])
        axes.set(xlabel="brightness (mean luma, 0 to 255)", ylabel="images")

    def sharp(axes: Axes) -> None:
        axes.hist(
            sharpness, np.geomspace(sharpness.min() / 1.01, sharpness.max() * 1.01, 50).tolist(), color=COLOURS[0]
        )
        axes.set(xlabel="sharpness (variance of the Laplacian)", ylabel="images", xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())

    rows = [
        [name, *(f"{value:.0f}" for value in np.percentile(seen[name], PARTS))] for name in ("brightness", "sharpness")
    ]
    height, width = found.face.size
    about = (
        f"Measured on the face's crop at {width} × {height} pixels, what a model gets to see: the mean of the luma, and the variance of its Laplacian, which is low "
        "where an image is blurred, or was enlarged."
    )
    extremes = [
        ("The darkest", "brightness", 1),
        ("The brightest", "brightness", -1),
        ("The most blurred", "sharpness", 1),
    ]
    shown = [
        part
        for title, name, sign in extremes
        for part in (
            page.heading(title),
            page.gallery(
                [
                    ([found.face_crop(row)], [*found.recorded(row), f"{name} {seen[name][row]:.0f}"])
                    for row in _one_each(np.argsort(sign * seen[name], kind="stable"), found.person, SHOWN // 2)
                ]
            ),
        )
    ]
    drawings = page.row([chart(bright, 4.6, 2.6), chart(sharp, 4.6, 2.6)])
    names = {0: "lowest", 50: "median", 100: "highest"}
    table = page.table(["", *(names.get(part, f"{part} %") for part in PARTS)], rows)
    return Section("Light and blur", [page.text(about), drawings, table, *shown])


def faces(found: Surveyed) -> Section:
    """Where the detector finds none, several, or a doubtful face."""
    seen, face = found.seen, found.face
    if face.detector != "mtcnn":
        words = "The recipe trusts images that are framed already: no faces are looked for."
        return Section("Faces", [page.text(words)])
    if not len(seen):
        return Section("Faces", [])
    there = seen["faces"] > 0
    tall = seen["box"][:, 3] - seen["box"][:, 1]

    def row(name: str, inside: np.ndarray) -> list[str]:
        total, met = int(inside.sum()), inside & there
        many = int((seen["faces"][inside] > 1).sum())
        lost = total - int(met.sum())
        middle = (
            [f"{np.median(tall[met]):.0f}", f"{np.percentile(seen['probability'][met], 5):.3f}"]
            if met.any()
            else ["-", "-"]
        )
        return [name, f"{total:,}", f"{lost:,}", _share(lost, total), f"{many:,}", *middle]

    groups = {"all": np.ones(len(seen), bool)}
    groups |= {f"mask: {name}": (found.table["mask"] == name).to_numpy() for name in MASKS}
    groups |= {f"gender: {name}": (found.table["gender"] == name).to_numpy() for name in GENDERS}
    groups |= {
        f"age: {name}": found.table["age"].notna().to_numpy() & (band_of(found.table["age"]) == place)
        for place, name in enumerate(BANDS)
    }
    head = ["", "images", "no face", "share", "several faces", "height, median", "probability, 5 %"]
    parts = [
        page.text(
            f"Faces of at least {face.min_face} pixels, as the recipe has them found (MTCNN, thresholds {', '.join(map(str, face.thresholds))}). Height and probability are those of the "
            "largest face; where none is found, a model gets the centre of the image."
        ),
        page.table(head, [row(name, inside) for name, inside in groups.items() if inside.any()], kept=0),
    ]
    if there.any():
        parts.append(
            page.row(
                [
                    chart(_histogram(tall[there], "face's height, pixels"), 4.6, 2.6),
                    chart(_sure(seen["probability"][there]), 4.6, 2.6),
                ]
            )
        )
        smallest = np.flatnonzero(there)[np.argsort(tall[there], kind="stable")]
        parts += [
            page.heading("The smallest faces, or what was taken for one"),
            page.gallery(
                [
                    (
                        [found.face_crop(row)],
                        [*found.recorded(row), f"{tall[row]:.0f} pixels, probability {seen['probability'][row]:.2f}"],
                    )
                    for row in _one_each(smallest, found.person, SHOWN // 2)
                ]
            ),
        ]
    lost, many = np.flatnonzero(~there), np.flatnonzero(seen["faces"] > 1)
    sizes = Counter(seen["faces"][many].tolist())
    if len(lost):
        rows = _one_each(lost, found.person, 2 * SHOWN)
        parts += [page.heading(f"No face found: {len(lost):,}{_some(rows, lost, found)}"), _images(found, rows)]
    if len(many):
        rows = _one_each(many[np.argsort(-seen["faces"][many], kind="stable")], found.person, SHOWN // 2)
        counted = ", ".join(f"{sizes[number]:,} with {number}" for number in sorted(sizes))
        parts += [
            page.heading(f"Several faces: {len(many):,} ({counted}){_some(rows, many, found)}"),
            _images(found, rows),
        ]
    return Section("Faces", parts)


def duplicates(found: Surveyed, said: Mapping[str, Any]) -> Section:
    """Images that are there more than once, and above all as somebody else's."""
    if len(found.seen) < 2:
        return Section("Duplicates", [])
    alike, apart = found.alike, _apart(found)
    rows = [
        ["same bytes", f"{said['same_files_within']:,} images", f"{said['same_files_across']:,} images"],
        [
            "near-duplicates",
            f"{said['near_pairs_within']:,} of {alike.within.sum():,} pairs",
            f"{said['near_pairs_across']:,} of {alike.across.sum():,} pairs",
        ],
    ]
    if found.people:
        table = page.table(["", "within a person", "across people"], rows)
        what = (
            "Images of one person are often alike, taken one after the other or made from one another. An image that is there as somebody else's too is a mistake: one of the two is wrong about "
            "who it is, and folds by person cannot keep them apart."
        )
    else:
        table = page.table(["", "images"], [[row[0], row[2]] for row in rows])
        what = "Nothing says who is shown: all images are compared alike, and one person's are expected to be."
    how = (
        f"Near-duplicates differ in at most {NEAR} of {BITS} bits of a perceptual hash of the whole image (pHash), as it is or mirrored. That finds copies saved anew, "
        "resized, mirrored, brightened or trimmed by a few per cent; it finds none that were turned or cropped by more, and no second image of the same moment."
    )
    parts = [
        page.text(what),
        table,
        page.text(how),
        page.figure(chart(_distances(found), 7, 3), _distance_words(found, said)),
    ]
    parts += _copies(found)
    pairs = _people_once(found)
    if pairs:
        figures = [
            (
                [found.image(row) for row in found.places(pair)],
                [
                    f"{pair.bits} of {BITS} bits differ{': near-duplicates' if pair.bits <= NEAR else ''}",
                    *(line for row in found.places(pair) for line in found.recorded(row)),
                ],
            )
            for pair in pairs[:SHOWN]
        ]
        parts += [
            page.heading(f"The pairs most alike {apart}"),
            page.text(f"Beyond {NEAR} bits chance makes images alike: the same pose, light and background."),
            page.gallery(figures),
        ]
    near = said["near_across"]
    if near:
        lines = [[*each["images"], str(each["bits"])] for each in near[:NEAREST]]
        total = said["near_pairs_across"]
        shown = f": the nearest {len(lines):,} of {total:,}" if total > len(lines) else ""
        parts += [page.heading(f"Near-duplicates {apart}{shown}"), page.table(["image", "and", "bits"], lines)]
    return Section("Duplicates", parts)


def _copies(found: Surveyed) -> list[Markup]:
    """The files of the same bytes."""
    every = [*found.copies.across, *found.copies.within]
    groups = every[:SHOWN]
    if not groups:
        return []
    figures = []
    for group in groups:
        names = [str(found.table["path"][row]) for row in group[:4]]
        more = [f"and {len(group) - 4:,} more"] if len(group) > 4 else []
        figures.append(([found.image(group[0])], [f"{len(group)} files of the same bytes", *names, *more]))
    rest = len(every) - len(groups)
    return [
        page.heading("The same file more than once" + (f": {len(groups)} of {len(groups) + rest:,}" if rest else "")),
        page.gallery(figures),
    ]


def _people_once(found: Surveyed) -> list[Pair]:
    """The closest pairs, of each two people the closest one; where nobody is known, each image once."""
    met: set[frozenset[int]] = set()
    chosen = []
    for pair in found.alike.closest:
        rows = found.places(pair)
        who = [int(found.person[row]) if found.person[row] >= 0 else -1 - row for row in rows]
        keys = {frozenset(who)} if found.people else {frozenset([each]) for each in who}
        if not keys & met:
            chosen.append(pair)
        met |= keys
    return chosen


def _distances(found: Surveyed) -> Callable[[Axes], None]:
    """Pairs by how much they differ."""
    step = 4
    kinds = {f"{_apart(found)}": found.alike.across, "within a person": found.alike.within}

    def draw(axes: Axes) -> None:
        for place, (name, counts) in enumerate(kinds.items()):
            summed = np.add.reduceat(counts, np.arange(0, BITS + 1, step))
            if counts.any():
                axes.stairs(
                    summed,
                    np.arange(0, step * (len(summed) + 1), step),
                    label=name,
                    color=COLOURS[place],
                    linewidth=1.4,
                )
        axes.axvline(NEAR, color=COLOURS[6], linewidth=1, linestyle="--")
        axes.set(
            xlabel=f"bits of {BITS} that differ", ylabel=f"pairs, in steps of {step} bits", yscale="log", xlim=(0, 180)
        )
        axes.set_ylim(bottom=0.7)
        axes.legend(loc="upper left", fontsize=8)

    return draw


def _distance_words(found: Surveyed, said: Mapping[str, Any]) -> str:
    across = np.flatnonzero(found.alike.across)
    nearest = f" The nearest two {_apart(found)} differ by {across[0]} bits." if len(across) else ""
    return f"Pairs of images by the bits in which they differ; dashed, {NEAR} bits.{nearest}"


def _histogram(values: np.ndarray, name: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        axes.hist(values, 50, color=COLOURS[0])
        axes.set(xlabel=name, ylabel="images")

    return draw


def _sure(probability: np.ndarray) -> Callable[[Axes], None]:
    """Probabilities, most of which are next to 1."""

    def draw(axes: Axes) -> None:
        axes.hist(probability, 40, color=COLOURS[0])
        axes.set(xlabel="probability of the largest face", ylabel="images", yscale="log")

    return draw


def _images(found: Surveyed, rows: Sequence[int]) -> Markup:
    return page.gallery([([found.image(row)], found.recorded(row)) for row in rows])


def _one_each(rows: np.ndarray, person: np.ndarray, most: int) -> list[int]:
    """The first rows, one of each person."""
    who = np.where(person[rows] >= 0, person[rows], -1 - rows)
    _, first = np.unique(who, return_index=True)
    return [int(row) for row in rows[np.sort(first)][:most]]


def _some(rows: Sequence[int], every: np.ndarray, found: Surveyed) -> str:
    """In a heading: that not all are shown."""
    if len(rows) == len(every):
        return ""
    return f"; {len(rows):,} are shown" + (", one of a person" if found.people else "")


def _apart(found: Surveyed) -> str:
    return "across people" if found.people else "among images"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"
