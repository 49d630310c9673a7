"""The class encoding equals the table in the competition's description."""

import numpy as np
import pytest

from facecade.faces.labels import BANDS, GENDERS, MASKS, band_of, class_name, decode, encode

# class, mask, gender, band
TABLE = [
    (0, "wear", "male", "<30"), (1, "wear", "male", "30-59"), (2, "wear", "male", ">=60"),
    (3, "wear", "female", "<30"), (4, "wear", "female", "30-59"), (5, "wear", "female", ">=60"),
    (6, "incorrect", "male", "<30"), (7, "incorrect", "male", "30-59"), (8, "incorrect", "male", ">=60"),
    (9, "incorrect", "female", "<30"), (10, "incorrect", "female", "30-59"), (11, "incorrect", "female", ">=60"),
    (12, "normal", "male", "<30"), (13, "normal", "male", "30-59"), (14, "normal", "male", ">=60"),
    (15, "normal", "female", "<30"), (16, "normal", "female", "30-59"), (17, "normal", "female", ">=60"),
]  # fmt: skip


@pytest.mark.parametrize(("label", "mask", "gender", "band"), TABLE)
def test_encoding_equals_the_published_table(label: int, mask: str, gender: str, band: str) -> None:
    numbers = (MASKS.index(mask), GENDERS.index(gender), BANDS.index(band))
    assert int(encode(*numbers)) == label
    assert tuple(int(part) for part in decode(label)) == numbers
    assert class_name(label) == f"{mask} {gender} {band}"


def test_bands_begin_at_30_and_60() -> None:
    assert band_of([18, 29, 29.9, 30, 59, 59.9, 60, 80]).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_encode_and_decode_are_inverse() -> None:
    assert encode(*decode(np.arange(18))).tolist() == list(range(18))
