"""What runs an exported network: one input, some outputs, from as many threads as one likes."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from base.errors import FacecadeError

Model = Callable[[np.ndarray], Sequence[np.ndarray]]
"""A batch, (N, ...) → arrays of N rows each."""

ENGINES = {"openvino": "openvino", "onnx": "onnxruntime"}
"""Engines that run an export, the quicker first, and the package of each."""


def installed(engine: str) -> bool:
    """Whether an engine of ENGINES can be had here."""
    return importlib.util.find_spec(ENGINES[engine]) is not None


def has_bf16() -> bool:
    """Whether OpenVINO is installed and this processor computes in bf16 itself."""
    if not installed("openvino"):
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def require(engine: str, precision: str) -> None:
    """Raises FacecadeError where the engine's package is not installed, or the engine has not the precision."""
    if not installed(engine):
        raise FacecadeError(
            f"{ENGINES[engine]} is not installed", f"pip install {ENGINES[engine]}, or another --engine"
        )
    if engine != "openvino" and precision == "bf16":
        raise FacecadeError(f"--engine {engine} computes in fp32 alone", "--engine openvino --precision bf16")


def load(engine: str, path: Path, streams: int, precision: str = "fp32", fp32_until: str | None = None) -> Model:
    """A network of an export.

    Each call is worked on by one thread: several calls at once keep several cores busier than one call that
    several cores share.

    Args:
        streams: calls of this network that may come at once.
        precision: `fp32`, or `bf16`, which is OpenVINO's alone.
        fp32_until: name of a tensor of the network; what comes before it is computed in fp32 all the same.

    Raises:
        FacecadeError: as `require` says.
    """
    require(engine, precision)
    if engine == "openvino":
        return _openvino(path, streams, precision, fp32_until)
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


def _openvino(path: Path, streams: int, precision: str, fp32_until: str | None) -> Model:
    import openvino

    # The first look at a tensor's data sets up a table in OpenVINO, and two threads that come there first at once wait for each
    # other for ever: one for that table, the other for Python's lock. So one comes first alone.
    _ = openvino.Tensor(np.zeros(1, np.uint8)).data
    core = openvino.Core()
    settings = {
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": streams,
        "ENABLE_CPU_PINNING": False,  # each network's first stream would be pinned to the same core
    }
    network = core.read_model(path)
    parts = [(network, precision)]
    if precision == "bf16" and fp32_until:
        early, late = _halves(network, fp32_until)
        parts = [(early, "fp32"), (late, "bf16")]
    hints = {"fp32": "f32", "bf16": "bf16"}
    compiled = [
        core.compile_model(part, "CPU", {**settings, "INFERENCE_PRECISION_HINT": hints[p]}) for part, p in parts
    ]
    own = threading.local()  # a request holds the arrays of one call

    def call(batch: np.ndarray) -> list[np.ndarray]:
        if not hasattr(own, "requests"):
            own.requests = [part.create_infer_request() for part in compiled]
        *before, last = own.requests
        features = []
        for request in before:
            request.infer([batch])
            features = [request.get_output_tensor()]
        said = last.infer([*features, batch])
        return [said[place].copy() for place in range(len(said))]

    return call


def _halves(network: Any, until: str) -> tuple[Any, Any]:
    """A network cut at a tensor: its input → that tensor; and that tensor and the input → its outputs."""
    import openvino

    def cut(model: Any) -> Any:
        outputs = (output for operation in model.get_ordered_ops() for output in operation.outputs())
        return next(output for output in outputs if until in output.get_names())

    early, place = network.clone(), cut(network)
    features = openvino.op.Parameter(place.get_element_type(), place.get_partial_shape())
    for reader in list(place.get_target_inputs()):
        reader.replace_source_output(features.output(0))
    # The second half still asks the input how many crops there are.
    late = openvino.Model(network.get_results(), [features, *network.get_parameters()])
    return openvino.Model([cut(early)], early.get_parameters()), late
