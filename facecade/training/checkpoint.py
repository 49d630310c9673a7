"""Weights and training state as safetensors: written atomically, read without executing code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from facecade.base.artifact import write_atomic
from facecade.base.errors import FacecadeError


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's state dict."""
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    write_atomic(path, lambda temporary: save_file(state, temporary))


def load_weights(path: Path, module: nn.Module) -> None:
    """Load a state dict; raises FacecadeError if the file is missing, damaged or of another model."""
    state, _ = _read(path)
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise FacecadeError(
            f"{path} does not fit its model: {str(error).splitlines()[0]}", "fit the stage again"
        ) from None


def load_mean(paths: Sequence[Path], module: nn.Module) -> None:
    """Load the mean of several state dicts, batch norm statistics included; raises as `load_weights` does."""
    mean = {key: torch.zeros_like(value, dtype=torch.float64) for key, value in module.state_dict().items()}
    for path in paths:
        load_weights(path, module)
        for key, value in module.state_dict().items():
            mean[key] += value / len(paths)
    module.load_state_dict(mean)  # casts to the module's dtypes


def save_state(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, notes: dict[str, Any]
) -> None:
    """Write everything that is needed to resume training, as one file."""
    tensors = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value).detach().cpu().contiguous()
    metadata = {"notes": json.dumps(notes)}
    write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def load_state(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load what `save_state` wrote into the modules and the optimizer; returns the notes."""
    tensors, metadata = _read(path)
    for name, module in modules.items():
        prefix = f"{name}/"
        module.load_state_dict({key.removeprefix(prefix): v for key, v in tensors.items() if key.startswith(prefix)})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == parameter.shape:  # fused kernels expect the memory layout of the parameter
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return dict(json.loads(metadata["notes"]))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise FacecadeError(f"{path} does not exist", "fit the stage again") from None
    except (SafetensorError, OSError) as error:
        raise FacecadeError(f"{path} is damaged: {error}", "remove it and fit the stage again") from None
