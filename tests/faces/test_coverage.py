"""Classes without images, and images without labels, are counted."""

from __future__ import annotations

import numpy as np
import pandas as pd

from facecade.faces.coverage import absent_classes, coverage_notes
from facecade.faces.labels import decode, encode


def test_all_classes_need_no_word() -> None:
    assert absent_classes(np.arange(18)) == []
    # a class alone may be absent: its mask, and its gender and band, are learned from others
    assert absent_classes(np.delete(np.arange(18), 7)) == []


def test_absent_masks_and_groups_are_named_with_their_classes() -> None:
    mask, gender, band = decode(np.arange(18))
    assert absent_classes(encode(mask, gender, band)[mask != 1]) == [
        "no image is incorrect: classes 6, 7, 8, 9, 10, 11 cannot be learned, and macro-F1 is over the other 12"
    ]
    (text,) = absent_classes(np.arange(18)[(mask != 2) & ~((gender == 1) & (band == 2))])
    assert text.startswith("no image is normal or female >=60: classes 5, 11, 12, 13, 14, 15, 16, 17 cannot")
    assert text.endswith("over the other 10")


def test_labels_are_counted_where_some_are_unknown() -> None:
    whole = pd.DataFrame({"mask": ["wear", "normal"], "gender": ["male", "female"], "age": [20.0, 70.0]})
    assert not any("labels" in line for line in coverage_notes(whole))
    counts, text = coverage_notes(whole.assign(age=[20.0, np.nan]))
    assert counts == "labels: mask 2, gender 2, age 1 of 2 images; all three 1"
    assert "no image is incorrect or normal or male 30-59" in text and text.endswith("the other 1")
    assert coverage_notes(whole.assign(age=np.nan))[1].startswith("no image has all three labels")
