"""One seed for a run, and independent streams derived from it by name."""

from __future__ import annotations

from hashlib import blake2b


def derive(seed: int, *names: object) -> int:
    """A 63-bit seed for the random stream `names`.

    Streams have names (stage, epoch, row) instead of one running generator. So results do not depend on the number of
    workers, and a run resumes without a saved generator state.
    """
    text = "\x1f".join(str(part) for part in (seed, *names))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
