"""A checkpoint resumes to the last bit, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from facecade.base.errors import FacecadeError
from facecade.training.checkpoint import load_state, save_state


def saved(path: Path) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Linear(64, 32)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    save_state(path, {"model": model}, optimizer, {"epoch": 3})
    return model, optimizer


def test_a_checkpoint_gives_back_modules_optimizer_and_notes(tmp_path: Path) -> None:
    model, _ = saved(tmp_path / "state.safetensors")
    other = nn.Linear(64, 32)
    optimizer = torch.optim.AdamW(other.parameters())
    assert load_state(tmp_path / "state.safetensors", {"model": other}, optimizer) == {"epoch": 3}
    assert torch.equal(other.weight, model.weight) and len(optimizer.state_dict()["state"]) == 2


@pytest.mark.parametrize("where", [-1, -4000, -9000])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path: Path, where: int) -> None:
    path = tmp_path / "state.safetensors"
    model, optimizer = saved(path)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(FacecadeError, match=r"cannot be resumed: its tensors were changed") as caught:
        load_state(path, {"model": model}, optimizer)
    assert "the fit then begins anew" in caught.value.hint
