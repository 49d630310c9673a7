"""Hardware settings of a command."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """How training and inference run.

    device: `auto`, `cpu` or `cuda`. jobs: fits at a time; 0 = one for every `threads` cores, or one on a GPU.
    threads: threads of each fit on a CPU. workers: threads that decode, and on a GPU processes that augment.
    compile: train with `torch.compile`. autocast: train in bf16 with torch's autocast; None = only on a GPU.
    engine: what runs fitted networks: `torch`, `openvino`, `onnx`, or `auto`, the fastest on this machine.
    precision: `fp32`; `bf16` with OpenVINO, and fp32 for close calls; or `auto`: bf16 if the CPU supports it, unless
    `engine` measured that fp32 is faster.
    """

    device: str = "auto"
    jobs: int = 0
    threads: int = 1
    workers: int = 2
    engine: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    autocast: bool | None = None

    def uses_bf16(self, device: str) -> bool:
        """Whether training on `cpu` or `cuda` uses bf16."""
        return device == "cuda" if self.autocast is None else self.autocast


def default_workers() -> int:
    """The default number of threads that decode: cores, at most 16."""
    return min(16, cores())


def cores() -> int:
    """Number of cores that this process can use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
