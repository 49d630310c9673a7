"""A connection to Ray."""

from __future__ import annotations

import logging
import os
from typing import Any

from facecade.base.errors import FacecadeError, first_line
from facecade.base.interrupt import uninterrupted_children
from facecade.base.machine import cores
from facecade.base.program import clone_folder, install

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0"}
"""Of Ray, which reads it when it is imported: nothing is reported to its makers."""

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Lets an own instance listen to this machine only, as Ray does on Windows and macOS. Ray's `_node_ip_address` refuses 127.0.0.1."""


def cluster_address(executor: str) -> str:
    """Where a cluster answers, as `ray.init` takes it; empty for an own instance. Argument as of `connect`."""
    named = "" if executor == "ray" else executor
    return "auto" if named == "ray://auto" else named or os.environ.get("RAY_ADDRESS", "")


def connect(executor: str) -> Any:
    """Ray, connected until this process ends: to a cluster, or to an instance of its own that only this machine reaches.

    Args:
        executor: `ray` (the cluster of RAY_ADDRESS, or an own instance), `ray://auto` or `ray://HOST:PORT`.

    Raises:
        FacecadeError: Ray is not installed, or no cluster answers.
    """
    address = cluster_address(executor)
    os.environ.update(ENVIRONMENT if address else {**ENVIRONMENT, **LOOPBACK})
    try:
        import ray
    except ImportError:
        raise FacecadeError("Ray is not installed", install("ray")) from None

    if ray.is_initialized():
        return ray
    logging.getLogger("ray").setLevel(logging.ERROR)
    environment = {"PYTHONPATH": clone} if (clone := clone_folder()) else {}
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if not address:
        settings |= {"include_dashboard": False, "num_cpus": cores()}
    try:
        with uninterrupted_children():
            ray.init(address or "local", runtime_env={"env_vars": environment}, **settings)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f"no Ray cluster answers at {address}" if address else "Ray does not start"
        hint = "ray status shows whether a cluster runs"
        if address and "RAY_AUTH_MODE" not in os.environ:  # a cluster with tokens refuses, and Ray's client only waits
            hint += "; if it has tokens, set RAY_AUTH_MODE=token, and put its token into ~/.ray/auth_token"
        raise FacecadeError(f"{where}: {first_line(error)}", hint) from None
    return ray
