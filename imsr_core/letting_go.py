"""When a step is done with memory that is as large as the log: the core says so, a caller may give it back.

What is freed stays with the process while it trains, since the next step takes as much. Before something else is
counted it is in the way; and so are the interests of a first span, which nobody asks for until they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Takes numbers and gives the same numbers, which take room again when they are read.
LayAside = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_give_back: ContextVar[Callable[[], None] | None] = ContextVar("give_back", default=None)
_lay_aside: ContextVar[LayAside | None] = ContextVar("lay_aside", default=None)


@contextmanager
def given_back_by(how: Callable[[], None], aside: LayAside | None = None) -> Iterator[None]:
    """For the block, `let_go` calls ``how``, and `laid_aside` calls ``aside``."""
    before = _give_back.set(how), _lay_aside.set(aside)
    try:
        yield
    finally:
        _give_back.reset(before[0])
        _lay_aside.reset(before[1])


def let_go() -> None:
    """A step that held much is done."""
    how = _give_back.get()
    if how is not None:
        how()


def laid_aside(values: Tensor) -> Tensor:
    """The same ``values`` (float32), out of the way until they are read, if a caller has a place for them."""
    aside = _lay_aside.get()
    return values if aside is None else torch.from_numpy(aside(values.numpy()))
