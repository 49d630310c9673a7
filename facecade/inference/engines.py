"""What runs an exported network: one input, some outputs, from as many threads as one likes."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.errors import FacecadeError

Model = Callable[[np.ndarray], Sequence[np.ndarray]]
"""A batch, (N, ...) → arrays of N rows each."""

ENGINES = {"openvino": "openvino", "onnx": "onnxruntime"}
"""Engines that run an export, the quicker first, and the package of each."""


def installed(engine: str) -> bool:
    """Whether an engine of ENGINES can be had here."""
    return importlib.util.find_spec(ENGINES[engine]) is not None


def has_bf16() -> bool:
    """Whether OpenVINO is installed and this processor computes in bf16 itself."""
    return installed("openvino") and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def require(engine: str, precision: str) -> None:
    """Raises FacecadeError where the engine's package is not installed, or the engine has not the precision."""
    if not installed(engine):
        raise FacecadeError(
            f"{ENGINES[engine]} is not installed", f"pip install {ENGINES[engine]}, or another --engine"
        )
    if engine != "openvino" and precision == "bf16":
        raise FacecadeError(f"--engine {engine} computes in fp32 alone", "--engine openvino --precision bf16")


def load(engine: str, path: Path, streams: int, precision: str = "fp32") -> Model:
    """A network of an export.

    Each call is worked on by one thread: several calls at once keep several cores busier than one call that
    several cores share.

    Args:
        streams: calls of this network that may come at once.
        precision: `fp32`, or `bf16`, which is OpenVINO's alone.

    Raises:
        FacecadeError: as `require` says.
    """
    require(engine, precision)
    if engine == "openvino":
        return _openvino(path, streams, precision)
    return _onnx(path)


def _onnx(path: Path) -> Model:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(batch: np.ndarray) -> list[np.ndarray]:
        return list(session.run(None, {name: batch}))

    return call


@cache
def _core() -> Any:
    """OpenVINO's plugins, once and for good.

    The processor's plugin gives the thread that loads it another stack for signals. Unloaded by another thread, as where the last
    to let go of a network is a pool's, it takes the stack away unseen, and the next signal (Ctrl-C, a child's end) is a crash.
    """
    import openvino

    return openvino.Core()


def _openvino(path: Path, streams: int, precision: str) -> Model:
    import openvino

    # The first look at a tensor's data sets up a table in OpenVINO, and two threads that come there first at once wait for each
    # other for ever: one for that table, the other for Python's lock. So one comes first alone.
    _ = openvino.Tensor(np.zeros(1, np.uint8)).data
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,  # each network's first stream would be pinned to the same core
    }
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    network = _core().compile_model(_core().read_model(path), "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint})
    own = threading.local()  # a request holds the arrays of one call

    def call(batch: np.ndarray) -> list[np.ndarray]:
        if not hasattr(own, "request"):
            own.request = network.create_infer_request()
        said = own.request.infer([batch])
        return [said[place].copy() for place in range(len(said))]

    return call
