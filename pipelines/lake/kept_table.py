"""A table that people keep beside the events, about items or about users: read, checked, and kept as it was.

The file may change at any time; what was shown with it must stay explicable. So its rows are copied to
``metadata/<kind>-<fingerprint>.parquet`` (the id first, as text, then the columns as they came), and the ledger names
the copy that is in force. The same rows give the same copy. A score may learn from the categories of items.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imsr_core.counted import plural
from imsr_core.errors import ImsrError
from pipelines.lake.event_files import TYPED_TABLES
from pipelines.lake.frozen import whole_numbers
from pipelines.lake.readers import EventFile, ReadError, read_every_column
from pipelines.lake.refusals import is_not_utf8
from pipelines.lake.validation import id_sql
from pipelines.settings.source import SourceSettings
from pipelines.workspace.decoding import decode_meta
from pipelines.workspace.editions import drop_editions, is_stored
from pipelines.workspace.engine import duckdb_session
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.parquet_files import write_table
from pipelines.workspace.seal import file_sha256
from pipelines.workspace.writer import Writer

#: Changes where the same file is read as other rows than by an earlier release: it is read once more then.
_READ_AS = " ids as of events"
#: Endings of tables of text.
TEXT = (".csv", ".tsv", *TYPED_TABLES)
#: The same, and those that mostly have no header.
PLAIN = (*TEXT, ".dat", ".data", ".txt")
#: Folder of the copies.
FOLDER = "metadata"


class KeptTableError(ImsrError):
    """A table about items or users is missing, cannot be read, or lacks a column."""


@dataclass(frozen=True)
class KeptTable:
    """The copy in force. ``path`` is below the workspace; ``source`` is the hash of the file and of the settings.

    Of what was read ``rows`` are kept, ``duplicate`` ones said something else of an id that stands further up, and
    ``without_id`` had none.
    """

    path: str
    source: str
    rows: int
    duplicate: int
    without_id: int


@dataclass(frozen=True)
class TableKind:
    """What such a table is about: the ``file`` that ``setting`` names, its column ``own_id`` (``id_name`` in the copy),
    and the columns that are ``wanted`` of it (``only_wanted``: the copy has no others).

    ``options`` is what of the settings decides how it is read, ``endings`` the kinds of files that it may be, and
    ``written`` how one of text is, where that can be said.
    """

    name: str
    note: str
    setting: str
    file: str
    id_name: str
    own_id: str
    wanted: tuple[str, ...]
    options: dict[str, Any]
    only_wanted: bool = False
    endings: tuple[str, ...] = (".parquet", *PLAIN, ".jsonl", ".json")
    written: SourceSettings | None = None

    def place(self, workspace: Workspace) -> Path:
        """Where the file is."""
        return workspace.root / self.file

    def is_current(self, workspace: Workspace) -> bool:
        """Whether the copy in force is that of the table as it is now (a missing table changes nothing)."""
        if not self.file or not self.place(workspace).is_file():
            return True
        with workspace.ledger.snapshot() as view:
            kept = kept_table(view, self.note)
        return kept is not None and kept.source == self._source(workspace)

    def keep(self, writer: Writer) -> KeptTable | None:
        """Take the table as it is now; None without one in the settings. A file that did not change costs its hash.

        Raises:
            KeptTableError: the file is missing, cannot be read, or lacks a column. The copy before stays in force.
        """
        workspace = writer.workspace
        if not self.file:
            return None
        if not self.place(workspace).is_file():
            raise KeptTableError(
                f"{self.setting}: there is no file {self.place(workspace)}", hint="correct it in imsr.toml"
            )
        source = self._source(workspace)
        with workspace.ledger.snapshot() as view:
            before = kept_table(view, self.note)
        if before is not None and before.source == source and is_stored(workspace.resolve(before.path)):
            return before
        kept = self._copy(workspace, source)
        with writer.transaction() as tx:
            tx.put_meta(self.note, json.dumps(asdict(kept)))
        return kept

    def _source(self, workspace: Workspace) -> str:
        read = f"{file_sha256(self.place(workspace))} {self.options}{_READ_AS}"
        return hashlib.sha256(read.encode()).hexdigest()

    def _copy(self, workspace: Workspace, source: str) -> KeptTable:
        with workspace.ledger.snapshot() as view:
            whole = whole_numbers(view, workspace.settings)
        table = self._read(self.place(workspace), whole)
        named = table.filter(pc.is_valid(table[self.id_name]))
        place = pa.array(np.arange(named.num_rows))
        first = named.append_column("place", place).group_by(self.id_name).aggregate([("place", "min")])["place_min"]
        kept = named.take(first).sort_by(self.id_name)
        folder = workspace.root / FOLDER
        folder.mkdir(exist_ok=True)
        copy = folder / f"{self.name}-{source[:16]}.parquet"
        write_table(kept, copy)
        drop_editions(copy)
        return KeptTable(
            path=workspace.relative(copy),
            source=source,
            rows=kept.num_rows,
            duplicate=named.num_rows - kept.num_rows,
            without_id=table.num_rows - named.num_rows,
        )

    def _read(self, path: Path, whole: bool) -> pa.Table:
        """All rows and columns of the file; the id first, as text, as the events have it."""
        if path.suffix not in self.endings:
            raise KeptTableError(
                f"{self.setting}: {path.name} is of no kind that can be read", hint=f"name it {', '.join(self.endings)}"
            )
        try:
            table = self._read_text(path, whole) if path.suffix in PLAIN else self._read_other(path, whole)
        except (duckdb.Error, pa.ArrowException, ReadError) as error:
            said = error.message.removeprefix(f"{path}: ") if isinstance(error, ReadError) else str(error).strip()
            hint = error.hint if isinstance(error, ReadError) else ""
            if hint.startswith("set encoding"):  # under [source], which is of events
                hint = self._encode(hint)
            if not isinstance(error, ReadError | duckdb.BinderException):
                hint = "is it whole, and of the kind that its name says?"
            raise KeptTableError(
                f"{self.setting}: {path.name} cannot be read: {said.splitlines()[0]}",
                hint=hint
                or f"it must have a column {self.own_id!r}: set {self.id_name} in {self._section} to the one with the "
                f"{self.id_name.removesuffix('_id')}'s id; is there no header? {self._name_columns}",
            ) from error
        wanted = [column for column in self.wanted if column]
        missing = [column for column in wanted if column not in table.column_names]
        if missing:
            raise KeptTableError(
                f"{self._section}: {path.name} has no column {missing[0]!r}",
                hint=f"its columns: {', '.join(table.column_names[1:])}",
            )
        return table.select([self.id_name, *dict.fromkeys(wanted)]) if self.only_wanted else table

    @property
    def _section(self) -> str:
        return self.setting.partition(" ")[0]

    @property
    def _name_columns(self) -> str:
        own = "name all columns, in order: header = [...] in" if self.written else "write one above its rows, for"
        return f"{own} {self._section}"

    def _encode(self, hint: str) -> str:
        return f"{hint.partition(' under ')[0]} in {self._section}" if self.written else "save it as UTF-8"

    def _read_text(self, path: Path, whole: bool) -> pa.Table:
        """As strictly as events and labels are: a sniffer would leave out what stands above another header."""
        with duckdb_session() as connection, tempfile.TemporaryDirectory() as folder:
            file = EventFile.linked(path, Path(folder) / "table")
            names = read_every_column(connection, file, (self.own_id, *self.wanted), "lines", self.written)
            if self.own_id not in names:
                raise ReadError(f"it has columns {', '.join(map(repr, names))}")
            bad = connection.execute("SELECT row_number, malformed FROM lines WHERE malformed IS NOT NULL").fetchall()
            if bad:
                line, complaint = min(bad)
                raise ReadError(
                    f"{len(bad)} of its lines {plural(len(bad), 'does')} not fit the header; "
                    f"the first is line {line}: {complaint[:200]}",
                    hint=self._encode('set encoding = "latin-1"')
                    if is_not_utf8(complaint)
                    else "was another export appended to it? give every row the same columns",
                )
            twice = [name for name in (self.own_id, *self.wanted) if names.count(name) > 1]
            if twice:
                raise ReadError(f"two columns are called {twice[0]!r}", hint="rename one of them")
            own = names.index(self.own_id)
            places = [own, *(place for place in range(len(names)) if place != own and _is_first(names, place))]
            columns = ", ".join(f"nullif(c{place}, '') AS c{place}" for place in places[1:])
            chosen = f"{id_sql(f'c{own}', (), whole)} AS c{own}" + (f", {columns}" if columns else "")
            table = connection.sql(f"SELECT {chosen} FROM lines ORDER BY row_number").to_arrow_table()
            return table.rename_columns([self.id_name, *(names[place] for place in places[1:])])

    def _read_other(self, path: Path, whole: bool) -> pa.Table:
        source, values = self._source_sql(path), {"path": str(path)}
        with duckdb_session() as connection:
            kinds = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {source}", values).fetchall()}
            mixed = [name for name, kind in kinds.items() if kind == "JSON"]  # texts and numbers in one column
            plain = ", ".join(f"{_named(name)} ->> '$' AS {_named(name)}" for name in mixed)
            rows = f"(SELECT * {f'REPLACE ({plain})' if plain else ''} FROM {source})"
            rows = (
                f"(SELECT CAST({_named(self.own_id)} AS VARCHAR) AS own, * EXCLUDE ({_named(self.own_id)}) FROM {rows})"
            )
            query = f"SELECT {id_sql('own', (), whole)} AS {self.id_name}, * EXCLUDE (own) FROM {rows}"
            return connection.sql(query, params=values).to_arrow_table()

    def _source_sql(self, path: Path) -> str:
        kinds = {
            ".parquet": "read_parquet([$path], hive_partitioning = false)",
            ".jsonl": "read_json([$path], format = 'newline_delimited', sample_size = -1)",
            ".json": "read_json([$path], sample_size = -1)",
        }
        return kinds[path.suffix]


def _named(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _is_first(names: Sequence[str], place: int) -> bool:
    """Whether a column is the first of its name; nobody asks for another one."""
    return names.index(names[place]) == place


def kept_table(view: Snapshot, note: str) -> KeptTable | None:
    """The copy that the ledger's ``note`` says is in force; None if there never was a table."""
    stored = view.meta(note)
    return None if stored is None else decode_meta(note, stored, _decoded)


def _decoded(values: dict[str, Any]) -> KeptTable:
    rows = values.pop("items") if "items" in values else values.pop("rows")  # earlier releases wrote "items"
    return KeptTable(rows=rows, **values)
