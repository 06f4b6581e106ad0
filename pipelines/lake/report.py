"""What an ingest says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.lake.refusals import Refusal
from pipelines.workspace.ledger import SpanVersionRow


@dataclass(frozen=True)
class Loaded:
    """What became of a file's rows before de-duplication.

    Attributes:
        read: rows, without those that were left out.
        good: rows that may enter the lake; the others are quarantined.
        left_out: rows of no interest, by ``keep_events``, ``min_value`` or ``item_pattern``.
        without_value: rows whose value cannot be read; the event counts all the same.
        time_unit: how the times were read.
        newest_us: the time of the newest good row (microseconds since 1970; None without one).
    """

    read: int
    good: int
    left_out: int
    without_value: int
    time_unit: str
    newest_us: int | None


@dataclass(frozen=True)
class FileReport:
    """One file.

    Attributes:
        name: under which the lake knows it.
        sha256, mapping: of its content, and of ``[source]`` when it was read.
        read, kept, duplicate, quarantined: rows; the first is the sum of the others.
        time_unit: how its times were read.
        skipped: why it was not read ("" = it was).
        newest_us: the time of its newest good row.
        left_out: rows that ``[source]`` asks not to take; they are not among those read.
        without_value: rows whose value cannot be read; the event counts all the same.
        too_late: those of the quarantined rows that are nothing but late.
        refused: why it cannot be read, where the ingest went on without it ("" = it can).
        path: where it was.
    """

    name: str
    sha256: str
    mapping: str
    read: int = 0
    kept: int = 0
    duplicate: int = 0
    quarantined: int = 0
    time_unit: str = ""
    skipped: str = ""
    newest_us: int | None = None
    left_out: int = 0
    without_value: int = 0
    too_late: int = 0
    refused: str = ""
    path: str = ""

    @property
    def batched(self) -> bool:
        """Whether the ledger names the file in the batch."""
        return not self.skipped and not self.refused


@dataclass(frozen=True)
class IngestReport:
    """One ingest. ``read = kept + duplicate + quarantined``, for each file and for all.

    Attributes:
        batch_id: the batch in the ledger; None if nothing was done.
        files: each file that was named, in order.
        refusals: reason -> the rows in quarantine.
        span_versions: the new version of every span that got or lost rows, by time.
        stale: spans whose later work must be done again, by time.
        withdrawn: rows that were taken back.
        completed: events that the lake had, and of which it now knows more.
        emptied: spans that have no rows left.
        warnings: what a person should look at.
    """

    batch_id: str | None
    files: tuple[FileReport, ...]
    refusals: dict[str, Refusal]
    span_versions: tuple[SpanVersionRow, ...]
    stale: tuple[str, ...]
    withdrawn: int = 0
    completed: int = 0
    emptied: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    @property
    def read(self) -> int:
        """Rows in all files that were read."""
        return sum(file.read for file in self.files)

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> number of rows in quarantine."""
        return {reason: refusal.rows for reason, refusal in self.refusals.items()}

    @property
    def kept(self) -> int:
        """Rows that are new in the lake."""
        return sum(file.kept for file in self.files)

    @property
    def duplicate(self) -> int:
        """Rows that were there before, or twice."""
        return sum(file.duplicate for file in self.files)

    @property
    def quarantined(self) -> int:
        """Rows that were refused."""
        return sum(file.quarantined for file in self.files)

    @property
    def quarantined_share(self) -> float:
        """The share of the rows that were refused for a fault of theirs: what is only too late does not count."""
        late = sum(file.too_late for file in self.files)
        return (self.quarantined - late) / self.read if self.read else 0.0

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the files that had been ingested before."""
        return tuple(file.name for file in self.files if file.skipped)

    @property
    def refused(self) -> tuple[FileReport, ...]:
        """The files that cannot be read."""
        return tuple(file for file in self.files if file.refused)
