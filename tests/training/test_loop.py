"""Training is a function of its seed: it resumes to the same weights, whoever augments."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from facecade.backbones.backbone import Backbone
from facecade.recipe import StageRecipe
from facecade.training import loop
from facecade.training.checkpoint import load_weights, save_weights
from facecade.training.dataset import AugmentedCrops
from facecade.training.loop import TrainingData, fit, train_head_only
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
"""Forty images, half of them bright: something to learn."""


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
    folder: Path, workers: int = 0, recipe: StageRecipe = RECIPE, autocast: bool = False
) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    backbone = Backbone(recipe.backbone, 2, recipe.size, recipe.dropout)
    kept = fit(
        backbone,
        training_data(recipe),
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


def test_in_bf16_weights_stay_float32_and_learn_the_same_but_for_rounding(tmp_path: Path) -> None:
    calm, losses = RECIPE.model_copy(update={"lr": 1e-4, "dropout": 0.0}), {}
    for autocast in (False, True):
        folder = tmp_path / str(autocast)
        folder.mkdir()
        weights = train(folder, recipe=calm, autocast=autocast)
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
def test_a_run_stopped_after_any_epoch_resumes_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, object]
) -> None:
    recipe = RECIPE.model_copy(update=settings)
    (tmp_path / "whole").mkdir()
    whole = train(tmp_path / "whole", recipe=recipe)
    real = loop.save_state
    for stop_after in (1, 2):
        folder = tmp_path / f"broken{stop_after}"
        folder.mkdir()

        def dying(*arguments: object, stop: int = stop_after) -> None:
            real(*arguments)  # type: ignore[arg-type]
            if len(arguments[-1]["history"]) == stop:  # type: ignore[index]
                raise KeyboardInterrupt

        monkeypatch.setattr(loop, "save_state", dying)
        with pytest.raises(KeyboardInterrupt):
            train(folder, recipe=recipe)
        monkeypatch.setattr(loop, "save_state", real)
        assert same(whole, train(folder, recipe=recipe))
        curves = [read_history(place) for place in (folder, tmp_path / "whole")]
        assert all(line.pop("seconds") > 0 for curve in curves for line in curve)
        assert curves[0] == curves[1]


def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert same(train(tmp_path / "a"), train(tmp_path / "b", workers=2))


def test_a_memory_map_goes_to_a_worker_by_name(tmp_path: Path) -> None:
    CROPS.tofile(tmp_path / "crops.u8")
    mapped = np.memmap(tmp_path / "crops.u8", np.uint8, "r", shape=CROPS.shape)
    shown = AugmentedCrops(mapped, ROWS, FLIP, RECIPE)
    sent = pickle.dumps(shown)
    assert len(sent) < mapped.nbytes / 2
    again = pickle.loads(sent)
    assert isinstance(again.crops, np.memmap) and (again.sample(7, 3) == shown.sample(7, 3)).all()


def test_the_learning_curve_is_kept_for_tensorboard_too(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3] and lines[0]["lr"] > lines[2]["lr"]
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    for name in ("loss", "lr"):
        said = [(event.step, event.value) for event in events.Scalars(name)]
        assert said == [(line["epoch"], pytest.approx(line[name])) for line in lines]


def test_it_learns(tmp_path: Path) -> None:
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
    """A rate that wrecks the model: training ends early, and what is kept is the model of the best epoch."""
    recipe = RECIPE.model_copy(update={"patience": 2, "epochs": 12, "lr": 0.3, "ema": 0.0, "schedule": "constant"})
    data = training_data(recipe, [])
    backbone = Backbone(recipe.backbone, 2, recipe.size)
    loss = class_loss("ce", torch.tensor([20.0, 20.0]))
    kept = fit(backbone, data, loss, recipe, 7, tmp_path / "s.safetensors", tmp_path, "t")
    values = [json.loads(line)["stop_loss"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert len(values) == min(12, values.index(min(values)) + 1 + 2) < 12
    _, outputs = predict(kept, CROPS, data.stop_rows, recipe)
    again = loss(torch.from_numpy(outputs), torch.from_numpy(data.target[data.stop_rows])).mean().item()
    assert again == pytest.approx(min(values), abs=1e-4)


def test_views_are_averaged_or_counted() -> None:
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


def test_outputs_do_not_depend_on_company() -> None:
    torch.manual_seed(1)
    backbone = Backbone(RECIPE.backbone, 2, RECIPE.size).eval()
    embedding, logits = predict(backbone, CROPS, np.arange(40), RECIPE)
    order = np.random.default_rng(0).permutation(40)
    shuffled_embedding, shuffled = predict(backbone, CROPS, order, RECIPE)
    assert (shuffled == logits[order]).all() and (shuffled_embedding == embedding[order]).all()
    alone = np.concatenate([predict(backbone, CROPS, np.array([row]), RECIPE)[1] for row in range(5)])
    assert (alone == logits[:5]).all()


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, second = (Backbone(RECIPE.backbone, 2, RECIPE.size) for _ in range(2))
    save_weights(tmp_path / "w.safetensors", first)
    load_weights(tmp_path / "w.safetensors", second)
    assert same(first.state_dict(), second.state_dict())


HEAD = {"model.classifier.weight", "model.classifier.bias"}


def changed_in(folder: Path, **settings: object) -> tuple[set[str], set[str]]:
    """Of all tensors, those that training changed in what it keeps, and in the model that it trains."""
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
def test_in_frozen_epochs_nothing_but_the_head_changes(tmp_path: Path, settings: dict[str, object]) -> None:
    """Not even the statistics of a batch norm, nor what is averaged of them."""
    frozen = changed_in(tmp_path / "frozen", **settings, epochs=2, frozen_epochs=2)
    assert frozen == (HEAD, HEAD)
    partly_frozen = changed_in(tmp_path / "thawed", **settings, epochs=2, frozen_epochs=1)
    for changed in partly_frozen:
        assert {"model.conv_stem.weight", "model.bn1.running_mean", "model.bn1.weight"} | HEAD <= changed


def test_frozen_epochs_go_before_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each epoch's beginning and end, of four, two of them frozen."""
    stems: list[torch.Tensor] = []
    real = loop.save_state

    def watching(path: Path, modules: dict[str, torch.nn.Module], *more: object) -> None:
        stems.append(modules["model"].model.conv_stem.weight.detach().clone())  # type: ignore[union-attr, operator]
        real(path, modules, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "save_state", watching)
    changed_in(tmp_path / "run", epochs=4, frozen_epochs=2)
    assert [torch.equal(*pair) for pair in itertools.pairwise(stems)] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "drop_path"), [("test_efficientnet", 0.5), ("test_resnet", 0.5), ("dlib_resnet29", 0)]
)
def test_what_is_not_the_head_is_as_when_it_answers(name: str, drop_path: float) -> None:
    torch.manual_seed(0)
    size = (150, 150) if name == "dlib_resnet29" else (32, 32)
    backbone = Backbone(name, 2, size, dropout=0.5, drop_path=drop_path)
    for parameter in backbone.parameters():  # a fresh residual block changes nothing, and would not be missed
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    images = backbone.normalised(torch.from_numpy(CROPS[:4]).repeat_interleave(5, 1).repeat_interleave(5, 2))
    wanted = backbone.eval().model.forward_features(images)
    train_head_only(backbone.train(), True)
    assert torch.equal(backbone.model.forward_features(images), wanted)
    first, second = (backbone.head(wanted)[1] for _ in range(2))
    assert not torch.equal(first, second), "dropout before the head is of its training"
    first.sum().backward()
    learned = {name for name, parameter in backbone.model.named_parameters() if parameter.grad is not None}
    classifier = backbone.model.pretrained_cfg["classifier"]
    assert learned == {f"{classifier}.weight", f"{classifier}.bias"}
    train_head_only(backbone.train(), False)
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    assert all(module.training for module in backbone.modules())
