"""Folds' embeddings brought into one basis.

Models trained on different folds put different meanings on the same coordinate. A rotation fitted
on rows that both models trained on (orthogonal Procrustes, Schönemann 1966) undoes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import orthogonal_procrustes


@dataclass(frozen=True)
class Alignment:
    """For every fold's model an affine map of its embeddings into the shared basis.

    offset: float32 (folds, D); matrix: float32 (folds, D, d). d principal components of fold 0.
    """

    offset: np.ndarray
    matrix: np.ndarray

    def apply(self, fold: int, embedding: np.ndarray) -> np.ndarray:
        """Embeddings (N, D) of one fold's model in the shared basis (N, d), float32."""
        return ((embedding - self.offset[fold]) @ self.matrix[fold]).astype(np.float32)

    def unrotated(self) -> Alignment:
        """Fold 0's map for every fold, to measure what the rotation is worth."""
        return Alignment(
            np.repeat(self.offset[:1], len(self.offset), 0), np.repeat(self.matrix[:1], len(self.matrix), 0)
        )


def fit_alignment(anchors: list[np.ndarray], fold: np.ndarray, components: int) -> Alignment:
    """Learn every fold's map into the principal components of fold 0's embedding.

    Args:
        anchors: each fold's embeddings (A, D) of the same A rows.
        fold: int (A,), the fold that each anchor row belongs to.
        components: width d of the result, at most D and A.
    """
    seen = fold != 0  # rows that model 0 trained on
    mean = anchors[0][seen].mean(0)
    _, _, directions = np.linalg.svd(anchors[0][seen] - mean, full_matrices=False)
    basis = directions[:components].T
    offsets, matrices = [mean], [basis]
    for number, embedding in enumerate(anchors[1:], start=1):
        both = seen & (fold != number)
        if not both.any():  # two folds share no training rows
            both = np.ones(len(fold), bool)
        offset = embedding[both].mean(0)
        rotation, _ = orthogonal_procrustes(embedding[both] - offset, anchors[0][both] - anchors[0][both].mean(0))
        # fold 0's mean over `both` differs from `mean`; keep one origin for all folds
        offsets.append(offset - (anchors[0][both].mean(0) - mean) @ rotation.T)
        matrices.append(rotation @ basis)
    return Alignment(np.stack(offsets).astype(np.float32), np.stack(matrices).astype(np.float32))
