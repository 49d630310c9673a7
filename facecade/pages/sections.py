"""What the report says, section by section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from facecade.combiner.cuts import count_by_cut
from facecade.faces.labels import AXES, BAND_EDGES, GENDERS, N_CLASSES, band_of, class_name, decode
from facecade.pages import page
from facecade.pages.charts import COLOURS, chart, charts
from facecade.pages.page import Section
from facecade.report.calibration import by_axis, calibration
from facecade.report.deferral import SHARES, deferral_curve
from facecade.report.groups import Compared, gaps_in_words
from facecade.report.metrics import confusion
from facecade.report.nested import NestedPredictions
from facecade.report.results import interval_of
from facecade.report.text import difference


def scores(nested: NestedPredictions, evaluation: Mapping[str, Any] | None) -> Section:
    """Headline scores with their intervals, and every way of combining."""
    choice = nested.combiner["nested_choice"]
    parts = [
        page.tiles(
            [
                (name, _short(value, name), f"{_short(value, name, 'low')} to {_short(value, name, 'high')}")
                for name, value in choice.items()
            ]
        ),
        page.text(
            f"Nested: {nested.combiner['images']:,} images of {nested.combiner['people']:,} people, each answered by models, cuts, combiner, "
            "decision rule and a choice of rule that never saw the person. Intervals are 95 %, by bootstrap over people."
        ),
    ]
    if evaluation:
        rows = [
            [name, interval_of(name, choice[name]), interval_of(name, evaluation["score"][name])]
            for name in choice
            if name in evaluation["score"]
        ]
        about = f"eval ({evaluation['images']:,} images of {evaluation['people']:,} other people)"
        parts += [
            page.heading("On people that nothing was fitted or chosen on"),
            page.table(["score", "nested", about], rows),
        ]
    methods = nested.combiner["nested"]
    rows = [
        [name, *(interval_of(score, said[score]) for score in ("macro-F1", "accuracy"))]
        for name, said in methods.items()
    ]
    gain = nested.combiner["gain_over_simplest"]
    parts += [
        page.heading("Rules and combiner"),
        page.table(
            ["way of combining", "macro-F1", "accuracy"], rows, kept=list(methods).index(nested.combiner["method"])
        ),
        page.text(
            f"The kept way leads “{nested.combiner['simplest']}” by {difference(gain)} macro-F1, paired by person. "
            "It was chosen among these rows by these scores; the numbers at the top are what is left where that choice, too, never saw the person."
        ),
    ]
    return Section("Scores", parts)


def classes(nested: NestedPredictions) -> Section:
    """Precision, recall and F1 of every class."""
    counts = confusion(nested.label, nested.prediction)
    hit, there, said = np.diag(counts), counts.sum(1), counts.sum(0)
    rows = [
        [
            f"{label} {class_name(label)}",
            f"{there[label]:,}",
            _ratio(hit[label], said[label]),
            _ratio(hit[label], there[label]),
            "-" if f1 is None else f"{f1:.3f}",
        ]
        for label, f1 in enumerate(nested.combiner["per_class_f1"])
    ]
    return Section("Classes", [page.table(["class", "images", "precision", "recall", "F1"], rows)])


def confusions(nested: NestedPredictions) -> Section:
    """What is taken for what."""
    true, said = decode(nested.label), decode(nested.prediction)
    parts: list[Markup] = [
        page.text("Rows are what is true, columns what was answered; shares of each row in %, and counts.")
    ]
    for axis, (name, names) in enumerate(AXES.items()):
        counts = confusion(true[axis], said[axis], len(names))
        parts += [
            page.heading(name.capitalize()),
            page.row([page.matrix(counts, names, each) for each in (True, False)]),
        ]
    counts = confusion(nested.label, nested.prediction)
    numbers = [str(label) for label in range(N_CLASSES)]
    parts += [
        page.heading("All 18 classes"),
        page.text("; ".join(f"{label} {class_name(label)}" for label in range(N_CLASSES)), faint=True),
        page.matrix(counts, numbers, True),
        page.matrix(counts, numbers, False),
    ]
    return Section("Confusions", parts)


def ages(nested: NestedPredictions, years: np.ndarray | None) -> Section:
    """Predicted against true age, and the score as a function of the cuts.

    Args:
        years: float (N, 2), by the male and the female regressor, out of fold; None where no stage knows years.
    """
    if years is None:
        return Section("Ages", [])
    gender, band = np.array(GENDERS), band_of(nested.age)
    cuts = {name: tuple(nested.combiner["cuts"][name]) for name in GENDERS}

    def people(name: str) -> Any:
        def draw(axes: Axes) -> None:
            rows = (nested.table["gender"] == name).to_numpy()
            table = nested.table[rows].assign(said=years[rows, GENDERS.index(name)])
            each = table.groupby("person")[["age", "said"]].mean()
            axes.plot([15, 85], [15, 85], color=COLOURS[6], linewidth=0.8)
            axes.scatter(
                each["age"],
                each["said"],
                s=8,
                alpha=0.5,
                linewidths=0,
                color=COLOURS[GENDERS.index(name)],
                rasterized=True,
            )
            for place, cut in enumerate(cuts[name]):
                axes.axhline(cut, color=COLOURS[5], linewidth=1)
                axes.text(84, cut + 0.8, f"cut {cut:.2f}", ha="right", fontsize=8)
                axes.axvline(BAND_EDGES[place], color=COLOURS[6], linewidth=0.8, linestyle=":")
            axes.set(title=f"{name}: {len(each)} people", xlabel="recorded age, years", ylabel="predicted, years")

        return draw

    def moved(which: int) -> Any:
        def draw(axes: Axes) -> None:
            for place, name in enumerate(gender):
                rows = (nested.table["gender"] == name).to_numpy() & ~np.isnan(nested.age)
                grid, f1 = count_by_cut(years[rows, place], band[rows], cuts[name])[which]
                axes.plot(grid, f1, color=COLOURS[place], label=name)
                axes.axvline(cuts[name][which], color=COLOURS[place], linewidth=0.8, linestyle="--")
            axes.set(title=f"{('lower', 'upper')[which]} cut", xlabel="years", ylabel="macro-F1 of the bands")
            axes.legend()

        return draw

    error = nested.years - nested.age
    rows = [
        [
            f"{low}-{high - 1}" if high < 120 else f"{low} and over",
            f"{len(inside)}",
            f"{np.abs(inside).mean():.1f}",
            f"{inside.mean():+.1f}",
        ]
        for low, high in ((0, 20), (20, 30), (30, 40), (40, 50), (50, 60), (60, 70), (70, 120))
        if len(inside := error[(nested.age >= low) & (nested.age < high)])
    ]
    return Section(
        "Ages",
        [
            page.figure(
                charts([people(name) for name in GENDERS], 9, 4.2),
                "A point is a person: the mean over the person's images of what the regressor of the recorded gender says, out of fold. "
                "Lines across are the cuts that were learned, dotted ones the bands' edges.",
            ),
            page.figure(
                charts([moved(0), moved(1)], 9, 3.0),
                "What moving one cut would do to the macro-F1 of the three bands, by the regressor of the recorded gender, image by image; dashed, where "
                "the cut lies. A cut is put where the score is high all around it.",
            ),
            page.table(["recorded age", "images", "mean error, years", "bias, years"], rows),
        ],
    )


def calibrations(nested: NestedPredictions, stages: Mapping[str, np.ndarray]) -> Section:
    """Whether probabilities mean what they say, before the combiner and after.

    Args:
        stages: by axis what the stages say themselves, (N, C); those that have no probability are left out.
    """
    true = dict(zip(AXES, decode(nested.label), strict=True))
    after = {axis: calibration(values, true[axis]) for axis, values in by_axis(nested.probability).items()}
    before = {axis: calibration(values, true[axis]) for axis, values in stages.items()}

    def draw(axis: str) -> Any:
        def curves(axes: Axes) -> None:
            axes.plot([0, 1], [0, 1], color=COLOURS[6], linewidth=0.8)
            for name, said, colour in (("stages", before.get(axis), COLOURS[1]), ("combined", after[axis], COLOURS[0])):
                if said:
                    axes.plot(said.confidence, said.accuracy, marker="o", markersize=3, color=colour, label=name)
            axes.set(title=axis, xlabel="confidence", ylabel="share right", xlim=(0.3, 1.02), ylim=(0, 1.04))
            axes.legend()

        return curves

    rows = [[axis, f"{before[axis].error:.4f}" if axis in before else "-", f"{after[axis].error:.4f}"] for axis in AXES]
    return Section(
        "Calibration",
        [
            page.figure(
                charts([draw(axis) for axis in AXES], 9.5, 3.3),
                "Of the images answered with a certain confidence, the share that is right; on the grey line the two agree. Stages: the mean of what they say, out of fold. "
                "Combined: nested.",
            ),
            page.table(["expected calibration error", "stages", "combined"], rows),
        ],
    )


def reasons(moved: Mapping[str, float], rows: int) -> Section:
    """What decides between an answer and the class that comes next.

    Args:
        moved: nats by which each part of the combiner moves that decision, on average either way.
        rows: images that this was measured on.
    """
    largest = sorted(moved.items(), key=lambda part: part[1])

    def draw(axes: Axes) -> None:
        axes.barh([name for name, _ in largest], [nats for _, nats in largest], color=COLOURS[0])
        axes.set(xlabel="nats, mean of the absolute")
        axes.grid(False, axis="y")

    caption = (
        f"How much each part moves the decision between the answer and the next class, on {rows:,} images: the calibrated vote that the combiner "
        "starts from, and XGBoost's own feature contributions (TreeSHAP), both summed by the stage that is heard."
    )
    return Section("What tips the combiner", [page.figure(chart(draw, 7, 0.6 + 0.26 * len(largest)), caption)])


def uncertain(nested: NestedPredictions) -> Section:
    """What a person could mend."""
    f1, wrong = deferral_curve(nested.label, nested.prediction, nested.confidence)

    def draw(axes: Axes) -> None:
        axes.plot(100 * SHARES, f1)
        axes.set(xlabel="% of images handed over, least confident first", ylabel="macro-F1")

    rows = [
        [f"{100 * SHARES[place]:.0f} %", f"{f1[place]:.3f}", f"{f1[place] - f1[0]:+.3f}", f"{100 * wrong[place]:.0f} %"]
        for place in (1, 2, 5, 10, 20, 30, 50)
    ]
    drawing = page.figure(chart(draw), "Macro-F1 of all images, if a person answers rightly for those handed over.")
    head = ["handed over", "macro-F1", "gained", "of these wrong before"]
    return Section("What is uncertain", [page.row([drawing, page.table(head, rows)])])


def learning(
    fits: Sequence[Mapping[str, Any]], histories: Mapping[tuple[str, int], Sequence[Mapping[str, float]]]
) -> Section:
    """Every fit's score and learning curve.

    Args:
        histories: epochs of each stage and fold, as `training.tracking.read_history` gives them.
    """
    stages = list(dict.fromkeys(stage for stage, _ in histories))

    def draw(stage: str) -> Any:
        def curves(axes: Axes) -> None:
            for (name, fold), epochs in histories.items():
                if name == stage:
                    axes.plot(
                        [each["epoch"] for each in epochs],
                        [each["loss"] for each in epochs],
                        marker="o",
                        markersize=2.5,
                        label=f"fold {fold}",
                    )
            axes.set(title=stage, xlabel="epoch", ylabel="training loss")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            if stage == stages[0]:
                axes.legend(fontsize=7)

        return curves

    rows = [
        [
            f"{meta['stage']} {meta['fold']}",
            meta["recipe"]["backbone"],
            "×".join(map(str, meta["recipe"]["size"])),
            f"{meta['people']:,}",
            str(meta["epochs"]),
            f"{meta['seconds'] / 60:.1f}",
            ", ".join(f"{name} {value:.4f}" for name, value in meta["score"].items()),
        ]
        for meta in fits
    ]
    return Section(
        "Learning",
        [
            page.row([chart(draw(stage), 3.1, 2.5) for stage in stages]),
            page.table(
                ["stage and fold", "backbone", "input", "people", "epochs", "minutes", "on the people it held out"],
                rows,
            ),
        ],
    )


def groups(compared: Sequence[Compared]) -> Section:
    """How the scores differ between groups, and which gaps are more than chance."""
    parts = [
        page.text(
            "Means over images with 95 % intervals over people; the same people are drawn for the groups that are compared."
        )
    ]
    for each in compared:
        names = list(next(iter(each.scores.values())))
        rows = [
            [name, f"{each.count[name]:,}", *(interval_of(score, said[score].json(), 3) for score in names)]
            for name, said in each.scores.items()
        ]
        parts += [page.heading(f"By {each.kind}"), page.table([each.kind, "images", *names], rows)]
        if words := gaps_in_words(each):
            parts.append(page.text(words))
    return Section("Groups", parts)


def _short(value: Mapping[str, float], name: str, which: str = "value") -> str:
    return f"{value[which]:.2f}" if name == "age MAE" else f"{value[which]:.3f}"


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"
