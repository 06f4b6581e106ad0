"""Strategies: how the model of a span is made from the model before it and the span's interactions.

A strategy is one function in one file (see `protocol.Strategy`) and one line here.
"""

from __future__ import annotations

from imsr_core.errors import ConfigError
from imsr_core.strategies.ader import ader
from imsr_core.strategies.elastic import elastic
from imsr_core.strategies.fine_tune import fine_tune
from imsr_core.strategies.frozen import frozen
from imsr_core.strategies.full_retrain import full_retrain
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import Change, History, InterestChanges, SpanUpdate, Strategy
from imsr_core.strategies.sml import sml

__all__ = [
    "FLOORS",
    "STARTING_OVER",
    "STRATEGIES",
    "Change",
    "History",
    "InterestChanges",
    "SpanUpdate",
    "Strategy",
    "strategy_named",
]

#: Strategies that a chain of spans can use: they go on from M_{t-1} and learn the span alone.
STRATEGIES: dict[str, Strategy] = {
    "imsr": imsr,
    "elastic": elastic,
    "fine_tune": fine_tune,
    "ader": ader,
    "sml": sml,
}
#: Strategies that begin a new chain from the whole history.
STARTING_OVER: dict[str, Strategy] = {"full_retrain": full_retrain}
#: Strategies that learn nothing after pre-training: what learning must beat.
FLOORS: dict[str, Strategy] = {"frozen": frozen}


def strategy_named(name: str) -> Strategy:
    """The strategy of this name. Raises `ConfigError` listing the names there are."""
    known = STRATEGIES | STARTING_OVER | FLOORS
    if name not in known:
        raise ConfigError(f"there is no strategy {name!r}", hint=f"choose one of: {', '.join(known)}")
    return known[name]
