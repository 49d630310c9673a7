"""What runs fits: in this process, in others, or on other machines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from facecade.records import FitRecord
from facecade.stages.fit import Fit

Outcome = FitRecord | BaseException
"""A fit's record, or the error that prevented it."""


class Executor(ABC):
    """Runs the fits that it is given, and knows nothing of the others: their order, what is skipped and what is shown is the
    matter of `stages.jobs.fit_all`.

    slots: how many fits may be submitted and not ended; may fall while fits run. elsewhere: whether the fits run on other machines,
    where each holds its folder itself; else the caller holds all folders.
    """

    slots: int = 1
    elsewhere: bool = False

    @abstractmethod
    def submit(self, fit: Fit) -> None:
        """Take a fit, and return soon. The fits that it needs have ended, and it goes on from its checkpoint if there is one: an
        executor may run it again where its process or its machine was lost."""

    @abstractmethod
    def wait(self) -> list[tuple[Fit, Outcome]]:
        """The fits that ended since the last call. Waits for one of them, but at most for a fraction of a second where they run
        elsewhere. Returns at once where no fit is submitted."""

    @abstractmethod
    def close(self) -> None:
        """Stop the fits that have not ended, without waiting for them; they keep their checkpoints."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
