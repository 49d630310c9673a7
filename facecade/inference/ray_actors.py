"""The shards of a listing, dealt to actors of Ray Core: one for each GPU, or for each machine, which keeps its networks loaded."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from facecade.base.errors import FacecadeError, first_line
from facecade.base.machine import Machine
from facecade.base.place import Place
from facecade.base.progress import Bar, note
from facecade.base.ray_cluster import connect
from facecade.faces.listing_table import Shard
from facecade.inference.shards import ListingOptions, ListingRun, Predicted, ShardPredictor

MAX_DEALS = 4
"""How often a shard is dealt whose actor dies, before its photographs are held to be the reason."""


class RayActors:
    """Predicts shards as `ListingRun.infer` deals them."""

    def __init__(self, executor: str, actors: int = 0) -> None:
        """
        Args:
            executor: as of `ray_cluster.connect`.
            actors: with one CPU each; 0 = one for each GPU that the cluster has, or for each machine, with all of its CPUs.
        """
        self.ray, self._actors = connect(executor), actors

    def resources(self, machine: Machine) -> list[dict[str, float]]:
        """What each actor takes of the cluster."""
        if self._actors:
            return [{"num_cpus": 1}] * self._actors
        gpus = int(self.ray.cluster_resources().get("GPU", 0))
        if machine.device != "cpu" and gpus:
            return [{"num_cpus": 1, "num_gpus": 1}] * gpus
        if machine.device.startswith("cuda"):
            raise FacecadeError("the Ray cluster has no GPU", "--device cpu, or start its machines with GPUs")
        nodes = [node["Resources"].get("CPU", 0) for node in self.ray.nodes() if node["Alive"]]
        return [{"num_cpus": cpus} for cpus in nodes if cpus]

    def __call__(self, run: ListingRun, todo: set[int], bar: Bar) -> tuple[list[Predicted], str]:
        """Deal the shards of some numbers; returns what was predicted, and the engine.

        Raises:
            FacecadeError: an actor cannot load the networks; a shard cannot be predicted, and the others that were begun are; or its
                actors died each time.
        """
        ray, kinds = self.ray, self.resources(run.machine)[: len(todo)]
        arguments = _absolute(run.artifacts), _absolute(run.listing.place), _absolute(run.folder.place)

        def start(kind: dict[str, float]) -> Any:
            machine = replace(run.machine, device="cuda" if "num_gpus" in kind else "cpu")
            actor_class = ray.remote(_Actor).options(**kind, max_restarts=0, max_task_retries=0)
            return actor_class.remote(*arguments, machine, run.options)

        note(f"Ray: {len(kinds)} actors, {', '.join(sorted({_words(kind) for kind in kinds}))} each")
        table = _Table(ray, start, run.listing.read(todo.__contains__), bar)
        try:
            return table.deal(kinds)
        finally:
            table.close()


class _Table:
    """Deals shards to actors. A shard is given only to an actor that has loaded its networks, so none waits for a machine that never
    comes back."""

    def __init__(self, ray: Any, start: Callable[[dict[str, float]], Any], shards: Iterator[Shard], bar: Bar) -> None:
        self.ray, self.start, self.shards, self.bar = ray, start, shards, bar
        self.again: list[Shard] = []
        self.begun = Counter[int]()
        self.lost_at_start = 0
        self.idle: list[tuple[Any, dict[str, float]]] = []
        self.running: dict[Any, tuple[Any, dict[str, float], Shard | None]] = {}
        self.predicted: list[Predicted] = []
        self.engines = set[str]()
        self.failure: FacecadeError | None = None

    def deal(self, kinds: Sequence[dict[str, float]]) -> tuple[list[Predicted], str]:
        """Predict all shards with an actor for each of some resources."""
        for kind in kinds:
            self._start(kind)
        while True:
            while (
                self.idle
                and not self.failure
                and (shard := self.again.pop() if self.again else next(self.shards, None))
            ):
                actor, kind = self.idle.pop(0)
                self.begun[shard.number] += 1
                self.running[actor.predict.remote(shard)] = actor, kind, shard
            if self._is_done():
                break
            for ended in self.ray.wait([*self.running], timeout=1.0)[0]:
                self._end(ended)
        if self.failure:
            raise self.failure
        return self.predicted, ", ".join(sorted(self.engines))

    def close(self) -> None:
        """End all actors."""
        for actor, *_ in [*self.idle, *self.running.values()]:
            with suppress(Exception):  # the cluster may be gone
                self.ray.kill(actor)

    def _is_done(self) -> bool:
        """Whether no shard is being predicted, and none is left that may be."""
        works = any(shard for _, _, shard in self.running.values())
        return not works and (bool(self.failure) or len(self.idle) > 0 or not self.running)

    def _start(self, kind: dict[str, float]) -> None:
        actor = self.start(kind)
        self.running[actor.load.remote()] = actor, kind, None

    def _end(self, ended: Any) -> None:
        actor, kind, shard = self.running.pop(ended)
        try:
            outcome = self.ray.get(ended)
        except self.ray.exceptions.RayError as error:
            self._lost(shard, first_line(error))
            if not self.failure:
                self._start(kind)
            return
        self.idle.append((actor, kind))
        if isinstance(outcome, _Failure):
            self.failure = FacecadeError(outcome.message, outcome.hint)
        elif isinstance(outcome, Predicted):
            self.predicted.append(outcome)
            self.bar.advance(outcome.images)
        else:
            self.engines.add(outcome)

    def _lost(self, shard: Shard | None, reason: str) -> None:
        """An actor or its machine was lost: its shard is dealt again, to whichever actor is free first."""
        if shard is None:
            self.lost_at_start += 1
            if self.lost_at_start >= MAX_DEALS:
                self.failure = FacecadeError(
                    f"Ray lost {MAX_DEALS} actors that loaded the networks: {reason}", "free memory"
                )
            return
        self.again.append(shard)
        note(f"shard {shard.number}: its actor was lost; it is dealt again")
        if self.begun[shard.number] >= MAX_DEALS:
            self.failure = FacecadeError(
                f"shard {shard.number}: Ray lost its actor {MAX_DEALS} times: {reason}",
                "free memory, or look at the photographs of that shard",
            )


@dataclass(frozen=True)
class _Failure:
    """An error for the user, as another process reports it."""

    message: str
    hint: str


class _Actor:
    """Keeps the networks of a run, and predicts shards with them."""

    def __init__(
        self, artifacts: Path, listing: Place, output: Place, machine: Machine, options: ListingOptions
    ) -> None:
        self.arguments = artifacts, listing, output, machine, options
        self.predictor: ShardPredictor | None = None

    def load(self) -> str | _Failure:
        """Load the networks, once; returns the engine that runs them."""
        try:
            if self.predictor is None:
                self.predictor = ListingRun(*self.arguments).predictor()
            return self.predictor.engine
        except FacecadeError as error:
            return _named(error)

    def predict(self, shard: Shard) -> Predicted | _Failure:
        """Predict a shard and write its part."""
        assert self.predictor
        try:
            return self.predictor(shard)
        except FacecadeError as error:
            return _named(error)


def _named(error: FacecadeError) -> _Failure:
    return _Failure(f"{error} (on {platform.node()})", error.hint)


def _absolute(place: Place) -> Place:
    """A path that means the same in other processes, whose working directory is another."""
    return place.absolute() if isinstance(place, Path) else place


def _words(resources: dict[str, float]) -> str:
    return "1 GPU" if resources.get("num_gpus") else f"{resources['num_cpus']:g} CPUs"
