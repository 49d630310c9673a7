"""Where the released cascade is: an export in the package, with its own LICENSE and MODEL_CARD.md."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

RELEASED = Path(str(files("facecade"))) / "released"

TRAINED_ON = "All-Age-Faces with drawn masks and UTKFace (research data), from face weights"
LICENCE = "research only (facecade/released/LICENSE)"

HALF_SUFFIX = ".float16"
"""Of the name of a tensor that an export stores as float16; what a Cast makes of it has the tensor's own name."""


def seen() -> set[str]:
    """Content hashes of the photographs that the released cascade was trained on."""
    file = RELEASED / "seen.json"
    return set(json.loads(file.read_text())["flags"]) if file.exists() else set()
