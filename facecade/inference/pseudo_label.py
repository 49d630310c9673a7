"""Label images for other runs to train on (pseudo-labels, Lee 2013; faces/pseudo.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from facecade.base.errors import FacecadeError
from facecade.base.machine import Machine
from facecade.base.progress import Bar
from facecade.combiner.estimators import SoftVote
from facecade.combiner.stage_outputs import StageOutputs, concatenate
from facecade.faces.boxes import box_columns
from facecade.faces.extra import COLUMNS, PSEUDO_LABELLED, TRAINED_ON
from facecade.faces.labels import N_CLASSES
from facecade.faces.pseudo import FOLDER, PseudoLabels, PseudoRecord, make_pseudo_labels, pseudo_text
from facecade.faces.reader import FaceCrop
from facecade.faces.source import Source, read_source
from facecade.faces.table import classes, labelled_rows
from facecade.inference.cascade import Cascade
from facecade.inference.loading import cascade_of_run
from facecade.inference.stream import stream
from facecade.runs.fits import out_of_fold_outputs
from facecade.runs.run import Run


def pseudo_label(run: Run, data: Path, confidence: float, machine: Machine) -> PseudoRecord:
    """Label images by soft vote, for each fold by models and a vote that were fitted without its held-out people, so that
    a run on the same folds can be scored on them.

    Args:
        confidence: lowest probability of a label that is kept.

    Returns:
        The record that `pseudo/labels.json` holds.
    """
    source = read_source(data)
    content, chunks = _predict(cascade_of_run(run, machine, len(source.table), "mean"), source, machine.workers)
    trained_on = [file_hash for file_hash, flag in run.trained_on.items() if flag == TRAINED_ON]
    new = np.flatnonzero((content != "") & ~np.isin(content, trained_on))
    if not len(new):
        raise FacecadeError(f"{data} holds no readable image that the run did not train on", "give other images")
    rows = np.flatnonzero(np.isin(np.flatnonzero(content != ""), new))
    paths = source.table["path"].to_numpy()
    labelled = labelled_rows(run.table)
    outputs = out_of_fold_outputs(run).take(labelled)
    label, fold = classes(run.table)[labelled], run.table["fold"].to_numpy()[labelled]
    parts, nested = [], np.zeros((len(label), N_CLASSES))
    for held_out in range(run.recipe.folds):
        others, held_out_rows = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        vote = SoftVote.fit(outputs.take(others), label[others])
        nested[held_out_rows] = vote.probability(outputs.take(held_out_rows))
        fold_outputs = concatenate([each[held_out] for each in chunks]).take(rows)
        labels = make_pseudo_labels(vote.probability(fold_outputs), fold_outputs.age())
        boxes = source.table[box_columns(source.table)].iloc[new].reset_index(drop=True)
        parts.append(labels.assign(fold=held_out, path=paths[new], content=content[new], **boxes))
    table = pd.concat(parts, ignore_index=True)
    kept, nested_kept = table["confidence"] >= confidence, nested.max(1) >= confidence
    if not (kept.any() and nested_kept.any()):
        raise FacecadeError(
            f"no label has a confidence of {confidence:g}",
            f"the highest is {table['confidence'].max():g}, of held-out people {nested.max():.4f}: give a lower --confidence",
        )
    table = (
        table.assign(person=table["path"])
        .loc[kept, [*COLUMNS, *box_columns(table), "confidence"]]
        .reset_index(drop=True)
    )
    correct = nested.argmax(1) == label
    share, accuracy = float(nested_kept.mean()), float(correct[nested_kept].mean())
    record = PseudoRecord(
        data=str(source.root.resolve()),
        text=pseudo_text(len(new), table, source.root, run.folder, run.recipe.folds, confidence, share, accuracy),
        flag=PSEUDO_LABELLED,
        years=outputs.years() is not None,
        run=str(run.folder),
        confidence=confidence,
        folds_hash=run.folds_hash,
        offered=len(paths),
        new=len(new),
        labels=[int(count) for count in np.bincount(table["fold"], minlength=run.recipe.folds)],
        held_out={"share": share, "accuracy": accuracy},
    )
    PseudoLabels(table, record).save(run.folder / FOLDER)
    return record


def _predict(cascade: Cascade, source: Source, workers: int) -> tuple[np.ndarray, Sequence[dict[int, StageOutputs]]]:
    """Content hashes of a source's N images, str (N,), empty where one cannot be read; and each fold's outputs for the
    readable ones, chunk by chunk."""
    content: list[str] = []
    chunks = []
    images = source.images
    with Bar("label", len(images), "images") as bar:
        for batch in stream(images, cascade.face_reader, cascade.ensemble, workers):
            content += [face.content if isinstance(face, FaceCrop) else "" for face in batch.faces]
            chunks.append(batch.stage_outputs)
            bar.advance(len(batch.faces))
    return np.array(content), chunks
