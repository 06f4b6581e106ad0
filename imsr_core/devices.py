"""Where a span is trained: the processor, or an accelerator that torch knows.

What is random is drawn on the processor and carried over, so that both draw the same; what differs is the order in
which an accelerator adds, so that results are equal within rounding and not bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields, is_dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from imsr_core.errors import ConfigError

T = TypeVar("T")


class Movable(Protocol):
    """What can be carried to a device, in place."""

    def to(self, device: torch.device) -> None:
        """Carry everything there."""


def training_device(name: str) -> torch.device:
    """The device of this name; "auto" is an accelerator if there is one.

    Raises:
        ConfigError: there is no such accelerator here.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
    raise ConfigError(
        f'[training] device = "cuda": {why}',
        hint='set device = "cpu", or "auto" for machines with and without one; '
        "`python -c 'import torch; print(torch.cuda.is_available())'` says what torch finds",
    )


@contextmanager
def carried(what: Movable, device: torch.device) -> Iterator[None]:
    """``what`` on the device for the block, and on the processor afterwards, also if the block fails."""
    if device.type == "cpu":
        yield
        return
    what.to(device)
    try:
        yield
    finally:
        what.to(torch.device("cpu"))


def reduced(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Matrix products in half the bits where ``precision`` says so; sums, tables and the optimiser keep theirs."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def moved(value: T, device: torch.device) -> T:
    """A copy on the device of a tensor, a dataclass or a dictionary of tensors; all else as it is, what is there
    already is shared."""
    made: Any = value
    if isinstance(value, Tensor):
        made = value.to(device)
    elif isinstance(value, dict):
        made = {name: moved(each, device) for name, each in value.items()}
    elif isinstance(value, tuple):
        made = tuple(moved(each, device) for each in value)
    elif is_dataclass(value) and not isinstance(value, type):
        made = type(value)(**{f.name: moved(getattr(value, f.name), device) for f in fields(value)})
    return made
