"""A cascade of face models, stacked without leaks: mask, gender and age band in 18 classes.

    import facecade
    run = facecade.fit("data/", recipe="quick", artifacts="artifacts/quick")
    cascade = facecade.load("artifacts/quick")
    cascade.predict("a.jpg")[0].age

docs/api.md describes it; what is below is imported when it is first used, so that `import facecade` is light.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facecade.api import Cascade, Run, fit, load, open_run
    from facecade.base.errors import FacecadeError
    from facecade.predictions import Prediction, Predictions

__version__ = "0.1.0"
__all__ = ["Cascade", "FacecadeError", "Prediction", "Predictions", "Run", "fit", "load", "open_run"]

# In a clone, stages/, pipeline.py, cli.py and recipes/ lie beside this folder; a wheel has them in it.
_here = Path(__file__).resolve().parent
if not (_here / "pipeline.py").exists():
    __path__.append(str(_here.parent))

_MODULES = {"FacecadeError": "facecade.base.errors"} | dict.fromkeys(
    ["Prediction", "Predictions"], "facecade.predictions"
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'facecade' has no attribute '{name}'")
    return getattr(import_module(_MODULES.get(name, "facecade.api")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
