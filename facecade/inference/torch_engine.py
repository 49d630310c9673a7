"""Fitted folds as torch modules, and torch as the engine that runs them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from facecade.base.artifact import again
from facecade.base.errors import FacecadeError
from facecade.combiner.align import Alignment
from facecade.inference.engines import Model
from facecade.inference.ensemble import Ensemble, Member
from facecade.inference.families import families
from facecade.records import combiner_command
from facecade.stages.fit import Fit, load_fold
from facecade.training.predict import IMAGES_PER_CHUNK, combine_views, inference_context, mean_over_views, stack_views


class FamilyModel(torch.nn.Module):
    """Fits that share a backbone, of one fold or of several: crops, uint8 [B, h, w, 3], RGB → of each fit the embedding in
    the folds' shared basis [B, d] and the logits [B, C], float32."""

    def __init__(self, fits: Sequence[Fit], alignments: Mapping[str, Alignment]) -> None:
        """
        Args:
            fits: all have the backbone of the first (inference/families.py).
        """
        super().__init__()
        first, *others = fits
        self.size, self.fits = first.recipe.size, fits
        self.backbone = load_fold(first, torch.device("cpu"))
        classifiers = [load_fold(fit, torch.device("cpu")).model.get_classifier() for fit in others]
        self.classifiers = torch.nn.ModuleList(classifiers)
        for index, fit in enumerate(fits):
            alignment = alignments[fit.stage.name]
            self.register_buffer(f"offset_{index}", torch.from_numpy(alignment.offset[fit.fold]))
            self.register_buffer(f"matrix_{index}", torch.from_numpy(alignment.matrix[fit.fold]))

    def forward(self, crops: Tensor) -> list[Tensor]:
        return self.stage_outputs(self.head_outputs(crops))

    def head_outputs(self, crops: Tensor) -> list[Tensor]:
        """The backbone's embedding [B, D], and each head's outputs."""
        views = self.fits[0].recipe.views
        embedding, outputs = self.backbone(stack_views(crops, views))
        heads = [outputs, *(classifier(embedding) for classifier in self.classifiers)]
        votes = [combine_views(each, views, fit.recipe.vote) for fit, each in zip(self.fits, heads, strict=True)]
        return [mean_over_views(embedding, views), *votes]

    def stage_outputs(self, head_outputs: Sequence[Tensor]) -> list[Tensor]:
        """The embedding in the shared basis and the logits, of each fit."""
        embedding, *heads = head_outputs
        outputs = []
        for index, (fit, head) in enumerate(zip(self.fits, heads, strict=True)):
            offset, matrix = (self.get_buffer(f"{what}_{index}") for what in ("offset", "matrix"))
            if len(offset) != embedding.shape[1]:
                made_by = combiner_command(fit.folder.parents[2] / "combiner")
                raise FacecadeError(f"the alignment of {fit.stage.name} is that of another network", again(made_by))
            outputs += [(embedding - offset) @ matrix, fit.stage.logits(head)]
        return outputs


def networks(
    fits: Mapping[str, Sequence[Fit]], alignments: Mapping[str, Alignment]
) -> Iterator[tuple[tuple[str, ...], Iterator[tuple[tuple[int, ...], FamilyModel]]]]:
    """The stages that share a backbone, and their networks with the folds of each; a network is loaded when it is reached.

    Args:
        fits: the fitted folds of each stage.
    """
    for family in families({stage: folds[0].recipe for stage, folds in fits.items()}):
        by_fold = list(zip(*(fits[stage] for stage in family), strict=True))
        if by_fold[0][0].recipe.same_in_all_folds:
            groups = [[fit for fold_fits in by_fold for fit in fold_fits]]
        else:
            groups = [list(fold_fits) for fold_fits in by_fold]
        yield family, ((_folds(group), FamilyModel(group, alignments).eval()) for group in groups)


def _folds(fits: Sequence[Fit]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(fit.fold for fit in fits))


def torch_ensemble(
    fits: Mapping[str, Sequence[Fit]], alignments: Mapping[str, Alignment], device: torch.device, streams: int
) -> Ensemble:
    """All folds of all stages, run by torch.

    Args:
        fits: the fitted folds of each stage.
        streams: networks that run at once on a CPU; an accelerator runs one after the other.
    """
    if device.type == "cpu" and streams > 1:  # one thread per network: they never wait for each other
        torch.set_num_threads(1)
    members = [
        Member(family, folds, network.size, _run(network.to(device), device))
        for family, family_networks in networks(fits, alignments)
        for folds, network in family_networks
    ]
    columns = {stage: folds[0].stage.columns for stage, folds in fits.items()}
    return Ensemble(members, columns, IMAGES_PER_CHUNK[device.type], streams if device.type == "cpu" else 1)


def _run(network: FamilyModel, device: torch.device) -> Model:
    def call(crops: np.ndarray) -> list[np.ndarray]:
        with inference_context(device):
            heads = network.head_outputs(torch.from_numpy(crops).to(device))
        with torch.inference_mode():
            return [values.cpu().numpy() for values in network.stage_outputs(heads)]

    return call
