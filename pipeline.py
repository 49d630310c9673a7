"""The three verbs, in the order a run takes them: fit_stage, fit_meta, infer."""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from base.artifact import digest, read_arrays, read_json, versions, write_arrays, write_json, write_text
from base.errors import FacecadeError
from base.progress import Bar, note
from combiner import fit as combination
from combiner.align import Alignment, fit_alignment
from combiner.features import NEEDED, FoldOutput, out_of_fold, read_fold
from faces.decode import DecodeError
from faces.labels import BANDS, GENDERS, MASKS, N_CLASSES, decode
from faces.store import Entry
from faces.table import classes, read_source
from report.metrics import confusion, f1_per_class, paired_difference, score
from run import Run, open_store


def fit_stage(
    run: Run, stages: Sequence[str], folds: Sequence[int], device: str, workers: int, resume: bool
) -> list[dict[str, Any]]:
    """Train stages, fold by fold, each on the people outside its fold.

    Args:
        resume: leave current fits as they are, and go on from checkpoints.

    Returns:
        A record for every fold asked for (stages/fit.py).
    """
    from stages.fit import fit_fold

    chosen = torch_device(device)
    crops, crop_row = run.faces(workers)
    records = []
    for stage in stages:
        for fold in folds:
            wanted = wanted_fit(run, stage, fold)
            if resume and run.state(stage, fold) == "fitted":
                record = read_json(wanted.folder / "meta.json")
                note(f"{stage} fold {fold}: fitted already, {_said(record['score'])}")
            else:
                record = fit_fold(
                    wanted, run.table, crops, crop_row, run.anchors(), chosen, _loaders(chosen, workers), resume
                )
                note(f"{stage} fold {fold}: {_said(record['score'])} on held-out people, {record['seconds']:.0f} s")
            records.append(record)
    return records


def fit_meta(run: Run) -> dict[str, Any]:
    """Stack the stages: align their folds, score every way of combining nested, keep the best.

    Returns:
        The record that `combiner/meta.json` holds.

    Raises:
        FacecadeError: a stage's fold is missing, stale, or of another split; with the command that mends it.
    """
    started = time.monotonic()
    _require_fits(run)
    recipe, table = run.recipe, run.table
    outputs = {
        stage: [read_fold(run.fold_folder(stage, fold)) for fold in range(recipe.folds)] for stage in recipe.stages
    }
    columns = {stage: tuple(read_json(run.fold_folder(stage, 0) / "meta.json")["columns"]) for stage in recipe.stages}
    fold = table["fold"].to_numpy()
    note("aligning the folds' embeddings")
    aligned = {stage: _align(folds, fold, recipe.combiner.components, True) for stage, folds in outputs.items()}
    raw = {stage: _align(folds, fold, recipe.combiner.components, False) for stage, folds in outputs.items()}
    voices = out_of_fold(outputs, columns, len(table), aligned)
    unaligned = out_of_fold(outputs, columns, len(table), raw)

    label, person, age = classes(table), table["person"].to_numpy(), table["age"].to_numpy()
    fitted = len({(way.rule, way.embedding) for way in combination.WAYS.values()})
    with Bar("nested scores", fitted * recipe.folds, "fits") as bar:
        results, chosen = combination.compare(voices, unaligned, label, fold, recipe.combiner, recipe.seed, bar.advance)
    best = combination.best_way(results, label)
    final = combination.finish(best, results[best], voices, label, recipe.combiner, recipe.seed)

    years = voices.weighted_years()
    hard = results["hard cascade"].answer
    record = {
        "nested": {name: _json(score(label, result.answer, person, age, years)) for name, result in results.items()},
        "nested_choice": _json(score(label, chosen, person, age, years)),
        "gain_over_hard_cascade": paired_difference(label, results[best].answer, hard, person).json(),
        "per_class_f1": _f1(label, chosen),
        "cuts": {gender: cuts.round(2) for gender, cuts in zip(GENDERS, _cuts(voices, label), strict=True)},
        "photographs": len(label),
        "people": int(table["person"].nunique()),
        "prior": np.bincount(label, minlength=N_CLASSES) / len(label),
        "fits": _fits_digest(run),
        "folds_hash": run.folds_hash,
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
        {"label": label, "answer": chosen, "probability": results[best].probability.astype(np.float32), "years": years},
    )
    combination.save(folder, final, record)
    return read_json(folder / "meta.json")


def infer(run: Run, data: Path, output: Path, device: str, workers: int) -> dict[str, Any]:
    """Answer for every photograph of `data`, in its order; write submission.csv and predictions.csv.

    A photograph that cannot be seen is answered with the most likely class of the training people, and flagged.
    """
    from inference.photographs import listen

    started = time.monotonic()
    _require_fits(run)
    combine, record = _load_combination(run)
    source = read_source(data)
    store = open_store(run.folder, run.recipe)
    entries = store.fill([source.root / path for path in source.table["path"]], workers)
    seen = np.array([isinstance(entry, Entry) for entry in entries])
    rows = np.array([entry.row for entry in entries if isinstance(entry, Entry)], np.int64)

    probability = np.tile(np.array(record["prior"], float), (len(entries), 1))
    answers = np.full(len(entries), int(np.argmax(record["prior"])))
    years = np.full((len(entries), 3), np.nan)
    if len(rows):
        chosen = torch_device(device)
        fits = {
            stage: [wanted_fit(run, stage, fold) for fold in range(run.recipe.folds)] for stage in run.recipe.stages
        }
        alignments = {stage: _read_alignment(run, stage) for stage in fits}
        voices = listen(fits, alignments, store.crops(), rows, chosen)
        probability[seen], answers[seen] = combine(voices)
        years[seen] = np.column_stack([voices.weighted_years(), voices.years()])

    known = set(run.table["content"])
    flags = [_flag(entry, known, run.recipe.face.detector == "mtcnn") for entry in entries]
    mask, gender, band = decode(answers)
    predictions = pd.DataFrame(
        {
            "ImageID": source.table["id"],
            "ans": answers,
            "mask": np.array(MASKS)[mask],
            "gender": np.array(GENDERS)[gender],
            "band": np.array(BANDS)[band],
            "age": years[:, 0].round(2),
            "age_if_male": years[:, 1].round(2),
            "age_if_female": years[:, 2].round(2),
            "confidence": probability[np.arange(len(answers)), answers].round(4),
            "flags": flags,
            **{f"p{label}": probability[:, label].round(5) for label in range(N_CLASSES)},
        }
    )
    _write_csv(output / "submission.csv", predictions[["ImageID", "ans"]])
    _write_csv(output / "predictions.csv", predictions)
    flagged = predictions.loc[predictions["flags"] != "", "flags"].str.split(":").str[0].value_counts()
    summary = {
        "photographs": len(entries),
        "flags": {str(name): int(count) for name, count in flagged.items()},
        "submission": str(output / "submission.csv"),
        "predictions": str(output / "predictions.csv"),
        "seconds": round(time.monotonic() - started, 1),
    }
    return summary


def evaluate(predictions: Path, labels: Path, output: Path) -> dict[str, Any]:
    """Score answers against labels, with intervals over people where the labels name them.

    Raises:
        FacecadeError: rows do not match, labels are not labels, or photographs were trained on.
    """
    said, truth = _read_answers(predictions), _read_labels(labels)
    beside = predictions.parent / "predictions.csv"
    if "age" not in said and beside.exists():  # a submission has answers alone; what we wrote beside it has more
        full = _read_answers(beside)
        if full["ans"].equals(said["ans"]):
            said = full
    missing = truth.index.difference(said.index)
    if len(missing):
        raise FacecadeError(f"{predictions} lacks {len(missing)} of the labelled photographs, first {missing[0]}")
    if len(said) > len(truth):
        note(f"{len(said) - len(truth)} answers have no label and are not scored")
    said = said.loc[truth.index]
    trained = said["flags"].astype(str).str.contains("trained-on").sum() if "flags" in said else 0
    if trained:
        raise FacecadeError(
            f"{trained} of these photographs were trained on: a score of them says nothing of new people",
            "the honest score of training photographs is the nested one: python cli.py ls",
        )
    label, answer = truth["ans"].to_numpy(np.int64), said["ans"].to_numpy(np.int64)
    if "person" in truth:
        person = truth["person"].to_numpy()
    else:
        note("labels name no person: intervals are over photographs, and narrower than they should be")
        person = truth.index.to_numpy()
    ages = (
        (truth["age"].to_numpy(float), said["age"].to_numpy(float))
        if "age" in truth and "age" in said
        else (None, None)
    )
    if ages[1] is not None and np.isnan(ages[1]).any():
        note("age MAE left out: some photographs could not be seen")
        ages = (None, None)
    result = {
        "photographs": len(label),
        "people": len(np.unique(person)),
        "score": _json(score(label, answer, person, *ages)),
        "per_class_f1": _f1(label, answer),
        "per_class_count": np.bincount(label, minlength=N_CLASSES),
        "confusion": confusion(label, answer),
    }
    write_json(output / "evaluation.json", result)
    return read_json(output / "evaluation.json")


def describe(run: Run) -> dict[str, Any]:
    """What the run's folder holds: every fold of every stage, the combiner, and what to do next."""
    fits: list[dict[str, Any]] = []
    for stage in run.recipe.stages:
        for fold in range(run.recipe.folds):
            state, meta = run.state(stage, fold), run.fold_folder(stage, fold) / "meta.json"
            record = read_json(meta) if meta.exists() else {}
            fits.append(
                {
                    "stage": stage,
                    "fold": fold,
                    "state": state,
                    "score": _said(record.get("score", {})),
                    "seconds": f"{record['seconds']:.0f}" if record else "",
                }
            )
    unfitted = list(dict.fromkeys(item["stage"] for item in fits if item["state"] != "fitted"))
    combiner: dict[str, Any] = {"state": combiner_state(run)}
    if combiner["state"] != "missing":
        record = read_json(run.folder / "combiner" / "meta.json")
        combiner |= {"way": record["way"], "score": record["nested_choice"]["macro-F1"]}
    steps = [f"python cli.py fit-stage {stage} --resume" for stage in unfitted]
    if not steps:
        steps = ["python cli.py infer DATA" if combiner["state"] == "fitted" else "python cli.py fit-meta"]
    return {
        "data": str(run.root),
        "photographs": len(run.table),
        "people": int(run.table["person"].nunique()),
        "folds_hash": run.folds_hash,
        "fits": fits,
        "combiner": combiner,
        "next": steps,
    }


def wanted_fit(run: Run, stage: str, fold: int) -> Any:
    """What the run's recipe asks of one fold of one stage (a `stages.fit.Fit`)."""
    from stages import stage_named
    from stages.fit import Fit

    recipe = run.recipe.stages[stage]
    return Fit(
        stage_named(stage),
        fold,
        recipe,
        run.recipe.augment.get(recipe.augment, []),
        run.cap,
        run.recipe.seed,
        run.signature(stage),
        run.fold_folder(stage, fold),
    )


def torch_device(name: str) -> Any:
    """`auto`, `cpu` or `cuda` as a torch device, with torch set to give the same numbers every time."""
    import torch

    torch.use_deterministic_algorithms(True, warn_only=True)
    if name == "cuda" and not torch.cuda.is_available():
        raise FacecadeError("there is no CUDA device here", "--device cpu")
    device = torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        _keep_freed_memory()
    return device


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of returning them to the system after every layer.

    Training on a processor otherwise spends up to half its time in page faults.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to tell
        libc = ctypes.CDLL("libc.so.6")
        no_mmap, never_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
        libc.mallopt(*no_mmap)
        libc.mallopt(*never_trim)


def _loaders(device: Any, workers: int) -> int:
    """Processes that augment: on a processor the model has use for every core itself."""
    return workers if device.type == "cuda" else 0


def _said(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


def _require_fits(run: Run) -> None:
    """Every fold of every stage fitted as the recipe now says, or an error with the commands that mend it."""
    lacking = [stage for stage in NEEDED if stage not in run.recipe.stages]
    if lacking:
        raise FacecadeError(f"the recipe has no stage {', '.join(lacking)}; the cascade needs {', '.join(NEEDED)}")
    wrong: list[str] = []
    mend: list[str] = []
    for stage in run.recipe.stages:
        states = {fold: run.state(stage, fold) for fold in range(run.recipe.folds)}
        bad = {fold: state for fold, state in states.items() if state != "fitted"}
        if bad:
            wrong.append(f"{stage}: " + ", ".join(f"fold {fold} {state}" for fold, state in bad.items()))
            mend.append(f"python cli.py fit-stage {stage} --resume")
    if wrong:
        raise FacecadeError("not every fold is fitted as the recipe says:\n  " + "\n  ".join(wrong), "\n  ".join(mend))


def _fits_digest(run: Run) -> str:
    """A fingerprint of the fits that a combiner stacks."""
    return digest([run.signature(stage) for stage in run.recipe.stages])


def combiner_state(run: Run) -> str:
    """`fitted`, `stale` or `missing`."""
    meta = run.folder / "combiner" / "meta.json"
    if not meta.exists():
        return "missing"
    record = read_json(meta)
    same = record.get("fits") == _fits_digest(run) and record.get("recipe") == run.recipe.combiner.model_dump()
    return "fitted" if same else "stale"


def _load_combination(run: Run) -> tuple[combination.Combination, dict[str, Any]]:
    state = combiner_state(run)
    if state != "fitted":
        raise FacecadeError(f"the combiner is {state}", "python cli.py fit-meta")
    return combination.load(run.folder / "combiner")


def _align(folds: list[FoldOutput], fold: np.ndarray, components: int, rotate: bool) -> Alignment:
    return fit_alignment([output.anchor_embedding for output in folds], fold[folds[0].anchors], components, rotate)


def _read_alignment(run: Run, stage: str) -> Alignment:
    return Alignment(**read_arrays(run.folder / "combiner" / f"alignment-{stage}.npz"))


def _cuts(voices: Any, label: np.ndarray) -> np.ndarray:
    from combiner.rules import learn_cuts

    return learn_cuts(voices, label)


def _f1(label: np.ndarray, answer: np.ndarray) -> list[float | None]:
    """F1 of every class; None for a class that is not there."""
    values = f1_per_class(confusion(label, answer))
    return [None if np.isnan(value) else round(float(value), 6) for value in values]


def _json(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: interval.json() for name, interval in scores.items()}


def _flag(entry: Entry | DecodeError, known: set[str], detects: bool) -> str:
    if isinstance(entry, DecodeError):
        return "no-file" if entry.reason == "no such file" else f"unreadable: {entry.reason}"
    flags = ["no-face"] if detects and entry.box is None else []
    return " ".join(flags + (["trained-on"] if entry.content in known else []))


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    text = StringIO()
    table.to_csv(text, index=False, lineterminator="\n")
    write_text(path, text.getvalue())


def _read_answers(path: Path) -> pd.DataFrame:
    """A submission or predictions CSV, by ImageID."""
    table = _read_table(path, ["ImageID", "ans"])
    _require_classes(path, table)
    return table.set_index("ImageID")


def _read_labels(path: Path) -> pd.DataFrame:
    table = _read_table(path, ["ImageID", "ans"])
    _require_classes(path, table)
    if len(table) > 1 and (table["ans"] == 0).all():
        raise FacecadeError(
            f"{path} says 0 for every photograph: a form to fill in, not labels", "give the file with the true classes"
        )
    return table.set_index("ImageID")


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"ImageID": str, "person": str, "flags": str}, keep_default_na=True)
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise FacecadeError(f"{path} cannot be read as CSV: {error}") from None
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise FacecadeError(
            f"{path} lacks the column(s) {', '.join(missing)}", f"it has {', '.join(map(str, table.columns))}"
        )
    return table


def _require_classes(path: Path, table: pd.DataFrame) -> None:
    """Every answer a class, every photograph once; every bad row named."""
    number = pd.to_numeric(table["ans"], errors="coerce")
    bad = ~(number.isin(range(N_CLASSES)))
    lines = [f"row {row + 2}: ans is '{table['ans'][row]}', expected 0 to 17" for row in np.flatnonzero(bad)]
    lines += [
        f"row {row + 2}: ImageID '{table['ImageID'][row]}' stands twice"
        for row in np.flatnonzero(table["ImageID"].duplicated())
    ]
    lines += [f"row {row + 2}: no ImageID" for row in np.flatnonzero(table["ImageID"].isna())]
    if lines:
        shown = lines[:20] + ([f"and {len(lines) - 20} more"] if len(lines) > 20 else [])
        raise FacecadeError(f"{path} has {len(lines)} problem(s):\n  " + "\n  ".join(shown))
    table["ans"] = number.astype(np.int64)
