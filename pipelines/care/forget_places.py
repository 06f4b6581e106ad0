"""Where a user's id can lie in a workspace, and how each place is cleaned.

A place is a pattern of Parquet files. A row is the user's if its ``user_id`` is the id or, in files without that
column, if its ``user_index`` is the index that the file's chain of sequences gives the id. Such rows are removed; only
the vocabulary keeps the row, with a tombstone for the id, because indices never move. A new kind of file is one more
line in ``PLACES``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from imsr_core.errors import ImsrError
from pipelines.care.landing_files import mention_pattern
from pipelines.lake.schemas import bucket_name, bucket_of
from pipelines.sequences.chain import parent_folder
from pipelines.sequences.id_files import by_id
from pipelines.sequences.vocabulary import USERS_FILE
from pipelines.versions.lineage import Lineage
from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.parquet_files import column_names, counted_columns, read_table, row_groups, write_tables

#: No row group of any file has more rows.
GROUP_ROWS = 1_048_576


@dataclass(frozen=True)
class Place:
    """A kind of file. ``{bucket}`` in the pattern is the user's bucket; ``texts`` may mention the id in passing."""

    name: str
    pattern: str
    texts: tuple[str, ...] = ()
    buried: bool = False


PLACES = (
    Place("lake", "lake/span=*/v=*/{bucket}"),
    Place("quarantine", "quarantine/batch=*.parquet", texts=("event_id", "detail")),
    Place("sequences", "sequences/span=*/*/{bucket}"),
    Place("vocabulary", f"sequences/span=*/*/{USERS_FILE}", buried=True),
    Place("vocabulary by id", f"sequences/span=*/*/{by_id(Path(USERS_FILE))}"),
    Place("versions", "versions/*/*.parquet"),
    Place("recommendations", "recommendations/*.parquet"),
    Place("explanations", "explanations/*.parquet"),
    Place("labels", "labels/**/*.parquet"),
    Place("segments", "metadata/users-*.parquet"),
)


@dataclass(frozen=True)
class Search:
    """The search for one user.

    ``tombstone`` stands for the id where an earlier, unfinished run put it. ``unreadable`` are the damaged files that
    were met, with what is wrong: they may hold the user.
    """

    workspace: Workspace
    user_id: str
    tombstone: str
    buckets: int
    unreadable: dict[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, workspace: Workspace, view: Snapshot, user_id: str, tombstone: str) -> Search:
        """A search that knows into how many buckets the lake is split."""
        buckets = int(view.meta("buckets") or workspace.settings.ingest.buckets)
        return cls(workspace, user_id, tombstone, buckets)

    def files(self, place: Place) -> list[Path]:
        """The files of a place that exist."""
        pattern = place.pattern.format(bucket=bucket_name(bucket_of(self.user_id, self.buckets)))
        folders, _, name = pattern.rpartition("/")
        return [path for folder in sorted(self.workspace.root.glob(folders)) for path in stored_files(folder, name)]

    def rows(self, place: Place, path: Path) -> int:
        """How many rows of a file are the user's (or mention the user).

        Raises:
            ParquetFileError, SequenceChainError, CheckpointError: damaged; run imsr doctor.
        """
        names = column_names(path)
        columns = [name for name in ("user_id", "user_index", *place.texts) if name in names]
        if not {"user_id", "user_index"} & set(columns):
            return 0
        return pc.sum(self._own(place, path, read_table(path, columns))).as_py() or 0

    def found(self) -> dict[str, int]:
        """Path below the workspace -> rows of the user, of all files that have some; place after place."""
        counts: dict[str, int] = {}
        for place in PLACES:
            for path in self.files(place):
                try:
                    count = self.rows(place, path)
                except ImsrError as error:  # nothing can be said of it, and the others are to be looked at
                    self.unreadable[self.workspace.relative(path)] = error.message
                    continue
                if count:
                    counts[self.workspace.relative(path)] = count
        return counts

    def write_without(self, path: Path, out: Path) -> None:
        """Write the file to ``out`` without the user: equal content gives equal bytes. Row groups stay what they are,
        and a few of them are there at once: all of everybody's interests would be gigabytes.
        """
        without = (self._without(path, table) for table in row_groups(path))
        write_tables(_with_rows(without), out, row_group_size=GROUP_ROWS, statistics=counted_columns(path))

    def _without(self, path: Path, table: pa.Table) -> pa.Table:
        """The rows of a file without the user, or with a tombstone."""
        place = self.place_of(path)
        own = self._own(place, path, table)
        if not place.buried:
            return table.filter(pc.invert(own))
        at = table.column_names.index("user_id")
        ids = pc.if_else(own, self.tombstone, table["user_id"])
        return table.set_column(at, table.schema.field(at), ids)

    def place_of(self, path: Path) -> Place:
        """The place that a file belongs to."""
        top = self.workspace.relative(path).partition("/")[0]
        fitting = [place for place in PLACES if place.pattern.startswith(f"{top}/")]
        own = [place for place in fitting if plain(path).name == place.pattern.rpartition("/")[2]]
        return (own or fitting)[0]

    def _own(self, place: Place, path: Path, table: pa.Table) -> pa.ChunkedArray:
        """(rows,) whether each row is the user's; no NULL."""
        if "user_id" in table.column_names:
            ids = table["user_id"].cast(pa.string())
            raw = bool(place.texts)  # refused rows are kept as they came
            own = pc.equal(pc.utf8_trim_whitespace(ids) if raw else ids, self.user_id.strip() if raw else self.user_id)
            own = pc.fill_null(own, False)
        else:
            own = pc.fill_null(pc.equal(table["user_index"], self._index(path)), False)
        for name in set(place.texts) & set(table.column_names):
            mentions = pc.match_substring_regex(table[name].cast(pa.string()), self._pattern)
            own = pc.or_(own, pc.fill_null(mentions, False))
        return own

    def _index(self, path: Path) -> int:
        """The user's index in the chain that ends with the folder of ``path``; -1 if the chain does not have it."""
        if path.parent.parent == self.workspace.versions:
            vocabulary = Lineage.read(path.parent).vocabulary
            return self.index_in(self.workspace.resolve(vocabulary[-1])) if vocabulary else -1
        return self.index_in(path.parent)

    def index_in(self, folder: Path) -> int:
        """The user's index in the chain that ends with these sequences."""
        while folder not in self._indices:
            parent = parent_folder(self.workspace, folder)
            if parent is None:
                return -1
            folder = parent
        return self._indices[folder]

    @cached_property
    def _indices(self) -> dict[Path, int]:
        """Sequences folder in which the user was new -> index."""
        found = {}
        for place in PLACES:
            for path in self.files(place) if place.buried else []:
                try:
                    table = read_table(path, ["user_id", "user_index"])
                except ImsrError as error:
                    self.unreadable[self.workspace.relative(path)] = error.message
                    continue
                at = pc.index_in(pa.array([self.user_id, self.tombstone]), value_set=table["user_id"].combine_chunks())
                if row := [i for i in at.to_pylist() if i is not None]:
                    found[path.parent] = table["user_index"][row[0]].as_py()
        return found

    @cached_property
    def _pattern(self) -> str:
        return mention_pattern(self.user_id)


def _with_rows(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Those of ``tables``, at least one, that have rows; one without where none has."""
    rest = iter(tables)
    first = next(rest)
    while not first.num_rows and (following := next(rest, None)) is not None:
        first = following
    yield first
    yield from (table for table in rest if table.num_rows)
