"""What is answered for one image, as HTML: the same words as in a terminal (report/explanation_text.py), with pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from facecade.pages.page import picture, table
from facecade.report.explanation_text import FLAGS, SPOKEN, doubts, named, spread
from facecade.web.predictor import PredictedImage

WIDEST = 1280
"""Pixels of an image's longer side on the page."""

OLDEST = 100.0
"""Years at the right end of the scale of ages."""

BANDS_SHOWN = ("under 30", "30 to 59", "60 and over")


def sheet(predicted: PredictedImage) -> Markup:
    """An image with its faces numbered, and a card for each."""
    result = predicted.explanation.json()
    flags = [meaning for flag, meaning in FLAGS.items() if flag in result["flag"].split()]
    cards = [
        _card(number, face, shown.crop, len(result["faces"]), result["method"])
        for number, (face, shown) in enumerate(zip(result["faces"], predicted.explanation.faces, strict=True), start=1)
    ]
    return _joined(
        [_image(predicted, result), *[message(meaning) for meaning in flags], *cards], '<div class="fc">{}</div>'
    )


def attention_sheet(looked: Mapping[str, np.ndarray], faces: int) -> Markup:
    """Where each network looked, face by face.

    Args:
        looked: of each network's target the crops (N, h, w, 3) with its map, of the first faces.
    """
    count = len(next(iter(looked.values())))
    rows = []
    for face in range(count):
        pictures = [
            Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
                picture(crops[face], f"where {name} looked"), _asked(name)
            )
            for name, crops in looked.items()
        ]
        title = Markup("<h4>{}</h4>").format(f"Face {face + 1}") if faces > 1 else Markup("")
        rows.append(title + _joined(pictures, '<div class="fc-maps">{}</div>'))
    more = f" Shown of the first {count} of {faces} faces." if faces > count else ""
    return Markup(
        '<section class="fc fc-card"><h3>Where the networks looked</h3>'
        '<p class="fc-faint">Bright is what the answer hangs on, the mean of each stage’s networks.{}</p>{}</section>'
    ).format(more, Markup("").join(rows))


def message(text: str, hint: str = "", bad: bool = False) -> Markup:
    """A sentence that is set off, and what to do."""
    after = Markup(" <span>{}</span>").format(_sentence(hint)) if hint else ""
    return Markup('<p class="fc-note {}">{}{}</p>').format("fc-bad" if bad else "", _sentence(text), after)


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
    found = f"{count} face{'s' if count > 1 else ''} found" if boxes else "the centre was cut out"
    return Markup(
        '<figure class="fc-photo"><div>{}{}</div><figcaption>{}: {}×{} pixels, {}</figcaption></figure>'
    ).format(
        picture(predicted.image, "the image", WIDEST),
        Markup("").join(boxes),
        predicted.name,
        width,
        height,
        found,
    )


def _card(number: int, face: Mapping[str, Any], crop: np.ndarray, faces: int, method: str) -> Markup:
    title = Markup('<span class="fc-number">{}</span> ').format(number) if faces > 1 else Markup("")
    return Markup(
        '<section class="fc-card"><header>{}<div><h3>{}{}</h3><p>{}</p></div></header>'
        '<div class="fc-answers">{}</div>{}<p class="fc-doubt"><b>Who was unsure.</b> {}</p>{}</section>'
    ).format(
        picture(crop, "the face as the networks see it"),
        title,
        face["name"],
        _against(face),
        Markup("").join(_bars(target, face[target]) for target in ("mask", "gender", "band")),
        _age(face),
        doubts(face["least_confident"], face["most_disagreement"]),
        _details(face, method),
    )


def _against(face: Mapping[str, Any]) -> str:
    """How probable the answer is, and what comes next."""
    said, margin = face["probability"], face["contributions"]
    text = f"Class {face['prediction']}, probability {said[face['prediction']]:.2f}"
    if not margin:
        return f"{text}."
    odds = math.exp(min(margin["margin"], 700.0))
    return f"{text}; then {margin['runner_up_name']}, {said[margin['runner_up']]:.2f}: odds of {odds:.3g} to 1."


def _bars(target: str, probability: Mapping[str, float]) -> Markup:
    """An answer with the others that were possible, the most probable first."""
    ranked = sorted(probability.items(), key=lambda item: -item[1])
    row = Markup('<tr><th scope="row">{}</th><td><i style="width:{:.1f}%"></i></td><td>{:.2f}</td></tr>')
    rows = Markup("").join(row.format(word, 100 * value, value) for word, value in ranked)
    title = {"band": "age band"}.get(target, target)
    return Markup('<table class="fc-bars"><caption>{}</caption><tbody>{}</tbody></table>').format(title, rows)


def _age(face: Mapping[str, Any]) -> Markup:
    """The age, and both regressors on a scale with their cuts."""
    if face["age"] is None and not face["regressors"]:
        return message("No stage of this cascade knows years.")
    years = "" if face["age"] is None else f"{face['age']:.0f} years"
    each = "" if face["age"] is None else f"{face['age_if_male']:.0f} if male, {face['age_if_female']:.0f} if female"
    predicted = max(face["gender"], key=face["gender"].__getitem__)
    scales = [_scale(regressor, regressor["gender"] == predicted) for regressor in face["regressors"]]
    return Markup('<div class="fc-age"><h4>Age <b>{}</b> <span class="fc-faint">{}</span></h4>{}</div>').format(
        years, each, Markup("").join(scales)
    )


def _scale(regressor: Mapping[str, Any], predicted: bool) -> Markup:
    """A regressor's years on a line, its networks' as strokes, with the cuts and the band that they give."""
    years, cuts = regressor["years"], regressor["cuts"]
    told = f"{years:.1f} years" + (f": {regressor['band']}" if regressor["band"] else "")
    edges = [0.0, *(cuts or ()), OLDEST]
    bands = BANDS_SHOWN if cuts else ("",)
    parts = [
        Markup('<span class="fc-band" style="left:{:.1f}%;width:{:.1f}%">{}</span>').format(
            _place(low), _place(high) - _place(low), name
        )
        for low, high, name in zip(edges[:-1], edges[1:], bands, strict=True)
    ]
    parts += [
        Markup('<span class="fc-cut" style="left:{:.1f}%"><b>{:.1f}</b></span>').format(_place(at), at)
        for at in cuts or ()
    ]
    parts += [
        Markup('<span class="fc-stroke" style="left:{:.1f}%"></span>').format(_place(at))
        for at in regressor["years_by_network"]
    ]
    parts.append(Markup('<span class="fc-dot" style="left:{:.1f}%"></span>').format(_place(years)))
    return Markup(
        '<div class="fc-scale{}"><p><b>{} regressor</b> {}</p><div role="img" aria-label="{}">{}</div></div>'
    ).format(
        "" if predicted else " fc-other",
        regressor["gender"],
        told,
        f"{regressor['gender']} regressor: {told}; cuts {cuts or 'none'}",
        Markup("").join(parts),
    )


def _place(years: float) -> float:
    """Per cent of the scale."""
    return 100 * min(max(years, 0.0), OLDEST) / OLDEST


def _details(face: Mapping[str, Any], method: str) -> Markup:
    return Markup(
        "<details><summary>What each stage says</summary>{}</details><details><summary>What contributed</summary>{}</details>"
    ).format(_stage_predictions(face["stage_predictions"]), _tipped(face, method))


def _stage_predictions(stage_predictions: Sequence[Mapping[str, Any]]) -> Markup:
    """What each stage says, and how far its networks are apart."""
    rows = []
    for said in stage_predictions:
        years, sure = said["years"], said["probability"]
        apart = spread(said["probability_by_network"], 2) if years is None else spread(said["years_by_network"], 1)
        split = said["agree"] < said["networks"]
        rows.append(
            [
                named(said),
                said["prediction"],
                "" if sure is None else f"{sure:.2f}",
                "" if years is None else f"{years:.1f}",
                apart,
                Markup('<b class="fc-split">{}</b>' if split else "{}").format(
                    f"{said['agree']} of {said['networks']}"
                ),
            ]
        )
    return table(["stage", "says", "sure", "years", "networks", "agree"], rows)


def _tipped(face: Mapping[str, Any], method: str) -> Markup:
    """Who moved the answer, the largest first."""
    margin = face["contributions"]
    if not margin:
        return Markup("<p>Combined by: {}. That adds nothing up, so no contributions can be given.</p>").format(method)
    total: dict[str, float] = {}
    for part, value in margin["parts"].items():
        stage_name = part.rpartition(": ")[2]
        total[stage_name] = total.get(stage_name, 0.0) + value
    moved = sorted(
        ((who, value) for who, value in total.items() if abs(value) >= 0.005), key=lambda item: -abs(item[1])
    )
    rows = [[SPOKEN.get(who, who), f"{value:+.2f}", "for it" if value > 0 else "against it"] for who, value in moved]
    intro = Markup("<p>Towards {} rather than {}, in nats; combined by: {}.</p>").format(
        face["name"], margin["runner_up_name"], method
    )
    return intro + table(["who", "nats", ""], rows)


def _joined(parts: Sequence[Markup], around: str) -> Markup:
    return Markup(around).format(Markup("").join(parts))


def _asked(name: str) -> str:
    """A map's name in words, as `joint on gender`."""
    stage, _, target = name.rpartition("-")
    return name if not stage or stage == "age" else f"{stage} on {target}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?', '…')) else '.'}" if text else ""
