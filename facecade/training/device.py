"""The torch device, and settings for deterministic results."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

import torch

from facecade.base.errors import FacecadeError
from facecade.base.machine import parse_device


def torch_device(name: str) -> torch.device:
    """A device as `parse_device` takes it, as torch's; the first of several. `auto` is a CUDA device if there is one, else the CPU.
    Makes torch deterministic.

    Raises:
        FacecadeError: there is no such device here.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every new tensor with NaN would take a seventh of the training time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    kind, indices = parse_device(name)
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise FacecadeError("there is no Apple GPU (mps) here", "--device cpu")
        return torch.device("mps")
    gpus = cuda_devices(name)
    if gpus:
        return torch.device("cuda", gpus[0]) if indices else torch.device("cuda")
    _keep_freed_memory()
    return torch.device("cpu")


@contextlib.contextmanager
def training_device(name: str, threads: int) -> Iterator[torch.device]:
    """The device that a name means, as in `torch_device`; on a CPU, with so many threads."""
    device = torch_device(name)
    with torch_threads(threads if device.type == "cpu" else 0):
        yield device


def cuda_devices(name: str) -> list[int]:
    """The CUDA devices that a device's name means here, all for `cuda` and `auto`; empty if it means no CUDA device.

    Raises:
        FacecadeError: one of them is not here.
    """
    kind, indices = parse_device(name)
    if kind not in ("auto", "cuda"):
        return []
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and not count:
        raise FacecadeError("there is no CUDA device here", "--device cpu")
    if missing := [index for index in indices if index >= count]:
        raise FacecadeError(
            f"there is no CUDA device {missing[0]} here", f"choose from: {', '.join(f'cuda:{n}' for n in range(count))}"
        )
    return list(indices or range(count))


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Set the number of torch's CPU threads; 0 = no change. Another number rounds sums differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Make glibc reuse large blocks instead of returning them to the system after every layer.

    Otherwise, training on a CPU spends up to half its time in page faults.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to do
        libc = ctypes.CDLL("libc.so.6")
        no_mmap, never_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
        libc.mallopt(*no_mmap)
        libc.mallopt(*never_trim)
