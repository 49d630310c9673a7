"""Ensembles: all folds' networks (mean), the first, the mean of their weights (soup), or a network trained on all people
(refit)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import arrays, call, succeed
from safetensors.torch import load_file

from facecade.base.machine import Machine
from facecade.inference.loading import cascade_of_run
from facecade.records import read_combiner_record, read_fit_record
from facecade.runs.fits import read_alignments
from facecade.runs.run import open_run

TORCH = Machine(engine="torch")


@pytest.fixture(scope="module")
def refitted(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run with the ensemble `refit`: a network trained on all people."""
    run = tmp_path_factory.mktemp("refitted") / "run"
    shutil.copytree(fitted, run, ignore=shutil.ignore_patterns(".lock"))
    words = ["--artifacts", run, "--resume", "--set", "ensemble=refit", "--jobs", 1]
    planned = succeed("fit-stage", "all", *words, "--dry-run").splitlines()
    assert planned == [f"would fit {stage} full (now missing)" for stage in open_run(run).recipe.stages]
    succeed("fit-stage", "all", *words)
    result = call("infer", run, "--artifacts", run)
    assert result.exit_code == 1 and "combiner is stale" in result.stderr
    succeed("fit-meta", "--artifacts", run)
    return run


def test_refit_trains_on_all_people_and_is_never_scored(refitted: Path, fitted: Path) -> None:
    run = open_run(refitted)
    for stage in run.recipe.stages:
        record, fold = (read_fit_record(refitted / "stages" / stage / name) for name in ("full", "fold0"))
        assert record.score == {} and record.people > fold.people
        outputs = arrays(refitted / "stages" / stage / "full/outputs.npz")
        assert len(outputs["rows"]) == len(outputs["logits"]) == 0 and len(outputs["anchors"]) == 60
    before, after = (read_combiner_record(folder / "combiner") for folder in (fitted, refitted))
    assert after.nested == before.nested, "the combiner is fitted on the folds only"


def test_each_ensemble_runs_its_own_networks(refitted: Path, drawn: Path, tmp_path: Path) -> None:
    run = open_run(refitted)
    folds_of = {"mean": [0, 1, 2], "first": [0], "refit": [3]}
    for ensemble, folds in folds_of.items():
        members = cascade_of_run(run, TORCH, ensemble=ensemble).ensemble.members
        assert [fold for member in members for fold in member.folds] == folds * len(run.recipe.stages)
    tables = {}
    for ensemble in [*folds_of, None]:
        words = ["--ensemble", ensemble] if ensemble else []
        output = tmp_path / str(ensemble)
        succeed("infer", drawn / "eval", "--artifacts", refitted, "--engine", "torch", "--output", output, *words)
        tables[ensemble] = pd.read_csv(output / "predictions.csv")
    assert tables[None].equals(tables["refit"]), "the recipe's by default"
    years = np.stack([tables[ensemble]["age"].to_numpy() for ensemble in folds_of])
    assert (years[0] != years[1]).mean() > 0.9 and (years[0] != years[2]).mean() > 0.9
    result = call("infer", drawn / "eval", "--artifacts", refitted, "--ensemble", "soup", "--output", tmp_path)
    assert (
        result.exit_code == 1
        and "no network for --ensemble soup" in result.stderr
        and "--set ensemble=soup" in result.stderr
    )


def test_refit_embeds_in_the_folds_basis(refitted: Path) -> None:
    """Its aligned embeddings of the anchors correlate with the folds', as the combiner requires."""
    run = open_run(refitted)
    for stage, alignment in read_alignments(run).items():
        outputs = [arrays(run.fold_folder(stage, fold) / "outputs.npz") for fold in range(4)]
        aligned = [alignment.apply(fold, each["anchor_embedding"]) for fold, each in enumerate(outputs)]
        correlations = [float(np.corrcoef(aligned[0][:, 0], each[:, 0])[0, 1]) for each in aligned[1:]]
        assert min(correlations) > 0.5, (stage, correlations)


def test_soup_is_the_mean_of_the_folds_weights(refitted: Path, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(refitted, folder, ignore=shutil.ignore_patterns(".lock"))
    words = ["--artifacts", folder, "--resume", "--set", "ensemble=soup", "--jobs", 1]
    planned = succeed("fit-stage", "all", *words, "--dry-run").splitlines()
    assert len(planned) == 5 and all("full (now stale)" in line for line in planned), "the refit is not a soup"
    succeed("fit-stage", "all", *words)
    succeed("fit-meta", "--artifacts", folder)
    for stage in open_run(folder).recipe.stages:
        files = [folder / "stages" / stage / name / "weights.safetensors" for name in ("fold0", "fold1", "fold2")]
        folds, soup = (
            [load_file(file) for file in files],
            load_file(folder / "stages" / stage / "full/weights.safetensors"),
        )
        for key, value in soup.items():
            mean = torch.stack([fold[key].double() for fold in folds]).mean(0)
            assert torch.allclose(value.double(), mean, rtol=1e-5, atol=1e-6 if value.is_floating_point() else 1)
    summary = json.loads(
        succeed("infer", drawn / "eval", "--artifacts", folder, "--output", tmp_path / "out", "--json")
    )
    assert summary["images"] == 84


def test_export_holds_the_networks_of_its_ensemble(refitted: Path, drawn: Path, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    manifest = json.loads(succeed("export", folder, "--artifacts", refitted, "--ensemble", "first", "--json"))
    assert all(len(network["files"]) == 1 for network in manifest["networks"])
    for words in (["--artifacts", folder, "--engine", "onnx"], ["--artifacts", refitted, "--ensemble", "first"]):
        succeed("infer", drawn / "eval", *words, "--output", tmp_path / words[-1])
    by_export, by_run = (pd.read_csv(tmp_path / name / "predictions.csv")["ans"] for name in ("onnx", "first"))
    assert by_export.equals(by_run)
    result = call("infer", drawn / "eval", "--artifacts", folder, "--ensemble", "mean", "--output", tmp_path)
    assert result.exit_code == 1 and "this export holds the networks of --ensemble first, not mean" in result.stderr


def test_soup_adds_missing_folds_to_the_plan(fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(fitted, folder, ignore=shutil.ignore_patterns(".lock"))
    shutil.rmtree(folder / "stages/mask/fold1")
    words = ["--artifacts", folder, "--resume", "--set", "ensemble=soup", "--dry-run", "--json"]
    plan = json.loads(succeed("fit-stage", "mask", *words))["plan"]
    assert [(item["name"], item["state"]) for item in plan] == [("fold 1", "missing"), ("full", "missing")]
