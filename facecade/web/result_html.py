"""The explanation of one image as HTML, with the same texts as in a terminal (report/explanation_text.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from facecade.faces.words import BAND_WORDS, PLURAL, band_note, class_in_words, in_words, prediction_in_words
from facecade.html.elements import picture, table
from facecade.report.explanation_text import (
    FLAGS,
    NO_FACE,
    PART_NAMES,
    UNSURE,
    stage_and_target,
    uncertainty_text,
    value_range,
)
from facecade.web.predictor import PredictedImage

MAX_IMAGE_SIDE = 1280
"""Pixels of an image's longer side on the page."""

MAX_SCALE_AGE = 100.0
"""Years at the right end of the age scale."""


def result_html(predicted: PredictedImage) -> Markup:
    """That no face was found, or the image with numbered face boxes; then a card for each face, pale where there is none.

    The upload is on the page already, so it is shown again only with its boxes, and crops only where there are several.
    """
    result = predicted.explanation.json()
    flags = result["flag"].split()
    notes = [message(meaning) for flag, meaning in FLAGS.items() if flag in flags]
    no_face = [Markup('<p class="fc-note fc-loud">{}</p>').format(NO_FACE)] if "no-face" in flags else []
    cards = [
        _card(number, face, explained.crop, result)
        for number, (face, explained) in enumerate(
            zip(result["faces"], predicted.explanation.faces, strict=True), start=1
        )
    ]
    wrapper = '<div class="fc-weak">{}</div>' if no_face else "{}"
    return _joined([*no_face, _image(predicted, result), *notes, _joined(cards, wrapper)], '<div class="fc">{}</div>')


def attention_html(overlays: Mapping[str, np.ndarray], faces: int) -> Markup:
    """The attention maps, face by face.

    Args:
        overlays: by stage and target, the crops (N, h, w, 3) of the first faces, overlaid with attention maps.
        faces: number of faces in the image.
    """
    count = len(next(iter(overlays.values())))
    rows = []
    for face in range(count):
        pictures = [
            Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
                picture(crops[face], f"attention map of {name}"), _map_title(name)
            )
            for name, crops in overlays.items()
        ]
        title = Markup("<h4>{}</h4>").format(f"Face {face + 1}") if faces > 1 else Markup("")
        rows.append(title + _joined(pictures, '<div class="fc-maps">{}</div>'))
    more = f" Shown for the first {count} of {faces} faces." if faces > count else ""
    return Markup(
        '<section class="fc fc-card"><h3>Attention maps</h3>'
        '<p class="fc-faint">Bright pixels influence the prediction most; mean over each stage’s networks.{}</p>{}</section>'
    ).format(more, Markup("").join(rows))


def message(text: str, hint: str = "", is_error: bool = False) -> Markup:
    """A highlighted sentence, and a hint what to do."""
    hint_html = Markup(" <span>{}</span>").format(_sentence(hint)) if hint else ""
    return Markup('<p class="fc-note {}">{}{}</p>').format("fc-bad" if is_error else "", _sentence(text), hint_html)


def _image(predicted: PredictedImage, result: Mapping[str, Any]) -> Markup:
    height, width = result["size"]
    boxes = [
        Markup(
            '<span class="fc-box" style="left:{:.2f}%;top:{:.2f}%;width:{:.2f}%;height:{:.2f}%"><b>{}</b></span>'
        ).format(
            100 * box["left"] / width,
            100 * box["top"] / height,
            100 * (box["right"] - box["left"]) / width,
            100 * (box["bottom"] - box["top"]) / height,
            number,
        )
        for number, face in enumerate(result["faces"], start=1)
        if (box := face["box"])
    ]
    count = len(result["faces"])
    found = f"{count} face{'s' if count > 1 else ''} found" if boxes else "the center was cropped"
    caption = f"{predicted.name}: {width}×{height} pixels, {found}"
    if not boxes:
        return Markup('<p class="fc-faint">{}</p>').format(caption)
    return Markup('<figure class="fc-photo"><div>{}{}</div><figcaption>{}</figcaption></figure>').format(
        picture(predicted.image, "the image", MAX_IMAGE_SIDE), Markup("").join(boxes), caption
    )


def _card(number: int, face: Mapping[str, Any], crop: np.ndarray, result: Mapping[str, Any]) -> Markup:
    several = len(result["faces"]) > 1
    title = Markup('<span class="fc-number">{}</span> ').format(number) if several else Markup("")
    badge = (
        Markup(' <span class="fc-badge" title="{}">unsure</span>').format(UNSURE)
        if "unsure" in face["flags"]
        else Markup("")
    )
    note = band_note(face["prediction"], face["age"], result["cuts"])
    return Markup(
        '<section class="fc-card"><header>{}<div><h3>{}{}{}</h3>{}<p>{}</p></div></header>'
        '<div class="fc-answers">{}</div>{}<p class="fc-doubt"><b>Uncertainty.</b> {}</p>{}</section>'
    ).format(
        picture(crop, "the face crop") if several else Markup(""),
        title,
        prediction_in_words(face["prediction"], face["age"]),
        badge,
        Markup("<p>{}</p>").format(_sentence(note)) if note else Markup(""),
        _probability_and_odds(face),
        Markup("").join(_bars(target, face[target]) for target in ("mask", "gender", "band")),
        _age(face),
        uncertainty_text(face["least_confident"], face["most_disagreement"]),
        _details(face, result["method"]),
    )


def _probability_and_odds(face: Mapping[str, Any]) -> str:
    """The confidence, the probability of the predicted class, and the odds against the runner-up."""
    probability, margin = face["probability"], face["contributions"]
    text = f"Class {face['prediction']} ({face['name']}), confidence {face['confidence']:.2f}, probability {probability[face['prediction']]:.2f}"
    if not margin:
        return f"{text}."
    odds = math.exp(min(margin["margin"], 700.0))
    return f"{text}; then {class_in_words(margin['runner_up'])}, {probability[margin['runner_up']]:.2f}: odds of {odds:.3g} to 1."


def _bars(target: str, probability: Mapping[str, float]) -> Markup:
    """The probabilities of a target's classes as bars, the most probable first."""
    ranked = sorted(probability.items(), key=lambda item: -item[1])
    row = Markup('<tr><th scope="row">{}</th><td><i style="width:{:.1f}%"></i></td><td>{:.2f}</td></tr>')
    rows = Markup("").join(row.format(in_words(code), 100 * value, value) for code, value in ranked)
    title = {"band": "age band"}.get(target, target)
    return Markup('<table class="fc-bars"><caption>{}</caption><tbody>{}</tbody></table>').format(title, rows)


def _age(face: Mapping[str, Any]) -> Markup:
    """The age, and each regressor's years on a scale with its cuts."""
    if face["age"] is None and not face["regressors"]:
        return message("No stage of this cascade predicts years.")
    years = "" if face["age"] is None else f"{face['age']:.0f} years"
    by_gender = (
        "" if face["age"] is None else f"{face['age_if_male']:.0f} if a man, {face['age_if_female']:.0f} if a woman"
    )
    predicted = max(face["gender"], key=face["gender"].__getitem__)
    scales = [_scale(regressor, regressor["gender"] == predicted) for regressor in face["regressors"]]
    return Markup('<div class="fc-age"><h4>Age <b>{}</b> <span class="fc-faint">{}</span></h4>{}</div>').format(
        years, by_gender, Markup("").join(scales)
    )


def _scale(regressor: Mapping[str, Any], predicted: bool) -> Markup:
    """A regressor's years as a dot on a scale, each network's as a stroke, with the cuts and bands."""
    years, cuts = regressor["years"], regressor["cuts"]
    summary = f"{years:.1f} years" + (f": {in_words(regressor['band'])}" if regressor["band"] else "")
    edges = [0.0, *(cuts or ()), MAX_SCALE_AGE]
    words = Markup("").join(
        Markup('<span style="width:{:.1f}%">{}</span>').format(_percent(high) - _percent(low), name)
        for low, high, name in zip(edges[:-1], edges[1:], BAND_WORDS.values() if cuts else ("",), strict=True)
    )
    parts = [
        Markup('<span class="fc-cut" style="left:{:.1f}%"><b>{:.1f}</b></span>').format(_percent(at), at)
        for at in cuts or ()
    ]
    parts += [
        Markup('<span class="fc-stroke" style="left:{:.1f}%"></span>').format(_percent(at))
        for at in regressor["years_by_network"]
    ]
    parts.append(Markup('<span class="fc-dot" style="left:{:.1f}%"></span>').format(_percent(years)))
    return Markup(
        '<div class="fc-scale{}"><p><b>Regressor for {}</b> {}</p><p class="fc-bands" aria-hidden="true">{}</p>'
        '<div role="img" aria-label="{}">{}</div></div>'
    ).format(
        "" if predicted else " fc-other",
        PLURAL[regressor["gender"]],
        summary,
        words,
        f"regressor for {PLURAL[regressor['gender']]}: {summary}; limits {cuts or 'none'}",
        Markup("").join(parts),
    )


def _percent(years: float) -> float:
    """Position on the scale, in per cent."""
    return 100 * min(max(years, 0.0), MAX_SCALE_AGE) / MAX_SCALE_AGE


def _details(face: Mapping[str, Any], method: str) -> Markup:
    return Markup(
        "<details><summary>Prediction of each stage</summary>{}</details><details><summary>Contributions</summary>{}</details>"
    ).format(_stage_predictions(face["stage_predictions"]), _contributions(face, method))


def _stage_predictions(stage_predictions: Sequence[Mapping[str, Any]]) -> Markup:
    """Each stage's prediction, and how much its networks differ."""
    rows = []
    for each in stage_predictions:
        years, probability = each["years"], each["probability"]
        networks = (
            value_range(each["probability_by_network"], 2)
            if years is None
            else value_range(each["years_by_network"], 1)
        )
        disagree = each["agree"] < each["networks"]
        rows.append(
            [
                stage_and_target(each),
                in_words(each["prediction"]),
                "" if probability is None else f"{probability:.2f}",
                "" if years is None else f"{years:.1f}",
                networks,
                Markup('<b class="fc-split">{}</b>' if disagree else "{}").format(
                    f"{each['agree']} of {each['networks']}"
                ),
            ]
        )
    return table(["stage", "prediction", "probability", "years", "networks", "agree"], rows)


def _contributions(face: Mapping[str, Any], method: str) -> Markup:
    """Each stage's contribution to the margin, the largest first."""
    margin = face["contributions"]
    if not margin:
        return Markup("<p>Combined by: {}. This method is not a sum, so there are no contributions.</p>").format(method)
    total: dict[str, float] = {}
    for part, value in margin["parts"].items():
        stage_name = part.rpartition(": ")[2]
        total[stage_name] = total.get(stage_name, 0.0) + value
    largest_first = sorted(
        ((name, value) for name, value in total.items() if abs(value) >= 0.005), key=lambda item: -abs(item[1])
    )
    rows = [
        [PART_NAMES.get(name, name), f"{value:+.2f}", "for" if value > 0 else "against"]
        for name, value in largest_first
    ]
    intro = Markup("<p>Contributions to the margin of {} over {}, in nats; combined by: {}.</p>").format(
        class_in_words(face["prediction"]), class_in_words(margin["runner_up"]), method
    )
    return intro + table(["part", "nats", ""], rows)


def _joined(parts: Sequence[Markup], wrapper: str) -> Markup:
    return Markup(wrapper).format(Markup("").join(parts))


def _map_title(name: str) -> str:
    """The title of a map, such as `joint on gender`."""
    stage, _, target = name.rpartition("-")
    return name if not stage or stage == "age" else f"{stage} on {target}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}" if text else ""
