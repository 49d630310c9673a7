"""What `--abstain` promises, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from facecade.records import Reliability


def promise_text(promise: Mapping[str, Any]) -> list[str]:
    """Sentences on `Reliability.promise`."""
    if answering := promise["answering"]:
        return [
            f"On held-out people it answered {coverage_text(answering['coverage'])} of the images, and {percent(answering['error'])} of these answers were wrong:"
            f" at most {bound_percent(answering['bound'])} for new people, with 95 % confidence."
        ]
    lines = [
        f"Everything is unsure: too few held-out people, or too many errors, to promise at most {percent(promise['risk'])} wrong answers."
    ]
    if lowest := promise["lowest"]:
        lines.append(
            f"The lowest share that can be promised is {bound_percent(lowest['bound'])}: --abstain {math.ceil(1000 * lowest['bound']) / 1000:g}"
            f" answers {percent(lowest['coverage'])} of the images."
        )
    return lines


def setting_text(reliability: Reliability, abstain: float | None) -> list[str]:
    """Sentences on what a server marks as unsure, and what that promises."""
    if abstain is None:
        return [
            f"Unsure is what has a confidence below {percent(reliability.sure_from())}; --abstain RISK changes that."
        ]
    answering = reliability.answering(abstain)
    below = f" is what has a confidence below {percent(answering.confidence)}" if answering else ""
    return [f"Unsure{below or ': everything'}, by --abstain {abstain:g}.", *promise_text(reliability.promise(abstain))]


def coverage_text(share: float) -> str:
    """A share of the images; `all` for 1."""
    return "all" if share == 1 else percent(share)


def percent(share: float) -> str:
    """A share as `9.6 %`."""
    return f"{100 * share:.1f} %".replace(".0 %", " %")


def bound_percent(share: float) -> str:
    """A share as `9.6 %`, rounded up."""
    return percent(math.ceil(1000 * share) / 1000)
