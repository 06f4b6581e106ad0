"""The `users` line: one encoder of a user's item sequence that keeps learning tasks; see ``protocol``."""

from __future__ import annotations

import difflib

from imsr_core.errors import ConfigError
from imsr_core.lifelong.config import LifelongConfig
from imsr_core.lifelong.errors import CapacityError, TaskError
from imsr_core.lifelong.growing import grow_items
from imsr_core.lifelong.methods.baselines import DNN, MTL, FineAll, FineLast, FineSmax, SinMo
from imsr_core.lifelong.methods.conure import Conure, capacity
from imsr_core.lifelong.methods.peterrec import PeterRec, PeterZero, parameter_share
from imsr_core.lifelong.methods.sequential import SinMoAll
from imsr_core.lifelong.methods.teracon import Teracon
from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.lifelong.state import LifelongState, TaskRecord, from_tensors
from imsr_core.lifelong.tasks import BASE_TASK, TaskData

__all__ = [
    "BASE_TASK",
    "METHODS",
    "CapacityError",
    "LifelongConfig",
    "LifelongMethod",
    "LifelongState",
    "TaskData",
    "TaskError",
    "TaskRecord",
    "capacity",
    "from_tensors",
    "get_method",
    "grow_items",
    "parameter_share",
]

_CLASSES: tuple[type[LifelongMethod], ...] = (
    Conure,
    PeterRec,
    Teracon,
    DNN,
    SinMo,
    SinMoAll,
    FineSmax,
    FineLast,
    FineAll,
    PeterZero,
    MTL,
)

METHODS: dict[str, type[LifelongMethod]] = {method.name: method for method in _CLASSES}
"""Every lifelong method and baseline by name."""

_ALIASES = {"finecls": "finesmax"}  # PeterRec's name and Conure's for the same baseline


def get_method(name: str) -> LifelongMethod:
    """The method of that name.

    Raises:
        ConfigError: there is none; the nearest name is suggested.
    """
    name = _ALIASES.get(name, name)
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(METHODS)}"
        raise ConfigError(f"no lifelong method {name!r}", hint=hint)
    return METHODS[name]()
