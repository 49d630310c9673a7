"""Batch norms that were folded into a scale and a shift: loading them, and recomputing their statistics for training.

Networks that were saved for inference only have a scale and a shift for each batch norm, which include its statistics.
If such a network were trained with statistics of 0 and 1, which are not those of its features, the first steps would
destroy its weights.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_scale_and_shift(norm: nn.Module, scale: np.ndarray, shift: np.ndarray) -> None:
    """Make a batch norm compute scale · x + shift in eval mode; float32 (channels,) each.

    Raises:
        ValueError: scale or shift does not have one value per channel.
    """
    assert isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.running_var is not None
    if not scale.shape == shift.shape == norm.running_mean.shape:
        raise ValueError(f"{scale.size} scales and {shift.size} shifts for {norm.num_features} channels")
    norm.weight.data = torch.from_numpy(np.array(scale, np.float32))
    norm.bias.data = torch.from_numpy(np.array(shift, np.float32))
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def is_folded(model: nn.Module) -> bool:
    """Whether all running means are 0, as `set_scale_and_shift` leaves them; False without batch norms."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return bool(norms) and all(norm.running_mean is not None and not norm.running_mean.any() for norm in norms)


def restore_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the statistics of each batch norm to the mean and variance of its input, and adapt its scale and shift.

    In eval mode, the outputs of the model stay the same. A batch norm without input is not changed.

    Args:
        model: called with each of `batches`.
        batches: some hundred training images.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.affine]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].cpu() if inputs[0].device.type == "mps" else inputs[0]  # mps has no float64
        values = values.double().transpose(0, 1).flatten(1)  # [channels, positions]
        count = torch.full((len(values),), float(values.shape[1]), device=values.device)
        sums[norm] += torch.stack([count, values.sum(1), values.square().sum(1)]).cpu()  # type: ignore[index]

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    training = model.training
    try:
        with torch.inference_mode():
            for batch in batches:
                model.eval()(batch)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    with torch.no_grad():
        for norm, (count, total, squares) in sums.items():
            assert norm.running_mean is not None and norm.running_var is not None
            if not count.any():
                continue
            mean, old_variance = total / count, norm.running_var.cpu().double()
            variance = (squares / count - mean.square()).clamp(min=0)
            slope = norm.weight.cpu().double() / (old_variance + norm.eps).sqrt()
            shift = norm.bias.cpu().double() + slope * (mean - norm.running_mean.cpu().double())
            norm.weight.copy_(slope * (variance + norm.eps).sqrt())
            norm.bias.copy_(shift)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
