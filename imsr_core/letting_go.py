"""When a step is done with memory that is as large as the log: the core says so, a caller may give it back.

What is freed stays with the process while it trains, since the next step takes as much. Before something else is
counted it is in the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_give_back: ContextVar[Callable[[], None] | None] = ContextVar("give_back", default=None)


@contextmanager
def given_back_by(how: Callable[[], None]) -> Iterator[None]:
    """For the block, `let_go` calls ``how``."""
    before = _give_back.set(how)
    try:
        yield
    finally:
        _give_back.reset(before)


def let_go() -> None:
    """A step that held much is done."""
    how = _give_back.get()
    if how is not None:
        how()
