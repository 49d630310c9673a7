"""Backbones that are partly or wholly frozen.

The frozen part's features of an image never change. They are computed once, for each of the recipe's views, and cached;
an epoch then costs only the trainable part.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor, nn

from facecade.backbones.backbone import Backbone
from facecade.base.artifact import remove_leftovers, write_atomic, writing
from facecade.base.errors import FacecadeError, first_line, unknown_name
from facecade.recipe import StageRecipe
from facecade.training.pixels import padded_batch
from facecade.training.predict import IMAGES_PER_CHUNK, combine_views, inference_context, make_view, mean_over_views

ALL = "all"


class PartlyFrozen(nn.Module):
    """The trainable part of a backbone: features of its frozen part → (embedding, logits).

    Its parameters are those of the trainable modules alone, which it shares with the backbone; nothing else changes.
    """

    def __init__(self, backbone: Backbone, until: str, size: tuple[int, int]) -> None:
        """
        Args:
            until: timm's name of the last frozen module (`blocks.3`, `layer2`), or `all`: then only the classifier is
                trained.
            size: height and width of the images.

        Raises:
            FacecadeError: the backbone has no such module, or is not a chain of modules.
        """
        super().__init__()
        model: Any = backbone.eval().model  # the frozen part stays in eval mode; `train` affects the rest
        links = [] if until == ALL else module_chain(model, size)
        frozen = [index for index, name in enumerate(links) if f"{name}.".startswith(f"{until}.")]
        if until != ALL and not frozen:
            raise unknown_name("module", until, dict.fromkeys([*links, *(name.split(".")[0] for name in links)]))
        cut = max(frozen, default=-1) + 1
        self.until, self.frozen, self.links = until, links[:cut], links[cut:]
        head = [module for name, module in model.named_children() if name not in {link.split(".")[0] for link in links}]
        self.learning = nn.ModuleList(
            [model.get_classifier()] if until == ALL else [*(model.get_submodule(name) for name in self.links), *head]
        )
        model.requires_grad_(False)
        self.learning.requires_grad_(True)
        self._backbone = (backbone,)  # a tuple, so that it is not registered as a submodule

    @property
    def backbone(self) -> Backbone:
        """The whole backbone."""
        return self._backbone[0]

    @property
    def model(self) -> Any:
        """The whole timm model."""
        return self.backbone.model

    def train(self, mode: bool = True) -> PartlyFrozen:
        super().train(mode)
        # The frozen modules stay in eval mode; these two flags control the dropout before the classifier.
        self.backbone.training = self.backbone.model.training = mode
        return self

    def frozen_features(self, images: Tensor) -> Tensor:
        """The frozen part: uint8 [B, H, W, 3] → features [B, ...]."""
        if self.until == ALL:
            embedding: Tensor = self.backbone(images)[0]
            return embedding
        return self._apply_links(self.frozen, self.backbone.normalize(images))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.until == ALL:
            return features, self.backbone.classify(features)
        return self.backbone.head(self._apply_links(self.links, features))

    def _apply_links(self, links: list[str], features: Tensor) -> Tensor:
        for name in links:
            features = self.backbone.model.get_submodule(name)(features)
        return features


def module_chain(model: Any, size: tuple[int, int]) -> list[str]:
    """Names of the modules that a timm model applies one after another before its head, found by running them.

    Raises:
        FacecadeError: the model does more, for example has skips between stages or class tokens.
    """
    names = [
        part
        for name, module in model.named_children()
        for part in (
            [f"{name}.{child}" for child, _ in module.named_children()] if type(module) is nn.Sequential else [name]
        )
    ]
    features = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()))
    training, end = model.training, 0
    try:
        with torch.inference_mode():
            expected = model.eval().forward_features(features)
            for index, name in enumerate(names):
                features = model.get_submodule(name)(features)
                if features.shape == expected.shape and torch.allclose(features, expected, rtol=1e-4, atol=1e-5):
                    end = index + 1  # the last match: a newly initialized residual block is the identity
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        pass  # the module does not accept the output of the one before it
    finally:
        model.train(training)
    if end:
        return names[:end]
    raise FacecadeError(
        f"{type(model).__name__} is not a chain of modules, so that a part of it cannot be frozen", 'freeze = "all"'
    )


class CachedFeatures:
    """Features of images, computed once; a `Dataset` (training/dataset.py)."""

    def __init__(self, features: np.ndarray, feature_row: np.ndarray) -> None:
        """
        Args:
            features: float32 (M, V, ...) of M images in V views.
            feature_row: int64 (N,), index of each row's image in `features`; -1 if it is not there.
        """
        self.features, self.feature_row = features, feature_row

    def sample(self, row: int, seed: int) -> np.ndarray:
        """The features of one view."""
        views = self.features[self.feature_row[row]]
        return np.asarray(views[seed % len(views)])

    def predict(
        self, partly_frozen: PartlyFrozen, rows: np.ndarray, recipe: StageRecipe
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same as `training.predict.predict` for some rows (n,), from features that are embeddings.

        Args:
            partly_frozen: with all of its backbone frozen, in eval mode.

        Returns:
            embedding (n, D) and head outputs (n, C), float32.
        """
        device, results = next(partly_frozen.parameters()).device, []
        for part in np.array_split(rows, -(-len(rows) // IMAGES_PER_CHUNK[device.type])):
            views = np.asarray(self.features[self.feature_row[part]]).swapaxes(0, 1)
            with inference_context(device):
                embedding, outputs = partly_frozen(torch.tensor(views).to(device).flatten(0, 1))
            results.append(
                (mean_over_views(embedding, recipe.views), combine_views(outputs, recipe.views, recipe.vote))
            )
        return tuple(torch.cat(parts).cpu().numpy() for parts in zip(*results, strict=True))  # type: ignore[return-value]

    def outputs(self, model: nn.Module, rows: np.ndarray, first_view: bool = False) -> np.ndarray:
        device, results = next(model.parameters()).device, []
        for part in np.array_split(rows, -(-len(rows) // IMAGES_PER_CHUNK[device.type])):
            features = np.asarray(self.features[self.feature_row[part]])
            views = torch.from_numpy(features[:, :1] if first_view else features).to(device)
            with inference_context(device):
                outputs = model(views.flatten(0, 1))[1].float()
            results.append(outputs.unflatten(0, views.shape[:2]).mean(1).cpu().numpy())
        return np.concatenate(results)


def cache_features(
    partly_frozen: PartlyFrozen,
    crops: np.ndarray,
    crop_row: np.ndarray,
    rows: np.ndarray,
    recipe: StageRecipe,
    folder: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> CachedFeatures:
    """The frozen part's features of some rows' images, in each of the recipe's views.

    Args:
        partly_frozen: in eval mode.
        crops: uint8 (M, h, w, 3), RGB. crop_row: int64 (N,), index of each row's crop. rows: int64 (n,).
        folder: for a temporary file with the features.
        advance: called with the number of images that were just computed.
    """
    with writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        features = _compute_features(partly_frozen, crops, crop_row[rows], recipe, file, advance)
    feature_row = np.full(len(crop_row), -1)
    feature_row[rows] = np.arange(len(rows))
    return CachedFeatures(features, feature_row)


def cache_shared_features(
    partly_frozen: PartlyFrozen,
    crops: np.ndarray,
    crop_row: np.ndarray,
    recipe: StageRecipe,
    folder: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> CachedFeatures:
    """`cache_features` for all rows, computed by the first fit and shared with the others: a backbone with frozen
    pretrained weights gives the same features in every fold.

    Args:
        folder: for the file with the features, named by their fingerprint.
    """
    crop_indices, feature_row = np.unique(crop_row, return_inverse=True)
    path = folder / f"frozen-{_fingerprint(partly_frozen.backbone, recipe, crop_indices)}.npy"
    with FileLock(path.with_suffix(".lock")):
        remove_leftovers(folder, path.name)
        if not path.exists():
            with writing(folder), tempfile.TemporaryFile(dir=folder) as file:
                features = _compute_features(partly_frozen, crops, crop_indices, recipe, file, advance)
                write_atomic(path, lambda temporary: np.save(temporary, features))
        else:
            advance(len(crop_indices))
    return CachedFeatures(_read_features(path, (len(crop_indices), len(recipe.views))), feature_row)


def _read_features(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Cached features (*shape, ...), float32, memory-mapped; raises FacecadeError if the file is damaged."""
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises many kinds of errors for a damaged file
        raise FacecadeError(f"{path} is damaged: {first_line(error)}", "remove it; it is only a cache") from None
    if features.dtype != np.float32 or features.shape[:2] != shape:
        raise FacecadeError(f"{path} has features of other images", "remove it; it is only a cache")
    return features


def _fingerprint(backbone: Backbone, recipe: StageRecipe, crop_indices: np.ndarray) -> str:
    """A hash of a frozen backbone without its classifier, the image size, the views, and the crops."""
    head = {id(parameter) for parameter in backbone.model.get_classifier().parameters()}
    digest = hashlib.blake2b(json.dumps([recipe.size, recipe.views]).encode() + crop_indices.tobytes(), digest_size=8)
    tensors = [*backbone.named_parameters(), *backbone.named_buffers()]
    for name, value in tensors:
        if id(value) not in head:
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _compute_features(
    partly_frozen: PartlyFrozen,
    crops: np.ndarray,
    crop_indices: np.ndarray,
    recipe: StageRecipe,
    file: IO[bytes],
    advance: Callable[[int], None],
) -> np.ndarray:
    """Features (n, V, ...) of some crops (n,), float32, memory-mapped from a file.

    They are written first and mapped afterwards: a full disk kills a process that writes to a map.
    """
    device = next(partly_frozen.backbone.parameters()).device
    count = IMAGES_PER_CHUNK[device.type]
    for start in range(0, len(crop_indices), count):
        chosen = crop_indices[start : start + count]
        images = torch.from_numpy(padded_batch(crops[chosen], recipe.size, count)).to(device)
        with inference_context(device):
            values = torch.stack(
                [partly_frozen.frozen_features(make_view(images, name)) for name in recipe.views], 1
            ).float()
        file.write(values[: len(chosen)].cpu().numpy().tobytes())
        advance(len(chosen))
    file.flush()
    return np.memmap(file, np.float32, "r", shape=(len(crop_indices), *values.shape[1:]))
