"""Tables for a terminal fit into its width, and break no word."""

from __future__ import annotations

import pytest

from facecade.report.text import columns, sentences

WIDEST = {
    "ls": (
        ["stage", "folds", "mask accuracy", "gender accuracy", "band accuracy", "age MAE", "minutes", "backbone"],
        [
            ["joint-2", "4 fitted, 1 stale", "0.9941", "0.9562", "0.7201", "5.73", "128.4", "face_reid_0095"],
            ["age-female", "5 fitted", "", "", "", "6.02", "12.3", "tf_efficientnet_b3.ns_jft_in1k"],
        ],
        ["minutes", "backbone"],
    ),
    "fit-meta": (
        ["  combining method", "macro-F1", "accuracy"],
        [["* XGBoost, aligned embeddings + decision rule", "0.6905 [0.6652, 0.7130]", "0.6861 [0.6660, 0.7071]"]],
        [],
    ),
    "audit": (
        ["", "kind", "id", "recorded", "suggested", "error", "reason"],
        [
            [
                "20",
                "gender",
                "001234_female_Asian_45",
                "female",
                "male",
                "0.97",
                "all seven images are predicted male (0.99)",
            ]
        ],
        [],
    ),
    "tune": (
        [
            "trial",
            "state",
            "gender accuracy",
            "lr",
            "weight_decay",
            "layer_decay",
            "dropout",
            "copies_of_old",
            "batch_size",
        ],
        [["19", "complete", "0.9562", "0.0004213", "0.05312", "0.8912", "0.2134", "3", "32"]],
        [],
    ),
}


@pytest.mark.parametrize("name", list(WIDEST))
@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_fit_and_keep_their_words(name: str, width: int) -> None:
    head, rows, optional = WIDEST[name]
    text = columns(rows, head, optional, width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    for row in rows:
        for title, cell in zip(head, row, strict=True):
            if title not in optional:
                assert set(cell.split()) <= words


def test_what_fits_is_one_line_a_row() -> None:
    assert columns([["a", "1"], ["bb", ""]], ["x", "number"], width=80) == "x   number\n--  ------\na   1\nbb"


def test_optional_columns_are_left_out_before_anything_is_wrapped() -> None:
    head, rows, optional = WIDEST["ls"]
    lines = columns(rows, head, optional, 110).splitlines()
    assert len(lines) == 2 + len(rows) and "minutes" in lines[0] and "backbone" not in lines[0]


def test_a_table_that_no_width_fits_becomes_lines() -> None:
    assert (
        columns([["one", "2"], ["two", ""]], ["name", "number"], width=8)
        == "name:\n  one\nnumber:\n  2\n\nname:\n  two"
    )


def test_sentences_break_between_words() -> None:
    line = "joint: mask accuracy 0.9857 (folds 0.9857 to 0.9857), gender accuracy 1.0000 on held-out people"
    assert sentences(line) == line, "stdout is no terminal"
    broken = sentences(f"{line}\nmask: fitted", 40).splitlines()
    assert all(len(each) <= 40 for each in broken) and broken[-1] == "mask: fitted"
    assert " ".join(each.strip() for each in broken[:-1]) == line
