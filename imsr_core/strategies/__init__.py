"""Strategies: how the model of a span is made from the model before it and the span's interactions.

A strategy is one function in one file (see `protocol.Strategy`) and one line here.
"""

from __future__ import annotations

from imsr_core.errors import ConfigError
from imsr_core.strategies.fine_tune import fine_tune
from imsr_core.strategies.full_retrain import full_retrain
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import Change, InterestChanges, SpanUpdate, Strategy

__all__ = ["STRATEGIES", "Change", "InterestChanges", "SpanUpdate", "Strategy", "strategy_named"]

STRATEGIES: dict[str, Strategy] = {
    "imsr": imsr,
    "fine_tune": fine_tune,
    "full_retrain": full_retrain,
}


def strategy_named(name: str) -> Strategy:
    """The strategy of this name. Raises `ConfigError` listing the names there are."""
    if name not in STRATEGIES:
        raise ConfigError(f"there is no strategy {name!r}", hint=f"choose one of: {', '.join(STRATEGIES)}")
    return STRATEGIES[name]
