"""Parquet files that are complete or absent: written aside, flushed, then given their name."""

from __future__ import annotations

import os
import uuid
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imsr_core.errors import ImsrError
from imsr_core.sorted_keys import is_in
from pipelines.workspace.editions import opened

#: Ends the name of a file that is being written; whoever publishes a folder removes what is left of them.
TEMPORARY_SUFFIX = ".tmp"
#: What an error about a damaged file advises.
ADVICE = "run `imsr doctor`"
#: Row groups that are read at once, whosever rows they hold.
FEW_GROUPS = 8
NO_KINDS: Mapping[str, pa.DataType] = MappingProxyType({})

T = TypeVar("T")


class ParquetFileError(ImsrError):
    """A Parquet file that is missing, damaged, or lacks a column."""


def write_table(table: pa.Table, path: Path, *, row_group_size: int = 131_072, rising: Sequence[str] = ()) -> None:
    """Write a table so that ``path`` is the whole file or does not change; safe to repeat.

    The same table gives the same bytes. Pages carry checksums, so damage is found on reading. Integers of ``rising``
    columns, which rise for long stretches, are written as differences; vectors as the first bytes of all their numbers,
    the second ones and so on: no number comes twice, so that a dictionary of them is larger than they are.
    """
    write_tables([table], path, row_group_size=row_group_size, rising=rising)


def write_tables(
    tables: Iterable[pa.Table],
    path: Path,
    *,
    row_group_size: int = 131_072,
    rising: Sequence[str] = (),
    statistics: Sequence[str] = (),
) -> None:
    """The same for a table that comes in pieces, at least one, of which one is in memory at a time; with ``statistics``
    of these columns only, if any are named."""
    pieces = iter(tables)
    first = next(pieces)
    vectors = {field.name: f"{field.name}.list.element" for field in first.schema if _has_vectors(field.type)}
    encodings = dict.fromkeys(rising, "DELTA_BINARY_PACKED") | dict.fromkeys(vectors.values(), "BYTE_STREAM_SPLIT")
    plain = [name for name in first.column_names if name not in rising and name not in vectors]
    with (
        _replacing(path) as file,
        pq.ParquetWriter(
            file,
            first.schema,
            compression="zstd",
            write_page_checksum=True,
            use_dictionary=plain if encodings else True,
            write_statistics=list(statistics) or True,
            column_encoding=encodings or None,
        ) as writer,
    ):
        for table in chain([first], pieces):
            writer.write_table(table, row_group_size=row_group_size)


def _has_vectors(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and pa.types.is_float32(kind.value_type) and kind.value_field.name in ("item", "element")


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the place of ``path`` when it is whole. Raises ParquetFileError if a folder is there."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except IsADirectoryError as error:
        raise ParquetFileError(
            f"{path} is a folder where a file belongs", hint="move it away, and do it again"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def _read_from(path: Path, read: Callable[[pq.ParquetFile], T], dictionaries: Sequence[str] = ()) -> T:
    """What ``read`` makes of a file, in whichever edition it is there, with page checksums verified.

    Raises:
        ParquetFileError: the file is missing or damaged.
    """

    def read_edition(stored: Path) -> T:
        with pq.ParquetFile(stored, read_dictionary=list(dictionaries), page_checksum_verification=True) as file:
            return read(file)

    try:
        return opened(path, read_edition)
    except FileNotFoundError as error:
        raise ParquetFileError(f"{path}: no such file", hint=ADVICE) from error
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a column's name that is no UTF-8
        raise ParquetFileError(f"{path}: damaged Parquet file: {error}", hint=ADVICE) from error


def column_names(path: Path) -> list[str]:
    """The names of a file's columns. Raises ParquetFileError if it is missing or damaged."""
    return _read_from(path, lambda file: list(file.schema_arrow.names))


def row_count(path: Path) -> int:
    """How many rows a file has, from its footer. Raises ParquetFileError if it is missing or damaged."""
    return _read_from(path, lambda file: int(file.metadata.num_rows))


def integer_ranges(path: Path, column: str) -> list[tuple[int, int, int]]:
    """(smallest, largest, rows) of an integer column in each row group that has rows, from the footer if it says so.

    Raises:
        ParquetFileError: the file is missing or damaged, or has no such column of 64-bit integers.
    """

    def read(file: pq.ParquetFile) -> list[tuple[int, int, int]]:
        _require(path, file, [column], {column: pa.int64()})
        place = file.schema_arrow.get_field_index(column)
        ranges = []
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            statistics = group.column(place).statistics
            if statistics is not None and statistics.has_min_max and not statistics.null_count:
                ranges.append((statistics.min, statistics.max, group.num_rows))
            elif group.num_rows:
                extremes = pc.min_max(file.read_row_group(number, [column]).column(0)).as_py()
                ranges.append((extremes["min"], extremes["max"], group.num_rows))
        return ranges

    return _read_from(path, read)


def read_rows(path: Path, column: str, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    """A column at these rows (rising) of a file, from the row groups that hold them.

    Raises:
        ParquetFileError: the file is missing or damaged, or has no such column.
    """

    def read(file: pq.ParquetFile) -> pa.ChunkedArray:
        _require(path, file, [column])
        sizes = np.array([file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)], dtype=np.int64)
        group = np.searchsorted(np.cumsum(sizes), rows, side="right")
        wanted = sorted(set(group.tolist()))
        sizes[wanted] = 0
        skipped = np.cumsum(sizes)  # rows of the groups before, less those that are read
        return file.read_row_groups(wanted, [column]).column(0).take(pa.array(rows - skipped[group]))

    return _read_from(path, read)


def read_table(
    path: Path,
    columns: Sequence[str],
    *,
    dictionaries: Sequence[str] = (),
    kinds: Mapping[str, pa.DataType] = NO_KINDS,
    having: tuple[str, NDArray[np.int64] | Sequence[str]] | None = None,
) -> pa.Table:
    """Read columns of one file, in whichever edition it is there, with page checksums verified.

    Args:
        path: the file.
        columns: what to read, in this order.
        dictionaries: those of ``columns`` to read as dictionary arrays.
        kinds: the types that columns must have.
        having: a column of integers or text and the keys that are wanted of it. Row groups that can hold none of them,
            by their statistics, are not read; what comes back may have other rows all the same.

    Raises:
        ParquetFileError: the file is missing or damaged, or has no such column, or one of another type.
    """

    def read(file: pq.ParquetFile) -> pa.Table:
        _require(path, file, columns, kinds)
        return _read(file, list(columns), having).select(list(columns))

    return _read_from(path, read, dictionaries)


def row_groups(path: Path) -> Iterator[pa.Table]:
    """The row groups of a file, one after the other, of which a few are there at once; one without rows if it has none.

    Raises:
        ParquetFileError: the file is missing or damaged.
    """
    sizes = _read_from(path, lambda file: [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)])
    if not sizes:
        yield _read_from(path, lambda file: file.read())
    for first in range(0, len(sizes), FEW_GROUPS):
        few = list(range(len(sizes)))[first : first + FEW_GROUPS]
        table = _read_from(path, partial(pq.ParquetFile.read_row_groups, row_groups=few))
        start = 0
        for number in few:
            yield table.slice(start, sizes[number])
            start += sizes[number]


def counted_columns(path: Path) -> list[str]:
    """The columns of a file of which the footer has the least and the largest values; none if it has all of them, or no
    row. Raises ParquetFileError if it is missing or damaged."""

    def read(file: pq.ParquetFile) -> list[str]:
        if not file.num_row_groups:
            return []
        group = file.metadata.row_group(0)
        columns = [group.column(n) for n in range(group.num_columns)]
        counted = [column.path_in_schema for column in columns if column.statistics is not None]
        return counted if len(counted) < len(columns) else []

    return _read_from(path, read)


def read_pieces(
    path: Path,
    columns: Sequence[str],
    take: Callable[[pa.Table], T],
    *,
    having: tuple[str, NDArray[np.int64]] | None = None,
) -> list[T]:
    """What ``take`` makes of a file's rows, a few row groups at a time, so that no more of them is there at once.

    ``columns`` and ``having`` as of `read_table`. Where the file is replaced meanwhile, all of it is taken once more.

    Raises:
        ParquetFileError: the file is missing or damaged, or has no such column.
    """

    def read(file: pq.ParquetFile) -> list[T]:
        _require(path, file, columns)
        groups = list(range(file.num_row_groups)) if having is None else groups_with(file, *having)
        return [take(table.select(list(columns))) for table in _few_at_once(file, list(columns), groups)]

    return _read_from(path, read)


def _read(file: pq.ParquetFile, columns: list[str], having: tuple[str, Any] | None) -> pa.Table:
    if having is None:
        return file.read(columns=columns)
    column, keys = having
    groups = groups_with(file, column, keys)
    if len(groups) <= FEW_GROUPS or isinstance(keys, list) or column not in columns:
        return file.read_row_groups(groups, columns)
    # the rows of others go before the next groups are read
    tables = _few_at_once(file, columns, groups)
    return pa.concat_tables([table.filter(pa.array(is_in(table[column].to_numpy(), keys))) for table in tables])


def _few_at_once(file: pq.ParquetFile, columns: list[str], groups: list[int]) -> Iterator[pa.Table]:
    """The rows of some row groups, at least one table."""
    for first in range(0, max(len(groups), 1), FEW_GROUPS):
        yield file.read_row_groups(groups[first : first + FEW_GROUPS], columns)


def groups_with(file: pq.ParquetFile, column: str, keys: NDArray[np.int64] | Sequence[str]) -> list[int]:
    """The row groups of a file that can hold one of the keys in a column of integers or text."""
    ordered = sorted(keys) if isinstance(keys, list) else np.sort(keys)  # text by code points, as its UTF-8 is
    place = file.schema_arrow.get_field_index(column)
    found = []
    for number in range(file.num_row_groups):
        statistics = file.metadata.row_group(number).column(place).statistics
        if statistics is None or not statistics.has_min_max:
            found.append(number)
            continue
        first, after = bisect_left(ordered, statistics.min), bisect_right(ordered, statistics.max)
        found += [number] if first < after else []
    return found


def _require(
    path: Path, file: pq.ParquetFile, columns: Sequence[str], kinds: Mapping[str, pa.DataType] = NO_KINDS
) -> None:
    """Raise ParquetFileError if a file lacks a column or has one of another type."""
    missing = [column for column in columns if column not in file.schema_arrow.names]
    problem = f"no column {', '.join(missing)}" if missing else _wrong_kind(file.schema_arrow, kinds)
    if problem:
        raise ParquetFileError(f"{path}: {problem}", hint=ADVICE)


def _wrong_kind(schema: pa.Schema, kinds: Mapping[str, pa.DataType]) -> str:
    found = {name: schema.field(name).type for name in kinds if name in schema.names}
    decoded = {name: t.value_type if pa.types.is_dictionary(t) else t for name, t in found.items()}
    wrong = [f"column {name} is {t}, not {kinds[name]}" for name, t in decoded.items() if t != kinds[name]]
    return "; ".join(wrong)
