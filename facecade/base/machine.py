"""How much of the machine a command may use."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """Where models run.

    device: `auto`, `cpu` or `cuda`. jobs: fits at once; 0 = one for every `threads` cores, or one on a GPU.
    threads: of each fit on a processor. workers: threads that decode, and on a GPU processes that augment. compile: train by
    `torch.compile`. autocast: train in bf16 where torch's autocast has it so; None = on a GPU alone.
    engine: what runs fitted networks, `torch`, `openvino`, `onnx`, or `auto`: the quickest here. precision: `fp32`, or `bf16`
    by OpenVINO, with fp32 where an answer is near another, or `auto`: bf16 where the processor has it, unless `engine` measured
    that fp32 is the quicker.
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
        """Whether a device of this type, `cpu` or `cuda`, trains in bf16."""
        return device == "cuda" if self.autocast is None else self.autocast


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
