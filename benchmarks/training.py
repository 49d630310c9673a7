"""How fast the training loop is, compared with the model alone and with timm's parts; write benchmarks/TRAINING.md.

    python benchmarks/training.py ../shared/data/faces

Everything is measured in this one call, on the same images, model and settings: in as many parallel processes as the
machine has cores, each with one thread, as `fit-stage` runs its fits.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from steps import ROOT, commit, machine

sys.path.insert(0, str(ROOT))
from facecade.base.artifact import write_json
from facecade.base.machine import cores
from facecade.faces.labels import BAND_EDGES
from facecade.faces.source import read_source
from facecade.faces.store import Entry, FaceStore
from facecade.recipe import Recipe, StageRecipe
from facecade.recipe_file import parse, read_toml
from facecade.report.results import table

TIMED_EPOCHS = 1
"""Epochs that are timed, after one for warming up."""

MAX_SECONDS = 60
"""Seconds of repeating one step at most: a processor without bf16 is very slow in it."""


@dataclass(frozen=True)
class Task:
    """What a process measures on. name: of the stage. crops: uint8 (N, h, w, 3), a .npy file. labels: a CSV file of
    their N rows."""

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


@dataclass(frozen=True)
class Speed:
    """rate: images a second. once: seconds of preparation before."""

    rate: float
    once: float = 0.0


def loop(task: Task) -> Speed:
    """`training.loop.fit`, augmentation, optimizer and averaged weights included."""
    backbone, training_data, loss = _new_model(task)
    return _of_epochs(backbone, training_data, loss, task, task.stage)


def frozen(task: Task) -> Speed:
    """The same where only the head is trained; the embeddings of the images are computed once."""
    from facecade.training.freeze import PartlyFrozen, cache_features

    backbone, training_data, loss = _new_model(task)
    recipe = task.stage.model_copy(update={"freeze": "all", "cutmix": 0.0, "mixup": 0.0})
    partly_frozen, started = PartlyFrozen(backbone, recipe.freeze, recipe.size).eval(), time.monotonic()
    features = cache_features(partly_frozen, task.pixels(), training_data.rows, training_data.rows, recipe, task.folder)
    once = time.monotonic() - started
    return Speed(_of_epochs(partly_frozen, replace(training_data, shown=features), loss, task, recipe).rate, once)


def _of_epochs(model: Any, training_data: Any, loss: Any, task: Task, recipe: StageRecipe) -> Speed:
    from facecade.training.loop import fit
    from facecade.training.tracking import read_history

    name = multiprocessing.current_process().name + recipe.freeze
    recipe = recipe.model_copy(update={"epochs": 1 + TIMED_EPOCHS, "per_person": 0})
    state, folder = task.folder / f"{name}.safetensors", task.folder / name
    fit(model, training_data, loss, recipe, 0, state, folder, name)
    state.unlink()
    seconds = [line["seconds"] for line in read_history(folder)][1:]
    return Speed(len(training_data.rows) // recipe.batch_size * recipe.batch_size * TIMED_EPOCHS / sum(seconds))


def alone(task: Task, half: bool = False, compiled: bool = False) -> Speed:
    """Forward and backward on one ready batch."""
    import torch

    backbone, training_data, loss = _new_model(task)
    size = task.stage.batch_size
    batch = torch.from_numpy(_resized(task.pixels()[:size], task.stage.size))
    target = torch.from_numpy(training_data.target[:size])
    forward = torch.compile(backbone) if compiled else backbone

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            _, outputs = forward(batch)
        loss(outputs.float(), target).mean().backward()
        backbone.zero_grad()

    started = time.monotonic()
    step()
    once = time.monotonic() - started
    return Speed(_steady(step, size, len(training_data.rows) // size), once)


def timm_loop(task: Task) -> Speed:
    """A loop of timm's parts, as in its training script: its loader with its own augmentation, optimizer, schedule,
    averaged weights, and clipping."""
    import torch
    from PIL import Image
    from timm.data import create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2
    from timm.utils import ModelEmaV3, dispatch_clip_grad

    backbone, training_data, loss = _new_model(task)
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
    target = torch.from_numpy(training_data.target)

    def epoch() -> float:
        started, seen = time.monotonic(), 0
        for step, (images, places) in enumerate(loader):
            features = backbone.model.forward_features(images.to(memory_format=torch.channels_last))
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
    return Speed(epoch())


def _new_model(task: Task) -> tuple[Any, Any, Callable[..., Any]]:
    """A new model, its training data, and its loss."""
    import pandas as pd
    import torch

    from facecade.stages import make_stage
    from facecade.stages.fit import new_backbone
    from facecade.training.dataset import AugmentedCrops
    from facecade.training.device import torch_device
    from facecade.training.loop import TrainingData

    torch_device("cpu")
    torch.set_num_threads(1)
    stage, recipe = make_stage(task.name, task.stage.loss, task.stage.auxiliary), task.stage
    rows = pd.read_csv(task.labels, dtype={"person": str})
    target = stage.target(rows)
    training_data = TrainingData(
        np.arange(len(rows)), np.arange(0), target, stage.weight(rows, 1.0), rows["person"].to_numpy(), stage.stratum(rows),
        (rows["age"] >= BAND_EDGES[-1]).to_numpy(copy=True),
        AugmentedCrops(task.pixels(), np.arange(len(rows)), task.recipe.augment.get(recipe.augment, []), recipe),
    )  # fmt: skip
    backbone = new_backbone(stage, recipe, 0).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    return backbone, training_data, stage.criterion(None, target)


def _resized(crops: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from facecade.training.pixels import resize

    return np.stack([resize(crop, size) for crop in crops])


def _steady(step: Callable[[], None], count: int, times: int) -> float:
    """Images a second of so many steps, after five for warming up; of fewer where they would take longer than
    MAX_SECONDS."""
    for steps in (5, times):
        done, started = 0, time.monotonic()
        while done == 0 or (done < steps and time.monotonic() - started < MAX_SECONDS):
            step()
            done += 1
    return count * done / (time.monotonic() - started)


def in_all_processes(call: Callable[[Task], Speed], task: Task) -> Speed:
    """Measure in one process per core at the same time: the sum of the rates, the longest preparation."""
    with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
        speeds = list(pool.map(call, [task] * cores()))
    return Speed(sum(each.rate for each in speeds), max(each.once for each in speeds))


CALLS: dict[str, Callable[[Task], Speed]] = {
    "loop": loop,
    "alone": alone,
    "timm": timm_loop,
    "bf16": partial(alone, half=True),
    "compiled": partial(alone, compiled=True),
    "frozen": frozen,
}
NAMES = {
    "loop": "the loop: augmentation, forward, backward, clipping, optimizer, averaged weights",
    "alone": "forward and backward alone, on one ready batch",
    "timm": "a loop of timm's parts, as in its training script, with its own augmentation",
    "bf16": "forward and backward alone, in bf16 autocast",
    "compiled": "forward and backward alone, with `torch.compile`",
    "frozen": 'the loop with `freeze = "all"`: only the head is trained, on cached embeddings',
}


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--recipe", "path", type=click.Path(path_type=Path), default=Path("recipes/quick.toml"), show_default=True
)
@click.option("--stage", default="joint", show_default=True)
@click.option("--images", "count", default=1600, show_default=True)
@click.option(
    "--rounds", default=3, show_default=True, help="How often each is measured, alternating; the median counts."
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
        measured: dict[str, list[Speed]] = {name: [] for name in NAMES}
        for _ in range(rounds):
            for name, call in CALLS.items():
                measured[name].append(in_all_processes(call, task))
                click.echo(f"{name} {measured[name][-1].rate:.1f}", err=True)
    rates = {name: float(np.median([each.rate for each in speeds])) for name, speeds in measured.items()}
    once = {name: float(np.median([each.once for each in speeds])) for name, speeds in measured.items()}
    all_of_them = {name: [asdict(each) for each in speeds] for name, speeds in measured.items()}
    result = {"machine": machine(), "commit": commit(), "rates": rates, "all": all_of_them}
    write_json(ROOT / "output/training.json", result)
    target = ROOT / "benchmarks/TRAINING.md"
    settings = recipe.stages[stage]
    lines = [
        [NAMES[name], f"{rates[name]:.1f}", ", ".join(f"{each.rate:.1f}" for each in speeds)]
        for name, speeds in measured.items()
    ]
    saved = 1 / rates["alone"] - 1 / rates["compiled"]
    target.write_text(f"""# How fast the training loop is

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `python benchmarks/training.py {" ".join(sys.argv[1:])}`; every number
was measured in that one call, alternating. `{stage}` of `{path}`: {settings.backbone}, {settings.size[0]}×{settings.size[1]}, batches of {settings.batch_size}, {len(rows)} images,
{cores()} processes in parallel with one thread each, as `fit-stage` runs its fits. Images a second of all processes together, medians.

{table(["what", "images/s", "each round"], lines)}

| ratio | measured | required |
| --- | --- | --- |
| loop / forward and backward alone | {rates["loop"] / rates["alone"]:.2f} | ≥ 0.90 |
| loop / timm's parts | {rates["loop"] / rates["timm"]:.2f} | |
| alone in bf16 / alone | {rates["bf16"] / rates["alone"]:.2f} | |
| alone compiled / alone | {rates["compiled"] / rates["alone"]:.2f} | |
| head alone / loop | {rates["frozen"] / rates["loop"]:.0f} | |

The arithmetic of forward and backward bounds the loop; augmentation, optimizer and averaged weights take the rest. Compiling took
{once["compiled"]:.0f} s before the first step{f", which {once['compiled'] / saved:.0f} images compensate" if saved > 0 else ""}. With `freeze = "all"` the embeddings of the {len(rows)} images in {len(settings.views)} views
took {once["frozen"]:.1f} s, once; an epoch of the head then takes {cores() * len(rows) / rates["frozen"]:.2f} s.

## Attempts without a gain

* bf16 autocast in training on this processor: see the table. So processors train in fp32, GPUs in bf16.
* `torch.compile`: see above. It is an option (`--compile`), off by default.
""")
    click.echo(target)


if __name__ == "__main__":
    main()
