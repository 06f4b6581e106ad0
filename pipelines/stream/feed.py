"""What the service writes to the lake, one batch at a time, wherever it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipelines.lake.report import IngestReport
from pipelines.stream.source import Bounds
from pipelines.workspace.writer import Writer


@dataclass(frozen=True)
class Written:
    """A batch that is in the lake. ``report`` is None if another consumer had written all of it."""

    messages: int
    report: IngestReport | None


class Feed(Protocol):
    """Batches for the lake.

    Attributes:
        name: names the stream in the ledger.
    """

    name: str

    def wait(self, seconds: float) -> bool:
        """Whether a batch is ready, waiting for it so long at most. Raises what reading it raised."""
        ...

    def write(self, writer: Writer) -> Written:
        """Put the batch into the lake, with the positions behind it; called again after an error it is the same one."""
        ...

    def settle(self) -> None:
        """Tell the source what is in the lake."""
        ...

    def is_exhausted(self) -> bool:
        """Whether everything that there is was taken."""
        ...

    def bounds(self) -> dict[str, Bounds]:
        """What each partition holds, as far as this consumer knows."""
        ...

    def close(self) -> None:
        """Leave the source."""
        ...
