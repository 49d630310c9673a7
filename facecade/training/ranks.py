"""The processes that train one model together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from facecade.base import torchrun

if TYPE_CHECKING:
    from torch import Tensor, nn

Arrays = TypeVar("Arrays", np.ndarray, tuple[np.ndarray, np.ndarray])


class Ranks:
    """One process, which trains alone; `training/distributed.py` has several.

    count: of processes. index: of this one; 0 is the main one, which alone writes and prints. restarted: whether they were lost
    before and started again.
    """

    count = 1
    index = 0
    restarted = False

    @property
    def main(self) -> bool:
        """Whether this process writes and prints."""
        return self.index == 0

    @property
    def own(self) -> slice:
        """This process's rows of a batch, or of any list that the processes share out."""
        return slice(self.index, None, self.count)

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model as it is called in training: its gradients are the mean over all processes, and its batch norms take the
        statistics of the whole batch."""
        return model

    def gather(self, own: Tensor, count: int) -> Tensor:
        """The `own` rows of all processes in their order: [own, ...] → [count, ...]. Where every process computes the same loss from
        the result, `parallel` gives every one the gradient of that loss."""
        return own

    def spread(self, rows: np.ndarray, compute: Callable[[np.ndarray], Arrays]) -> Arrays:
        """`compute(rows)`, of which each process computes a part. All of them get the whole.

        Args:
            rows: (n,). compute: rows (m,) → an array (m, ...), or several, whose rows do not depend on each other.
        """
        return compute(rows)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process runs the block before the others do."""
        yield

    def require_share(self, batch: int) -> None:
        """Raises FacecadeError where a batch is too small to have a row for every process."""

    def require_same(self, what: str, value: object) -> None:
        """Raises FacecadeError where a value is not the same in all processes. Waits for all of them, however long it takes.

        Args:
            what: names the value in the message.
        """


ALONE = Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The processes that torchrun started, this one among them; `ALONE` without torchrun."""
    if (place := torchrun.place()) is None:
        yield ALONE
        return
    from facecade.training.distributed import ProcessGroup

    group = ProcessGroup(place)
    try:
        yield group
    finally:
        group.close()
