"""Engines that run an exported network: one input, several outputs, from any number of threads."""

from __future__ import annotations

import importlib.util
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from facecade.base.artifact import again
from facecade.base.errors import FacecadeError, first_line
from facecade.inference.onnx_file import require_own_tensors

Model = Callable[[np.ndarray], Sequence[np.ndarray]]
"""A batch (N, ...) → arrays of N rows each."""

ENGINES = {"openvino": "openvino", "onnx": "onnxruntime"}
"""Engines that run an export, the fastest first, and the package of each."""


def installed(engine: str) -> bool:
    """Whether the package of an engine is installed."""
    return importlib.util.find_spec(ENGINES[engine]) is not None


def has_bf16() -> bool:
    """Whether OpenVINO is installed and this processor computes in bf16 natively."""
    return installed("openvino") and "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def require(engine: str, precision: str) -> None:
    """Raises FacecadeError where the engine's package is not installed, or the engine lacks the precision."""
    if not installed(engine):
        raise FacecadeError(
            f"{ENGINES[engine]} is not installed", f"pip install {ENGINES[engine]}, or another --engine"
        )
    if engine != "openvino" and precision == "bf16":
        raise FacecadeError(f"--engine {engine} computes in fp32 only", "--engine openvino --precision bf16")


def load(engine: str, network: bytes, source: Path, streams: int, precision: str = "fp32") -> Model:
    """Load a network of an export.

    One thread runs each call: several calls at once use the cores better than one call that several cores share.

    Args:
        network: an ONNX model.
        source: its file, for messages.
        streams: calls of this network that may run at once.
        precision: `fp32`, or `bf16` (OpenVINO only).

    Raises:
        FacecadeError: as of `require`; the engine cannot load the network. Its calls raise FacecadeError where the engine
            cannot run it.
    """
    require(engine, precision)
    with _failures_named(engine, source):
        require_own_tensors(network)
        call = _openvino(network, streams, precision) if engine == "openvino" else _onnx(network)

    def run(batch: np.ndarray) -> Sequence[np.ndarray]:
        with _failures_named(engine, source):
            return call(batch)

    return run


@contextmanager
def _failures_named(engine: str, source: Path) -> Iterator[None]:
    """Raises FacecadeError, with the name of the network's file, for any error of an engine."""
    try:
        yield
    except Exception as error:
        message = f"{ENGINES[engine]} cannot run {source}: {first_line(error)}"
        raise FacecadeError(message, again(f"export {shlex.quote(str(source.parent.parent))}")) from error


def _onnx(network: bytes) -> Model:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal: others are raised
    options.add_session_config_entry("session.load_model_format", "ONNX")
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def call(batch: np.ndarray) -> list[np.ndarray]:
        return list(session.run(None, {name: batch}))

    return call


@cache
def _core() -> Any:
    """OpenVINO's core, loaded once and never unloaded.

    The CPU plugin sets another signal stack for the thread that loads it. If another thread unloads the plugin (a pool
    thread that releases the last network), the stack is freed, and the next signal (Ctrl-C, a child's exit) crashes the
    process.
    """
    import openvino

    return openvino.Core()


def _openvino(onnx: bytes, streams: int, precision: str) -> Model:
    import openvino

    # The first access to a tensor's data sets up a table in OpenVINO. Two threads that do so at once deadlock: one waits for
    # the table, the other for Python's lock. So one thread does it first.
    _ = openvino.Tensor(np.zeros(1, np.uint8)).data
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,  # pinning would put each network's first stream on the same core
    }
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    network = _core().compile_model(_core().read_model(onnx), "CPU", {**settings, "INFERENCE_PRECISION_HINT": hint})
    local = threading.local()  # a request holds the arrays of one call

    def call(batch: np.ndarray) -> list[np.ndarray]:
        if not hasattr(local, "request"):
            local.request = network.create_infer_request()
        outputs = local.request.infer([batch])
        return [outputs[index].copy() for index in range(len(outputs))]

    return call
