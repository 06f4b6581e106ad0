"""Event files as they arrive in a folder: a stream for those who have no broker.

A file is a message, known by its content: the same one is never taken twice. It counts as complete when it has not
changed for ``SETTLED`` seconds, by its own time or, where that lies in the future, since it was first seen so; give it
a hidden name while you write it if that may take longer. A file that cannot be read is named, left where it is, and
read again when it changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from imsr_core.errors import ConfigError
from pipelines.lake.ingest import ingest
from pipelines.lake.landing import landed
from pipelines.lake.readers import ReadError
from pipelines.lake.report import IngestReport
from pipelines.lake.spans import to_us
from pipelines.lake.times import TimeUnitError
from pipelines.stream.feed import Written
from pipelines.stream.source import Bounds
from pipelines.stream.watermark import put_stream_state, stream_state
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Transaction
from pipelines.workspace.writer import Writer

#: Seconds without a change after which a file is complete.
SETTLED = 2.0
#: Seconds between two looks.
LOOK = 0.5
#: The one partition of a folder; its offsets count files.
FILES = "files"

#: Size and time of change of a file.
Stamp = tuple[int, int]


class FolderFeed:
    """The ``Feed`` of a folder."""

    def __init__(self, workspace: Workspace, folder: Path, say: Callable[[str], None], now: datetime) -> None:
        if not folder.is_dir():
            raise ConfigError(f"{folder} is not a folder", hint="make it, or name another one")
        path = folder.resolve()
        inside = path.is_relative_to(workspace.root.resolve())  # named so that the workspace can be moved
        self.name = f"folder:{path.relative_to(workspace.root.resolve()) if inside else path}"
        self._workspace, self._folder, self._say = workspace, folder, say
        self._known: dict[Path, Stamp] = {}
        self._waiting: dict[Path, Stamp] = {}
        self._seen: dict[Path, tuple[Stamp, float]] = {}  # since when a file is as it is
        with workspace.ledger.transaction() as tx:
            put_stream_state(tx, stream_state(tx, self.name).seen({FILES: Bounds(0, 0)}, to_us(now)))

    def wait(self, seconds: float) -> bool:
        """Whether a complete file waits that was not taken yet."""
        deadline = time.monotonic() + seconds
        while True:
            self._look()
            if self._complete() or time.monotonic() >= deadline:
                return bool(self._complete())
            time.sleep(min(LOOK, seconds))

    def write(self, writer: Writer) -> Written:
        """Ingest what is complete; a file that cannot be read is set aside, and the others are taken."""
        files = self._complete()
        try:
            report = self._ingest(files, writer)
        except (ReadError, TimeUnitError) as error:
            if len(files) > 1:
                return self._one_by_one(files, writer)
            self._say(f"left where it is: {error}")
            report = None
        self._known |= files
        self._waiting = {path: stamp for path, stamp in self._waiting.items() if path not in files}
        if report is None or report.batch_id is None:  # nothing that was not known
            return Written(0, None)
        return Written(report.read, report)

    def settle(self) -> None:
        """Files stay where they are."""

    def is_exhausted(self) -> bool:
        """Whether all files were taken or set aside."""
        self._look()
        return not self._waiting

    def bounds(self) -> dict[str, Bounds]:
        """Files taken, and with those that wait."""
        with self._workspace.ledger.snapshot() as view:
            taken = stream_state(view, self.name).positions.get(FILES, 0)
        return {FILES: Bounds(0, taken + len(self._waiting))}

    def close(self) -> None:
        """Nothing is open."""

    def _look(self) -> None:
        found = {}
        for path in landed(self._workspace, self._folder):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found[path] = (status.st_size, status.st_mtime_ns)
        self._known = {path: stamp for path, stamp in self._known.items() if path in found}  # others are gone for good
        self._waiting = {path: stamp for path, stamp in found.items() if self._known.get(path) != stamp}
        before, now = self._seen, time.monotonic()
        self._seen = {}
        for path, stamp in self._waiting.items():
            then, since = before.get(path, (stamp, now))
            self._seen[path] = (stamp, since if then == stamp else now)

    def _complete(self) -> dict[Path, Stamp]:
        until, now = time.time_ns() - int(SETTLED * 1e9), time.monotonic()
        return {
            path: stamp
            for path, stamp in self._waiting.items()
            if stamp[1] <= until or now - self._seen[path][1] >= SETTLED
        }

    def _one_by_one(self, files: dict[Path, Stamp], writer: Writer) -> Written:
        last: IngestReport | None = None
        messages = 0
        for path, stamp in files.items():
            self._waiting = {path: stamp}
            written = self.write(writer)
            messages += written.messages
            last = written.report or last
        return Written(messages, last)

    def _ingest(self, files: dict[Path, Stamp], writer: Writer) -> IngestReport:
        now = writer.now

        def record(tx: Transaction, report: IngestReport) -> None:
            state = stream_state(tx, self.name).seen({FILES: Bounds(0, 0)}, to_us(now))
            partition = state.partitions[FILES]
            newest = max((file.newest_us for file in report.files if file.newest_us is not None), default=None)
            position = partition.position + sum(not file.skipped for file in report.files)
            after = replace(partition.took(position, newest, "", to_us(now)), end=position)
            state.partitions[FILES] = after
            put_stream_state(tx, state)

        return ingest(self._workspace, list(files), now=now, writer=writer, also=record)
