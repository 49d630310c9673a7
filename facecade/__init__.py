"""A cascade of face models, stacked without leaks: mask, gender and age band in 18 classes."""

from pathlib import Path

__version__ = "0.1.0"

# In a clone, stages/, pipeline.py, cli.py and recipes/ lie beside this folder; a wheel has them in it.
_here = Path(__file__).resolve().parent
if not (_here / "pipeline.py").exists():
    __path__.append(str(_here.parent))
