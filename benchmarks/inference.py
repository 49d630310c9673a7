"""How fast a fitted cascade predicts, against its upper bound; write benchmarks/INFERENCE.md.

    python benchmarks/inference.py ../shared/data/faces

Everything is measured on the same images, and what is compared in one call. The runs must be fitted. An interrupted
call resumes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from steps import ROOT, commit, machine, run_step

sys.path.insert(0, str(ROOT))
from agreement import agreement, cells, eval_labels

from facecade.base.artifact import write_json
from facecade.base.choices import EnsembleKind
from facecade.base.machine import Machine, cores
from facecade.base.threads import bounded_map
from facecade.faces.crop import Box, box_from_values, crop
from facecade.faces.decode import decode
from facecade.faces.mtcnn import MTCNN
from facecade.faces.reader import FaceCrop
from facecade.faces.source import read_source
from facecade.inference.cascade import Cascade
from facecade.inference.loading import cascade_of_run, export
from facecade.recipe import Face
from facecade.report.results import table
from facecade.runs.fits import make_fit
from facecade.runs.run import Run, open_run

ENGINES = {
    "torch fp32": Machine(engine="torch"),
    "OpenVINO fp32": Machine(engine="openvino"),
    "ONNX Runtime fp32": Machine(engine="onnx"),
    "OpenVINO auto": Machine(engine="openvino", precision="auto"),
}
ENSEMBLES: tuple[EnsembleKind, ...] = ("mean", "first")
"""Networks of all folds, and of the first alone."""

BEST = "OpenVINO auto"
"""In bf16 where the processor has it, and in fp32 for close calls."""

MAX_EVAL_IMAGES = {"ONNX Runtime fp32": 700}
"""Engines that predict only so many of eval's images: this one is the slowest."""

MTCNN_SETTINGS = {
    "defaults": Face(min_face=20, thresholds=(0.6, 0.7, 0.7)),
    "faces of at least 40 pixels": Face(min_face=40, thresholds=(0.6, 0.7, 0.7)),
    "at least 60": Face(min_face=60, thresholds=(0.6, 0.7, 0.7)),
    "at least 60, lower thresholds": Face(min_face=60, thresholds=(0.5, 0.6, 0.6)),
    "at least 60, still lower": Face(min_face=60, thresholds=(0.4, 0.5, 0.5)),
    "at least 80, lower thresholds": Face(min_face=80, thresholds=(0.5, 0.6, 0.6)),
}


def rate(call: Callable[[], Any], count: int) -> float:
    """Images a second."""
    started = time.monotonic()
    call()
    return count / (time.monotonic() - started)


def published(run: Run, paths: Sequence[Path], detector: Mapping[str, Any]) -> float:
    """Images a second of a loop over stages and folds, each of which decodes the images, finds faces with
    facenet-pytorch and crops them again. Loading the models is not timed.

    Args:
        detector: settings of facenet-pytorch's MTCNN; empty for its defaults.
    """
    import facenet_pytorch
    import torch

    from facecade.stages.fit import load_fold
    from facecade.training.predict import predict

    torch.set_num_threads(cores())
    face = run.recipe.face
    mtcnn = facenet_pytorch.MTCNN(**detector, device="cpu").eval()

    def detect(image: np.ndarray) -> Box | None:
        with torch.inference_mode():
            boxes, probability = mtcnn.detect(image)
        return None if boxes is None else box_from_values([*boxes[0].tolist(), float(probability[0])])

    models = [
        (load_fold(make_fit(run, stage, fold), torch.device("cpu")), recipe)
        for stage, recipe in run.recipe.stages.items()
        for fold in range(run.recipe.folds)
    ]

    def loops() -> None:
        for backbone, recipe in models:
            for start in range(0, len(paths), 32):
                images = [decode(path) for path in paths[start : start + 32]]
                crops = np.stack([crop(image, detect(image), face) for image in images])
                predict(backbone, crops, np.arange(len(crops)), recipe)

    return rate(loops, len(paths))


def models_alone(cascade: Cascade, crops: np.ndarray) -> float:
    """Images a second through all networks, from ready tensors."""
    from facecade.training.pixels import padded_batch

    ensemble = cascade.ensemble
    starts = range(0, len(crops), ensemble.batch)
    ready = {
        size: [padded_batch(crops[start : start + ensemble.batch], size, ensemble.batch) for start in starts]
        for size in {member.size for member in ensemble.members}
    }
    calls = [(member, ready[member.size][place]) for place in range(len(starts)) for member in ensemble.members]
    outputs = bounded_map(lambda call: call[0].model(call[1]), calls, ensemble.streams, 2 * ensemble.streams)
    return rate(lambda: [None for _ in outputs], len(crops))


def speed(run: Run, precision: str, paths: Sequence[Path], few: int, folder: Path) -> dict[str, float]:
    """Rates of (a) to (d), images a second. All folds' networks run, but for `b first` the first fold's only. Where
    OpenVINO uses bf16, fp32 is measured too."""
    cascade, one = (cascade_of_run(run, ENGINES[BEST], ensemble=kind) for kind in ENSEMBLES)
    cascades = {"b": cascade, "b first": one}
    if precision != "fp32":
        cascades["b fp32"] = cascade_of_run(run, ENGINES["OpenVINO fp32"], ensemble="mean")
    workers, face = cores(), run.recipe.face
    faces = list(bounded_map(cascade.face_reader, paths, workers))
    crops = np.stack([face_crop.crop for face_crop in faces if isinstance(face_crop, FaceCrop)])
    source, warm_up = (images(some, folder / name) for some, name in ((paths, "images"), (paths[:8], "first")))

    def infer(name: str) -> float:
        cascades[name].infer(read_source(warm_up), folder / f"warm {name}", workers)
        return rate(lambda: cascades[name].infer(read_source(source), folder / name, workers), len(paths))

    return {
        **{name: infer(name) for name in cascades},
        **{name.replace("b", "d", 1): models_alone(cascades[name], crops) for name in cascades if name != "b first"},
        "c": rate(lambda: list(bounded_map(decode, paths, workers)), len(paths)),
        "seeing": rate(lambda: list(bounded_map(cascade.face_reader, paths, workers)), len(paths)),
        "d torch": models_alone(cascade_of_run(run, ENGINES["torch fp32"], ensemble="mean"), crops[:few]),
        "a": published(run, paths[:few], {"min_face_size": face.min_face, "thresholds": list(face.thresholds)}),
        "a defaults": published(run, paths[:few], {}),
    }


def images(paths: Sequence[Path], folder: Path, count: int = 0) -> Path:
    """A folder of links to images, repeated up to `count`."""
    folder.mkdir(parents=True)
    for number, path in enumerate(islice(cycle(paths), count or len(paths))):
        (folder / f"{number:06d}{path.suffix}").symlink_to(path.resolve())
    return folder


def memory(
    artifacts: Path, paths: Sequence[Path], counts: Sequence[int], folder: Path, log: Path
) -> list[dict[str, Any]]:
    """Peak memory and time of `infer` on so many images."""
    export(open_run(artifacts))  # otherwise the first call would write it, with torch
    steps = []
    for count in counts:
        source = images(paths, folder / f"{count}", count)
        arguments = [
            "infer",
            str(source),
            "--artifacts",
            str(artifacts),
            "--engine",
            "openvino",
            "--output",
            str(folder / f"o{count}"),
        ]
        step = run_step(f"infer {count}", arguments, log)
        shown = step["command"].replace(str(folder), "FOLDER")
        steps.append({**step, "images": count, "command": shown})
    return steps


ONE_IMAGE = """
import json, sys, time
from pathlib import Path
times = [time.monotonic()]
from facecade import cli, pipeline
import facecade.inference.torch_engine, facecade.report.predictions, facecade.faces.mtcnn_networks
from facecade.base.machine import Machine
from facecade.faces.source import read_source
from facecade.inference.loading import cascade_of_run
from facecade.runs.run import open_run
times.append(time.monotonic())
cascade = cascade_of_run(open_run(Path(sys.argv[1])), Machine(engine="torch"), images=1)
times.append(time.monotonic())
cascade.infer(read_source(Path(sys.argv[2])), Path(sys.argv[3]), 2)
times.append(time.monotonic())
print(json.dumps([after - before for before, after in zip(times, times[1:])]))
"""


def start_up(artifacts: Path, image: Path, folder: Path) -> dict[str, float]:
    """Seconds of `--help`, of importing click, and of the parts of a one-image `infer`; the median of five."""

    def called(*words: object) -> str:
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    def seconds(*words: object) -> float:
        return 1 / float(np.median([rate(lambda: called(*words), 1) for _ in range(5)]))

    parts = [json.loads(called("-c", ONE_IMAGE, artifacts, image, folder).splitlines()[-1]) for _ in range(5)]
    names = ("imports", "models", "rest")
    return {
        "click": seconds("-c", "import click"),
        "help": seconds("cli.py", "--help"),
        **{name: float(np.median(values)) for name, values in zip(names, zip(*parts, strict=True), strict=True)},
    }


@dataclass(frozen=True)
class EnginePredictions:
    """An engine's predictions for the eval set. seconds: their wall time."""

    seconds: float
    table: pd.DataFrame


def engine_predictions(run: Run, data: Path, folder: Path) -> dict[str, EnginePredictions]:
    """Every engine's predictions for the eval set, or for its first images where all would take too long."""
    predictions, half = {}, export(run).precision("openvino", "auto") == "bf16"
    for name, engine in ENGINES.items():
        if name == BEST and not half:
            continue  # the same as OpenVINO fp32
        click.echo(f"{time.strftime('%H:%M:%S')} {name}", err=True)
        cascade, source = cascade_of_run(run, engine), read_source(data / "eval")
        if count := MAX_EVAL_IMAGES.get(name):
            source = replace(source, table=source.table.iloc[:count])
        summary = cascade.infer(source, folder / name.replace(" ", "-"), cores())
        predictions[name] = EnginePredictions(
            summary["seconds"], pd.read_csv(summary["predictions"], dtype={"ImageID": str})
        )
    return predictions


def engines_table(predictions: dict[str, EnginePredictions], data: Path) -> list[list[str]]:
    """Rows of a table: each engine against torch."""
    rows = []
    for name, each in predictions.items():
        reference = predictions["torch fp32"].table.iloc[: len(each.table)]
        labels = eval_labels(data, reference["ImageID"].tolist())
        same = agreement(each.table["ans"].to_numpy(), reference["ans"].to_numpy(), *labels)
        rows.append([name, f"{len(each.table) / each.seconds:.1f}", *cells(same)])
    return rows


def faces_found(paths: Sequence[Path], cascade: Cascade) -> list[list[str]]:
    """Rows of a table: images without a face and time per image, by MTCNN's settings and implementation, one thread."""
    import facenet_pytorch
    import torch

    torch.set_num_threads(1)
    decoded = [decode(path) for path in paths]

    def found(detect: Callable[[np.ndarray], int]) -> list[str]:
        detect(decoded[0])
        started = time.monotonic()
        count = sum(detect(image) > 0 for image in decoded)
        return [
            f"{len(decoded) - count} of {len(decoded)}",
            f"{1000 * (time.monotonic() - started) / len(decoded):.1f}",
        ]

    def facenet(face: Face) -> Callable[[np.ndarray], int]:
        detector = facenet_pytorch.MTCNN(
            min_face_size=face.min_face, thresholds=list(face.thresholds), keep_all=True, device="cpu"
        ).eval()

        def count(image: np.ndarray) -> int:
            with torch.inference_mode():
                boxes, _ = detector.detect(image)
            return 0 if boxes is None else len(boxes)

        return count

    rows = []
    for name, face in MTCNN_SETTINGS.items():
        assert cascade.nets is not None
        mtcnn = MTCNN(cascade.nets, face.min_face, face.thresholds)
        ours = found(lambda image, mtcnn=mtcnn: len(mtcnn(image)))  # type: ignore[misc]
        lost, milliseconds = found(facenet(face))
        rows.append([name, str(face.min_face), " ".join(map(str, face.thresholds)), *ours, lost, milliseconds])
    return rows


def rates_text(run: dict[str, Any]) -> str:
    """The rates of one run's networks, and the ratios."""
    rates, half = run["rates"], run["precision"] == "bf16"
    named = "OpenVINO " + ("bf16, and fp32 for close calls" if half else "fp32")
    bounds = {name: 1 / (1 / rates["seeing"] + 1 / rates[name]) for name in ("d", "d fp32") if name in rates}
    measured = [
        [
            "(a) published method: torch, a loop over stages and folds that decodes and finds faces each time",
            rates["a"],
        ],
        ["    the same with MTCNN at its defaults, as published code calls it", rates["a defaults"]],
        [f"(b) Facecade, `infer` from images to submission.csv, {named}", rates["b"]],
        *([["    the same with `--precision fp32`", rates["b fp32"]]] if half else []),
        ["    the same with one network of each stage (`--ensemble first`; `refit` costs as much)", rates["b first"]],
        ["(c) decoding only", rates["c"]],
        ["    decoding, finding and cropping faces only (*faces*)", rates["seeing"]],
        [f"(d) networks only, on ready tensors, OpenVINO {run['precision']}" + " throughout" * half, rates["d"]],
        *([["    the same in fp32", rates["d fp32"]]] if half else []),
        ["    the same with torch fp32", rates["d torch"]],
        ["bound on the same cores: 1/(1/faces + 1/d)", bounds["d"]],
        *([["    the same in fp32", bounds["d fp32"]]] if half else []),
    ]
    ratios = [
        ["(b) / bound", f"{rates['b'] / bounds['d']:.2f}", "≥ 0.85"],
        *([["(b) / bound, both in fp32", f"{rates['b fp32'] / bounds['d fp32']:.2f}", "≥ 0.85"]] if half else []),
        ["(b) / min(c, d)", f"{rates['b'] / min(rates['c'], rates['d']):.2f}", ""],
        ["(b) / (a)", f"{rates['b'] / rates['a']:.1f}", "≥ 5"],
        ["(b) / (a) with MTCNN at its defaults", f"{rates['b'] / rates['a defaults']:.1f}", ""],
        *([["(b) in fp32 / (a)", f"{rates['b fp32'] / rates['a']:.1f}", ""]] if half else []),
        ["(d) / (a), the limit of (b) / (a) with all folds' networks", f"{rates['d'] / rates['a']:.1f}", ""],
        ["(b) with one network / (a)", f"{rates['b first'] / rates['a']:.1f}", ""],
    ]
    stages = open_run(Path(run["run"])).recipe.stages
    trained = ", ".join(
        f"{name} ({stage.backbone}, {stage.size[0]}×{stage.size[1]}, {stage.epochs} epoch{'s' if stage.epochs > 1 else ''})"
        for name, stage in stages.items()
    )
    return f"""## `{run["run"]}`: {run["stages"]} stages of {run["folds"]} folds

{trained}. Training does not change the speed of a network.

{table(["what", "images/s"], [[name, f"{value:.2f}"] for name, value in measured])}

{table(["ratio", "measured", "required"], ratios)}"""


def precision_text(result: dict[str, Any]) -> str:
    """OpenVINO's precision by default."""
    if result["runs"][0]["precision"] == "fp32":
        return "fp32 here: this processor has no bf16"
    return f"bf16 first, and in fp32 for images whose margin is below {result['near']:.3f} nats"


def page(result: dict[str, Any]) -> str:
    """benchmarks/INFERENCE.md."""
    steps, start = result["memory"], result["start"]
    growth = steps[-1]["peak_mib"] / steps[0]["peak_mib"]
    starting = [
        ["`--help` / `import click`", f"{start['help'] / start['click']:.1f}", "≤ 3"],
        [
            "one image: time without imports and models / total time",
            f"{start['rest'] / sum(start[name] for name in ('imports', 'models', 'rest')):.2f}",
            "≤ 0.33",
        ],
    ]
    texts = "\n\n".join(rates_text(run) for run in result["runs"])
    return f"""# How fast a cascade predicts

Machine: {result["machine"]}. Commit: {result["commit"]}. Written by `{result["command"]}`; what is compared was measured in
one call, on the same images. Each network runs on an image and on its mirror image.

{texts}

Decoding and networks share the cores here, so the time of one adds to the other's: no pipeline can exceed the bound,
and min(c, d) is not possible. Heavy networks are bounded by (d), their arithmetic; light ones by finding faces.

## Memory

{table(["images", "peak memory", "wall time", "command"], [[str(s["images"]), f"{s['peak_mib']} MiB", f"{s['seconds']:.0f} s", f"`{s['command']}`"] for s in steps])}

Networks: those of `{result["runs"][0]["run"]}`.

{table(["ratio", "measured", "required"], [["peak memory, last / first", f"{growth:.3f}", "≤ 1.10"]])}

## Engines on the eval set

Networks: those of `{result["runs"][0]["run"]}`, all folds.

{table(["engine", "images/s", "same class as torch fp32", "macro-F1", "change"], result["agreement"])}

Required: 99.9 % of the classes equal, and macro-F1 within .001. By default OpenVINO computes in {precision_text(result)}.

## MTCNN

One thread, {result["faces"]} images of `train`, at regular intervals. *Lost* are images in which no face is found; they use the centre crop.

{table(["setting", "smallest face", "thresholds", "lost", "ms", "lost by facenet-pytorch", "ms"], result["mtcnn"])}

## Start-up

`python cli.py --help` takes {start["help"]:.2f} s, `python -c "import click"` {start["click"]:.2f} s. One image with torch and the networks of
`{result["runs"][0]["run"]}`: imports {start["imports"]:.1f} s, loading models {start["models"]:.1f} s, everything else {start["rest"]:.2f} s.

{table(["ratio", "measured", "required"], starting)}

## Attempts without a gain

* OpenVINO with threads pinned to cores, its default: the first stream of every network runs on the same core, and half
  of the cores are idle.
* One network at a time on all cores instead of one network per core: cores wait for each other after every layer.
* Larger batches: OpenVINO is no faster, torch is slower (a layer's output no longer fits into the cache), and a single
  image waits longer.
* MTCNN's networks with OpenVINO instead of ONNX Runtime: the same time.
* One memory arena of the C library for all threads: no difference.
* bf16 for every image: more than a thousandth of the classes change, all of them close calls. Most of the error comes
  from the first layers, where the feature map is large. A network split in two, fp32 until the map has a sixteenth of
  the height and bf16 from there, still changed one class in a thousand, and was a tenth faster. The fallback to fp32
  for close calls replaced it.
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True))
@click.option("--artifacts", type=click.Path(path_type=Path, exists=True), default=Path("artifacts"), show_default=True)
@click.option(
    "--also",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Another run whose speed is measured.",
)
@click.option("--images", "count", default=400, show_default=True, help="Images for the rates.")
@click.option("--few", default=64, show_default=True, help="Images for the slow rates.")
@click.option("--memory-at", type=int, multiple=True, default=(1000, 20000), show_default=True)
@click.option("--written-anew", is_flag=True, help="Measure nothing: write the page from the last measurements.")
def main(
    data: Path,
    artifacts: Path,
    also: tuple[Path, ...],
    count: int,
    few: int,
    memory_at: tuple[int, ...],
    written_anew: bool,
) -> None:
    """Measure on DATA (with train/ and eval/); write benchmarks/INFERENCE.md."""
    target, kept = ROOT / "benchmarks/INFERENCE.md", ROOT / "output/inference.json"
    if not written_anew:
        measure(data, artifacts, also, count, few, memory_at, kept)
    target.write_text(page(json.loads(kept.read_text())))
    click.echo(target)


def measure(
    data: Path, artifacts: Path, also: tuple[Path, ...], count: int, few: int, memory_at: tuple[int, ...], kept: Path
) -> None:
    """Measure all results of the page, one part after another, and keep them in the file `kept`. Parts that it holds
    from the same command, commit and machine are not measured again, so an interrupted call resumes."""
    folders = [artifacts, *also]
    run = open_run(artifacts)
    labelled = read_source(data / "train")
    sampled = labelled.table["path"].iloc[:: max(1, len(labelled.table) // count)][:count]
    paths = [labelled.root / path for path in sampled]
    about = {
        "machine": machine(),
        "commit": commit(),
        "command": " ".join(["python benchmarks/inference.py", *sys.argv[1:]]),
    }
    result: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if any(result.get(name) != value for name, value in about.items()):
        result = {**about, "faces": len(paths), "runs": []}

    def rates(folder: Path, temporary: Path) -> dict[str, Any]:
        one = open_run(folder)
        precision = export(one).precision("openvino", "auto")
        settings = {"run": folder, "folds": one.recipe.folds, "stages": len(one.recipe.stages), "precision": precision}
        return {**settings, "rates": speed(one, precision, paths, few, temporary)}

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(len(result["runs"]), len(folders)):
            result["runs"].append(rates(folders[number], folder / f"speed{number}"))
            write_json(kept, result)
        parts: dict[str, Callable[[], Any]] = {
            "memory": lambda: memory(artifacts, paths, memory_at, folder / "memory", artifacts / "steps.log"),
            "start": lambda: start_up(artifacts, paths[0], folder / "one"),
            "near": lambda: export(run).fallback_margin,
            "mtcnn": lambda: faces_found(paths, cascade_of_run(run, ENGINES[BEST])),
            "agreement": lambda: engines_table(engine_predictions(run, data, folder / "engines"), data),
        }
        for name, part in parts.items():
            if name not in result:
                result[name] = part()
                write_json(kept, result)


if __name__ == "__main__":
    main()
