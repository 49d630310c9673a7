"""Backbones of which a part, or all, does not learn.

What the frozen part says of an image never changes. It is computed once, in each of the recipe's views, and
recorded_choice; an epoch then costs only what learns.
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
from facecade.base.artifact import write_atomic
from facecade.base.errors import FacecadeError, unknown_name
from facecade.recipe import StageRecipe
from facecade.training.pixels import chunk
from facecade.training.predict import CHUNK, averaged, predicting, view, voted

ALL = "all"


class PartlyFrozen(nn.Module):
    """What is left to learn of a backbone: features that its frozen part says → (embedding, logits).

    Its parameters are those of the learning modules alone, which stay the backbone's own; nothing else ever changes.
    """

    def __init__(self, backbone: Backbone, until: str, size: tuple[int, int]) -> None:
        """
        Args:
            until: name of the last module that is frozen, as timm names it (`blocks.3`, `layer2`), or `all`: then the
                classifier alone learns.
            size: height and width of the images.

        Raises:
            FacecadeError: the backbone has no such module, or is no chain of modules that could be cut there.
        """
        super().__init__()
        model: Any = backbone.eval().model  # the frozen part for good; `train` is of the rest
        links = [] if until == ALL else chain(model, size)
        frozen = [place for place, name in enumerate(links) if f"{name}.".startswith(f"{until}.")]
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
        self._of = (backbone,)  # in a tuple it is no submodule of this one

    @property
    def backbone(self) -> Backbone:
        """All of it, the frozen part too."""
        return self._of[0]

    @property
    def model(self) -> Any:
        """timm's model, the frozen part too."""
        return self.backbone.model

    def train(self, mode: bool = True) -> PartlyFrozen:
        super().train(mode)
        # The frozen modules stay as they are; dropout before the classifier goes by these two.
        self.backbone.training = self.backbone.model.training = mode
        return self

    def cache_features(self, images: Tensor) -> Tensor:
        """The frozen part: uint8 [B, H, W, 3] → features [B, ...]."""
        if self.until == ALL:
            embedding: Tensor = self.backbone(images)[0]
            return embedding
        return self._through(self.frozen, self.backbone.normalised(images))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.until == ALL:
            return features, self.backbone.classify(features)
        return self.backbone.head(self._through(self.links, features))

    def _through(self, links: list[str], features: Tensor) -> Tensor:
        for name in links:
            features = self.backbone.model.get_submodule(name)(features)
        return features


def chain(model: Any, size: tuple[int, int]) -> list[str]:
    """Names of the modules that a timm model applies one after another before its head, seen by trying.

    Raises:
        FacecadeError: it does more than that, as models with skips between stages or with class tokens do.
    """
    names = [
        part
        for name, module in model.named_children()
        for part in (
            [f"{name}.{each}" for each, _ in module.named_children()] if type(module) is nn.Sequential else [name]
        )
    ]
    features = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()))
    before, end = model.training, 0
    try:
        with torch.inference_mode():
            wanted = model.eval().forward_features(features)
            for place, name in enumerate(names):
                features = model.get_submodule(name)(features)
                if features.shape == wanted.shape and torch.allclose(features, wanted, rtol=1e-4, atol=1e-5):
                    end = place + 1  # the last that does: a fresh residual block changes nothing yet
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        pass  # a module that wants more than the one before it gives
    finally:
        model.train(before)
    if end:
        return names[:end]
    raise FacecadeError(f"{type(model).__name__} is no chain of modules, so that it cannot be cut", 'freeze = "all"')


class CachedFeatures:
    """Features of images, computed once (training/dataset.py)."""

    def __init__(self, features: np.ndarray, place: np.ndarray) -> None:
        """
        Args:
            features: float32 (M, V, ...) of M images in V views.
            place: int64 (N,), where each row's image lies; -1 where it does not.
        """
        self.features, self.place = features, place

    def sample(self, row: int, seed: int) -> np.ndarray:
        """One of the views."""
        views = self.features[self.place[row]]
        return np.asarray(views[seed % len(views)])

    def answers(
        self, partly_frozen: PartlyFrozen, rows: np.ndarray, recipe: StageRecipe
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `training.predict.predict` says of some rows (n,), from features that are an embedding: (n, D) and head outputs (n, C),
        float32.

        Args:
            thawed: with all of its backbone frozen, in eval mode.
        """
        device, said = next(partly_frozen.parameters()).device, []
        for part in np.array_split(rows, -(-len(rows) // CHUNK[device.type])):
            views = np.asarray(self.features[self.place[part]]).swapaxes(0, 1)
            with predicting(device):
                embedding, outputs = partly_frozen(torch.tensor(views).to(device).flatten(0, 1))
            said.append((averaged(embedding, recipe.views), voted(outputs, recipe.views, recipe.vote)))
        return tuple(torch.cat(parts).cpu().numpy() for parts in zip(*said, strict=True))  # type: ignore[return-value]

    def outputs(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        device, said = next(model.parameters()).device, []
        for part in np.array_split(rows, -(-len(rows) // CHUNK[device.type])):
            views = torch.from_numpy(np.asarray(self.features[self.place[part]])).to(device)
            with predicting(device):
                outputs = model(views.flatten(0, 1))[1].float()
            said.append(outputs.unflatten(0, views.shape[:2]).mean(1).cpu().numpy())
        return np.concatenate(said)


def cache_features(
    partly_frozen: PartlyFrozen,
    crops: np.ndarray,
    crop_row: np.ndarray,
    rows: np.ndarray,
    recipe: StageRecipe,
    folder: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> CachedFeatures:
    """What the frozen part says of some rows' images, in each of the recipe's views.

    Args:
        thawed: in eval mode.
        crops: uint8 (M, h, w, 3), RGB. crop_row: int64 (N,), where each row's crop lies. rows: int64 (n,).
        folder: for a file that holds it, which is gone when it is no longer used.
        advance: called with the number of images done.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        features = _features(partly_frozen, crops, crop_row[rows], recipe, file, advance)
    place = np.full(len(crop_row), -1)
    place[rows] = np.arange(len(rows))
    return CachedFeatures(features, place)


def cache_shared_features(
    partly_frozen: PartlyFrozen,
    crops: np.ndarray,
    crop_row: np.ndarray,
    recipe: StageRecipe,
    folder: Path,
    advance: Callable[[int], None] = lambda count: None,
) -> CachedFeatures:
    """The same of all rows, computed by whichever fit comes first and kept for the others: where a backbone is frozen as others
    trained it, it says the same in every fold.

    Args:
        folder: for a file that holds it, by what it was made of.
    """
    places, place = np.unique(crop_row, return_inverse=True)
    path = folder / f"frozen-{_made_of(partly_frozen.backbone, recipe, places)}.npy"
    with FileLock(path.with_suffix(".lock")):
        if not path.exists():
            with tempfile.TemporaryFile(dir=folder) as file:
                features = _features(partly_frozen, crops, places, recipe, file, advance)
                write_atomic(path, lambda temporary: np.save(temporary, features))
        else:
            advance(len(places))
    return CachedFeatures(np.load(path, mmap_mode="r", allow_pickle=False), place)


def _made_of(backbone: Backbone, recipe: StageRecipe, places: np.ndarray) -> str:
    """A fingerprint of a frozen backbone without its classifier, of how images are shown to it, and of which."""
    head = {id(parameter) for parameter in backbone.model.get_classifier().parameters()}
    parts = hashlib.blake2b(json.dumps([recipe.size, recipe.views]).encode() + places.tobytes(), digest_size=8)
    named = [*backbone.named_parameters(), *backbone.named_buffers()]
    for name, value in named:
        if id(value) not in head:
            parts.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return parts.hexdigest()


def _features(
    partly_frozen: PartlyFrozen,
    crops: np.ndarray,
    places: np.ndarray,
    recipe: StageRecipe,
    file: IO[bytes],
    advance: Callable[[int], None],
) -> np.ndarray:
    """Features (n, V, ...) of the crops at some places (n,), float32, in a file."""
    device = next(partly_frozen.backbone.parameters()).device
    count, features = CHUNK[device.type], np.empty(0, np.float32)
    for start in range(0, len(places), count):
        chosen = places[start : start + count]
        images = torch.from_numpy(chunk(crops[chosen], recipe.size, count)).to(device)
        with predicting(device):
            said = torch.stack([partly_frozen.cache_features(view(images, name)) for name in recipe.views], 1).float()
        if not start:
            features = np.memmap(file, np.float32, "w+", shape=(len(places), *said.shape[1:]))
        features[start : start + count] = said[: len(chosen)].cpu().numpy()
        advance(len(chosen))
    return features
