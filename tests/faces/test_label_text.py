"""What a text means as a label: years, a band, or a word that is probably one."""

from __future__ import annotations

import pytest

from facecade.faces.folder_names import labels_of_name
from facecade.faces.label_text import Age, age_of, suggestion
from facecade.faces.reading import AS_WRITTEN, make_reading


@pytest.mark.parametrize(
    ("text", "years"),
    [
        *[("<30", 15), ("0-29", 15), ("under30", 15), ("under 30", 15), ("<=29", 15), ("30-59", 45), ("30–59", 45)],
        *[("20-29", 25), ("20s", 25), ("40대", 45), ("18-24", 21.5), ("60-69", 65)],
    ],
)
def test_a_closed_band_counts_as_its_middle(text: str, years: float) -> None:
    assert age_of(text) == Age(years, of_band=True, middle=True)


@pytest.mark.parametrize(
    ("text", "years"),
    [("60+", 60), (">=60", 60), ("over60", 60), (">59", 60), ("60-99", 60), ("80+", 80), ("from 65", 65)],
)
def test_an_open_band_counts_as_at_least_its_edge(text: str, years: float) -> None:
    assert age_of(text) == Age(years, of_band=True)


@pytest.mark.parametrize(
    "text", ["20-40", ">30", "under 60", "59-30", "30-", "-", "60++", "0", "121", "130+", "٣٠-٥٩", "", "999-1000"]
)
def test_what_is_no_age_of_one_band_is_refused(text: str) -> None:
    assert age_of(text) is None


def test_years_are_years() -> None:
    assert age_of("61.5") == Age(61.5) and age_of("120") == Age(120)


@pytest.mark.parametrize(
    ("name", "text", "label"),
    [
        *[
            ("gender", "M", "male"),
            ("gender", "여", "female"),
            ("gender", "Woman", "female"),
            ("gender", "femal", "female"),
        ],
        *[("mask", "mask_weared_incorrect", "incorrect"), ("mask", "without-mask", "normal"), ("mask", "Mask", "wear")],
        *[("gender", "x", ""), ("mask", "half", ""), ("age", "old", "")],
    ],
)
def test_other_words_are_recognised(name: str, text: str, label: str) -> None:
    assert suggestion(name, text) == label


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("mask_female_30-59", {"mask": "wear", "gender": "female", "age": "30-59"}),
        ("wear_male_<30", {"mask": "wear", "gender": "male", "age": "<30"}),
        ("60+ no-mask Woman", {"mask": "normal", "gender": "female", "age": "60+"}),
        ("mask_weared_incorrect", {"mask": "incorrect"}),
        ("no_mask", {"mask": "normal"}),
        ("without mask_under_30", {"mask": "normal", "age": "under 30"}),
        ("남성_45", {"gender": "male", "age": "45"}),
        ("age_25", {"age": "25"}),
        ("male-30_59", {"gender": "male", "age": "30-59"}),
    ],
)
def test_names_of_folders_are_understood_in_any_order(name: str, labels: dict[str, str]) -> None:
    assert labels_of_name(name, AS_WRITTEN) == labels


@pytest.mark.parametrize(
    "name", ["12", "ann_lee", "mask_ann", "male_female", "000001_female_Asian_45", "", "years", "masks", "mask_20-40"]
)
def test_other_names_are_not(name: str) -> None:
    assert labels_of_name(name, AS_WRITTEN) is None


def test_words_are_mapped_in_names() -> None:
    reading = make_reading(["mask.covered=wear"])
    labels = labels_of_name("Covered_f", reading)
    assert labels == {"mask": "covered", "gender": "female"} and reading.label("mask", labels["mask"]) == "wear"
