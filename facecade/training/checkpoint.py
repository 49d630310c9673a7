"""Weights and training state as safetensors: written atomically, read without executing code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from facecade.base.artifact import again, write_bytes
from facecade.base.errors import FacecadeError, first_line
from facecade.base.files import bytes_hash, is_file


def save_weights(path: Path, module: nn.Module) -> str:
    """Write a module's state dict; returns the hash of the file."""
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    return write_bytes(path, save(state))


def load_weights(data: bytes, module: nn.Module, source: str, made_by: str) -> None:
    """Load a state dict.

    Args:
        data: of a safetensors file.
        source: names the weights in messages.
        made_by: the command that makes them again.

    Raises:
        FacecadeError: the file is damaged or of another model.
    """
    try:
        module.load_state_dict(load(data))
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        raise FacecadeError(
            f"the weights in {source} do not fit its model: {first_line(error)}", again(made_by)
        ) from None


def load_mean(loaders: Sequence[Callable[[nn.Module], None]], module: nn.Module) -> None:
    """Load the mean of several state dicts, batch norm statistics included.

    Args:
        loaders: each loads one of the state dicts into the module.
    """
    mean = {
        key: torch.zeros_like(value, dtype=torch.float64, device="cpu") for key, value in module.state_dict().items()
    }
    for load_one in loaders:
        load_one(module)
        for key, value in module.state_dict().items():
            mean[key] += value.cpu() / len(loaders)  # mps has no float64
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
    # safetensors has no checksum, and a fit that resumes from a flipped bit would end in other weights.
    metadata = {"notes": json.dumps(notes), "content": bytes_hash(save(tensors))}
    write_bytes(path, save(tensors, metadata=metadata))


def load_state(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Load what `save_state` wrote into the modules and the optimizer; returns the notes.

    Raises:
        FacecadeError: the file is damaged, or of other modules.
    """
    try:
        return _load_state(path, modules, optimizer)
    except Exception as error:  # safetensors, torch and json raise many kinds of errors for a damaged file
        hint = "remove it: the fit then begins anew"
        raise FacecadeError(f"{path} cannot be resumed: {first_line(error)}", hint) from error


def _load_state(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    if not is_file(path):  # a pipe would block
        raise ValueError("it is not a regular file")
    with safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    if bytes_hash(save(tensors)) != metadata["content"]:
        raise ValueError("its tensors were changed")
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
