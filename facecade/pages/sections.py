"""The sections of the report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from facecade.combiner.cuts import f1_by_cut
from facecade.faces.labels import AXES, BAND_EDGES, GENDERS, N_CLASSES, band_of, decode
from facecade.faces.words import class_in_words, in_words
from facecade.html import elements
from facecade.html.charts import COLOURS, chart, charts
from facecade.pages.figures import Histories, loss_curves, score_curves, score_name
from facecade.pages.page import Section
from facecade.records import UNCHANGED, FitRecord
from facecade.report.calibration import by_axis, calibration, confidence_calibration, cross_fitted
from facecade.report.evaluate import Evaluation
from facecade.report.explanation_text import part_name
from facecade.report.groups import GroupComparison, gaps_text
from facecade.report.metrics import confusion
from facecade.report.nested import NestedPredictions
from facecade.report.results import score_interval
from facecade.report.risk import risk_curve
from facecade.report.risk_text import bound_percent, coverage_text, percent, promise_text
from facecade.report.text import difference
from facecade.report.verdict import verdict

RISKS = (0.05, 0.1, 0.2)
"""Shares of wrong answers for which the report says how many images can be answered."""

COVERAGES = np.linspace(0.02, 1, 50)
"""Shares of the images that are answered, in the chart."""


def in_short(nested: NestedPredictions, evaluation: Evaluation | None) -> Section:
    """What to expect, what is weakest, and what to do first."""
    return Section("In short", [elements.text(" ".join(verdict(nested, evaluation)))])


def scores(nested: NestedPredictions, evaluation: Evaluation | None) -> Section:
    """Headline scores with their intervals, and the scores of every combining method."""
    choice = nested.combiner.nested_choice
    parts = [
        elements.tiles(
            [
                (name, _rounded(value, name), f"{_rounded(value, name, 'low')} to {_rounded(value, name, 'high')}")
                for name, value in choice.items()
            ]
        ),
        elements.text(
            f"Nested: {nested.combiner.images:,} images of {nested.combiner.people:,} people. Stages, cuts, combiner, decision weights "
            "and the choice of the method were fitted without the person they predict. Intervals are 95 %, by bootstrap over people."
        ),
    ]
    if evaluation:
        rows = [
            [name, score_interval(name, choice[name]), score_interval(name, evaluation.score[name])]
            for name in choice
            if name in evaluation.score
        ]
        about = f"eval ({evaluation.counted('other ')})"
        parts += [
            elements.heading("On people that were not used for fitting or selection"),
            elements.table(["score", "nested", about], rows),
        ]
    methods = nested.combiner.nested
    rows = [
        [name, *(score_interval(score, values[score]) for score in ("macro-F1", "accuracy"))]
        for name, values in methods.items()
    ]
    gain = nested.combiner.gain_over_simplest
    parts += [
        elements.heading("Combining methods"),
        elements.table(
            ["method", "macro-F1", "accuracy"], rows, highlighted_row=list(methods).index(nested.combiner.method)
        ),
        elements.text(
            f"The selected method is ahead of “{nested.combiner.simplest}” by {difference(gain)} macro-F1, paired by person. "
            "It was selected by the scores in this table, so its row is optimistic; for the numbers at the top the selection is nested, too."
        ),
    ]
    return Section("Scores", parts)


def classes(nested: NestedPredictions) -> Section:
    """Precision, recall and F1 of every class."""
    counts = confusion(nested.label, nested.prediction)
    correct, images, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    rows = [
        [
            f"{label} {class_in_words(label)}",
            f"{images[label]:,}",
            _ratio(correct[label], predicted[label]),
            _ratio(correct[label], images[label]),
            "-" if f1 is None else f"{f1:.3f}",
        ]
        for label, f1 in enumerate(nested.combiner.per_class_f1)
    ]
    return Section("Classes", [elements.table(["class", "images", "precision", "recall", "F1"], rows)])


def confusions(nested: NestedPredictions) -> Section:
    """Confusion matrices of each axis and of the 18 classes."""
    true, predicted = decode(nested.label), decode(nested.prediction)
    parts: list[Markup] = [elements.text("Rows are true classes, columns are predicted classes.")]
    for axis, (name, names) in enumerate(AXES.items()):
        counts = confusion(true[axis], predicted[axis], len(names))
        parts += [
            elements.heading(name.capitalize()),
            elements.row(
                [
                    elements.confusion_matrix(counts, [in_words(code) for code in names], normalized)
                    for normalized in (True, False)
                ]
            ),
        ]
    counts = confusion(nested.label, nested.prediction)
    numbers = [str(label) for label in range(N_CLASSES)]
    parts += [
        elements.heading("All 18 classes"),
        elements.text("; ".join(f"{label} {class_in_words(label)}" for label in range(N_CLASSES)), faint=True),
        elements.confusion_matrix(counts, numbers, True),
        elements.confusion_matrix(counts, numbers, False),
    ]
    return Section("Confusions", parts)


def ages(nested: NestedPredictions, years: np.ndarray | None) -> Section:
    """Predicted against true age, and the score as a function of the cuts.

    Args:
        years: float (N, 2), by the male and the female regressor, out of fold; None where no stage predicts years.
    """
    if years is None or not nested.combiner.cuts:
        return Section("Ages", [])
    gender, band = np.array(GENDERS), band_of(nested.age)
    cuts = nested.combiner.cuts

    def scatter(name: str) -> Any:
        def draw(axes: Axes) -> None:
            rows = (nested.table["gender"] == name).to_numpy()
            table = nested.table[rows].assign(predicted=years[rows, GENDERS.index(name)])
            means = table.groupby("person")[["age", "predicted"]].mean()
            axes.plot([15, 85], [15, 85], color=COLOURS[6], linewidth=0.8)
            axes.scatter(
                means["age"],
                means["predicted"],
                s=14,
                alpha=0.85,
                linewidths=0,
                color=COLOURS[GENDERS.index(name)],
                rasterized=True,
            )
            for column, cut in enumerate(cuts[name]):
                axes.axhline(cut, color=COLOURS[5], linewidth=1)
                axes.text(84, cut + 0.8, f"cut {cut:.2f}", ha="right", fontsize=8)
                axes.axvline(BAND_EDGES[column], color=COLOURS[6], linewidth=0.8, linestyle=":")
            axes.set(title=f"{name}: {len(means)} people", xlabel="recorded age, years", ylabel="predicted, years")

        return draw

    def curve(index: int) -> Any:
        def draw(axes: Axes) -> None:
            for column, name in enumerate(gender):
                rows = (nested.table["gender"] == name).to_numpy() & ~np.isnan(nested.age)
                grid, f1 = f1_by_cut(years[rows, column], band[rows], cuts[name])[index]
                axes.plot(grid, f1, color=COLOURS[column], label=name)
                axes.axvline(cuts[name][index], color=COLOURS[column], linewidth=0.8, linestyle="--")
            axes.set(title=f"{('lower', 'upper')[index]} cut", xlabel="years", ylabel="macro-F1 of the bands")
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
            elements.figure(
                charts([scatter(name) for name in GENDERS], 4.4, 4.2),
                "Each point is a person: the mean out-of-fold prediction over the person's images, by the regressor of the recorded gender. "
                "Horizontal lines are the fitted cuts, dotted lines the edges of the bands.",
            ),
            elements.figure(
                charts([curve(0), curve(1)], 4.4, 3.0),
                "Macro-F1 of the three bands as a function of one cut, by the regressor of the recorded gender, per image. Dashed: the fitted cut, "
                "which lies where the score is high over a whole neighborhood.",
            ),
            elements.table(["recorded age", "images", "mean error, years", "bias, years"], rows),
        ],
    )


def calibrations(nested: NestedPredictions, stages: Mapping[str, np.ndarray]) -> Section:
    """Calibration curves of the stages' probabilities, of the combined ones, and of the confidence.

    Args:
        stages: axis → the stages' mean probabilities (N, C); an axis without probabilities is left out.
    """
    true = dict(zip(AXES, decode(nested.label), strict=True))
    combined = {axis: calibration(values, true[axis]) for axis, values in by_axis(nested.probability).items()}
    single = {axis: calibration(values, true[axis]) for axis, values in stages.items()}
    right, probability = nested.kept == nested.label, nested.top_probability
    confidence = probability
    if nested.combiner.reliability.log_odds != UNCHANGED:
        confidence = cross_fitted(probability, right, nested.person, nested.table["fold"].to_numpy())
    own, calibrated = ({"class": confidence_calibration(each, right)} for each in (probability, confidence))

    def draw(axis: str) -> Any:
        def curves(axes: Axes) -> None:
            axes.plot([0, 1], [0, 1], color=COLOURS[6], linewidth=0.8)
            for name, curve, color in (
                ("stages", single.get(axis), COLOURS[1]),
                ("combined", combined.get(axis), COLOURS[0]),
                ("probability", own.get(axis), COLOURS[0]),
                ("confidence", calibrated.get(axis), COLOURS[2]),
            ):
                if curve:
                    axes.plot(curve.confidence, curve.accuracy, marker="o", markersize=3, color=color, label=name)
            axes.set(
                title=axis,
                xlabel="confidence",
                ylabel="accuracy",
                xlim=(0 if axis == "class" else 0.3, 1.02),
                ylim=(0, 1.04),
            )
            axes.legend()

        return curves

    rows = [
        [axis, f"{single[axis].error:.4f}" if axis in single else "-", f"{combined[axis].error:.4f}", "-"]
        for axis in AXES
    ]
    rows.append(["class", "-", f"{own['class'].error:.4f}", f"{calibrated['class'].error:.4f}"])
    return Section(
        "Calibration",
        [
            elements.figure(
                charts([draw(axis) for axis in [*AXES, "class"]], 3.3, 3.3),
                "Accuracy of the images with a given confidence; on the grey line both are equal. Stages: their mean out-of-fold probabilities. "
                "Combined: nested probabilities. Class: the combined probability of the predicted class, and the confidence that infer shows, here by a "
                "calibration that was fitted on the people of the other folds.",
            ),
            elements.table(["expected calibration error", "stages", "combined", "confidence"], rows),
        ],
    )


def mean_contributions(contributions: Mapping[str, float], images: int) -> Section:
    """What contributes to the margin between the best class and the runner-up.

    Args:
        contributions: of each part of the combiner to the margin, mean of the absolute values in nats.
        images: number of images averaged over.
    """
    ascending = sorted(contributions.items(), key=lambda part: part[1])

    def draw(axes: Axes) -> None:
        axes.barh([part_name(name) for name, _ in ascending], [nats for _, nats in ascending], color=COLOURS[0])
        axes.set(xlabel="mean absolute contribution, nats")
        axes.grid(False, axis="y")

    caption = (
        f"Mean absolute contribution of each part to the margin between the best class and the runner-up, on {images:,} images: the soft vote that the "
        "combiner starts from, and XGBoost's feature contributions (TreeSHAP), both summed by the stage that the features come from. `baseline` is the output of the "
        "combiner without any image."
    )
    return Section("Contributions", [elements.figure(chart(draw, 4.4, 0.6 + 0.26 * len(ascending)), caption)])


def abstaining(nested: NestedPredictions) -> Section:
    """How many predictions are wrong if only the most confident ones are answered, and what `infer --abstain` promises."""
    right, reliability = nested.kept == nested.label, nested.combiner.reliability
    value, low, high = risk_curve(nested.top_probability, right, nested.person, COVERAGES)
    bounds = np.array([(each.coverage, each.bound) for each in reliability.risks]).reshape(-1, 2)

    def draw(axes: Axes) -> None:
        axes.fill_between(100 * COVERAGES, 100 * low, 100 * high, color=COLOURS[0], alpha=0.2, linewidth=0)
        axes.plot(100 * COVERAGES, 100 * value, color=COLOURS[0], label="measured")
        if len(bounds):
            axes.step(
                100 * bounds[:, 0], 100 * bounds[:, 1], where="post", color=COLOURS[1], label="bound for new people"
            )
        axes.set(xlabel="% of images answered, most confident first", ylabel="% of the answers that are wrong")
        axes.set(xlim=(0, 100), ylim=(0, None))
        axes.legend()

    answering = {risk: reliability.answering(risk) for risk in RISKS}
    rows = [
        [
            f"--abstain {risk:g}",
            percent(each.coverage),
            percent(each.error),
            bound_percent(each.bound),
            f"{each.confidence:.2f}",
        ]
        if each
        else [f"--abstain {risk:g}", "none", "-", "-", "-"]
        for risk, each in answering.items()
    ]
    shares = [
        f"{coverage_text(each.coverage) if each else 'none'} with at most {percent(risk)}"
        + " wrong answers" * (risk == RISKS[0])
        for risk, each in answering.items()
    ]
    lowest = promise_text(reliability.promise(RISKS[0]))[1:] if not answering[RISKS[0]] else []
    return Section(
        "Abstaining",
        [
            elements.text(f"Of the images, infer can answer {', '.join(shares)}. {' '.join(lowest)}".strip()),
            elements.row(
                [
                    elements.figure(
                        chart(draw),
                        "Wrong predictions among those answered. Band: 95 % interval over people. The bound holds with 95 % confidence if new people "
                        "are like those here; infer answers with the mean of all folds, which is usually better than the single folds measured here.",
                    ),
                    elements.table(["", "images answered", "wrong", "bound", "from confidence"], rows),
                ]
            ),
        ],
    )


def training(fits: Sequence[FitRecord], histories: Histories) -> Section:
    """Every fit's score and learning curves: training loss, and loss and score on the people whom it held out."""
    stages = list(dict.fromkeys(stage for stage, _ in histories))
    charts_of_stages = []
    for stage in stages:
        drawn = [loss_curves(histories, stage)]
        drawn += [score_curves(histories, stage)] if score_name(histories, stage) else []
        charts_of_stages += [chart(_with_legend(draw) if stage == stages[0] else draw, 3.1, 2.5) for draw in drawn]

    rows = [
        [
            f"{fit.stage} {fit.fold}",
            fit.recipe.backbone,
            "×".join(map(str, fit.recipe.size)),
            f"{fit.people:,}",
            str(fit.epochs),
            f"{fit.seconds / 60:.1f}",
            ", ".join(f"{name} {value:.4f}" for name, value in fit.score.items()),
        ]
        for fit in fits
    ]
    return Section(
        "Training",
        [
            elements.text(
                "Solid: training loss, on augmented images. Dashed: loss and score on a sample of the people whom the fold holds out; "
                "nothing is chosen by them. A dashed loss that rises while the solid one falls is overfitting: train fewer epochs."
            ),
            elements.row(charts_of_stages),
            elements.table(
                ["stage and fold", "backbone", "input", "people", "epochs", "minutes", "score on the held-out people"],
                rows,
            ),
        ],
    )


def _with_legend(draw: Callable[[Axes], None]) -> Callable[[Axes], None]:
    def drawn(axes: Axes) -> None:
        draw(axes)
        axes.legend(fontsize=7)

    return drawn


def groups(compared: Sequence[GroupComparison]) -> Section:
    """The scores of each group, and the gaps that are significant."""
    parts = [
        elements.text(
            "Means over images, with 95 % intervals by bootstrap over people; all groups of a comparison share the same draws."
        )
    ]
    for each in compared:
        names = list(next(iter(each.scores.values())))
        rows = [
            [name, f"{each.count[name]:,}", *(score_interval(score, intervals[score].json(), 3) for score in names)]
            for name, intervals in each.scores.items()
        ]
        parts += [elements.heading(f"By {each.kind}"), elements.table([each.kind, "images", *names], rows)]
        if gaps := gaps_text(each):
            parts.append(elements.text(gaps))
    return Section("Groups", parts)


def _rounded(value: Mapping[str, float], name: str, key: str = "value") -> str:
    return f"{value[key]:.2f}" if name == "age MAE" else f"{value[key]:.3f}"


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"
