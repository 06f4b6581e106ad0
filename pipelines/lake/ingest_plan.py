"""What an ingest is to do: which of the files given are new, and the state of the ledger that it starts from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.lake.delivery import Delivery
from pipelines.lake.event_files import Given, ReadError, find
from pipelines.lake.frozen import check_frozen, frozen_calendar, whole_numbers
from pipelines.lake.report import FileReport
from pipelines.lake.spans import Calendar
from pipelines.lake.withdrawal import Withdrawal
from pipelines.settings.imsr_toml import Settings
from pipelines.workspace.file_system import is_of_the_machine
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.seal import file_sha256

_NAME = "name event files, folders of them, or patterns"


@dataclass(frozen=True)
class Plan:
    """What an ingest knows before it reads: the state of the ledger that it starts from, and what was asked for.

    ``fresh`` are the files to read by their number (1, 2, ... as they were given), ``files`` says of all what is known
    so far, and ``again`` are the numbers of those that were ingested before. Good rows before ``oldest_us`` are refused
    as too late; ``last_us`` is when the last ingest was, if that is later than now. ``tolerant`` sets aside files that
    cannot be read; ``singly`` reads each by itself.
    """

    batch_id: str
    calendar: Calendar | None
    fresh: dict[int, Path | Delivery]
    files: list[FileReport]
    whole_numbers: bool
    oldest_us: int | None = None
    withdrawal: Withdrawal | None = None
    again: list[int] = field(default_factory=list)
    tolerant: bool = False
    singly: bool = False
    last_us: int | None = None

    def without(self, number: int, reason: str) -> Plan:
        """The plan without a file, which is refused; without 0 every file is read by itself."""
        if number == 0:
            return dataclasses.replace(self, singly=True)
        files = list(self.files)
        files[number - 1] = dataclasses.replace(files[number - 1], refused=reason)
        fresh = {n: file for n, file in self.fresh.items() if n != number}
        return dataclasses.replace(self, files=files, fresh=fresh, again=[n for n in self.again if n != number])


def plan_of(
    workspace: Workspace,
    view: Snapshot,
    files: Sequence[Path | str | Given | Delivery],
    *,
    again: bool = False,
    tolerant: bool = False,
    withdrawal: Withdrawal | None = None,
    oldest_us: int | None = None,
    last_us: int | None = None,
) -> Plan:
    """Look at every file, in the order given; the arguments are those of ``ingest`` and of `Plan`.

    Raises:
        ReadError, OSError: a file is not there, unless ``tolerant``; the machine cannot read it now.
        ConfigError: calendar or buckets are not those of the first ingest.
    """
    settings = workspace.settings
    check_frozen(view, settings)
    source = json.dumps(dataclasses.asdict(settings.source), sort_keys=True)
    mapping = hashlib.sha256(source.encode()).hexdigest()[:16]
    known = view.ingested_files()
    named: set[str] = set()
    fresh: dict[int, Path | Delivery] = {}
    repeated: list[int] = []
    reports: list[FileReport] = []
    for number, file in enumerate(_given(files, settings), start=1):
        if isinstance(file, Delivery):  # the offsets that are committed with it say that it is new
            fresh[number] = file
            reports.append(FileReport(file.source, "", mapping))
            continue
        try:
            report = _file_report(file, mapping, {} if withdrawal else known, named, again)
        except (ReadError, OSError) as error:
            if not tolerant or is_of_the_machine(error):
                raise
            report = FileReport(file.name, "", mapping, refused=reason_of(error), path=str(file.path))
        reports.append(report)
        if not report.skipped and not report.refused:
            fresh[number] = file.path
            repeated += [number] if report.sha256 in known and not withdrawal else []
    return Plan(
        batch_id=view.next_batch_id(),
        calendar=frozen_calendar(view),
        fresh=fresh,
        files=reports,
        whole_numbers=whole_numbers(view, settings),
        oldest_us=oldest_us,
        withdrawal=withdrawal,
        again=repeated,
        tolerant=tolerant,
        last_us=last_us,
    )


def _given(files: Sequence[Path | str | Given | Delivery], settings: Settings) -> Iterable[Given | Delivery]:
    """Every file by itself; folders and patterns are looked into."""
    for file in files:
        if isinstance(file, Given | Delivery):
            yield file
        else:
            yield from find([file], settings.source.format).files


def _file_report(file: Given, mapping: str, known: dict[str, str], named: set[str], again: bool) -> FileReport:
    if not file.path.is_file():
        piped = file.path.name == "-" or file.path.is_fifo() or file.path.is_char_device()
        hint = "write it to a file first: what comes in a pipe is not read" if piped else _NAME
        raise ReadError(f"{file.path}: not a file", hint=f"{hint}; nothing was ingested")
    sha256 = file_sha256(file.path)
    skipped = ""
    if sha256 in known and not again:
        skipped = f"ingested before, in {known[sha256]}"
    if sha256 in named:
        skipped = "named twice"
    named.add(sha256)
    return FileReport(file.name, sha256, mapping, skipped=skipped, path=str(file.path))


def reason_of(error: Exception) -> str:
    """Why a file was refused, for a person."""
    if not isinstance(error, ImsrError):
        return str(error)
    hint = error.hint.replace("; nothing was ingested", "").replace("nothing was ingested", "")
    return f"{error.message}\n  -> {hint}" if hint else error.message
