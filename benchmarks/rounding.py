"""How far bf16 changes predictions for real images, on any processor; write benchmarks/ROUNDING.md.

    python benchmarks/rounding.py ../shared/data/faces --artifacts artifacts/quick

bf16 is simulated, but not its speed: torch computes each operation in fp32, and its inputs and outputs are rounded to
bf16, as on a processor that multiplies bf16 and adds in fp32. An engine that fuses operations rounds less often.
"""

from __future__ import annotations

import json
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

sys.path.insert(0, str(ROOT))
from agreement import agreement, cells, eval_labels

from facecade.base.artifact import write_json
from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine, cores
from facecade.base.progress import note
from facecade.base.threads import bounded_map
from facecade.combiner import methods
from facecade.combiner.stage_outputs import StageOutputs, average_folds
from facecade.faces.reader import FaceCrop
from facecade.faces.source import read_source
from facecade.inference.engines import Model
from facecade.inference.ensemble import Ensemble
from facecade.inference.fallback import Fallback, margin_error, recompute_close_calls
from facecade.inference.loading import ROUNDING_CROPS, cascade_of_run
from facecade.inference.stream import BatchOutputs
from facecade.report.results import table
from facecade.runs.run import Run, open_run


class Rounding(TorchDispatchMode):
    """Inputs and outputs of every operation are bf16 values, kept as float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable:  # a mutable one changes its inputs, which were rounded when they were made
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
    """The same networks, run by torch with values rounded to bf16."""

    def rounded(model: Model) -> Model:
        def call(crops: np.ndarray) -> Sequence[np.ndarray]:
            with Rounding():
                return model(crops)

        return call

    return replace(ensemble, members=[replace(member, model=rounded(member.model)) for member in ensemble.members])


def measure(run: Run, data: Path) -> dict[str, Any]:
    """All results of the page."""
    cascade = cascade_of_run(run, Machine(engine="torch", device="cpu"))
    combine, _ = methods.load(cascade.combiner)
    if not combine.has_margin:
        raise FacecadeError(f"the combiner of {run.folder} has no margin, so it never predicts in bf16")
    exact, rough = cascade.ensemble, rounding(cascade.ensemble)
    crops_of_run = run.store().sample(ROUNDING_CROPS, run.recipe.seed)
    close = margin_error(*(combine.scores(_fold_average(each.predict_all(crops_of_run))) for each in (rough, exact)))
    note(f"bf16 changes a margin by up to {close:.3f} nats on {len(crops_of_run)} crops of the training images")

    source = read_source(data / "eval")
    paths = [source.root / path for path in source.table["path"]]
    faces = list(bounded_map(cascade.face_reader, paths, cores()))
    unreadable = [str(path) for path, face in zip(paths, faces, strict=True) if not isinstance(face, FaceCrop)]
    if unreadable:
        raise FacecadeError(f"{len(unreadable)} images cannot be read, the first is {unreadable[0]}")
    crops = np.stack([face.crop for face in faces if isinstance(face, FaceCrop)])
    outputs = {}
    for name, ensemble in {"fp32": exact, "bf16 throughout": rough}.items():
        outputs[name] = ensemble.predict_all(crops)
        note(f"{name}: {len(crops)} images predicted")
    first = BatchOutputs(faces, outputs["bf16 throughout"])
    outputs["bf16 first"] = recompute_close_calls(first, combine.margin, Fallback(lambda: exact, close)).stage_outputs

    stage_outputs = {name: _fold_average(each) for name, each in outputs.items()}
    predictions = {name: combine(each)[1] for name, each in stage_outputs.items()}
    labels = eval_labels(data, source.image_ids)
    agreements = {name: agreement(each, predictions["fp32"], *labels) for name, each in predictions.items()}
    return {
        "near": close,
        "tried": len(crops_of_run),
        "asked again": int((combine.margin(stage_outputs["bf16 throughout"]) < close).sum()),
        "furthest": margin_error(
            combine.scores(stage_outputs["bf16 throughout"]), combine.scores(stage_outputs["fp32"])
        ),
        "images": len(crops),
        "networks": len(exact.members),
        "combiner": combine.name,
        "methods": agreements,
    }


def _fold_average(outputs: Mapping[int, StageOutputs]) -> StageOutputs:
    """The mean of all folds' stage outputs."""
    return average_folds(list(outputs.values()))


def page(result: Mapping[str, Any]) -> str:
    """benchmarks/ROUNDING.md."""
    count, again = result["images"], result["asked again"]
    rows = [
        [name, f"{100 * again * (name == 'bf16 first') / count:.1f} %", *cells(compared)]
        for name, compared in result["methods"].items()
    ]
    return f"""# How far bf16 changes predictions

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `{result["command"]}`.

bf16 is simulated here: torch computes each operation in fp32, and its inputs and outputs are rounded to bf16, as on a
processor that multiplies bf16 and adds in fp32. So the predictions can be compared on any processor. An engine that
fuses operations rounds less often. For the speed of bf16 run `benchmarks/inference.py` on a processor that has it.

The run `{result["run"]}`: {result["networks"]} networks, combined by {result["combiner"]}. On {result["tried"]} crops of its training images bf16 changes the
margin of the best class by up to {result["near"]:.3f} nats, measured as an export measures it. *bf16 first* runs the same networks in fp32
for each of the {count} images of `eval` whose margin is smaller.

{table(["precision", "recomputed", "same class as fp32", "macro-F1", "change"], rows)}

Required: 99.9 % of the classes equal, and macro-F1 within .001. On `eval` bf16 changes a margin by up to {result["furthest"]:.3f} nats; no margin was chosen there.
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--artifacts", type=click.Path(path_type=Path, exists=True), default=Path("artifacts"), show_default=True)
@click.option("--written-anew", is_flag=True, help="Measure nothing: write the page from the last measurements.")
def main(data: Path, artifacts: Path, written_anew: bool) -> None:
    """Measure a fitted run on DATA's eval/; write benchmarks/ROUNDING.md."""
    target, kept = ROOT / "benchmarks/ROUNDING.md", ROOT / "output/rounding.json"
    if not written_anew:
        command = " ".join(["python benchmarks/rounding.py", *sys.argv[1:]])
        about = {"machine": machine(), "commit": commit(), "command": command, "run": str(artifacts)}
        write_json(kept, {**about, **measure(open_run(artifacts), data)})
    target.write_text(page(json.loads(kept.read_text())))
    click.echo(target)


if __name__ == "__main__":
    main()
