"""Ray on one machine as if on several: raylets that listen to this machine only, or hosts in network namespaces of their own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from facecade.base.ray_cluster import ENVIRONMENT, LOOPBACK

from ..fuzz.running import ROOT

STORE_BYTES = 80 * 2**20
"""Of Ray's object store, which holds only what defines a fit or a shard."""

ADDRESSES = ("10.231.7.1", "10.231.7.2")
"""Of the two hosts, in a network that ends at this machine."""

PORT = 6379

HEAD = f"{ADDRESSES[0]}:{PORT}"
"""Where the cluster of hosts answers."""

START_SECONDS = 120

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Of the cluster of hosts, for all that talk to it."""


class Raylets:
    """A running cluster. address: for RAY_ADDRESS."""

    def __init__(self, cluster: Any, nodes: Sequence[Any]) -> None:
        self.address, self._nodes = str(cluster.address), nodes

    def process(self, number: int) -> int:
        """The process of a raylet."""
        return int(self._nodes[number].all_processes["raylet"][0].process.pid)

    def kill(self, number: int) -> None:
        """Kill a raylet; Ray ends its workers."""
        os.kill(self.process(number), signal.SIGKILL)


@contextmanager
def raylets(count: int, cpus: int = 1, pinned: bool = False) -> Iterator[Raylets]:
    """A cluster of so many raylets with so many CPUs each.

    Args:
        pinned: give each raylet and its workers a core of its own; else all share all cores.
    """
    os.environ.update({**ENVIRONMENT, **LOOPBACK})
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="ray-")  # Ray's sockets allow no long path
    cores = sorted(os.sched_getaffinity(0))
    cluster, nodes = Cluster(), []
    settings = {"include_dashboard": False, "object_store_memory": STORE_BYTES, "temp_dir": folder, "num_cpus": cpus}
    try:
        for number in range(count):
            if pinned:
                os.sched_setaffinity(0, {cores[number % len(cores)]})
            nodes.append(cluster.add_node(node_ip_address="127.0.0.1", **settings))
            os.sched_setaffinity(0, cores)
        yield Raylets(cluster, nodes)
    finally:
        os.sched_setaffinity(0, cores)
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


class Host:
    """A host: a network, processes, a name and temporary folders of its own. The rest of the disk is this machine's, but for one
    folder that it does not see."""

    def __init__(self, name: str, hidden: Path) -> None:
        mounts = "".join(f"mount -t tmpfs tmpfs {folder} && " for folder in ("/tmp", "/dev/shm", hidden))
        script = f"hostname {name} && {mounts}ip link set lo up && echo ready && exec sleep infinity"
        spaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        self.name = name
        words = ["unshare", *spaces, "sh", "-c", script]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self.process.stdout
        if self.process.stdout.readline() != b"ready\n":
            raise OSError(f"host {name} does not start")
        self.first = psutil.Process(self.process.pid).children()[0].pid

    def words(self, *words: object) -> list[str]:
        """The command that runs another one on this host."""
        spaces = ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", "-t", str(self.first), *spaces, f"--wd={ROOT}", "--", *map(str, words)]

    def run(self, *words: object) -> str:
        return subprocess.run(self.words(*words), check=True, capture_output=True, text=True).stdout

    def kill(self) -> None:
        """As if its power failed: no process of it says good-bye."""
        with suppress(ProcessLookupError):
            os.kill(self.first, signal.SIGKILL)
        self.process.wait()


def not_permitted() -> str:
    """Why there can be no hosts here; empty where there can."""
    if missing := [name for name in ("ip", "unshare", "nsenter") if not shutil.which(name)]:
        return f"{', '.join(missing)} not found (apt-get install iproute2 util-linux)"
    words = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "ip", "link", "add", "one", "type", "veth"]
    tried = subprocess.run([*words, "peer", "name", "two"], capture_output=True, text=True)
    return tried.stderr.strip()[:200] if tried.returncode else ""


@contextmanager
def two_hosts(hidden: Path, logs: Path) -> Iterator[tuple[Host, Host]]:
    """Two hosts joined by a cable, with Ray running on both: one CPU each, the head on the first.

    Args:
        hidden: a folder that the second does not see.
        logs: folder of what Ray prints.
    """
    nothing = Path(tempfile.mkdtemp(prefix="nothing-", dir=logs))
    hosts: list[Host] = []
    rays: list[subprocess.Popen[bytes]] = []
    try:
        for name, unseen in (("host-a", nothing), ("host-b", hidden)):
            hosts.append(Host(name, unseen))
        first, second = hosts
        _join(first, second)
        for host, own in zip(hosts, ADDRESSES, strict=True):
            words = ["--head", f"--port={PORT}"] if host is first else [f"--address={HEAD}"]
            words += [f"--node-ip-address={own}", "--num-cpus=1", f"--object-store-memory={STORE_BYTES}", "--block"]
            words += ["--include-dashboard=false", "--temp-dir=/tmp/ray"] if host is first else []
            with (logs / f"{host.name}.log").open("wb") as file:
                command = host.words(sys.executable, "-m", "ray.scripts.scripts", "start", *words)
                environment = {**os.environ, **of_hosts()}
                rays.append(subprocess.Popen(command, stdout=file, stderr=file, env=environment))
            _wait_for_node(first, len(rays))
        yield first, second
    finally:
        for host in hosts:
            host.kill()
        for ray in rays:
            ray.wait()
        nothing.rmdir()


def of_hosts() -> dict[str, str]:
    """The environment of whatever talks to the cluster of hosts."""
    return {**ENVIRONMENT, **TOKEN, **dict.fromkeys(LOOPBACK, "1")}


def _join(first: Host, second: Host) -> None:
    """Join two hosts by veth. Each keeps its address when the cable and the other are gone, so the address is not the cable's."""
    cables = [f"fc{os.getpid()}{end}" for end in "ab"]
    subprocess.run(["ip", "link", "add", cables[0], "type", "veth", "peer", "name", cables[1]], check=True)
    for number, (host, cable) in enumerate(zip((first, second), cables, strict=True)):
        own, other = ADDRESSES[number], ADDRESSES[1 - number]
        subprocess.run(["ip", "link", "set", cable, "netns", str(host.first)], check=True)
        host.run("ip", "addr", "add", f"{own}/32", "dev", "lo")
        host.run("ip", "link", "set", cable, "up")
        host.run("ip", "route", "add", other, "dev", cable, "src", own)


def _wait_for_node(host: Host, nodes: int) -> None:
    code = f"import ray; ray.init('{HEAD}', log_to_driver=False)\n"
    code += "print('nodes', sum(node['Alive'] for node in ray.nodes()))"
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        words = host.words(sys.executable, "-c", code)
        asked = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **of_hosts()})
        if f"nodes {nodes}" in asked.stdout:
            return
        time.sleep(1)
    raise OSError(f"Ray does not start on host {nodes}: {asked.stdout[-300:]} {asked.stderr[-500:]}")
