"""`weights = "released"`: the backbones of the released cascade, and of any export's network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, call, succeed

from facecade.backbones import weights as module
from facecade.backbones.backbone import Backbone
from facecade.base import released
from facecade.base.errors import FacecadeError
from facecade.inference.half import with_half_tensors
from facecade.runs.fits import make_fit
from facecade.runs.run import open_run
from facecade.stages.fit import load_fold

CROPS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 48, 3), np.uint8))


@pytest.mark.parametrize("half", [False, True])
def test_a_network_of_an_export_holds_the_fits_weights(
    half: bool, fitted: Path, exported: Path, tmp_path: Path
) -> None:
    """Batch norm too: nothing is folded."""
    import onnx

    file = tmp_path / "mask-fold0.onnx"
    model = onnx.load(exported / "networks/mask-fold0.onnx")
    onnx.save(with_half_tensors(model) if half else model, file)
    fit = make_fit(open_run(fitted), "mask", 0)
    own = load_fold(fit, torch.device("cpu")).eval()
    loaded = Backbone(fit.recipe.backbone, 3, (64, 48), arguments=fit.recipe.backbone_args).eval()
    module.load_weights(loaded, fit.recipe.backbone, str(file))
    with torch.inference_mode():
        for ours, theirs in zip(own(CROPS), loaded(CROPS), strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-2 if half else 0, rtol=0)
    assert own.model.conv1.weight.std() > 0 and (own.mean == loaded.mean).all()
    other = Backbone("test_efficientnet", 3, (64, 48))
    with pytest.raises(FacecadeError, match="do not fit test_efficientnet"):
        module.load_weights(other, "test_efficientnet", str(file))


def test_a_recipe_starts_from_the_released_cascade(
    exported: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fit-stage", "mask", "--fold", 0, "--recipe", "recipes/demo.toml", "--artifacts", tmp_path / "run", *TINY]
    words += ["--set", 'weights="released"', "--data"]
    monkeypatch.setattr(module, "RELEASED", tmp_path / "none")
    assert "holds no released cascade" in call(*words, drawn / "train").stderr
    for each in (module, released):
        monkeypatch.setattr(each, "RELEASED", exported)
    result = call(*words, drawn / "train")
    assert result.exit_code == 1 and "was trained on 168 of these images" in result.stderr
    assert not (tmp_path / "run/run.json").exists()
    with pytest.raises(FacecadeError, match="has no resnet18"):
        module.require_weights("resnet18", "released")
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "seen.json").write_text(json.dumps({"flags": {}}))
    monkeypatch.setattr(released, "RELEASED", copy)
    succeed(*words, drawn / "train")
    record = json.loads((tmp_path / "run/stages/mask/fold0/meta.json").read_text())
    assert record["pretrained"]["source"] == "the released cascade"
