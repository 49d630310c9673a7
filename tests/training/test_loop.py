"""Training is deterministic: the same seed gives the same weights, resumed or not, with any number of workers."""

from __future__ import annotations

import itertools
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facecade.backbones.backbone import Backbone
from facecade.recipe import StageRecipe
from facecade.training import loop
from facecade.training.checkpoint import load_weights, save_weights
from facecade.training.dataset import AugmentedCrops
from facecade.training.loop import TrainingData, Validation, fit, train_head_only
from facecade.training.losses import class_loss
from facecade.training.predict import predict
from facecade.training.tracking import read_history

RECIPE = StageRecipe(backbone="test_efficientnet", size=(32, 32), epochs=3, batch_size=8, lr=1e-2, ema=0.9, dropout=0.3)
FLIP: list[dict[str, object]] = [{"name": "HorizontalFlip", "p": 0.5}, {"name": "RandomBrightnessContrast", "p": 0.5}]


TARGET = np.arange(40) % 2
CROPS = (np.random.default_rng(0).integers(0, 100, (40, 32, 32, 3)) + 120 * TARGET[:, None, None, None]).astype(
    np.uint8
)
ROWS = np.arange(40)
"""Forty images; half of them are bright, which is the target."""


VALIDATION = Validation(ROWS[1::3], lambda outputs: {"accuracy": (outputs.argmax(1) == TARGET[1::3]).mean()})


def training_data(recipe: StageRecipe = RECIPE, transforms: list[dict[str, object]] = FLIP) -> TrainingData:
    return TrainingData(
        ROWS,
        ROWS[::5],
        TARGET.astype(np.float32),
        np.ones(40, np.float32),
        np.array([f"p{i // 4}" for i in range(40)]),
        TARGET,
        TARGET == 1,
        AugmentedCrops(CROPS, ROWS, transforms, recipe),
    )


def train(
    folder: Path, workers: int = 0, recipe: StageRecipe = RECIPE, autocast: bool = False, validated: bool = True
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    backbone = Backbone(recipe.backbone, 2, recipe.size, recipe.dropout)
    kept = fit(
        backbone,
        replace(training_data(recipe), validation=VALIDATION if validated else None),
        class_loss("ce", torch.tensor([20.0, 20.0])),
        recipe,
        7,
        folder / "s.safetensors",
        folder,
        "t",
        workers,
        autocast=autocast,
    )
    return {key: value.clone() for key, value in kept.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_with_bf16_weights_stay_float32_and_losses_differ_by_rounding(tmp_path: Path) -> None:
    recipe, losses = RECIPE.model_copy(update={"lr": 1e-4, "dropout": 0.0}), {}
    for autocast in (False, True):
        folder = tmp_path / str(autocast)
        folder.mkdir()
        weights = train(folder, recipe=recipe, autocast=autocast)
        assert {value.dtype for value in weights.values()} == {torch.float32, torch.int64}
        losses[autocast] = [line["loss"] for line in read_history(folder)]
    assert losses[True] != losses[False]
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.05)


SETTINGS: list[dict[str, object]] = [
    {},
    {"optimizer": "madgrad", "schedule": "plateau", "ema": 0.0},
    {"optimizer": "lion", "schedule": "onecycle", "swa": 0.3, "mixup": 0.4, "cutmix": 1.0, "mix_chance": 1.0},
    {"optimizer": "sgd", "schedule": "cyclic", "mixup": 1.0, "mix_only_old": True, "copies_of_old": 1},
    {"patience": 1, "epochs": 6, "lr": 0.1},
    {"schedule": "cosine", "schedule_args": {"num_epochs": 1, "cycle_limit": 9, "min_lr": 1e-5}},
    {"frozen_epochs": 1, "layer_decay": 0.7},
    {"frozen_epochs": 2, "optimizer": "madgrad", "schedule": "onecycle", "layer_decay": 0.7},
    {"frozen_epochs": 1, "optimizer": "lion", "schedule": "plateau", "layer_decay": 0.7, "swa": 0.3},
    {"frozen_epochs": 1, "patience": 2},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_an_interrupted_run_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    recipe = RECIPE.model_copy(update=settings)
    (tmp_path / "whole").mkdir()
    expected = train(tmp_path / "whole", recipe=recipe)
    save_state = loop.save_state
    for stop_after in (1, 2, 3):  # the last one before its curve is written
        folder = tmp_path / f"interrupted{stop_after}"
        folder.mkdir()

        def save_and_interrupt(*arguments: object, stop: int = stop_after) -> None:
            save_state(*arguments)  # type: ignore[arg-type]
            if len(arguments[-1]["history"]) == stop:  # type: ignore[index]
                raise KeyboardInterrupt

        monkeypatch.setattr(loop, "save_state", save_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(folder, recipe=recipe)
        monkeypatch.setattr(loop, "save_state", save_state)
        assert same(expected, train(folder, recipe=recipe))
        curves = [read_history(path) for path in (folder, tmp_path / "whole")]
        assert all(line.pop("seconds") > 0 for curve in curves for line in curve)
        assert curves[0] == curves[1]


@pytest.mark.parametrize("settings", [*SETTINGS, {"swa": 0.5, "epochs": 4}, {"drop_path": 0.2, "ema": 0.0}])
def test_validation_changes_no_weight_and_measures_those_that_are_kept(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    """Dropout, batch norm, averages and early stopping are as they would be without it."""
    recipe, folders = RECIPE.model_copy(update=settings), [tmp_path / "with", tmp_path / "without"]
    for folder in folders:
        folder.mkdir()
    first, second = (train(folder, recipe=recipe, validated=folder == folders[0]) for folder in folders)
    assert same(first, second)
    curve, plain = (read_history(folder) for folder in folders)
    measured = [{key: line.pop(key) for key in ("val_loss", "val_accuracy")} for line in curve]
    assert [line.pop("seconds") > 0 for line in curve + plain] and curve == plain
    kept = Backbone(recipe.backbone, 2, recipe.size, recipe.dropout).eval()
    kept.load_state_dict(first)
    _, outputs = predict(kept, CROPS, VALIDATION.rows, recipe.model_copy(update={"views": recipe.views[:1]}))
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(outputs), torch.from_numpy(TARGET[VALIDATION.rows]))
    scores = [line["stop_loss"] for line in curve] if recipe.patience else []
    last = measured[scores.index(min(scores)) if scores else -1]
    assert last["val_loss"] == pytest.approx(float(loss), abs=1e-4)
    assert last["val_accuracy"] == pytest.approx(VALIDATION.score(outputs)["accuracy"], abs=1e-5)


def test_an_epoch_without_a_finite_score_has_none(tmp_path: Path) -> None:
    data = replace(training_data(), validation=Validation(ROWS[:3], lambda outputs: {"mae": float("nan")}))
    backbone = Backbone(RECIPE.backbone, 2, RECIPE.size)
    fit(backbone, data, class_loss("ce", torch.ones(2)), RECIPE, 7, tmp_path / "s", tmp_path, "t")
    assert all("val_loss" in line and "val_mae" not in line for line in read_history(tmp_path))


def test_the_number_of_workers_does_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert same(train(tmp_path / "a"), train(tmp_path / "b", workers=2))


def test_a_memory_map_is_pickled_as_its_file_name(tmp_path: Path) -> None:
    CROPS.tofile(tmp_path / "crops.u8")
    mapped = np.memmap(tmp_path / "crops.u8", np.uint8, "r", shape=CROPS.shape)
    samples = AugmentedCrops(mapped, ROWS, FLIP, RECIPE)
    pickled = pickle.dumps(samples)
    assert len(pickled) < mapped.nbytes / 2
    loaded = pickle.loads(pickled)
    assert isinstance(loaded.crops, np.memmap) and (loaded.sample(7, 3) == samples.sample(7, 3)).all()


def test_the_learning_curve_is_written_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and lines[0]["lr"] > lines[2]["lr"]
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    for name in ("loss", "lr"):
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        assert scalars == [(line["epoch"], pytest.approx(line[name])) for line in lines]


def test_training_fits_the_data(tmp_path: Path) -> None:
    data = training_data(transforms=[])
    backbone = Backbone(RECIPE.backbone, 2, RECIPE.size)
    recipe = RECIPE.model_copy(update={"epochs": 8, "dropout": 0.0})
    kept = fit(
        backbone,
        data,
        class_loss("ce", torch.tensor([20.0, 20.0])),
        recipe,
        7,
        tmp_path / "s.safetensors",
        tmp_path,
        "t",
    )
    _, logits = predict(kept, CROPS, data.rows, RECIPE)
    assert (logits.argmax(1) == data.target).mean() > 0.95


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path) -> None:
    """With a rate that is too high, training stops early and returns the model of the best epoch."""
    recipe = RECIPE.model_copy(update={"patience": 2, "epochs": 12, "lr": 0.3, "ema": 0.0, "schedule": "constant"})
    data = training_data(recipe, [])
    backbone = Backbone(recipe.backbone, 2, recipe.size)
    loss = class_loss("ce", torch.tensor([20.0, 20.0]))
    kept = fit(backbone, data, loss, recipe, 7, tmp_path / "s.safetensors", tmp_path, "t")
    values = [json.loads(line)["stop_loss"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(values) == min(12, values.index(min(values)) + 1 + 2) < 12
    _, outputs = predict(kept, CROPS, data.stop_rows, recipe)
    stop_loss = loss(torch.from_numpy(outputs), torch.from_numpy(data.target[data.stop_rows])).mean().item()
    assert stop_loss == pytest.approx(min(values), abs=1e-4)


def test_views_are_averaged_or_vote() -> None:
    data = training_data()
    torch.manual_seed(1)
    backbone = Backbone(RECIPE.backbone, 2, RECIPE.size).eval()
    views = ("plain", "flip", "left", "right", "top", "bottom", "centre")
    each = [predict(backbone, CROPS, data.rows, RECIPE.model_copy(update={"views": (name,)}))[1] for name in views]
    soft = predict(backbone, CROPS, data.rows, RECIPE.model_copy(update={"views": views}))[1]
    assert soft == pytest.approx(np.mean(each, axis=0), abs=1e-5)
    assert len({values.tobytes() for values in each}) == len(views)
    hard = predict(backbone, CROPS, data.rows, RECIPE.model_copy(update={"views": views, "vote": "hard"}))[1]
    counts = np.sum([np.eye(2)[values.argmax(1)] for values in each], axis=0)
    assert np.exp(hard) == pytest.approx((counts + 0.5) / 8, abs=1e-5)


def test_outputs_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(1)
    backbone = Backbone(RECIPE.backbone, 2, RECIPE.size).eval()
    embedding, logits = predict(backbone, CROPS, np.arange(40), RECIPE)
    order = np.random.default_rng(0).permutation(40)
    shuffled_embedding, shuffled = predict(backbone, CROPS, order, RECIPE)
    assert (shuffled == logits[order]).all() and (shuffled_embedding == embedding[order]).all()
    single = np.concatenate([predict(backbone, CROPS, np.array([row]), RECIPE)[1] for row in range(5)])
    assert (single == logits[:5]).all()


def test_weights_are_saved_and_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = (Backbone(RECIPE.backbone, 2, RECIPE.size) for _ in range(2))
    save_weights(tmp_path / "w.safetensors", first)
    load_weights((tmp_path / "w.safetensors").read_bytes(), second, "a test", "fit-stage mask")
    assert same(first.state_dict(), second.state_dict())


HEAD = {"model.classifier.weight", "model.classifier.bias"}


def changed_tensors(folder: Path, **settings: object) -> tuple[set[str], set[str]]:
    """Names of the tensors that training changes in the returned model and in the trained model."""
    folder.mkdir()
    recipe = RECIPE.model_copy(update=settings)
    torch.manual_seed(0)
    backbone = Backbone(recipe.backbone, 2, recipe.size, recipe.dropout, recipe.drop_path)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    loss = class_loss("ce", torch.tensor([20.0, 20.0]))
    kept = fit(backbone, training_data(recipe), loss, recipe, 7, folder / "s.safetensors", folder, "t")
    states = kept.state_dict(), backbone.state_dict()
    assert all(parameter.requires_grad for parameter in kept.parameters()) or recipe.frozen_epochs >= recipe.epochs
    first, second = ({key for key in state if not torch.equal(state[key], before[key])} for state in states)
    return first, second


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.0},
        {},
        {"optimizer": "sgd", "weight_decay": 0.5},
        {"optimizer": "madgrad"},
        {"optimizer": "lion", "layer_decay": 0.7},
        {"swa": 0.4, "ema": 0.0},
        {"mixup": 0.4, "mix_chance": 1.0, "drop_path": 0.2},
    ],
)
def test_in_frozen_epochs_only_the_head_changes(tmp_path: Path, settings: dict[str, object]) -> None:
    """Neither do batch norm statistics change, nor their averages."""
    frozen = changed_tensors(tmp_path / "frozen", **settings, epochs=2, frozen_epochs=2)
    assert frozen == (HEAD, HEAD)
    unfrozen = changed_tensors(tmp_path / "unfrozen", **settings, epochs=2, frozen_epochs=1)
    for changed in unfrozen:
        assert {"model.conv_stem.weight", "model.bn1.running_mean", "model.bn1.weight"} | HEAD <= changed


def test_frozen_epochs_are_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four epochs; the first two are frozen."""
    stems: list[torch.Tensor] = []
    save_state = loop.save_state

    def record_stem(path: Path, modules: dict[str, torch.nn.Module], *more: object) -> None:
        stems.append(modules["model"].model.conv_stem.weight.detach().clone())  # type: ignore[union-attr, operator]
        save_state(path, modules, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "save_state", record_stem)
    changed_tensors(tmp_path / "run", epochs=4, frozen_epochs=2)
    assert [torch.equal(*pair) for pair in itertools.pairwise(stems)] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "drop_path"), [("test_efficientnet", 0.5), ("test_resnet", 0.5), ("dlib_resnet29", 0)]
)
def test_with_head_only_the_rest_is_in_eval_mode(name: str, drop_path: float) -> None:
    torch.manual_seed(0)
    size = (150, 150) if name == "dlib_resnet29" else (32, 32)
    backbone = Backbone(name, 2, size, dropout=0.5, drop_path=drop_path)
    for parameter in backbone.parameters():  # a newly initialized residual block is the identity
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    images = backbone.normalize(torch.from_numpy(CROPS[:4]).repeat_interleave(5, 1).repeat_interleave(5, 2))
    expected = backbone.eval().model.forward_features(images)
    train_head_only(backbone.train(), True)
    assert torch.equal(backbone.model.forward_features(images), expected)
    first, second = (backbone.head(expected)[1] for _ in range(2))
    assert not torch.equal(first, second), "the head has dropout"
    first.sum().backward()
    trained = {name for name, parameter in backbone.model.named_parameters() if parameter.grad is not None}
    classifier = backbone.model.pretrained_cfg["classifier"]
    assert trained == {f"{classifier}.weight", f"{classifier}.bias"}
    train_head_only(backbone.train(), False)
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(module.training for module in backbone.modules())
