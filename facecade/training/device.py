"""Where tensors live, and torch set to give the same numbers there every time."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

import torch

from facecade.base.errors import FacecadeError


def torch_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a torch device, with torch set to give the same numbers every time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats its sums only with a fixed workspace
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would also write every new tensor full of NaN before it is used: a seventh of the time of training.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if name == "cuda" and not torch.cuda.is_available():
        raise FacecadeError("there is no CUDA device here", "--device cpu")
    device = torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        _keep_freed_memory()
    return device


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads of the processor; 0 = as it is. Another number rounds sums differently."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _keep_freed_memory() -> None:
    """Tell glibc to reuse large blocks instead of returning them to the system after every layer.

    Training on a processor otherwise spends up to half its time in page faults.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to tell
        libc = ctypes.CDLL("libc.so.6")
        no_mmap, never_trim = (-4, 0), (-1, 2**31 - 1)  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
        libc.mallopt(*no_mmap)
        libc.mallopt(*never_trim)
