"""Methods of the `users` line: how one encoder learns task after task.

A method is one class in one file (see `imsr_core.lifelong.protocol`) and one line in `imsr_core.parts`.
"""

from __future__ import annotations

from imsr_core.lifelong.protocol import LifelongMethod
from imsr_core.parts import METHODS

__all__ = ["METHODS", "get_method"]

_ALIASES = {"finecls": "finesmax"}  # PeterRec's name and Conure's for the same baseline


def get_method(name: str) -> LifelongMethod:
    """The method of that name. Raises `ConfigError` if there is none; the nearest name is suggested."""
    method: LifelongMethod = METHODS.named(_ALIASES.get(name, name))()
    return method
