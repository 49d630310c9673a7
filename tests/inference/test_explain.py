"""An explained image has the prediction of `infer`, and its contributions add up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import REAL, call, combiner_summary, real_images, succeed
from PIL import Image
from scipy.special import expit, logit

from facecade.base.files import content_hash
from facecade.base.machine import Machine
from facecade.combiner import methods
from facecade.combiner.estimators import HardCascade, SoftVote
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.crop import Box
from facecade.faces.decode import decode
from facecade.faces.labels import N_CLASSES, encode
from facecade.inference.cascade import Cascade
from facecade.inference.ensemble import Ensemble, Member
from facecade.inference.explain import ExplainedFace, Explainer
from facecade.inference.fallback import Fallback
from facecade.inference.loading import cascade_of_run
from facecade.recipe import Face
from facecade.records import Reliability
from facecade.runs.run import open_run

JOINT = ("mask.wear", "mask.incorrect", "mask.normal", "gender.male", "gender.female")
JOINT_AGE = (*JOINT, "age.years", "age.log_odds_30", "age.log_odds_60")
COLUMNS = {
    "joint": JOINT_AGE,
    "mask": ("wear", "incorrect", "normal"),
    "age-male": ("years",),
    "age-female": ("years",),
}
CUTS = {"male": (28.0, 55.0), "female": (33.0, 58.0)}
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cascade(fitted: Path) -> Cascade:
    """The tiny run's cascade, run by torch."""
    return cascade_of_run(open_run(fitted), Machine(engine="torch"))


def constant_cascade(folder: Path, logits: list[dict[str, list[float]]], method: str = "soft vote") -> Cascade:
    """A cascade whose networks output the same logits for any image: for each fold those of each stage."""
    rows, label = 360, np.arange(360) % N_CLASSES
    stage_outputs = StageOutputs(
        {stage: RNG.normal(size=(rows, len(names))).astype(np.float32) for stage, names in COLUMNS.items()}, COLUMNS, {}
    )
    estimator = (
        SoftVote.fit(stage_outputs, label) if method == "soft vote" else HardCascade(np.array(list(CUTS.values())))
    )
    methods.save(
        folder, methods.FittedCombiner(method, estimator, np.zeros(6)), combiner_summary(cuts=CUTS), Reliability()
    )

    def member(of_stage: dict[str, list[float]]) -> Member:
        def call(crops: np.ndarray) -> list[np.ndarray]:
            pairs = [(np.zeros((len(crops), 2)), np.tile(of_stage[stage], (len(crops), 1))) for stage in COLUMNS]
            return [values.astype(np.float32) for pair in pairs for values in pair]

        return Member(tuple(COLUMNS), [0], (8, 8), call)

    members = [replace(member(of_stage), folds=[fold]) for fold, of_stage in enumerate(logits)]
    face = Face(detector="centre", size=(8, 8))
    return Cascade(face, None, Ensemble(members, COLUMNS, 2, 1), folder, {}, {"engine": ["numbers"]}, folder)


def one_network(
    mask: float, male: float, years: float, at_least_30: float, at_least_60: float
) -> dict[str, list[float]]:
    """Logits for a worn mask and a man with these probabilities."""
    odds = [float(logit(p)) for p in (at_least_30, at_least_60)]
    worn = [float(np.log(2 * mask / (1 - mask))), 0.0, 0.0]
    joint = [*worn, float(logit(male)), 0.0, years, *odds]
    return {"joint": joint, "mask": worn, "age-male": [years], "age-female": [years + 10]}


def only_face(cascade: Cascade) -> ExplainedFace:
    (face,) = Explainer(cascade)(np.zeros((20, 20, 3), np.uint8)).faces
    return face


def test_stage_predictions_list_each_stage_and_network(tmp_path: Path) -> None:
    networks = [one_network(0.9, 0.7, 54.0, 0.9, 0.1), one_network(0.8, 0.4, 57.0, 0.9, 0.6)]
    face = only_face(constant_cascade(tmp_path, networks))
    assert [(each.stage, each.target, each.prediction, each.agree) for each in face.stage_predictions] == [
        ("joint", "mask", "wear", 2),
        ("joint", "gender", "male", 1),
        ("joint", "age", "30-59", 1),
        ("mask", "mask", "wear", 2),
        ("age-male", "age", ">=60", 1),
        ("age-female", "age", ">=60", 2),
    ]
    by_target = {(each.stage, each.target): each for each in face.stage_predictions}
    gender = by_target["joint", "gender"]
    assert gender.probability == pytest.approx(expit((logit(0.7) + logit(0.4)) / 2), abs=1e-4)
    assert gender.probability_by_network == pytest.approx((0.7, 0.4), abs=1e-4) and gender.years is None
    age = by_target["joint", "age"]
    assert age.probability_by_network == pytest.approx((0.8, 0.3), abs=1e-4)
    assert (age.years, age.years_by_network) == (55.5, (54.0, 57.0))
    only_years = by_target["age-male", "age"]
    assert only_years.probability is None and only_years.years_by_network == (54.0, 57.0)
    assert face.least_confident is age or face.least_confident is gender
    assert face.least_confident.probability == min(age.probability or 1, gender.probability)
    assert face.most_disagreement is gender, "the first of equals"


def test_each_regressor_has_its_own_cuts(tmp_path: Path) -> None:
    face = only_face(
        constant_cascade(tmp_path, [one_network(0.9, 0.7, 54.0, 0.9, 0.1), one_network(0.8, 0.7, 57.0, 0.9, 0.6)])
    )
    male, female = face.regressors
    assert (male.gender, male.years, male.years_by_network) == ("male", 55.5, (54.0, 57.0))
    assert (male.cuts, male.band) == ((28.0, 55.0), ">=60") and (female.cuts, female.years) == ((33.0, 58.0), 65.5)
    stage_outputs = (55.5 + 55.5) / 2, (65.5 + 55.5) / 2
    assert (face.age_if_male, face.age_if_female) == pytest.approx(stage_outputs), (
        "the mean of all stages that predict years, as in infer"
    )


def test_a_single_network_has_no_disagreement(tmp_path: Path) -> None:
    face = only_face(constant_cascade(tmp_path, [one_network(0.9, 0.7, 54.0, 0.9, 0.1)]))
    assert face.most_disagreement is None and all(each.networks == each.agree == 1 for each in face.stage_predictions)


def test_prediction_is_that_of_the_mean_and_contributions_sum_to_its_margin(tmp_path: Path) -> None:
    networks = [one_network(0.9, 0.7, 54.0, 0.9, 0.1), one_network(0.8, 0.4, 57.0, 0.9, 0.6)]
    cascade = constant_cascade(tmp_path, networks)
    face = only_face(cascade)
    mean = {stage: np.float32([[*np.mean([network[stage] for network in networks], axis=0)]]) for stage in COLUMNS}
    probability, prediction = methods.load(tmp_path)[0](StageOutputs(mean, COLUMNS, {}))
    np.testing.assert_allclose(face.probability, probability[0], atol=1e-6)
    assert face.prediction == prediction[0] and face.contributions and face.contributions.prediction == face.prediction
    first, second = np.sort(probability[0])[:-3:-1]
    assert face.contributions.margin == pytest.approx(np.log(first / second), abs=1e-4)
    assert sum(face.contributions.parts.values()) == pytest.approx(face.contributions.margin)
    for marginal in (face.mask, face.gender, face.band):
        assert sum(marginal.values()) == pytest.approx(1)


def test_method_without_margin_has_no_contributions(tmp_path: Path) -> None:
    face = only_face(constant_cascade(tmp_path, [one_network(0.9, 0.7, 54.0, 0.9, 0.1)], method="hard cascade"))
    assert face.contributions is None and face.prediction == encode(0, 0, 1)
    assert face.json()["contributions"] is None


def read(image: Path) -> tuple[np.ndarray, str]:
    return decode(image), content_hash(image)


def test_prediction_is_exactly_that_of_infer(cascade: Cascade, fitted: Path, drawn: Path) -> None:
    images = sorted((drawn / "eval/images").iterdir())[:3]
    explain = Explainer(cascade)
    for image in images:
        words = ["--artifacts", fitted, "--engine", "torch"]
        row = json.loads(succeed("infer", image, *words, "--json"))["prediction"]
        explanation = explain(*read(image))
        (face,) = explanation.faces
        assert face.prediction == row["ans"] and explanation.flag == row["flags"]
        for name in ("age", "age_if_male", "age_if_female"):
            assert round(getattr(face, name), 2) == row[name]
        assert [round(value, 5) for value in face.probability] == [row[f"p{label}"] for label in range(N_CLASSES)]
        from_pixels = explain(decode(image)).faces[0]
        assert from_pixels == face and (from_pixels.crop == face.crop).all()


def test_with_bf16_it_explains_what_fp32_predicts(cascade: Cascade, drawn: Path) -> None:
    """Close predictions are made in fp32, so bf16 could explain another class."""
    fallback = Fallback(lambda: cascade.ensemble, 0.1)
    rough = replace(cascade, ensemble=None, fallback=fallback)  # type: ignore[arg-type]
    image = decode(next((drawn / "eval/images").iterdir()))
    assert Explainer(rough)(image).json() == Explainer(cascade)(image).json()


def test_training_image_is_flagged(cascade: Cascade, drawn: Path) -> None:
    image = next((drawn / "train/images").rglob("*.jpg"))
    assert "trained-on" in Explainer(cascade)(*read(image)).flag
    assert "trained-on" not in Explainer(cascade)(decode(image)).flag


def test_explanation_as_json(cascade: Cascade, drawn: Path) -> None:
    explanation = Explainer(cascade)(decode(next((drawn / "eval/images").iterdir())))
    result = json.loads(json.dumps(explanation.json()))
    (face,) = result["faces"]
    assert "crop" not in face and len(face["probability"]) == N_CLASSES and face["box"] is None
    assert face["contributions"]["runner_up_name"] != face["name"] and {"joint", "mask"} < {
        each["stage"] for each in face["stage_predictions"]
    }


def with_detector(cascade: Cascade) -> Cascade:
    """The same cascade with MTCNN, for images that are not cropped to the face."""
    face = cascade.face.model_copy(update={"detector": "mtcnn", "min_face": 60, "thresholds": (0.5, 0.6, 0.6)})
    return replace(cascade, face=face)


def test_image_without_face_is_explained_by_its_center_crop(cascade: Cascade) -> None:
    explanation = Explainer(with_detector(cascade))(np.full((200, 150, 3), 128, np.uint8))
    (face,) = explanation.faces
    assert explanation.flag.startswith("no-face") and face.box is None and face.crop.shape == (*cascade.face.size, 3)


@real_images
def test_two_faces_are_both_explained_with_the_face_of_infer_first(cascade: Cascade, tmp_path: Path) -> None:
    explain = Explainer(with_detector(cascade))
    images = sorted((REAL / "eval/images").iterdir())
    with_one_face = [image for image in images[:12] if len(explain.find(decode(image))) == 1][:2]
    small, large = (Image.fromarray(decode(image)) for image in with_one_face)
    large = large.resize((large.width * 3 // 2, large.height * 3 // 2))
    both = Image.new("RGB", (small.width + large.width, large.height))
    both.paste(small, (0, 0))
    both.paste(large, (small.width, 0))
    both.save(tmp_path / "both.png")
    explanation = explain(*read(tmp_path / "both.png"))
    first, second = explanation.faces
    assert explanation.flag.startswith("several-faces") and explanation.size == (
        large.height,
        small.width + large.width,
    )
    assert first.box and second.box and second.box.right < small.width < first.box.left
    (row,) = pd.read_csv(predictions_file(explain.cascade, tmp_path)).to_dict("records")
    assert first.prediction == row["ans"]
    assert [round(value, 5) for value in first.probability] == [row[f"p{label}"] for label in range(N_CLASSES)]
    (single,) = explain(decode(with_one_face[0])).faces
    np.testing.assert_allclose(box_corners(second.box), box_corners(single.box), atol=3)


def box_corners(box: Box | None) -> list[float]:
    assert box
    return [box.left, box.top, box.right, box.bottom]


def predictions_file(cascade: Cascade, folder: Path) -> Path:
    """predictions.csv of both.png in a folder, written by `infer`."""
    from facecade.faces.source import read_source

    cascade.infer(read_source(folder / "both.png"), folder / "output", 1)
    return folder / "output/predictions.csv"


def test_command_prints_the_explanation_and_changes_nothing_in_the_run(
    fitted: Path, drawn: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in fitted.rglob("*")}
    image = sorted((drawn / "eval/images").iterdir())[0]
    text = succeed("explain", image, "--artifacts", fitted, "--attention", tmp_path / "a")
    result = json.loads(succeed("explain", image, "--artifacts", fitted, "--json"))
    (face,) = result["faces"]
    assert f"({face['name']})" in text and "Contributions to the margin" in text and "\x1b" not in text
    assert text.splitlines()[1].startswith("This run looks for no faces")
    assert all(stage in text for stage in open_run(fitted).recipe.stages)
    assert "pictures" not in result and f"8 pictures in {tmp_path / 'a'}" in text
    assert {path: path.stat().st_mtime_ns for path in fitted.rglob("*")} == before
    joint = [f"face1-joint-{target}.png" for target in ("mask", "gender", "age")]
    others = [f"face1-{stage}.png" for stage in ("mask", "gender", "age-male", "age-female")]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"face1.png", *joint, *others}
    sizes = {Image.open(path).size for path in (tmp_path / "a").iterdir()}
    assert sizes == {open_run(fitted).recipe.face.size[::-1]}


def test_unreadable_images_are_refused_with_a_reason(fitted: Path, drawn: Path, tmp_path: Path) -> None:
    image = next((drawn / "eval/images").iterdir())
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.jpg").write_bytes(image.read_bytes()[:900])
    reasons = {
        "text.jpg": "not an image",
        "empty.png": "empty file",
        "cut.jpg": "truncated",
        "none.jpg": "no such file",
    }
    for name, reason in {**reasons, "": "a folder, not a file"}.items():
        result = call("explain", tmp_path / name, "--artifacts", fitted)
        assert (result.exit_code, result.stdout) == (1, "") and reason in result.stderr
        assert "Traceback" not in result.stderr
    result = call("explain", image, "--artifacts", tmp_path)
    assert result.exit_code == 1 and "holds no run" in result.stderr and "fit-stage" in result.stderr


def test_images_in_other_color_modes_are_explained(cascade: Cascade, drawn: Path, tmp_path: Path) -> None:
    plain = Image.open(next((drawn / "eval/images").iterdir()))
    opaque = plain.convert("RGBA")
    opaque.putalpha(255)
    gray16 = np.asarray(plain.convert("L"), np.uint16) * 257
    images = {"cmyk.jpg": plain.convert("CMYK"), "clear.png": opaque, "grey.png": Image.fromarray(gray16)}
    explain = Explainer(cascade)
    for name, image in images.items():
        image.save(tmp_path / name)
        (face,) = explain(decode(tmp_path / name)).faces
        assert face.crop.dtype == np.uint8 and sum(face.probability) == pytest.approx(1, abs=1e-5)
    assert explain(decode(tmp_path / "clear.png")).faces == explain(np.asarray(plain)).faces
