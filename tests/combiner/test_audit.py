"""The audit finds wrong labels planted in simulated data, and few of the right ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from facecade.combiner.audit import Finding, audit
from facecade.combiner.stage_outputs import StageOutputs
from facecade.faces.labels import GENDERS, MASKS

FILES = {
    **{f"mask{number}.jpg": "wear" for number in range(1, 6)},
    "incorrect_mask.jpg": "incorrect",
    "normal.jpg": "normal",
}
JOINT = ("mask.wear", "mask.incorrect", "mask.normal", "gender.male", "gender.female", "age.years")


def simulated(
    people: int, each: int, cap: float | None = None, seed: int = 0
) -> tuple[pd.DataFrame, StageOutputs, set[tuple[str, str]]]:
    """A sample table, outputs of two joint stages, and the planted errors: `each` genders, ages, swapped pairs and
    single masks. Errors are correlated between the stages, and between a person's images."""
    generator = np.random.default_rng(seed)
    gender, age = generator.integers(0, 2, people), generator.uniform(18, 75, people)
    count, person = len(FILES), np.repeat(np.arange(people), len(FILES))
    mask = np.tile([MASKS.index(state) for state in FILES.values()], people)
    odds = ((2 * gender - 1) * 4 + generator.normal(0, 1.8, people))[person]
    years = (6 + 0.85 * age + generator.normal(0, 4, people))[person]
    seen = np.eye(3)[mask] * 7 + generator.normal(0, 1.2, (len(mask), 3))
    logits = {}
    for stage in ("joint", "joint-2"):
        female = odds + generator.normal(0, 1, len(mask))
        columns = [
            seen + generator.normal(0, 0.5, seen.shape),
            -female / 2,
            female / 2,
            years + generator.normal(0, 2, len(mask)),
        ]
        logits[stage] = np.column_stack(columns).astype(np.float32)

    recorded_gender, recorded_age, recorded_mask = gender.copy(), age.round(), mask.copy()
    planted: set[tuple[str, str]] = set()
    names = [f"{number:04d}" for number in range(people)]
    chosen = generator.permutation(people)[: 4 * each].reshape(4, each)
    for index in chosen[0]:
        recorded_gender[index] = 1 - gender[index]
        planted.add(("gender", names[index]))
    for index in chosen[1]:
        recorded_age[index] = np.round(age[index] + (35 if age[index] < 45 else -35))
        planted.add(("age", names[index]))
    for index in chosen[2]:
        recorded_mask[[index * count + 5, index * count + 6]] = MASKS.index("normal"), MASKS.index("incorrect")
        planted.add(("swap", names[index]))
    for index in chosen[3]:
        recorded_mask[index * count] = MASKS.index("normal")
        planted.add(("mask", f"images/{names[index]}/mask1.jpg"))
    table = pd.DataFrame(
        {
            "path": [f"images/{names[index]}/{file}" for index in range(people) for file in FILES],
            "person": np.array(names)[person],
            "mask": np.array(MASKS)[recorded_mask],
            "gender": np.array(GENDERS)[recorded_gender][person],
            "age": np.minimum(recorded_age, cap or 120)[person],
            "fold": (generator.permutation(people) % 4)[person],
        }
    )
    return table, StageOutputs(logits, dict.fromkeys(logits, JOINT), {}), planted


def keys(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.id) for finding in findings]


@pytest.mark.parametrize("cap", [None, 60.0])
def test_planted_errors_rank_first(cap: float | None) -> None:
    table, stage_outputs, planted = simulated(400, 8, cap)
    if cap:  # an age that is at the cap both ways is not wrong
        planted = {key for key in planted if key[0] != "age"} | {
            key for key in planted if key[0] == "age" and (table.loc[table["person"] == key[1], "age"] < cap).all()
        }
    findings = audit(table, stage_outputs, cap)
    first = set(keys(findings)[: int(1.5 * len(planted))])
    assert len(planted & first) >= 0.9 * len(planted)
    scores = [finding.score for finding in findings]
    assert scores == sorted(scores, reverse=True)


def test_few_right_labels_are_listed() -> None:
    table, stage_outputs, _ = simulated(400, 0, seed=1)
    findings = audit(table, stage_outputs, None)
    assert sum(finding.score > 0.5 for finding in findings) <= 3
    assert sum(finding.score for finding in findings) < 12


def test_a_label_does_not_affect_scores_of_its_own_fold() -> None:
    table, stage_outputs, _ = simulated(160, 4, seed=2)
    fold = table.groupby("person")["fold"].first()

    def genders() -> dict[str, Finding]:
        return {finding.id: finding for finding in audit(table, stage_outputs, None) if finding.kind == "gender"}

    before = genders()
    wrong = next(iter(before))
    neighbor = next(name for name in fold.index[fold == fold[wrong]] if name != wrong)
    flipped = table["gender"].map({"male": "female", "female": "male"})
    table["gender"] = table["gender"].mask(table["person"] == neighbor, flipped)
    after = genders()
    assert after[wrong] == before[wrong]
    assert after[neighbor].score > 0.01


def test_a_person_is_listed_once_per_kind_and_a_swap_once() -> None:
    table, stage_outputs, _ = simulated(200, 5, seed=3)
    findings = audit(table, stage_outputs, None)
    assert max(Counter(keys(findings)).values()) == 1
    swapped = {row for finding in findings if finding.kind == "swap" for row in finding.rows}
    assert not swapped & {row for finding in findings if finding.kind == "mask" for row in finding.rows}
    for finding in findings:
        assert len(finding.rows) == {"gender": 7, "age": 7, "swap": 2, "mask": 1}[finding.kind]
        assert set(table["person"].iloc[list(finding.rows)]) == {finding.person}


def test_reasons_name_each_stages_prediction() -> None:
    table, stage_outputs, planted = simulated(300, 5, seed=4)
    findings = {(finding.kind, finding.id): finding for finding in audit(table, stage_outputs, None)}
    gender = next(findings[key] for key in findings if key in planted and key[0] == "gender")
    assert gender.reason.startswith("joint and joint-2 both predict ") and gender.reason.endswith(
        f"recorded {gender.recorded}"
    )
    assert f"both predict {gender.suggested} at ." in gender.reason
    age = next(findings[key] for key in findings if key in planted and key[0] == "age")
    assert f"recorded {age.recorded}, and 95 % of right ages" in age.reason and age.suggested == f"about {age.value}"
    swap = next(findings[key] for key in findings if key in planted and key[0] == "swap")
    assert "normal.jpg, recorded incorrect: joint and joint-2 both predict normal" in swap.reason


def test_without_years_ages_are_judged_by_band() -> None:
    table, stage_outputs, planted = simulated(400, 6, seed=5)
    years = stage_outputs.logits["joint"][:, 5]
    bands = -np.abs(years[:, None] - [22.0, 44.0, 66.0]) / 4
    columns = (*JOINT[:5], "age.<30", "age.30-59", "age.>=60")
    banded = StageOutputs(
        {"joint": np.column_stack([stage_outputs.logits["joint"][:, :5], bands])}, {"joint": columns}, {}
    )
    findings = [finding for finding in audit(table, banded, None) if finding.kind == "age"]
    expected = {key for key in planted if key[0] == "age"}
    assert len(expected & set(keys(findings)[:9])) >= 5
    assert all(0 < float(finding.value) <= 120 for finding in findings)
