"""Several processes that torchrun started train one model: the only file that knows torch.distributed.

Collectives of torch carry tensors. What the processes say to each other beside them goes through torchrun's store, which outlives each
of them: which fit comes next, how it ended, and who still answers after one of them was lost.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from facecade.base.errors import FacecadeError, first_line
from facecade.base.interrupt import on_terminate
from facecade.base.torchrun import Place
from facecade.training.ranks import Arrays, Ranks

TIMEOUT = 600.0
"""Seconds that a process waits for the others in a step before it takes one of them for lost."""

ANSWER_SECONDS = 5.0
"""Seconds that a living process has to answer, or to report how its fit ended after that of another one failed."""

UNWIND_SECONDS = 10.0
"""Seconds in which a process may give back what it holds; torchrun kills it after 30."""

POLL_SECONDS = 0.1

RESUME = "the same command with --resume goes on from the last checkpoint, also with another number of processes"


class ProcessGroup(Ranks):
    """Processes of torch.distributed. On a CPU they talk by gloo, on CUDA devices by NCCL."""

    def __init__(self, place: Place) -> None:
        """Waits until all processes are there.

        Raises:
            FacecadeError: some do not come.
        """
        self.index, self.count, self.local = place.rank, place.count, place.local
        self.restarted = place.restarts > 0
        self._sent = self._settled = self._met = self._gathered = 0
        self._ending = threading.Lock()
        timeout = timedelta(seconds=TIMEOUT)
        try:
            # A connection to the store serves one thread at a time: each thread has a clone.
            store, _, _ = next(iter(rendezvous("env://", place.rank, place.count, timeout=timeout)))
            self._store = PrefixStore(f"{place.restarts}", store)  # without what processes wrote that were lost
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(
                backend, store=self._store.clone(), rank=place.rank, world_size=place.count, timeout=timeout
            )
        except RuntimeError as error:
            raise FacecadeError(
                f"the {self.count} processes do not find each other: {first_line(error)}", "start them all again"
            ) from error
        self._set(f"place/{self.index}", f"pid {os.getpid()} on {platform.node()}")
        threading.Thread(target=self._answer, args=(self._store.clone(),), daemon=True).start()
        on_terminate(self._terminate)

    # Training

    def parallel(self, model: nn.Module) -> nn.Module:
        return _Parallel(model)

    def gather(self, own: Tensor, count: int) -> Tensor:
        self._gathered += 1
        parts: Tensor = _Gather.apply(_padded(own, -(-count // self.count)))
        return parts.transpose(0, 1).flatten(0, 1)[:count]

    def spread(self, rows: np.ndarray, compute: Callable[[np.ndarray], Arrays]) -> Arrays:
        if len(rows) < self.count:
            return compute(rows)
        own = compute(rows[self.own])
        whole = [
            self.gather(torch.from_numpy(array), len(rows)).numpy()
            for array in (own if isinstance(own, tuple) else [own])
        ]
        return tuple(whole) if isinstance(own, tuple) else whole[0]  # type: ignore[return-value]

    @contextmanager
    def main_first(self) -> Iterator[None]:
        if not self.main:
            self._meet()
        yield
        if self.main:
            self._meet()

    def require_share(self, batch: int) -> None:
        if batch < self.count:
            raise FacecadeError(
                f"a batch of {batch} images has none for some of {self.count} processes",
                "give a larger batch_size, or fewer processes",
            )

    def require_same(self, what: str, value: object) -> None:
        seen = self._meet(str(value))
        if len(set(seen)) > 1:
            raise FacecadeError(
                f"{what} are not the same for all processes: {', '.join(seen)}",
                "all machines must mount the run's folder under the same path; then give --resume",
            )

    # The order of fits

    def send(self, value: object) -> None:
        """Give the other processes what they `receive`; of the main process. Raises FacecadeError if one was lost."""
        with self._told():
            self._set(f"sent/{self._sent}", "")
            dist.broadcast_object_list([value], src=0)
        self._sent += 1

    def receive(self) -> Any:
        """What the main process sends next, which may take as long as it likes; None if it has ended. Raises FacecadeError if a
        process was lost."""
        values: list[Any] = [None]
        with self._told():
            while not self._store.check([f"sent/{self._sent}"]):
                if self._store.check(["over"]):
                    return None
                time.sleep(POLL_SECONDS)
            dist.broadcast_object_list(values, src=0)
        self._sent += 1
        return values[0]

    def settle(self, error: BaseException | None) -> None:
        """Compare how a fit ended in all processes: after the same error in each of them, they go on with the next one.

        Raises:
            FacecadeError: it ended otherwise in another process, or one was lost; now they cannot go on together.
        """
        name = f"settled/{self._settled}"
        self._settled += 1
        ending = f"{type(error).__name__}: {error}" if error else ""
        seconds, names = ANSWER_SECONDS if error else TIMEOUT, [f"{name}/{rank}" for rank in range(self.count)]
        with self._told():
            self._set(f"{name}/{self.index}", ending)
            if self._wait(names, seconds) and {self._get(each) for each in names} == {ending}:
                return
            if error is None:  # the process that failed says why
                self._wait(["lost"], 2 * ANSWER_SECONDS)
        raise self._broken(error)

    def close(self) -> None:
        """Let the other processes end, if they have not."""
        with suppress(RuntimeError):  # the store's machine is gone, and torchrun with it
            if self.main:
                self._set("over", "")
            # After a loss, a message may have to be printed while torchrun ends all processes.
            if not self._store.check(["lost"]):
                on_terminate(None)
                dist.destroy_process_group()

    # After a loss

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raises what `_broken` returns, where torch cannot reach another process or the store."""
        try:
            yield
        except RuntimeError as error:
            raise self._broken(error) from error

    def _broken(self, error: BaseException | None) -> BaseException:
        """What to end with: the error of this process, or that another one was lost; SystemExit where another process says it.

        Args:
            error: of this process's fit; None if torchrun ends it.
        """
        with self._ending:
            try:
                self._set(f"here/{self.index}", str(self._gathered))
                if self._store.check(["over"]) or self._store.add("lost", 1) > 1:
                    return SystemExit(1)
                told = self._reason(error)
            except RuntimeError:
                told = FacecadeError("torchrun no longer answers on the machine of the first process", RESUME)
            told.__cause__ = error
            return told

    def _reason(self, error: BaseException | None) -> FacecadeError:
        silent = self._silent()
        if silent or error is None or _is_of_another(error):
            return FacecadeError(self._lost(silent, error), RESUME)
        if isinstance(error, FacecadeError):
            reason, hint = str(error), error.hint
        else:
            reason, hint = f"{type(error).__name__}: {first_line(error)}", ""
        return FacecadeError(f"process {self._named(self.index)}: {reason}", "; ".join(filter(None, [hint, RESUME])))

    def _silent(self) -> list[int]:
        """Processes that do not answer."""
        names = [f"here/{rank}" for rank in range(self.count)]
        self._wait(names, ANSWER_SECONDS)
        return [rank for rank, name in enumerate(names) if not self._store.check([name])]

    def _lost(self, silent: list[int], error: BaseException | None) -> str:
        """Which process was lost, in words."""
        if silent:
            answers = "no longer answers" if len(silent) == 1 else "no longer answer"
            return f"process {' and '.join(map(self._named, silent))} {answers}: killed, stopped or cut off"
        done = [int(self._get(f"here/{rank}")) for rank in range(self.count)]
        if error and min(done) < max(done):
            return f"process {self._named(done.index(min(done)))} stays behind the others, which waited {TIMEOUT:.0f} s for it"
        return f"the {self.count} processes were ended" + (f": {first_line(error)}" if error else " from outside")

    def _named(self, rank: int) -> str:
        return f"{rank} of {self.count} ({self._get(f'place/{rank}')})"

    def _answer(self, store: Any) -> None:
        """Once one process misses another, say that this one lives, and how far it has come, whatever its main thread does."""
        try:
            while not store.check(["lost"]):
                time.sleep(5 * POLL_SECONDS)
            store.set(f"here/{self.index}", str(self._gathered))
        except RuntimeError:  # the store's machine is gone, and torchrun with it
            return

    def _terminate(self) -> None:
        """torchrun ends this process, because it has lost another one, or was ended itself."""
        told = self._broken(None)
        if isinstance(told, FacecadeError):
            print(f"\nError: {told}\nNext: {told.hint}", file=sys.stderr, flush=True)
        time.sleep(
            UNWIND_SECONDS
        )  # the main thread may say more, or give back what it holds, unless a library computes in it
        os._exit(1)

    # The store

    def _meet(self, value: str = "") -> list[str]:
        """Wait for all processes, however long it takes; the value of each."""
        name = f"met/{self._met}"
        self._met += 1
        self._set(f"{name}/{self.index}", value)
        names = [f"{name}/{rank}" for rank in range(self.count)]
        failed = ["lost", *(f"settled/{self._settled}/{rank}" for rank in range(self.count))]
        while not self._store.check(names):
            # Later than the process that failed, which says why.
            if any(self._store.check([each]) for each in failed) and not self._wait(names, 2 * ANSWER_SECONDS):
                raise dist.DistError("another process has failed")
            time.sleep(POLL_SECONDS)
        return [self._get(each) for each in names]

    def _wait(self, names: list[str], seconds: float) -> bool:
        """Wait until all names are in the store; False if they are not within some seconds."""
        end = time.monotonic() + seconds
        while not self._store.check(names):
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _set(self, name: str, value: str) -> None:
        self._store.set(name, value)

    def _get(self, name: str) -> str:
        return str(self._store.get(name).decode())


def _is_of_another(error: BaseException) -> bool:
    """Whether an error only says that a collective failed, because another process did."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


class _Parallel(nn.Module):
    """DistributedDataParallel, made anew whenever other parameters are trained; with batch norms over the whole batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._trained: list[bool] = []
        self._parallel: tuple[DistributedDataParallel, ...] = ()  # a tuple, so that it is not registered as a submodule

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        trained = [parameter.requires_grad for parameter in self.model.parameters()]
        if trained != self._trained:
            self._trained, self._parallel = trained, ()
            gc.collect()  # the old one must not see the gradients of the new one
            self._parallel = (DistributedDataParallel(self.model),)
        with _WholeBatchNorm():
            outputs: tuple[Tensor, Tensor] = self._parallel[0](images)
        return outputs


class _WholeBatchNorm(TorchFunctionMode):
    """Batch norms take the statistics of the rows of all processes.

    torch's SyncBatchNorm works on GPUs only, and would have to replace modules, of which timm has its own.
    """

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
        if function is nn.functional.batch_norm:
            return _batch_norm(*arguments, **(named or {}))
        return function(*arguments, **(named or {}))


def _batch_norm(
    values: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As torch.nn.functional.batch_norm."""
    if not training:
        return torch.batch_norm(
            values, weight, bias, running_mean, running_var, False, momentum, eps, torch.backends.cudnn.enabled
        )
    normalized, mean, variance, count = _Normalize.apply(values, eps)
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    if weight is not None:
        normalized = normalized * _by_channel(weight, normalized)
    if bias is not None:
        normalized = normalized + _by_channel(bias, normalized)
    return normalized.to(values.dtype)


class _Normalize(torch.autograd.Function):
    """[b, C, ...] → normalized by the mean and variance of each channel over all processes, float32; that mean [C], variance [C],
    and the number of values []."""

    @staticmethod
    def forward(context: Any, values: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        axes = [axis for axis in range(values.ndim) if axis != 1]
        own_variance, own_mean = torch.var_mean(values, axes, correction=0)
        own_count = torch.full_like(own_mean, values.numel() / values.shape[1])
        # No sum of squares, which would cancel: the variance within the processes and that between them.
        means, variances, counts = _all(torch.stack([own_mean, own_variance, own_count])).unbind(1)
        shares = counts / counts.sum(0)
        mean = (shares * means).sum(0)
        variance = (shares * (variances + (means - mean).square())).sum(0)
        scale = (variance + eps).rsqrt()
        normalized = (values - _by_channel(mean, values)) * _by_channel(scale, values)
        count = counts[:, 0].sum()
        context.axes = axes
        context.save_for_backward(normalized, scale, count)
        context.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    def backward(context: Any, gradient: Tensor, *others: Any) -> tuple[Tensor, None]:
        normalized, scale, count = context.saved_tensors
        sums = torch.stack([gradient.sum(context.axes), (gradient * normalized).sum(context.axes)])
        dist.all_reduce(sums)
        of_mean, of_scale = (sums / count).unbind(0)
        centred = gradient - _by_channel(of_mean, gradient) - normalized * _by_channel(of_scale, gradient)
        return centred * _by_channel(scale, gradient), None


class _Gather(torch.autograd.Function):
    """[b, ...] → [processes, b, ...]. The gradient of a process's part is the sum over the losses of all processes."""

    @staticmethod
    def forward(context: Any, own: Tensor) -> Tensor:
        return _all(own)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def _all(own: Tensor) -> Tensor:
    """A tensor of each process, of equal shapes: [processes, ...]."""
    own = own.contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return torch.stack(parts)


def _padded(own: Tensor, length: int) -> Tensor:
    """With zeros up to a length."""
    missing = length - len(own)
    return torch.cat([own, own.new_zeros(missing, *own.shape[1:])]) if missing else own


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    """[C] → [1, C, 1, ...]."""
    return values.view(1, -1, *[1] * (like.ndim - 2))
