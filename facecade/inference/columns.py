"""Predictions as arrays, a column each: what parts and batches are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facecade.faces.boxes import SIDES
from facecade.faces.labels import N_CLASSES, decode
from facecade.inference.cascade import Cascade, Rows
from facecade.report.predictions import NO_PREDICTION

AGES = ("age", "age_if_male", "age_if_female")


@dataclass(frozen=True)
class Columns:
    """Predictions of N faces as arrays. Where `label` is NO_PREDICTION, the other values say nothing.

    label: int8. mask, gender, band: int8, indices of MASKS, GENDERS and BANDS. age, age_if_male, age_if_female, confidence: float32.
    flags: text, separated by blanks. faces, face: int16, -1 and 0 where unknown. box: float32 (N, 4), NaN where there is none.
    probability: float32 (N, 18). embedding: float32 (N, D), NaN where there is none; None where it was not asked for.
    """

    label: np.ndarray
    mask: np.ndarray
    gender: np.ndarray
    band: np.ndarray
    years: np.ndarray
    confidence: np.ndarray
    flags: list[str]
    faces: np.ndarray
    face: np.ndarray
    box: np.ndarray
    probability: np.ndarray
    embedding: np.ndarray | None = None


def columns_of(batches: Sequence[Rows], widths: Mapping[str, int] | None = None) -> Columns:
    """The columns of some batches of predictions.

    Args:
        widths: of each stage's embedding, where they are asked for.
    """
    label = np.concatenate([np.empty(0, int), *(rows.label for rows in batches)])
    known = label != NO_PREDICTION
    mask, gender, band = (part.astype(np.int8) for part in decode(np.where(known, label, 0)))
    faces = [face for rows in batches for face in rows.faces]
    nothing = np.empty((0, N_CLASSES))
    probability = np.concatenate([nothing, *(rows.probability for rows in batches)]).astype(np.float32)
    boxes = [[getattr(face.box, side) if face.box else np.nan for side in SIDES] for face in faces]
    embedding = None
    if widths is not None:
        outputs = [rows.outputs for rows in batches if rows.outputs]
        embedding = np.full((len(label), sum(widths.values())), np.nan, np.float32)
        if outputs:
            embedding[known] = np.concatenate(
                [np.hstack([each.embedding[stage] for stage in widths]) for each in outputs]
            )
    return Columns(
        label.astype(np.int8),
        mask,
        gender,
        band,
        np.concatenate([np.empty((0, len(AGES))), *(rows.years for rows in batches)]).astype(np.float32),
        np.concatenate([np.empty(0), *(rows.confidence for rows in batches)]).astype(np.float32),
        [" ".join(flags) for rows in batches for flags in rows.flags],
        np.array([-1 if face.faces is None else min(face.faces, 32767) for face in faces], np.int16),
        np.array([face.number for face in faces], np.int16),
        np.array(boxes, np.float32).reshape(-1, 4),
        probability,
        embedding,
    )


def embedding_widths(cascade: Cascade) -> dict[str, int]:
    """The width of each stage's embedding, in the stages' order; the networks run once for it."""
    blank = np.zeros((1, *cascade.face.size, 3), np.uint8)
    outputs = next(iter(cascade.ensemble.predict_all(blank).values()))
    return {stage: values.shape[1] for stage, values in outputs.embedding.items()}
