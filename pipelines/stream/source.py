"""What a broker must be able to do to be read: a new one is one class, and inherits the rest.

A message has a place: its partition, and an offset that grows within it. The ledger holds, for each partition, the
offset of the next message to take, in the same transaction as the rows of those before it. That is why a source is told
where to resume, and never asked: what a broker remembers of a group is only for its own tools.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from imsr_core.errors import ImsrError


class StreamError(ImsrError):
    """The stream cannot go on: messages are gone, the broker refuses us, or a setting cannot be."""


class Message(NamedTuple):
    """One message; ``value`` is None for a deletion mark."""

    partition: str
    offset: int
    value: bytes | None


def anew(name: str) -> StreamError:
    """That a stream is another one than was read before, under the same name."""
    return StreamError(
        f"{name} was made anew since it was read: its offsets start over, and do not tell what was read of it",
        hint="is it the right broker? to read what it holds now from its first message on: imsr stream --skip-lost",
    )


class Bounds(NamedTuple):
    """What a partition holds: offsets ``first`` .. ``end - 1``."""

    first: int
    end: int


#: partition -> the offset of the next message to take.
Positions = Mapping[str, int]


class Source(Protocol):
    """A broker as one consumer sees it. Its methods are called by one thread at a time.

    Attributes:
        name: names the stream in the ledger, the same after a restart and on another address: ``kafka:clicks``.
        label: names the rows' origin in the lake, with the partition behind it: ``clicks/3``.
    """

    name: str
    label: str

    def identity(self) -> str:
        """What tells the stream from an earlier one of its name, whose offsets mean nothing in it; asked before it is
        opened. Empty if the broker does not say."""
        ...

    def open(self, resume: Callable[[], Positions], revoked: Callable[[set[str]], None]) -> dict[str, Bounds]:
        """Start to read; returns what each partition of the stream holds.

        Args:
            resume: asked whenever partitions are given to this consumer; reading goes on there.
            revoked: told which partitions were taken away; what was read of them and not written is forgotten.
        """
        ...

    def poll(self, seconds: float) -> Sequence[Message]:
        """The next messages, waiting for them so long at most; while it holds, none, but still a member."""
        ...

    def hold(self, on: bool) -> None:
        """Stop to fetch, or go on."""
        ...

    def bounds(self) -> dict[str, Bounds]:
        """What each partition that this consumer reads holds, as far as it knows."""
        ...

    def settle(self, positions: Positions) -> None:
        """Everything before these is in the lake."""
        ...

    def close(self) -> None:
        """Leave."""
        ...
