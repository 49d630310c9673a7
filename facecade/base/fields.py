"""Types of the fields of records."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field

Text = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line, without what a terminal obeys."""

PathText = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]
"""A path, or a sentence with one."""

Count = Annotated[int, Field(ge=0, le=1 << 53)]

Digest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
"""As `base.artifact.digest` gives it."""

Content = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
"""A hash of a file's bytes (base/files.py)."""

Probability = Annotated[float, Field(ge=0, le=1)]

Versions = dict[Text, Text]
"""Of each package."""


def one_of(*names: str) -> Any:
    """A check that a text is one of some names."""
    return Field(pattern=f"^({'|'.join(names)})$")


Value = TypeVar("Value")


def has_keys(*names: str) -> AfterValidator:
    """A check that a mapping has these keys."""

    def check(value: dict[str, Value]) -> dict[str, Value]:
        if missing := [name for name in names if name not in value]:
            raise ValueError(f"it lacks {', '.join(missing)}")
        return value

    return AfterValidator(check)
