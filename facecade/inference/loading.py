"""A run, or an export, as a cascade that predicts: which networks, which engine, which precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from facecade.base.choices import EnsembleKind
from facecade.base.errors import FacecadeError
from facecade.base.files import file_hash
from facecade.base.lock import locked
from facecade.base.machine import Machine, cores, parse_device
from facecade.base.progress import Bar
from facecade.inference.cascade import Cascade
from facecade.inference.choose import EngineOption, choose_engine, recorded_choice
from facecade.inference.engines import ENGINES, installed, require
from facecade.inference.exported import Exported, MadeOf, is_export
from facecade.inference.fallback import Fallback
from facecade.inference.families import families
from facecade.recipe import FITTED_ON_ALL
from facecade.runs.fits import make_fits, read_alignments, require_fitted
from facecade.runs.run import Run, open_run

if TYPE_CHECKING:
    import torch

    from facecade.inference.ensemble import Ensemble

ROUNDING_CROPS = 256
"""Crops on which an export measures how far bf16 moves a margin."""

HALF_CROPS = 2000
"""Crops on which an export compares the classes of float16 and float32 tensors."""

EXPORT_FROM_IMAGES = 200
"""Images from which `auto` writes an export: the faster engine then saves more time than the export takes."""

EXPORT_SECONDS = 3600.0
"""How long a process waits for another that exports the same run."""


def open_fitted(folder: Path, machine: Machine) -> Run | Exported:
    """Open the folder of a run or of an export, before any data are read.

    Raises:
        FacecadeError: neither; a fit or the combiner is missing or stale; an engine that cannot run an export.
    """
    if is_export(folder):
        exported = Exported.open(folder)
        exported.precision(_engine_of_export(machine), machine.precision)
        return exported
    run = open_run(folder)
    require_fitted(run)
    return run


def load_cascade(
    fitted: Run | Exported, machine: Machine, images: int = EXPORT_FROM_IMAGES, ensemble: EnsembleKind | None = None
) -> Cascade:
    """Load a cascade from a run or an export.

    Args:
        machine: `engine`, `precision` and `device` choose what runs the networks.
        images: how many will be predicted. For a few, torch runs the networks of a run that has no export yet.
        ensemble: overrides the recipe's ensemble.

    Raises:
        FacecadeError: a fit or the combiner is missing or stale; an ensemble that the export does not hold.
    """
    if isinstance(fitted, Run):
        return cascade_of_run(fitted, machine, images, ensemble)
    if ensemble and ensemble != fitted.made_of.ensemble:
        raise FacecadeError(
            f"this export holds the networks of --ensemble {fitted.made_of.ensemble}, not {ensemble}",
            f"export the run again with --ensemble {ensemble}",
        )
    return cascade_of_export(fitted, _engine_of_export(machine), machine.precision)


def cascade_of_run(
    run: Run, machine: Machine, images: int = EXPORT_FROM_IMAGES, ensemble: EnsembleKind | None = None
) -> Cascade:
    """Load a run's cascade; arguments and errors as of `load_cascade`."""
    combiner, ensemble = require_fitted(run), ensemble or run.recipe.ensemble
    if ensemble in FITTED_ON_ALL and ensemble != run.recipe.ensemble:
        steps = [run.command(f"fit-stage all --resume --set ensemble={ensemble}"), run.command("fit-meta")]
        raise FacecadeError(f"this run has no network for --ensemble {ensemble}", "fit it: " + " && ".join(steps))
    engine, precision = _engine_of_run(run, machine, images, ensemble)
    if engine != "torch":
        exported = export(run, ensemble, wait=EXPORT_SECONDS)
        cascade = cascade_of_export(exported, engine, precision)
        return replace(cascade, combiner=combiner, trained_on=run.trained_on, folder=run.folder)
    from facecade.training.device import torch_device

    device, nets = torch_device(machine.device), None
    if run.recipe.face.detector == "mtcnn":
        from facecade.faces.mtcnn_networks import torch_nets

        nets = torch_nets()  # here and not in the threads that read: what it imports changes the filters of warnings
    made_of = {"fits": run.fits_digest, "ensemble": ensemble, "engine": [engine, str(device)]}
    networks = _torch_networks(run, device, run.recipe.inference_fits(ensemble))
    return Cascade(run.recipe.face, nets, networks, combiner, run.trained_on, made_of, run.folder)


def cascade_of_export(exported: Exported, engine: str, precision: str) -> Cascade:
    """Load an export's cascade for an engine of `inference.engines.ENGINES`."""
    streams = cores()
    precision = exported.precision(engine, precision)
    made_of = {**exported.made_of.json_value(), "engine": [engine, precision]}
    networks, fallback = exported.ensemble(engine, streams, precision), None
    if precision == "bf16" and exported.fallback_margin is not None:
        fallback = Fallback(cache(partial(exported.ensemble, engine, streams)), exported.fallback_margin)
    detector = exported.mtcnn(streams)
    trained_on, folder = exported.trained_on(), exported.folder
    return Cascade(exported.face, detector, networks, exported.combiner, trained_on, made_of, folder, fallback)


def export(
    run: Run,
    ensemble: EnsembleKind | None = None,
    folder: Path | None = None,
    wait: float = 0.0,
    half: bool = False,
) -> Exported:
    """Export a run's fitted cascade to a folder that needs no torch (inference/exported.py), unless it is there.

    Args:
        ensemble: overrides the recipe's ensemble.
        folder: by default the one in the run folder that `infer` uses.
        wait: seconds to wait for another process that writes the folder.
        half: store the networks' tensors as float16.

    Raises:
        FacecadeError: the run is not fitted, or another process writes the folder; float16 changes too many classes.
    """
    combiner, ensemble = require_fitted(run), ensemble or run.recipe.ensemble
    folder = folder or _export_folder(run, ensemble)
    made_of = MadeOf(fits=run.fits_digest, ensemble=ensemble, combiner=file_hash(combiner / "meta.json"), half=half)
    if current := Exported.open_if_current(folder, made_of):
        return current
    from facecade.inference.export import require_exportable

    require_exportable(folder)
    numbers = run.recipe.inference_fits(ensemble)
    with locked(folder, wait):
        if current := Exported.open_if_current(folder, made_of):
            return current
        return _write_export(run, folder, made_of, combiner, numbers)


def _write_export(run: Run, folder: Path, made_of: MadeOf, combiner: Path, numbers: Sequence[int]) -> Exported:
    from facecade.inference.export import write_export

    with Bar("export", len(families(run.recipe.stages)) * len(numbers), "networks") as bar:
        crops = run.store().sample(HALF_CROPS if made_of.half else ROUNDING_CROPS, run.recipe.seed)
        fits, alignments = make_fits(run, numbers), read_alignments(run)
        face, images = run.recipe.face, run.trained_on
        return write_export(folder, fits, alignments, face, combiner, images, run.folder, made_of, crops, bar.advance)


def _export_folder(run: Run, ensemble: EnsembleKind) -> Path:
    return run.folder / "export" / ensemble


def _torch_networks(run: Run, device: torch.device, numbers: Sequence[int]) -> Ensemble:
    """The networks of some fits of every stage, run by torch."""
    from facecade.inference.torch_engine import torch_ensemble

    return torch_ensemble(make_fits(run, numbers), read_alignments(run), device, cores())


def _engine_of_export(machine: Machine) -> str:
    if machine.engine == "torch":
        raise FacecadeError("an export holds no torch models", "--engine openvino or onnx")
    if machine.engine != "auto":
        return machine.engine
    if machine.precision == "bf16":
        return "openvino"
    return next((name for name in ENGINES if installed(name)), "onnx")


def _engine_of_run(run: Run, machine: Machine, images: int, ensemble: EnsembleKind) -> tuple[str, str]:
    """The requested engine and precision; for `auto` the fastest, measured once for each run and machine."""
    # One file per precision: `infer` and `serve` use different ones and would overwrite each other's measurement.
    record, exported = run.folder / f"engine-{machine.precision}.json", is_export(_export_folder(run, ensemble))
    if machine.engine == "torch" and machine.precision == "bf16":
        raise FacecadeError("--engine torch chooses its precision itself", "--engine openvino --precision bf16")
    if machine.engine != "auto":
        if machine.engine != "torch":
            require(machine.engine, machine.precision)  # before anything is exported
        return machine.engine, machine.precision
    if machine.precision == "bf16":
        return "openvino", "bf16"
    if parse_device(machine.device)[0] in ("auto", "cpu") and (known := recorded_choice(record, run.fits_digest)):
        return _bf16_where_possible(*known)
    import torch

    from facecade.inference.export import can_export

    if (machine.device != "cpu" and torch.cuda.is_available()) or not can_export():
        return "torch", "fp32"
    if images < EXPORT_FROM_IMAGES and not exported:
        return "torch", "fp32"
    written, streams, one_fit = export(run, ensemble), cores(), run.recipe.inference_fits(ensemble)[:1]
    options = [EngineOption("torch", "fp32", lambda: _torch_networks(run, torch.device("cpu"), one_fit))]
    for name in filter(installed, ENGINES):
        for precision in dict.fromkeys(("fp32", written.precision(name, machine.precision))):
            networks = partial(written.ensemble, name, streams, precision, folds=1)
            share = written.fallback_share if precision == "bf16" else 0.0
            options.append(EngineOption(name, precision, networks, share))
    return _bf16_where_possible(*choose_engine(record, run.fits_digest, options, run.recipe.face.size))


def _bf16_where_possible(engine: str, precision: str) -> tuple[str, str]:
    """The choice, with bf16 as `auto`: a newer export may lack the fallback margin that bf16 needs."""
    return engine, "auto" if precision == "bf16" else precision
