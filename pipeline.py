"""The three verbs, in the order a run takes them: fit_stage, fit_meta, infer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from facecade.base.artifact import digest, read_arrays, read_json, versions, write_arrays, write_atomic
from facecade.base.errors import FacecadeError
from facecade.base.files import content_hash
from facecade.base.machine import Machine, cores
from facecade.base.progress import Bar, note
from facecade.combiner import fit as combination
from facecade.combiner.align import Alignment, fit_alignment
from facecade.combiner.features import FoldOutput, Voices, join, lacking, out_of_fold, read_fold
from facecade.combiner.rules import SoftVote, learn_cuts
from facecade.faces.decode import decode
from facecade.faces.further import COLUMNS, TRAINED_ON, Further
from facecade.faces.labels import GENDERS, N_CLASSES
from facecade.faces.look import Look
from facecade.faces.pseudo import FOLDER, labels_from, pseudo_text
from facecade.faces.table import classes, read_source
from facecade.inference.again import Exact
from facecade.inference.cascade import Cascade
from facecade.inference.choose import Way, choose, remembered
from facecade.inference.engines import ENGINES, installed, require
from facecade.inference.explain import Explainer
from facecade.inference.exported import Exported, is_export
from facecade.inference.families import families
from facecade.inference.stream import stream
from facecade.recipe import WHOLE, Answer, kind_of
from facecade.report.metrics import as_json, class_f1, paired_difference, score
from facecade.run import Run, open_run, scores_text

if TYPE_CHECKING:
    import torch

    from facecade.inference.ensemble import Ensemble
    from facecade.recipe import Recipe
    from facecade.report.tracking import Tracker
    from facecade.stages.fit import Fit

TRIED = 256
"""Photographs on which an export measures how far bf16 moves an answer."""

ENOUGH = 200
"""Photographs for which writing an export, which a quicker engine needs, is soon made up for."""


def fit_stage(
    run: Run,
    stages: Sequence[str],
    folds: Sequence[int],
    machine: Machine,
    resume: bool,
    tracker: Tracker | None = None,
) -> list[dict[str, Any]]:
    """Train stages, each fold on the people outside it.

    Args:
        resume: leave current fits as they are, and go on from checkpoints.
        tracker: where each finished fit is written as well.

    Returns:
        A record for every fold asked for (stages/fit.py), by stage.

    Raises:
        FacecadeError: some fits failed, named with their reasons; the others were run all the same.
    """
    from facecade.stages.fit import Material
    from facecade.stages.jobs import fit_all
    from facecade.training.device import torch_device
    from facecade.training.tracking import read_history

    banded = [each for each in run.further.values() if not each.record["years"]]
    if banded:
        learning = [name for name in stages if wanted_fit(run, name, 0).stage.learns_years]
        if learning:
            raise FacecadeError(
                f"{banded[0].record['run']} knows age bands alone, and {', '.join(learning)} would learn years from them",
                "take the pseudo-labels of a run whose stages know years",
            )
    device, seen = torch_device(machine.device), versions()
    note(
        f"seed {run.recipe.seed}; {device}, {'bfloat16 autocast' if machine.halves(device.type) else 'float32'}; "
        + ", ".join(f"{name} {seen[name]}" for name in ("python", "torch", "timm", "albumentations"))
    )
    store, crop_row = run.faces(machine.workers)
    asked = {
        (stage, fold): wanted_fit(run, stage, fold) for stage in run.recipe.stages if stage in stages for fold in folds
    }
    todo = [wanted_fit(run, *key) for key in plan(run, stages, folds, resume)]
    for (stage, fold), fit in asked.items():
        if run.state(stage, fold) == "fitted":
            score = ", ".join(["fitted already", *_score_of(read_json(fit.folder / "meta.json"))])
            note(f"{fit.title}: {score}" + ("" if resume else "; fitting it again (--resume would keep it)"))
    for fit in todo:
        if fit.key not in asked:
            note(f"{fit.title}: fitting it first, because others are made from it")

    def done(fit: Fit, outcome: dict[str, Any] | BaseException) -> None:
        if isinstance(outcome, BaseException):
            note(f"{fit.title}: failed: {outcome}")
        else:
            note(f"{fit.title}: " + ", ".join([*_score_of(outcome), f"{outcome['seconds']:.0f} s"]))
            if tracker:
                scores = {**outcome["score"], "seconds": outcome["seconds"]}
                tags = {"run": str(run.folder), "stage": fit.stage.name, "signature": fit.signature}
                tracker.keep(fit.title, outcome["recipe"], scores, tags, read_history(fit.folder))

    further = run.further_rows(store, machine.workers)
    material = Material(run.table, store.pixels, store.shape, crop_row, run.anchors(), further)
    outcomes = fit_all(todo, material, machine, resume, done)
    failed = [(fit, error) for fit, error in zip(todo, outcomes, strict=True) if isinstance(error, BaseException)]
    if failed:
        lines = [f"{fit.title}: {error}" for fit, error in failed]
        cause = failed[0][1]
        hint = getattr(cause, "hint", "") or "mend it, then go on with what is left: --resume"
        raise FacecadeError(f"{len(failed)} of {len(todo)} fits failed:\n  " + "\n  ".join(lines), hint) from cause
    return [read_json(fit.folder / "meta.json") for fit in asked.values()]


def _score_of(record: Mapping[str, Any]) -> list[str]:
    """What a fit's record says of held-out people; nothing where it held nobody out."""
    return [f"{scores_text(record['score'])} on held-out people"] if record["score"] else []


def check_parts(recipe: Recipe, stages: Sequence[str]) -> None:
    """Make everything that a recipe names, so that a wrong name fails before anything is written or trained.

    Args:
        stages: those to be fitted, whose weights must be there.

    Raises:
        FacecadeError: a backbone, loss, augmentation, optimizer or schedule that there is not, or that does not take its
            arguments; weights that are not installed.
    """
    import torch

    from facecade.backbones.backbone import require_model
    from facecade.backbones.weights import require_weights
    from facecade.stages import make_stage
    from facecade.stages.fit import new_backbone
    from facecade.stages.stage import Classifier
    from facecade.training.augment import build
    from facecade.training.freeze import Thawed
    from facecade.training.optimizers import Schedule, make_optimizer

    answers: dict[str, tuple[str, ...]] = {}
    for name, stage in recipe.stages.items():
        made = make_stage(name, stage.loss, stage.auxiliary)
        if answers.setdefault(kind_of(name), made.columns) != made.columns:
            raise FacecadeError(
                f"{name} answers something else than the other {kind_of(name)} stage",
                "give both a loss of the same kind: their answers are averaged",
            )
        if stage.vote == "hard" and not isinstance(made, Classifier):
            raise FacecadeError(
                f"stages.{name}.vote = 'hard' counts votes for classes, and {name} answers more or other than one class",
                "vote = 'soft' averages its views",
            )
        require_model(stage.backbone)
        if stage.freeze != "none":
            Thawed(new_backbone(made, stage, 0), stage.freeze, stage.size)
        settings = stage.model_copy(update={"layer_decay": 1.0})  # of one layer there is nothing to decay
        Schedule(make_optimizer(torch.nn.Linear(1, 1), settings), settings, 2)  # timm warns of a schedule of one step
    for transforms in recipe.augment.values():
        build(transforms, recipe.face.size)
    for name in stages:
        stage = recipe.stages[name]
        while stage.start:
            stage = recipe.stages[stage.start]
        require_weights(stage.backbone, stage.weights)


def plan(run: Run, stages: Sequence[str], folds: Sequence[int], resume: bool) -> list[tuple[str, int]]:
    """Stage and fold of the fits that `fit_stage` would run, each after those it is made from; these too, where they are
    not fitted."""
    todo: set[tuple[str, int]] = set()

    def add(stage: str, fold: int) -> None:
        todo.add((stage, fold))
        for need in wanted_fit(run, stage, fold).needs:
            if need not in todo and run.state(*need) != "fitted":
                add(*need)

    for stage in stages:
        for fold in folds:
            if not (resume and run.state(stage, fold) == "fitted"):
                add(stage, fold)
    return [key for stage in run.recipe.stages for fold in run.recipe.fits if (key := (stage, fold)) in todo]


def fit_meta(run: Run, tracker: Tracker | None = None) -> dict[str, Any]:
    """Stack the stages: align their folds, score every way of combining nested, keep the best.

    Args:
        tracker: where the scores are written as well.

    Returns:
        The record that `combiner/meta.json` holds.

    Raises:
        FacecadeError: a stage's fold is missing, stale, or of another split; with the command that mends it.
    """
    started = time.monotonic()
    _require_fits(run)
    recipe, table = run.recipe, run.table
    outputs = _outputs(run)
    fold = table["fold"].to_numpy()
    note("aligning the folds' embeddings")
    aligned = {stage: _align(folds, fold, recipe.combiner.components) for stage, folds in outputs.items()}
    raw = {stage: alignment.unrotated() for stage, alignment in aligned.items()}
    voices, unaligned = (out_of_fold(outputs, _columns(run), len(table), each) for each in (aligned, raw))

    label, person, age = classes(table), table["person"].to_numpy(), table["age"].to_numpy()
    fitted = len({(way.rule, way.embedding) for way in combination.ways_for(voices).values()})
    with Bar("nested scores", fitted * recipe.folds, "fits") as bar:
        results, chosen = combination.compare(voices, unaligned, label, fold, recipe.combiner, recipe.seed, bar.advance)
    best = combination.best_way(results, label)
    years, cuts = voices.age(), learn_cuts(voices, label)
    simplest = next(iter(results))
    record: dict[str, Any] = {
        "nested": {name: as_json(score(label, result.answer, person, age, years)) for name, result in results.items()},
        "nested_choice": as_json(score(label, chosen, person, age, years)),
        "simplest": simplest,
        "gain_over_simplest": paired_difference(label, results[best].answer, results[simplest].answer, person).json(),
        "per_class_f1": class_f1(label, chosen),
        "cuts": {} if cuts is None else {name: row.round(2) for name, row in zip(GENDERS, cuts, strict=True)},
        "photographs": len(label),
        "people": int(table["person"].nunique()),
        "prior": np.bincount(label, minlength=N_CLASSES) / len(label),
        "fits": run.fits_digest,
        "folds_hash": run.folds_hash,
        "further": [each.record["text"] for each in run.further.values()],
        "seed": recipe.seed,
        "recipe": recipe.combiner.model_dump(),
        "seconds": round(time.monotonic() - started, 1),
        "versions": versions(),
    }
    folder = run.folder / "combiner"
    for stage, alignment in aligned.items():
        write_arrays(folder / f"alignment-{stage}.npz", {"offset": alignment.offset, "matrix": alignment.matrix})
    write_arrays(
        folder / "nested.npz",
        {
            "label": label,
            "answer": chosen,
            "probability": results[best].probability.astype(np.float32),
            "years": years,
            "ways": np.array(list(results)),
            "answers": np.stack([result.answer for result in results.values()]),
        },
    )
    unstacked = [(name, folder / place) for name, place in combination.UNSTACKED.items() if name in results]
    for name, place in [*unstacked, (best, folder)]:
        final = combination.finish(name, results[name], voices, label, recipe.combiner, recipe.seed)
        combination.save(place, final, record)
    if tracker:
        scores = {name: score["value"] for name, score in record["nested_choice"].items()}
        ways = {f"nested macro-F1 of {name}": said["macro-F1"]["value"] for name, said in record["nested"].items()}
        tracker.keep("combiner", record["recipe"], scores | ways, {"run": str(run.folder), "way": best})
    return read_json(folder / "meta.json")


def infer(folder: Path, data: Path, output: Path, machine: Machine, answer: Answer | None = None) -> dict[str, Any]:
    """Answer for every photograph of `data`, in its order (inference/cascade.py).

    Args:
        folder: of a run, or of an export, which needs no torch.
        answer: which networks are asked, if others than the recipe says.
    """
    if is_export(folder):
        exported = Exported.open(folder)
        if answer and answer != exported.made_of["answer"]:
            raise FacecadeError(
                f"this export answers by {exported.made_of['answer']}, not {answer}",
                f"export the run again with --answer {answer}",
            )
        models = _exported_cascade(exported, _engine_of_export(machine), machine.precision)
        source = read_source(data)
    else:
        run = open_run(folder)
        _require_fitted(run)
        source = read_source(data)
        models = cascade(run, machine, len(source.table), answer)
    return models.infer(source, output, machine.workers)


def explain(folder: Path, photograph: Path, machine: Machine, pictures: Path | None = None) -> dict[str, Any]:
    """What is answered for each face of a photograph, and why (inference/explain.py).

    Args:
        folder: of a run, whose networks torch runs, or of an export.
        pictures: a folder for each face's crop, with the attention maps of every stage laid over it; needs a run.

    Returns:
        The explanation as JSON, with the files written under `pictures`.

    Raises:
        DecodeError: `photograph` is no readable photograph.
    """
    pixels, content = decode(photograph), content_hash(photograph)  # before networks are loaded: it may be unreadable
    if is_export(folder):
        if pictures:
            raise FacecadeError(
                "attention maps are taken from torch's networks, and an export holds none",
                "give the run that it was exported from: --artifacts RUN",
            )
        return explainer(folder, machine)(pixels, content).json()
    explanation = explainer(folder, replace(machine, engine="torch"))(pixels, content)
    result = explanation.json()
    if pictures:
        crops = np.stack([face.crop for face in explanation.faces])
        result["pictures"] = _write_pictures(pictures, crops, looked_at(open_run(folder), crops, machine))
    return result


def explainer(folder: Path, machine: Machine) -> Explainer:
    """What explains photographs, one after another.

    Args:
        folder: of a run, for whose few photographs `auto` exports nothing that is not there, or of an export.
    """
    if is_export(folder):
        return Explainer(_exported_cascade(Exported.open(folder), _engine_of_export(machine), machine.precision))
    return Explainer(cascade(open_run(folder), machine, photographs=1))


def looked_at(run: Run, crops: np.ndarray, machine: Machine) -> dict[str, np.ndarray]:
    """Crops, uint8 (N, h, w, 3), RGB, with the attention of each stage to each question laid over them, by what they show."""
    from facecade.inference.attention import attentions, overlay
    from facecade.training.device import torch_device

    maps = attentions(_fits(run, run.recipe.answering(run.recipe.answer)), crops, torch_device(machine.device))
    return {
        f"{stage}-{question}" if sum(stage == other for other, _ in maps) > 1 else stage: np.stack(
            [overlay(*each) for each in zip(crops, shown, strict=True)]
        )
        for (stage, question), shown in maps.items()
    }


def _write_pictures(folder: Path, crops: np.ndarray, looked: Mapping[str, np.ndarray]) -> list[str]:
    """Each face's crop, and the same with what is laid over it, as PNG; their paths."""
    from PIL import Image

    pictures = {f"face{face}.png": crop for face, crop in enumerate(crops, 1)}
    for name, overlaid in looked.items():
        pictures |= {f"face{face}-{name}.png": pixels for face, pixels in enumerate(overlaid, 1)}
    for name, pixels in pictures.items():
        write_atomic(folder / name, Image.fromarray(pixels).save)
    return [str(folder / name) for name in pictures]


def _engine_of_export(machine: Machine) -> str:
    if machine.engine == "torch":
        raise FacecadeError("an export holds no torch models", "--engine openvino or onnx")
    if machine.engine != "auto":
        return machine.engine
    if machine.precision == "bf16":
        return "openvino"
    return next((name for name in ENGINES if installed(name)), "onnx")


def cascade(run: Run, machine: Machine, photographs: int = ENOUGH, answer: Answer | None = None) -> Cascade:
    """A run's fitted cascade; raises FacecadeError where a fit or the combiner is missing or stale.

    Args:
        photographs: how many it is wanted for. For a few torch does, where nothing is exported yet.
        answer: which networks are asked, if others than the recipe says.
    """
    kept, answer = _require_fitted(run), answer or run.recipe.answer
    if answer in WHOLE and answer != run.recipe.answer:
        mend = [run.command(f"fit-stage all --resume --set answer={answer}"), run.command("fit-meta")]
        raise FacecadeError(f"this run has no {answer}", "fit it first: " + " && ".join(mend))
    engine, precision = _engine(run, machine, photographs, answer)
    if engine != "torch":
        return replace(_exported_cascade(export(run, answer), engine, precision), combiner=kept, seen=run.seen)
    from facecade.training.device import torch_device

    device = torch_device(machine.device)
    made_of = {"fits": run.fits_digest, "answer": answer, "engine": [engine, str(device)]}
    ensemble = _torch_ensemble(run, device, run.recipe.answering(answer))
    return Cascade(run.recipe.face, None, ensemble, kept, run.seen, made_of)


def _exported_cascade(exported: Exported, engine: str, precision: str) -> Cascade:
    streams = cores()
    precision = exported.precision(engine, precision)
    made_of = {**exported.made_of, "engine": [engine, precision]}
    models = exported.ensemble(engine, streams, precision)
    exact = None
    if precision == "bf16" and exported.near is not None:
        exact = Exact(cache(partial(exported.ensemble, engine, streams)), exported.near)
    return Cascade(exported.face, exported.nets(streams), models, exported.combiner, exported.seen(), made_of, exact)


def _torch_ensemble(run: Run, device: torch.device, folds: Sequence[int]) -> Ensemble:
    """The networks of some fits of every stage, run by torch."""
    from facecade.inference.torch_engine import torch_ensemble

    return torch_ensemble(_fits(run, folds), _alignments(run), device, cores())


def _fits(run: Run, folds: Sequence[int]) -> dict[str, list[Fit]]:
    return {stage: [wanted_fit(run, stage, fold) for fold in folds] for stage in run.recipe.stages}


def _engine(run: Run, machine: Machine, photographs: int, answer: Answer) -> tuple[str, str]:
    """The engine and precision asked for; for `auto` the quickest, measured once for a run on a machine."""
    # A file for each, or `infer` and `serve`, which want different ones, would measure anew in turns.
    record, exported = run.folder / f"engine-{machine.precision}.json", is_export(_export_folder(run, answer))
    if machine.engine == "torch" and machine.precision == "bf16":
        raise FacecadeError("--engine torch chooses its precision itself", "--engine openvino --precision bf16")
    if machine.engine != "auto":
        if machine.engine != "torch":
            require(machine.engine, machine.precision)  # before anything is exported for it
        return machine.engine, machine.precision
    if machine.precision == "bf16":
        return "openvino", "bf16"
    if machine.device != "cuda" and (known := remembered(record, run.fits_digest)):
        return _if_it_may(*known)
    import torch

    from facecade.inference.export import can_export

    if (machine.device != "cpu" and torch.cuda.is_available()) or not can_export():
        return "torch", "fp32"
    if photographs < ENOUGH and not exported:
        return "torch", "fp32"
    written, streams, one = export(run, answer), cores(), run.recipe.answering(answer)[:1]
    ways = [Way("torch", "fp32", lambda: _torch_ensemble(run, torch.device("cpu"), one))]
    for name in filter(installed, ENGINES):
        for precision in dict.fromkeys(("fp32", written.precision(name, machine.precision))):
            networks = partial(written.ensemble, name, streams, precision, folds=1)
            ways.append(Way(name, precision, networks, written.again if precision == "bf16" else 0.0))
    return _if_it_may(*choose(record, run.fits_digest, ways, run.recipe.face.size))


def _if_it_may(engine: str, precision: str) -> tuple[str, str]:
    """What was the quickest, with bf16 as nobody's demand: an export that was written since may not know what bf16 changes."""
    return engine, "auto" if precision == "bf16" else precision


def export(run: Run, answer: Answer | None = None, folder: Path | None = None) -> Exported:
    """A run's fitted cascade as a folder that needs no torch (inference/exported.py): written, unless it is there.

    Args:
        answer: which networks it holds, if others than the recipe says.
        folder: where; by default one that `infer` keeps in the run.
    """
    kept, answer = _require_fitted(run), answer or run.recipe.answer
    folder = folder or _export_folder(run, answer)
    made_of = {"fits": run.fits_digest, "answer": answer, "combiner": digest(read_json(kept / "meta.json"))}
    if known := Exported.known(folder, made_of):
        return known
    from facecade.inference.export import write

    fits = _fits(run, run.recipe.answering(answer))
    about = {"run": str(run.folder), "made_of": made_of, "versions": versions()}
    with Bar("export", len(families(run.recipe.stages)) * len(run.recipe.answering(answer)), "networks") as bar:
        some = run.store().some(TRIED, run.recipe.seed)
        write(folder, fits, _alignments(run), run.recipe.face, kept, run.seen, about, some, bar.advance)
    return Exported.open(folder)


def _export_folder(run: Run, answer: Answer) -> Path:
    return run.folder / "export" / answer


def held_out_voices(run: Run) -> Voices:
    """What all stages say of every training photograph, by models that never saw its person; raises FacecadeError where
    the run is not fitted."""
    _require_fitted(run)
    return out_of_fold(_outputs(run), _columns(run), len(run.table), _alignments(run))


def _require_fitted(run: Run) -> Path:
    """Folder of the run's combination; raises FacecadeError where that, or a fit, is missing or stale."""
    _require_fits(run)
    return _combination_folder(run)


def pseudo_label(run: Run, data: Path, confidence: float, machine: Machine) -> dict[str, Any]:
    """Label photographs for other runs to learn from, by soft vote: for each fold by models and a vote that never saw
    the people it holds out, so that a run on the same folds may be scored on them.

    Args:
        confidence: least probability of a label that is kept.

    Returns:
        The record that `pseudo/labels.json` holds.
    """
    source, trained_on = read_source(data), [known for known, flag in run.seen.items() if flag == TRAINED_ON]
    models = cascade(run, machine, len(source.table), "mean")
    paths, content, folds = source.table["path"].to_numpy(), [], []
    with Bar("label", len(paths), "photographs") as bar:
        for heard in stream([source.root / path for path in paths], models.looker(), models.ensemble, machine.workers):
            content += [look.content if isinstance(look, Look) else "" for look in heard.looks]
            folds.append(heard.voices)
            bar.advance(len(heard.looks))
    known = np.array(content)
    new = np.flatnonzero((known != "") & ~np.isin(known, trained_on))
    if not len(new):
        raise FacecadeError(f"{data} holds no readable photograph that the run did not train on", "give others")
    rows = np.flatnonzero(np.isin(np.flatnonzero(known != ""), new))
    voices = held_out_voices(run)
    label, fold = classes(run.table), run.table["fold"].to_numpy()
    parts, own = [], np.zeros((len(label), N_CLASSES))
    for held_out in range(run.recipe.folds):
        others = np.flatnonzero(fold != held_out)
        vote = SoftVote.fit(voices.take(others), label[others])
        own[fold == held_out] = vote.probability(voices.take(np.flatnonzero(fold == held_out)))
        heard_by = join([chunk[held_out] for chunk in folds]).take(rows)
        said = labels_from(vote.probability(heard_by), heard_by.age())
        parts.append(said.assign(fold=held_out, path=paths[new], content=known[new]))
    table = pd.concat(parts, ignore_index=True)
    sure, sure_of_own = table["confidence"] >= confidence, own.max(1) >= confidence
    if not (sure.any() and sure_of_own.any()):
        raise FacecadeError(
            f"no label is as sure as {confidence:g}",
            f"the surest is {table['confidence'].max():g}, of held-out people {own.max():.4f}: give a lower --confidence",
        )
    table = table.assign(person=table["path"]).loc[sure, [*COLUMNS, "confidence"]].reset_index(drop=True)
    record: dict[str, Any] = {
        "run": str(run.folder),
        "flag": "pseudo-labelled",
        "confidence": confidence,
        "folds_hash": run.folds_hash,
        "years": voices.years() is not None,
        "offered": len(paths),
        "new": len(new),
        "labels": [int(count) for count in np.bincount(table["fold"], minlength=run.recipe.folds)],
        "held_out": {
            "share": float(sure_of_own.mean()),
            "accuracy": float((own.argmax(1) == label)[sure_of_own].mean()),
        },
    }
    record["text"] = pseudo_text(record, table["path"].nunique(), source.root)
    Further(source.root, table, record).save(run.folder / FOLDER)
    return {**record, "labels_file": str(run.folder / FOLDER / "labels.csv")}


def wanted_fit(run: Run, stage: str, fold: int) -> Fit:
    """What the run's recipe asks of one fit of one stage."""
    from facecade.stages import make_stage
    from facecade.stages.fit import Fit

    recipe = run.recipe.stages[stage]
    made, weights, head_rows = make_stage(stage, recipe.loss, recipe.auxiliary), recipe.weights, []
    if recipe.start:
        weights = str(run.fold_folder(recipe.start, fold) / "weights.safetensors")
        first = run.recipe.stages[recipe.start]
        known = make_stage(recipe.start, first.loss, first.auxiliary).outputs
        head_rows = [known.index(output) if output in known else -1 for output in made.outputs]
    soup = fold == run.recipe.folds and run.recipe.answer == "soup"
    return Fit(
        made,
        fold,
        run.recipe.fit_name(fold),
        recipe,
        weights,
        head_rows,
        run.recipe.augment.get(recipe.augment, []),
        run.cap,
        run.recipe.seed,
        run.signature(stage, fold),
        run.folds_hash,
        run.fold_folder(stage, fold),
        [run.fold_folder(stage, each) / "weights.safetensors" for each in range(fold)] if soup else [],
    )


def _require_fits(run: Run) -> None:
    """Every fit of every stage there as the recipe now says, or an error with the commands that mend it."""
    unanswered = lacking(run.recipe.stages)
    if unanswered:
        raise FacecadeError(
            f"no stage of the recipe answers {' and '.join(unanswered)}",
            "add mask, gender, age-male and age-female; or joint; or flat",
        )
    wrong: dict[str, str] = {}
    for stage in run.recipe.stages:
        states = {run.recipe.fit_name(fold): run.state(stage, fold) for fold in run.recipe.fits}
        bad = {name: state for name, state in states.items() if state != "fitted"}
        if bad:
            wrong[stage] = f"{stage}: " + ", ".join(f"{name} {state}" for name, state in bad.items())
    if wrong:
        lines, stages = "\n  ".join(wrong.values()), "all" if len(wrong) == len(run.recipe.stages) else " ".join(wrong)
        mend = run.command(f"fit-stage {stages} --resume")
        raise FacecadeError(f"not everything is fitted as the recipe says:\n  {lines}", mend)


def _combination_folder(run: Run) -> Path:
    """Where the run's combination is kept; raises FacecadeError where it is missing or stale."""
    state = run.combiner_state()
    if state != "fitted":
        raise FacecadeError(f"the combiner is {state}", run.command("fit-meta"))
    return run.folder / "combiner"


def _outputs(run: Run) -> dict[str, list[FoldOutput]]:
    """What every fit of every stage left."""
    return {stage: [read_fold(run.fold_folder(stage, fold)) for fold in run.recipe.fits] for stage in run.recipe.stages}


def _columns(run: Run) -> dict[str, tuple[str, ...]]:
    """Names of each stage's logits."""
    return {stage: tuple(read_json(run.fold_folder(stage, 0) / "meta.json")["columns"]) for stage in run.recipe.stages}


def _align(folds: list[FoldOutput], fold: np.ndarray, components: int) -> Alignment:
    return fit_alignment([output.anchor_embedding for output in folds], fold[folds[0].anchors], components)


def _alignments(run: Run) -> dict[str, Alignment]:
    """What `fit_meta` learned of each stage's folds."""
    files = {stage: run.folder / "combiner" / f"alignment-{stage}.npz" for stage in run.recipe.stages}
    return {stage: Alignment(**read_arrays(path)) for stage, path in files.items()}
