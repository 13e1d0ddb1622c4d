"""The loops over many states, compiled: the functions of `tails` and `branches` as they stand, each a thousand times faster.

The modules themselves stay plain Python, which is the path that tests compare with. Machine code is kept in numba's cache.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

from lossflow.laws import tails
from lossflow.spectral import branches


@cache
def compiled() -> SimpleNamespace:
    """Every function of the two modules, compiled, calling one another. The first use on a machine takes some seconds."""
    from numba import njit

    names: dict[str, Any] = {}
    for module in (tails, branches):
        names.update(vars(module))
    for module in (tails, branches):
        for name, function in _functions(module).items():
            own = FunctionType(function.__code__, names, name, function.__defaults__)
            names[name] = njit(cache=True)(own)
    return SimpleNamespace(**{name: names[name] for module in (tails, branches) for name in _functions(module)})


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__
    }
