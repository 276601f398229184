"""Transfer learning on your own data: measure which way of transferring works, train it, and report what it is worth.

    model = acclimate.fit("train.csv", label="label", model="minilm")
    model.predict(["a text"])

The names below are loaded when they are first used, so that `import acclimate` and `acclimate --help` stay quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from acclimate.api import Model, compare, fit, inspect, load
    from acclimate.api.correcting import correct
    from acclimate.api.shifting import measure_shift
    from acclimate.errors import UserError

__version__ = "0.1.0"
__all__ = ["Model", "UserError", "__version__", "compare", "correct", "fit", "inspect", "load", "measure_shift"]

_HOME = {
    "Model": "acclimate.api",
    "UserError": "acclimate.errors",
    "compare": "acclimate.api",
    "correct": "acclimate.api.correcting",
    "fit": "acclimate.api",
    "inspect": "acclimate.api",
    "load": "acclimate.api",
    "measure_shift": "acclimate.api.shifting",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'acclimate' has no attribute {name!r}; it offers {', '.join(__all__)}")
    import importlib

    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
