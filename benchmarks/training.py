"""How fast the training loop is, against the model alone and against timm's parts; write benchmarks/TRAINING.md.

    python benchmarks/training.py ../shared/data/faces

Everything is measured in this one call, on the same photographs, model and settings: in as many processes at once as the
machine has cores, each with one thread, as `fit-stage` runs its fits.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from base.artifact import write_json
from base.machine import cores
from faces.labels import BAND_EDGES
from faces.store import Entry, FaceStore
from faces.table import read_source
from recipe import Recipe, StageRecipe, parse, read_toml
from report.results import table

TIMED = 1
"""Epochs that are timed, after one that is not."""


@dataclass(frozen=True)
class Task:
    """What a process measures on. crops: uint8 (N, h, w, 3), a .npy file; rows: of the sample table, N of them."""

    recipe: Recipe
    name: str
    crops: Path
    labels: Path
    folder: Path

    @property
    def stage(self) -> StageRecipe:
        return self.recipe.stages[self.name]

    def pixels(self) -> np.ndarray:
        return np.load(self.crops, mmap_mode="r")  # type: ignore[no-any-return]


def loop(task: Task) -> float:
    """Photographs a second of `training.loop.fit`, augmentation, optimizer and averaged weights included."""
    from training.loop import fit

    backbone, lessons, loss = _begun(task)
    name = multiprocessing.current_process().name
    recipe = task.stage.model_copy(update={"epochs": 1 + TIMED, "per_person": 0})
    state, folder = task.folder / f"{name}.safetensors", task.folder / name
    fit(backbone, lessons, loss, recipe, 0, state, folder, name)
    from training.tracking import read_history

    seconds = [line["seconds"] for line in read_history(folder)][1:]
    return len(lessons.rows) // recipe.batch_size * recipe.batch_size * TIMED / sum(seconds)


def alone(task: Task) -> float:
    """Photographs a second of forward and backward on one batch that is ready."""
    import torch

    backbone, lessons, loss = _begun(task)
    size = task.stage.batch_size
    batch = torch.from_numpy(_resized(task.pixels()[:size], task.stage.size))
    target = torch.from_numpy(lessons.target[:size])

    def step() -> None:
        _, outputs = backbone(batch)
        loss(outputs.float(), target).mean().backward()
        backbone.zero_grad()

    return _steady(step, size, len(lessons.rows) // size)


def timms(task: Task) -> float:
    """Photographs a second of a loop of timm's parts, as its training script puts them together: its loader with its own
    augmentation, optimizer, schedule, averaged weights, and clipping."""
    import torch
    from PIL import Image
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    backbone, lessons, loss = _begun(task)
    recipe = task.stage
    images = [Image.fromarray(crop) for crop in task.pixels()]

    class Crops(torch.utils.data.Dataset[Any]):
        transform: Any = None

        def __len__(self) -> int:
            return len(images)

        def __getitem__(self, place: int) -> tuple[Any, int]:
            return self.transform(images[place]), place

    loader = create_loader(
        Crops(), (3, *recipe.size), recipe.batch_size, is_training=True, num_workers=0, use_prefetcher=False,
        device=torch.device("cpu"), color_jitter=0.4, re_prob=0.5, interpolation="bilinear", persistent_workers=False,
    )  # fmt: skip
    optimizer = create_optimizer_v2(backbone, opt=recipe.optimizer, lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=2, updates_per_epoch=len(loader), step_on_epochs=False
    )
    average = ModelEmaV3(backbone, decay=recipe.ema or 0.99)
    target = torch.from_numpy(lessons.target)

    def epoch() -> float:
        started, seen = time.monotonic(), 0
        for step, (photographs, places) in enumerate(loader):
            features = backbone.model.forward_features(photographs.to(memory_format=torch.channels_last))
            outputs = backbone.model.forward_head(features)
            loss(outputs.float(), target[places]).mean().backward()
            dispatch_clip_grad(backbone.parameters(), recipe.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
            average.update(backbone, step=step)
            schedule.step_update(step)
            seen += len(places)
        return seen / (time.monotonic() - started)

    epoch()
    return epoch()


def _begun(task: Task) -> tuple[Any, Any, Callable[..., Any]]:
    """A fresh model, what it learns from, and its loss."""
    import pandas as pd
    import torch

    from stages import make_stage
    from stages.fit import new_backbone
    from training.device import torch_device
    from training.loop import Lessons
    from training.shown import Augmented

    torch_device("cpu")
    torch.set_num_threads(1)
    stage, recipe = make_stage(task.name, task.stage.loss, task.stage.auxiliary), task.stage
    rows = pd.read_csv(task.labels, dtype={"person": str})
    target = stage.target(rows)
    lessons = Lessons(
        np.arange(len(rows)), np.arange(0), target, stage.weight(rows, 1.0), rows["person"].to_numpy(), stage.stratum(rows),
        (rows["age"] >= BAND_EDGES[-1]).to_numpy(copy=True),
        Augmented(task.pixels(), np.arange(len(rows)), task.recipe.augment.get(recipe.augment, []), recipe),
    )  # fmt: skip
    backbone = new_backbone(stage, recipe, 0).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return backbone, lessons, stage.criterion(None, target)


def _resized(crops: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from training.pixels import resize

    return np.stack([resize(crop, size) for crop in crops])


def _steady(step: Callable[[], None], count: int, times: int) -> float:
    for _ in range(5):
        step()
    started = time.monotonic()
    for _ in range(times):
        step()
    return count * times / (time.monotonic() - started)


def at_once(call: Callable[[Task], float], task: Task) -> float:
    """The sum of what one process a core measures at the same time."""
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(call, [task] * cores()))


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--recipe", "path", type=click.Path(path_type=Path), default=Path("recipes/quick.toml"), show_default=True
)
@click.option("--stage", default="joint", show_default=True)
@click.option("--photographs", "count", default=1600, show_default=True)
@click.option(
    "--rounds", default=3, show_default=True, help="Times that each is measured, by turns; the middle one counts."
)
def main(data: Path, path: Path, stage: str, count: int, rounds: int) -> None:
    """Measure on DATA's train/; write benchmarks/TRAINING.md."""
    recipe = parse(read_toml(path))
    source = read_source(data / "train")
    rows = source.table.iloc[:: max(1, len(source.table) // count)][:count].reset_index(drop=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        store = FaceStore(folder / "cache", recipe.face)
        places = [
            entry.row for entry in store.fill([source.root / each for each in rows["path"]]) if isinstance(entry, Entry)
        ]
        np.save(folder / "crops.npy", store.crops()[places])
        rows.to_csv(folder / "rows.csv", index=False)
        task = Task(recipe, stage, folder / "crops.npy", folder / "rows.csv", folder)
        measured: dict[str, list[float]] = {"loop": [], "alone": [], "timm": []}
        for _ in range(rounds):
            for name, call in (("loop", loop), ("alone", alone), ("timm", timms)):
                measured[name].append(at_once(call, task))
                click.echo(f"{name} {measured[name][-1]:.1f}", err=True)
    rates = {name: float(np.median(values)) for name, values in measured.items()}
    result = {"machine": machine(), "commit": commit(), "rates": rates, "all": measured}
    write_json(ROOT / "output/training.json", result)
    target = ROOT / "benchmarks/TRAINING.md"
    settings = recipe.stages[stage]
    names = {
        "loop": "the loop: augmentation, forward, backward, clipping, optimizer, averaged weights",
        "alone": "forward and backward alone, on one batch that is ready",
        "timm": "a loop of timm's parts, as its training script has them, with its own augmentation",
    }
    lines = [[names[name], f"{rates[name]:.1f}", ", ".join(f"{each:.1f}" for each in measured[name])] for name in names]
    target.write_text(f"""# How fast the training loop is

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `python benchmarks/training.py {" ".join(sys.argv[1:])}`; every number
was measured in that one call, by turns. `{stage}` of `{path}`: {settings.backbone}, {settings.size[0]}×{settings.size[1]}, batches of {settings.batch_size}, {len(rows)} photographs,
{cores()} processes at once with one thread each, as `fit-stage` runs its fits. Photographs a second of all processes; the median counts.

{table(["what", "photographs/s", "each time"], lines)}

| ratio | measured | bar |
| --- | --- | --- |
| loop / forward and backward alone | {rates["loop"] / rates["alone"]:.2f} | ≥ 0.90 |
| loop / timm's parts | {rates["loop"] / rates["timm"]:.2f} | |
""")
    click.echo(target)


if __name__ == "__main__":
    main()
