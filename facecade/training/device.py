"""The torch device, and settings for deterministic results."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

import torch

from facecade.base.errors import FacecadeError


def torch_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a torch device; makes torch deterministic."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every new tensor with NaN would take a seventh of the training time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if name == "cuda" and not torch.cuda.is_available():
        raise FacecadeError("there is no CUDA device here", "--device cpu")
    device = torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        _keep_freed_memory()
    return device


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
