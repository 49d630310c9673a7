"""Hardware settings of a command."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from facecade.base.errors import FacecadeError, excerpt

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "cuda:N,M", "mps")
"""What a device may be, for messages."""


@dataclass(frozen=True)
class Machine:
    """How training and inference run.

    device: as `parse_device` takes it. jobs: fits at a time; 0 = one for every `threads` cores, or one on every GPU.
    threads: threads of each fit on a CPU. workers: threads that decode, and on a GPU processes that augment.
    compile: train with `torch.compile`. autocast: train in bf16 with torch's autocast; None = only on a GPU.
    engine: what runs fitted networks: `torch`, `openvino`, `onnx`, or `auto`, the fastest on this machine.
    precision: `fp32`; `bf16` with OpenVINO, and fp32 for close calls; or `auto`: bf16 if the CPU supports it, unless
    `engine` measured that fp32 is faster. executor: what runs the fits: `processes`, `ray`, `ray://ADDRESS` or `slurm`.
    executor_options: for it, each `KEY=VALUE`. local_disk: a folder of the machine's own disk that the face crops are copied to
    before training, where the run's folder is on a network; None = they are read where they are. stored_crops: read the run's
    face crops and no image if all are there, because another machine has just checked the images.
    """

    device: str = "auto"
    jobs: int = 0
    threads: int = 1
    workers: int = 2
    engine: str = "auto"
    precision: str = "fp32"
    compile: bool = False
    autocast: bool | None = None
    executor: str = "processes"
    executor_options: tuple[str, ...] = ()
    local_disk: Path | None = None
    stored_crops: bool = False

    @property
    def elsewhere(self) -> bool:
        """Whether fits run on other machines, whose devices are not known here."""
        return self.executor != "processes"

    def uses_bf16(self, device: str) -> bool:
        """Whether training on a type of device, as `cpu` or `cuda`, uses bf16."""
        return device == "cuda" if self.autocast is None else self.autocast


def parse_device(text: str) -> tuple[str, tuple[int, ...]]:
    """The type of a device, `auto`, `cpu`, `cuda` or `mps`, and the indices of CUDA devices; none = all. Needs no torch.

    Raises:
        FacecadeError: it is none of DEVICES.
    """
    kind, colon, numbers = text.partition(":")
    if kind == "cuda" and colon and re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})*", numbers):
        indices = tuple(int(number) for number in numbers.split(","))
        if len(set(indices)) == len(indices):
            return kind, indices
    elif text in ("auto", "cpu", "cuda", "mps"):
        return text, ()
    raise FacecadeError(
        f"unknown device '{excerpt(text)}'", f"choose from: {', '.join(DEVICES)}, with different numbers"
    )


def parse_executor(text: str) -> str:
    """The name of an executor, checked; raises FacecadeError for an unknown one."""
    if text in ("processes", "slurm") or is_ray(text):
        return text
    raise FacecadeError(
        f"unknown executor '{excerpt(text)}'", "choose from: processes, ray, ray://HOST:PORT, ray://auto, slurm"
    )


def is_ray(executor: str) -> bool:
    """Whether the name of an executor is that of Ray, with or without an address."""
    return executor == "ray" or re.fullmatch(r"ray://[^\s/]+", executor) is not None


def user_temporary_folder() -> Path:
    """A folder for this user's temporary files, on the machine's own disk; not made."""
    return Path(tempfile.gettempdir()) / f"facecade-{os.getuid() if hasattr(os, 'getuid') else os.getlogin()}"


def default_workers() -> int:
    """The default number of threads that decode: cores, at most 16."""
    return min(16, cores())


def cores() -> int:
    """Number of cores that this process can use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
