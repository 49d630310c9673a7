"""The printed explanation has the contents of the explanation, within 80 columns."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from facecade.faces.labels import BANDS, GENDERS, MASKS
from facecade.report.explanation_text import explanation_text


def stage_prediction(stage: str, target: str, prediction: str, **more: Any) -> dict[str, Any]:
    years = {"years": None, "years_by_network": []}
    probability = {"probability": 0.9, "probability_by_network": [0.8, 0.95, 0.93, 0.9]}
    return {
        "stage": stage,
        "target": target,
        "prediction": prediction,
        **years,
        **probability,
        "agree": 4,
        "networks": 4,
        **more,
    }


def face(**more: Any) -> dict[str, Any]:
    gender = stage_prediction("gender", "gender", "female", probability=0.41, agree=1)
    age = {"probability": None, "probability_by_network": [], "years": 58.3, "years_by_network": [55.0, 61.0, 58, 59.2]}
    return {
        "box": {"left": 30.4, "top": 20.1, "right": 150.4, "bottom": 180.1, "probability": 0.9987},
        "prediction": 16,
        "name": "normal female 30-59",
        "flags": [],
        "confidence": 0.55,
        "probability": [0.01] * 16 + [0.5, 0.34],
        "mask": dict(zip(MASKS, (0.0, 0.01, 0.99), strict=True)),
        "gender": dict(zip(GENDERS, (0.3, 0.7), strict=True)),
        "band": dict(zip(BANDS, (0.1, 0.52, 0.38), strict=True)),
        "age": 57.4,
        "age_if_male": 61.2,
        "age_if_female": 55.8,
        "regressors": [
            {"gender": "male", "years": 61.2, "years_by_network": [58.0, 64.0], "cuts": [29.1, 54.4], "band": ">=60"},
            {"gender": "female", "years": 55.8, "years_by_network": [51.0, 60.0], "cuts": None, "band": None},
        ],
        "stage_predictions": [
            stage_prediction("joint-2", "mask", "normal"),
            gender,
            stage_prediction("age-female", "age", "30-59", **age),
            stage_prediction("gender-age", "gender, age", "female 30-59"),
        ],
        "least_confident": gender,
        "most_disagreement": gender,
        "contributions": {
            "prediction": 16,
            "runner_up": 17,
            "runner_up_name": "normal female >=60",
            "margin": 0.6931,
            "parts": {
                "soft vote: joint-2": 0.75,
                "trees: joint-2": -0.15,
                "soft vote: constant": 0.3,
                "trees: ages": 0.043,
                "trees: gender": 0.001,
                "decision weights": -0.25,
            },
        },
        **more,
    }


CUTS = {"male": [29.1, 54.4], "female": [30.0, 57.0]}


def printed(
    *faces: dict[str, Any], flag: str = "", method: str = "XGBoost, aligned embeddings", detects: bool = True
) -> str:
    file = io.StringIO()
    console = Console(file=file, width=80, highlight=False)
    result = {
        "size": [256, 192],
        "flag": flag,
        "method": method,
        "faces": list(faces),
        "cuts": CUTS,
        "detects": detects,
    }
    for part in explanation_text(result, "image.jpg"):
        console.print(part)
    return file.getvalue()


def row(text: str, begin: str) -> list[str]:
    """The words of the line that begins with `begin`."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(begin)]
    return line.removeprefix("  ").split()


def test_a_face_fits_80_columns() -> None:
    text = printed(face())
    assert max(map(len, text.splitlines())) <= 80 and "\x1b" not in text
    assert "image.jpg: 192×256 pixels\n" in text
    assert (
        "no mask · woman · 30–59 · about 57 years\nclass 16 (normal female 30-59), confidence 0.55, probability 0.50"
        in text
    )
    assert "then no mask · woman · 60 or over, 0.34: 0.69 nats behind, odds of 2 to 1" in text
    assert "120×160 pixels at 30, 20; a face at 0.999" in text
    assert row(text, "band") == ["band", "30–59", "0.52", "60", "or", "over", "0.38", "under", "30", "0.10"]
    assert row(text, "age  ") == ["age", "57", "years", "if", "a", "man", "61", "if", "a", "woman", "56"]
    assert row(text, "man ") == ["man", "61.2", "58.0", "to", "64.0", "29.1", "and", "54.4", "60", "or", "over"]
    assert row(text, "woman ") == ["woman", "55.8", "51.0", "to", "60.0", "none"]
    assert row(text, "age-female") == ["age-female", "age", "30–59", "58.3", "55.0", "to", "61.0", "4", "of", "4"]
    assert "gender, woman at 0.41" in text and "3 of 4 predict other than woman" in " ".join(text.split())


def test_contributions_are_summed_by_stage_the_largest_first() -> None:
    lines = printed(face()).partition("Contributions")[2].splitlines()[-4:]
    assert [line.split()[:4] for line in lines] == [
        ["joint-2", "+0.75", "-0.15", "+0.60"],
        ["baseline", "+0.30", "+0.30", "▇▇▇▇▇▇"],
        ["decision", "weights", "-0.25", "▇▇▇▇▇"],
        ["ages", "relative", "to", "cuts"],
    ], "what rounds to zero is left out"
    assert lines[0].count("▇") == 12 and lines[1].count("▇") == 6


def test_faces_are_numbered_and_flags_are_explained() -> None:
    text = printed(face(), face(box=None), flag="no-face trained-on")
    assert "192×256 pixels, 2 faces" in text and "Face 1, the one that infer predicts" in text and "Face 2\n" in text
    assert text.startswith("No face was found") and "trained on this image" in text, "no face is said first"


def test_what_people_must_know_is_said() -> None:
    unsure = printed(face(flags=["unsure"], age=61.0))
    assert "Unsure: on people who were held out" in unsure and "Band predicted separately." in unsure
    assert "Band limit for women: 57.0." in printed(face(prediction=17, age=58.0, name="normal female >=60"))
    plain = printed(face())
    assert "Unsure" not in plain and "Band " not in plain and "looks for no faces" not in plain
    assert "This run looks for no faces" in printed(face(box=None), detects=False)


def test_missing_parts_leave_no_gap() -> None:
    one = stage_prediction("flat", "class", "normal female 30-59", probability_by_network=[0.9], agree=1, networks=1)
    bare = face(
        regressors=[],
        age=None,
        contributions=None,
        stage_predictions=[one],
        least_confident=one,
        most_disagreement=None,
    )
    text = printed(bare, method="as trained")
    assert "regressor" not in text and "years" not in text.replace("years  networks", "") and "None" not in text
    assert "as trained. This method is not a sum" in text
    assert "Least confident: flat on class, no mask · woman · 30–59 at 0.90.\n" in text


@pytest.mark.parametrize("color", [True, False])
def test_colors_are_for_terminals(color: bool) -> None:
    file = io.StringIO()
    console = Console(file=file, width=80, force_terminal=color)
    result = {"size": [2, 2], "flag": "", "method": "soft vote", "faces": [face()], "cuts": {}, "detects": True}
    for part in explanation_text(result, "a.jpg"):
        console.print(part)
    assert ("\x1b[" in file.getvalue()) == color
