"""Settings that a part brings with it: a dataclass in its own file, and a section of imsr.toml named like the part.

@dataclass(frozen=True)
class AveragedConfig(Section):
    share: float = documented(0.5, "how far item rows go back", at_least=0, at_most=1)

@brings(AveragedConfig)
def averaged(state, span, ...):
    share = own(state.config, "averaged", AveragedConfig).share
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from imsr_core.config import InterestsConfig
from imsr_core.fields import Section
from imsr_core.parts import STRATEGIES

P = TypeVar("P", bound=Callable[..., Any])
S = TypeVar("S", bound=Section)


def brings(kind: type[Section]) -> Callable[[P], P]:
    """Say that a strategy has settings of this kind."""

    def named(part: P) -> P:
        part.settings = kind  # type: ignore[attr-defined]
        return part

    return named


def settings_of(name: str) -> type[Section] | None:
    """The dataclass that the strategy of this name brings, if it brings one; imports the strategy."""
    found: type[Section] | None = getattr(STRATEGIES.get(name), "settings", None)
    return found


def own(config: InterestsConfig, name: str, kind: type[S]) -> S:
    """The settings of the strategy of this name: those that were set, or their defaults."""
    found = config.own.get(name)
    return found if isinstance(found, kind) else kind()
