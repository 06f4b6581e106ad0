"""What an ingest says about itself."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.workspace.ledger import SpanVersionRow


@dataclass(frozen=True)
class FileReport:
    """One file. ``skipped`` says why it was not read ("" = it was); ``time_unit`` how its times were read;
    ``newest_us`` is the time of its newest good row. ``left_out``: rows that ``[source]`` asks not to take, which are
    not among those read; ``without_value``: kept rows, or duplicates, whose value cannot be read."""

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


@dataclass(frozen=True)
class IngestReport:
    """One ingest. ``read = kept + duplicate + quarantined``, for each file and for all.

    Attributes:
        batch_id: the batch in the ledger; None if every file was skipped.
        files: each file that was named, in order.
        reasons: reason -> rows in quarantine.
        span_versions: the new version of every span that got rows, by time.
        stale: spans whose later work must be done again, by time.
    """

    batch_id: str | None
    files: tuple[FileReport, ...]
    reasons: dict[str, int]
    span_versions: tuple[SpanVersionRow, ...]
    stale: tuple[str, ...]

    @property
    def read(self) -> int:
        """Rows in all files that were read."""
        return sum(file.read for file in self.files)

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
    def skipped(self) -> tuple[str, ...]:
        """Names of the files that had been ingested before."""
        return tuple(file.name for file in self.files if file.skipped)
