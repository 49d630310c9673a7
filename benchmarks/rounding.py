"""How far bf16 moves the answers for real images, on any processor; write benchmarks/ROUNDING.md.

    python benchmarks/rounding.py ../shared/data/faces --artifacts artifacts/quick

bf16 is imitated, and its speed is not: torch computes each operation in fp32, and what it takes and gives is rounded to bf16. That is
what a processor does that multiplies bf16 and adds up in fp32. An engine that fuses operations rounds less often.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from steps import ROOT, commit, machine
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from facecade.inference.loading import ROUNDING_CROPS, cascade_of_run

sys.path.insert(0, str(ROOT))
from agreement import agreement, cells, eval_labels

from facecade.base.artifact import read_json, write_json
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, cores
from facecade.base.progress import note
from facecade.base.threads import bounded_map
from facecade.combiner import methods
from facecade.combiner.stage_outputs import StageOutputs, average_folds
from facecade.faces.reader import FaceCrop
from facecade.faces.table import read_source
from facecade.inference.engines import Model
from facecade.inference.ensemble import Ensemble
from facecade.inference.fallback import Fallback, margin_error, recompute_close_calls
from facecade.inference.stream import BatchOutputs
from facecade.report.results import table
from facecade.runs.run import Run, open_run


class Rounding(TorchDispatchMode):
    """Every operation takes and gives values of bf16, kept as float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable:  # one that is changes what it takes, and that was rounded when it was made
            args, kwargs = _each(_rounded, (args, kwargs or {}))
        return _each(_round_in_place, func(*args, **(kwargs or {})))


def _each(change: Any, values: Any) -> Any:
    return tree_map_only(
        torch.Tensor, lambda tensor: change(tensor) if tensor.dtype == torch.float32 else tensor, values
    )


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.bfloat16().float()


def _round_in_place(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.copy_(tensor.bfloat16())


def rounding(ensemble: Ensemble) -> Ensemble:
    """The same networks, run by torch, in the numbers of bf16."""

    def model(of: Model) -> Model:
        def call(crops: np.ndarray) -> Sequence[np.ndarray]:
            with Rounding():
                return of(crops)

        return call

    return replace(ensemble, members=[replace(member, model=model(member.model)) for member in ensemble.members])


def measure(run: Run, data: Path) -> dict[str, Any]:
    """Everything that the page says."""
    cascade = cascade_of_run(run, Machine(engine="torch", device="cpu"))
    combine, _ = methods.load(cascade.combiner)
    if not combine.has_margin:
        raise FacecadeError(f"the combiner of {run.folder} tells no lead, and never answers in bf16")
    exact, rough = cascade.ensemble, rounding(cascade.ensemble)
    tried = run.store().sample(ROUNDING_CROPS, run.recipe.seed)
    near = margin_error(*(combine.scores(_together(each.predict_all(tried))) for each in (rough, exact)))
    note(f"bf16 moves a lead by up to {near:.3f} nats on {len(tried)} crops of the training images")

    source = read_source(data / "eval")
    paths = [source.root / path for path in source.table["path"]]
    looks = list(bounded_map(cascade.face_reader(), paths, cores()))
    unseen = [str(path) for path, look in zip(paths, looks, strict=True) if not isinstance(look, FaceCrop)]
    if unseen:
        raise FacecadeError(f"{len(unseen)} images cannot be read, {unseen[0]} first")
    crops = np.stack([look.crop for look in looks if isinstance(look, FaceCrop)])
    outputs = {}
    for name, ensemble in {"fp32": exact, "bf16 throughout": rough}.items():
        outputs[name] = ensemble.predict_all(crops)
        note(f"{name}: {len(crops)} images predicted")
    first = BatchOutputs(looks, outputs["bf16 throughout"])
    outputs["bf16 first"] = recompute_close_calls(first, combine.margin, Fallback(lambda: exact, near)).stage_outputs

    stage_outputs = {name: _together(each) for name, each in outputs.items()}
    answers = {name: combine(each)[1] for name, each in stage_outputs.items()}
    labels = eval_labels(data, source.image_ids)
    ways = {name: agreement(answer, answers["fp32"], *labels) for name, answer in answers.items()}
    return {
        "near": near,
        "tried": len(tried),
        "asked again": int((combine.margin(stage_outputs["bf16 throughout"]) < near).sum()),
        "furthest": margin_error(
            combine.scores(stage_outputs["bf16 throughout"]), combine.scores(stage_outputs["fp32"])
        ),
        "images": len(crops),
        "networks": len(exact.members),
        "combiner": combine.name,
        "methods": ways,
    }


def _together(heard: Mapping[int, StageOutputs]) -> StageOutputs:
    """The mean of what all folds' networks say."""
    return average_folds(list(heard.values()))


def page(result: Mapping[str, Any]) -> str:
    """benchmarks/ROUNDING.md."""
    count, again = result["images"], result["asked again"]
    rows = [
        [name, f"{100 * again * (name == 'bf16 first') / count:.1f} %", *cells(said)]
        for name, said in result["methods"].items()
    ]
    return f"""# How far bf16 moves answers

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `{result["command"]}`.

bf16 is imitated here: torch computes each operation in fp32, and what it takes and gives is rounded to bf16, as by a processor that
multiplies bf16 and adds up in fp32. So the answers can be judged on any processor; an engine that fuses operations rounds less
often. How fast bf16 is, a processor that has it says with `benchmarks/inference.py`.

The run `{result["run"]}`: {result["networks"]} networks, combined by {result["combiner"]}. On {result["tried"]} crops of its training images bf16 moves the
lead of the first class over the second by up to {result["near"]:.3f} nats, as an export would measure it. *bf16 first* asks the same networks in
fp32 for each of the {count} images of `eval` whose answer leads by less.

{table(["way", "asked again", "same class as fp32", "macro-F1", "change"], rows)}

The bar is 99.9 % of the classes and .001 macro-F1. On `eval` bf16 moves a lead by up to {result["furthest"]:.3f} nats; nothing was chosen there.
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--artifacts", type=click.Path(path_type=Path, exists=True), default=Path("artifacts"), show_default=True)
@click.option("--written-anew", is_flag=True, help="Measure nothing: write the page from what was measured last.")
def main(data: Path, artifacts: Path, written_anew: bool) -> None:
    """Measure a fitted run on DATA's eval/; write benchmarks/ROUNDING.md."""
    target, kept = ROOT / "benchmarks/ROUNDING.md", ROOT / "output/rounding.json"
    if not written_anew:
        command = " ".join(["python benchmarks/rounding.py", *sys.argv[1:]])
        about = {"machine": machine(), "commit": commit(), "command": command, "run": str(artifacts)}
        write_json(kept, {**about, **measure(open_run(artifacts), data)})
    target.write_text(page(read_json(kept)))
    click.echo(target)


if __name__ == "__main__":
    main()
