"""Strategies: how the model of a span is made from the model before it and the span's interactions.

A strategy is one function in one file (see `protocol.Strategy`) and one line in `imsr_core.parts`. Its settings, if it
has any, are a dataclass in the same file (see `imsr_core.own_settings`).
"""

from __future__ import annotations

from functools import partial

from imsr_core.errors import ConfigError
from imsr_core.parts import FLOORS, STARTING_OVER, STRATEGIES
from imsr_core.registry import nearest
from imsr_core.strategies.members import learn
from imsr_core.strategies.protocol import Change, History, InterestChanges, SpanUpdate, Strategy

__all__ = [
    "FLOORS",
    "STARTING_OVER",
    "STRATEGIES",
    "Change",
    "History",
    "InterestChanges",
    "SpanUpdate",
    "Strategy",
    "learn",
    "strategy_named",
]


def strategy_named(name: str) -> Strategy:
    """The strategy of this name, for all members of a model. Raises `ConfigError` listing the names there are."""
    for kind in (STRATEGIES, STARTING_OVER, FLOORS):
        if name in kind:
            return partial(learn, kind[name])
    raise ConfigError(f"there is no strategy {name!r}", hint=nearest(name, [*STRATEGIES, *STARTING_OVER, *FLOORS]))
