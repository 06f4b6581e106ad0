"""How a step of a run is called: plainly, or by a flow that records it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Runs a step: (name, function, its arguments) -> its result.
Call = Callable[..., Any]


def plainly(step: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a step as the plain function that it is."""
    return function(*arguments)
