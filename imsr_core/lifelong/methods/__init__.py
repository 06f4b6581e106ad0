"""Methods of the `users` line: how one encoder learns task after task.

A method is one class in one file (see `imsr_core.lifelong.protocol`) and one line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imsr_core.registry import Registry

if TYPE_CHECKING:
    from imsr_core.lifelong.protocol import LifelongMethod

_BASELINES = "imsr_core.lifelong.methods.baselines"

METHODS: Registry[type[LifelongMethod]] = Registry(
    "lifelong method",
    "imsr.lifelong_methods",
    {
        "conure": "imsr_core.lifelong.methods.conure:Conure",
        "peterrec": "imsr_core.lifelong.methods.peterrec:PeterRec",
        "teracon": "imsr_core.lifelong.methods.teracon:Teracon",
        "dnn": f"{_BASELINES}:DNN",
        "sinmo": f"{_BASELINES}:SinMo",
        "sinmoall": "imsr_core.lifelong.methods.sequential:SinMoAll",
        "finesmax": f"{_BASELINES}:FineSmax",
        "finelast": f"{_BASELINES}:FineLast",
        "fineall": f"{_BASELINES}:FineAll",
        "peterzero": "imsr_core.lifelong.methods.peterrec:PeterZero",
        "mtl": f"{_BASELINES}:MTL",
    },
)
"""Every lifelong method and baseline by name."""

_ALIASES = {"finecls": "finesmax"}  # PeterRec's name and Conure's for the same baseline


def get_method(name: str) -> LifelongMethod:
    """The method of that name. Raises `ConfigError` if there is none; the nearest name is suggested."""
    return METHODS.named(_ALIASES.get(name, name))()
