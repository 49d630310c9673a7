"""Align the embeddings of all folds to one basis.

The same coordinate means different things in models trained on different folds. A rotation fitted
on rows that both models trained on (orthogonal Procrustes, Schönemann 1966) corrects this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Alignment:
    """One affine map per fold, from that model's embeddings to the shared basis: d principal components of fold 0.

    offset: float32 (folds, D); matrix: float32 (folds, D, d).
    """

    offset: np.ndarray
    matrix: np.ndarray

    def apply(self, fold: int, embedding: np.ndarray) -> np.ndarray:
        """Map embeddings (N, D) of one fold's model to the shared basis: float32 (N, d)."""
        return ((embedding - self.offset[fold]) @ self.matrix[fold]).astype(np.float32)

    def unrotated(self) -> Alignment:
        """Fold 0's map for every fold, to measure what the rotation gains."""
        return Alignment(
            np.repeat(self.offset[:1], len(self.offset), 0), np.repeat(self.matrix[:1], len(self.matrix), 0)
        )


def fit_alignment(anchors: list[np.ndarray], fold: np.ndarray, components: int) -> Alignment:
    """Fit every fold's map to the principal components of fold 0's embedding.

    Args:
        anchors: one array (A, D) per fold: its embeddings of the same A rows.
        fold: int (A,), the fold of each anchor row.
        components: width d of the result; at most D and at most A.
    """
    trained = fold != 0  # rows that model 0 trained on
    mean = anchors[0][trained].mean(0)
    _, _, directions = np.linalg.svd(anchors[0][trained] - mean, full_matrices=False)
    basis = directions[:components].T
    offsets, matrices = [mean], [basis]
    for number, embedding in enumerate(anchors[1:], start=1):
        both = trained & (fold != number)
        if not both.any():  # two folds share no training rows
            both = np.ones(len(fold), bool)
        offset = embedding[both].mean(0)
        rotation = _rotation(embedding[both] - offset, anchors[0][both] - anchors[0][both].mean(0))
        # fold 0's mean over `both` differs from `mean`; keep one origin for all folds
        offsets.append(offset - (anchors[0][both].mean(0) - mean) @ rotation.T)
        matrices.append(rotation @ basis)
    return Alignment(np.stack(offsets).astype(np.float32), np.stack(matrices).astype(np.float32))


def _rotation(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The orthogonal matrix (D, D) that takes centred rows (A, D) nearest to others (A, D).

    The same as `scipy.linalg.orthogonal_procrustes`, whose SVD keeps the interpreter for seconds: nothing could stop it, Ctrl-C
    neither.
    """
    left, _, right = np.linalg.svd((target.T @ source).T)
    return left @ right
