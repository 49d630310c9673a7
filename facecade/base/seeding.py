"""One seed for a run, and independent streams derived from it by name."""

from __future__ import annotations

from hashlib import blake2b


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the stream called `names`.

    Naming a stream by what it is for (stage, epoch, row) instead of drawing from one running
    generator is what makes results independent of worker count, and resumable without saving any
    generator's state.
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
