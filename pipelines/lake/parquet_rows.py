"""Parquet files: any scalar type of column, fields inside fields, and lists that are taken apart.

pyarrow reads (it verifies the checksums of pages, which DuckDB does not) and hands over batch by batch; what a type
means as text is decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.lake.column_paths import ColumnPath, lists_of
from pipelines.lake.delimited import locate
from pipelines.lake.event_files import EventFile, ReadError
from pipelines.lake.plain_text import Budget
from pipelines.workspace.engine import literal, registered

_BATCH_ROWS = 1 << 16
#: A file whose first rows say that it unpacks to this many times the budget is refused at once.
_HOPELESS = 2
#: Unit of times -> microseconds.
_MICROSECONDS_IN = {"s": 1_000_000, "ms": 1_000}
_LAST_US = (1 << 63) - 3


def open_parquet(source: Path | pa.BufferReader) -> pq.ParquetFile:
    """A file of events: checksums are verified, times are microseconds, a type is what is stored."""
    return pq.ParquetFile(
        source, page_checksum_verification=True, coerce_int96_timestamp_unit="us", arrow_extensions_enabled=False
    )


def read_parquet(
    connection: duckdb.DuckDBPyConnection,
    file: EventFile,
    wanted: Mapping[str, Sequence[ColumnPath]],
    columns: Sequence[str],
    constants: Mapping[str, str | None],
    table: str,
    budget: Budget,
) -> None:
    """Make ``table(row_number BIGINT, <columns> VARCHAR, malformed VARCHAR)``; one row a row, or a list's element.

    Raises:
        ReadError: over the budget, a column is missing, or of a type that has no text.
    """
    with open_parquet(file.path) as parquet:
        schema, metadata = parquet.schema_arrow, parquet.metadata
        groups = sum(metadata.row_group(n).num_rows for n in range(metadata.num_row_groups))
        rows = max(metadata.num_rows, groups)
        budget.check_rows(file.path, rows)
        positions = locate(file.path, _top_level(wanted, schema.names), schema.names, _leaves(schema))
        paths = {ours: _found(wanted[ours], schema.names[position]) for ours, position in positions.items()}
        lists = lists_of(paths.values())
        source = _Source(parquet, file, sorted(set(positions.values())), rows, budget)
        selected = {}
        for ours, path in paths.items():
            place = positions[ours]
            selected[ours] = _select(path, schema.names[place], f"c{place}", source.kinds[place], lists, file)
        unnested = "".join(f", {_unnest(name, schema.names.index(name))} AS list{n}" for n, name in enumerate(lists))
        number = "row_number() OVER ()" if lists else "row_number"
        values = ", ".join(f'{_value(name, selected, constants)} AS "{name}"' for name in columns)
        try:
            with registered(connection, "parquet_batches", source.reader()):
                connection.execute(f"""
                    CREATE TABLE {table} AS SELECT {number} AS row_number, {values}, NULL::VARCHAR AS malformed
                    FROM (SELECT *{unnested} FROM parquet_batches)""")
        except duckdb.Error as error:
            raise source.refusal or error from error  # DuckDB wraps what it is told


class _Source:
    """The wanted columns of a file, as batches of types that DuckDB knows."""

    def __init__(
        self, parquet: pq.ParquetFile, file: EventFile, positions: Sequence[int], rows: int, budget: Budget
    ) -> None:
        self._parquet, self._file, self._rows, self._budget = parquet, file, rows, budget
        self._positions = positions
        self.refusal: ReadError | None = None
        schema = parquet.schema_arrow
        self.kinds = {n: _known(schema.field(n).type) for n in positions}
        self._names = [schema.names[n] for n in positions]
        fields = [pa.field(f"c{n}", self.kinds[n]) for n in positions]
        self._schema = pa.schema([pa.field("row_number", pa.int64()), *fields])

    def reader(self) -> pa.RecordBatchReader:
        """The batches, numbered."""
        return pa.RecordBatchReader.from_batches(self._schema, self._noted())

    def _noted(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches()
        except ReadError as error:
            self.refusal = error
            raise

    def _batches(self) -> Iterator[pa.RecordBatch]:
        row, size = 1, 0
        for batch in self._parquet.iter_batches(batch_size=_BATCH_ROWS, columns=self._names):
            size += batch.nbytes
            if row == 1 and batch.num_rows and size / batch.num_rows * self._rows > _HOPELESS * self._budget.bytes:
                size = self._budget.bytes + 1
            self._budget.check_bytes(self._file.path, size)
            numbers = pa.array(range(row, row + batch.num_rows), pa.int64())
            columns = [
                self._as_known(batch.column(name), self.kinds[n], name)
                for name, n in zip(self._names, self._positions, strict=True)
            ]
            yield pa.record_batch([numbers, *columns], schema=self._schema)
            row += batch.num_rows

    def _as_known(self, column: pa.Array, kind: pa.DataType, name: str) -> pa.Array:
        if column.type == kind:
            return self._as_text(column, name)
        if pa.types.is_fixed_size_binary(column.type):
            if column.type.byte_width == 16:
                return _uuids(column)
            column = column.cast(pa.binary())
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_timestamp(column.type):
            return _microseconds(column)
        try:
            return pc.cast(column, kind)
        except pa.ArrowInvalid as error:
            raise self._no_text(column, name) from error

    def _as_text(self, column: pa.Array, name: str) -> pa.Array:
        """The column, if its text is text: whoever wrote the file may have called bytes a string."""
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            try:
                column.validate(full=True)
            except pa.ArrowInvalid as error:
                raise self._no_text(column, name) from error
        return column

    def _no_text(self, column: pa.Array, name: str) -> ReadError:
        return ReadError(
            f"{self._file.path}: column {name!r} holds {column.type} that is no UTF-8 text",
            hint="write it as text, or choose another column under [source] in imsr.toml",
        )


def _known(kind: pa.DataType) -> pa.DataType:
    """The type that DuckDB gets for a column; what it has no use for becomes text before."""
    if pa.types.is_dictionary(kind):
        return _known(kind.value_type)
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    if binary or pa.types.is_binary_view(kind) or pa.types.is_decimal256(kind):
        return pa.string()
    if pa.types.is_timestamp(kind) and kind.unit in _MICROSECONDS_IN:
        return pa.timestamp("us", kind.tz)
    return pa.float32() if pa.types.is_float16(kind) else kind


def _microseconds(column: pa.Array) -> pa.Array:
    """Times in seconds or milliseconds; those that 64 bits do not hold then are the first or last that they hold.

    DuckDB breaks off there, and with it everything that was read before.
    """
    factor = _MICROSECONDS_IN.get(column.type.unit, 1)
    most = pa.scalar(_LAST_US // factor, pa.int64())
    numbers = pc.min_element_wise(column.cast(pa.int64()), most, skip_nulls=False)
    numbers = pc.max_element_wise(numbers, pc.negate(most), skip_nulls=False)
    return pc.multiply(numbers, pa.scalar(factor, pa.int64())).cast(pa.timestamp("us", column.type.tz))


def _uuids(column: pa.Array) -> pa.Array:
    """Sixteen bytes as text: UTF-8 if all are that and printable, else a UUID."""
    texts = column.cast(pa.binary())
    try:
        plain = texts.cast(pa.string())
        if pc.all(pc.utf8_is_printable(plain.drop_null())).as_py() is not False:
            return plain
    except pa.ArrowInvalid:
        pass
    digits = [None if value is None else value.hex() for value in texts.to_pylist()]
    forms = [d and f"{d[:8]}-{d[8:12]}-{d[12:16]}-{d[16:20]}-{d[20:]}" for d in digits]
    return pa.array(forms, pa.string())


def _top_level(wanted: Mapping[str, Sequence[ColumnPath]], names: Sequence[str]) -> dict[str, list[ColumnPath]]:
    """The paths as names of columns: "user.id" is the column ``user`` if there is none that is called so."""
    return {ours: [_column_of(path, names) for path in paths] for ours, paths in wanted.items()}


def _leaves(schema: pa.Schema) -> list[str]:
    """The names of all values, as ``[source]`` calls them, also inside fields and lists."""
    return [name for field in schema for name in _names_in(field.name, field.type)]


def _names_in(name: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _names_in(f"{name}.{field.name}", field.type)
    elif (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and "[]" not in name:  # one list at most
        yield from _names_in(f"{name}[]", kind.value_type)
    else:
        yield name


def _column_of(path: ColumnPath, names: Sequence[str]) -> ColumnPath:
    if path.whole in names or path.outer[0] not in names:
        return path
    return ColumnPath(path.outer[0], (path.outer[0],))


def _found(paths: Sequence[ColumnPath], column: str) -> ColumnPath:
    return next(path for path in paths if column in (path.whole, path.outer[0]))


def _select(path: ColumnPath, column: str, value: str, kind: pa.DataType, lists: Sequence[str], file: EventFile) -> str:
    """SQL of a value as text; ``value`` is the SQL of the whole column."""
    rest = () if path.whole == column else path.outer[1:]
    if path.inner is not None:
        if not _is_list(kind):
            raise ReadError(f"{file.path}: column {path.whole!r} is {kind}, no list", hint=f"write {path.whole!r}")
        value, rest, kind = f"list{lists.index(path.whole)}", path.inner, kind.value_type
    for name in rest:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            raise ReadError(
                f"{file.path}: {path.text!r} has no field {name!r}: it is {kind}",
                hint="name one of its fields under [source] in imsr.toml",
            )
        value, kind = f"struct_extract({value}, {literal(name)})", kind.field(name).type
    return _text_sql(value, kind, path.text, file)


def _unnest(name: str, position: int) -> str:
    """The elements of a list; an empty list, or none, has one element that is NULL, so that its row stays."""
    return f"unnest(CASE WHEN len(c{position}) > 0 THEN c{position} ELSE [NULL] END)"


def _value(name: str, selected: Mapping[str, str], constants: Mapping[str, str | None]) -> str:
    if name in selected:
        return f"CAST({selected[name]} AS VARCHAR)"
    constant = constants.get(name)
    return "NULL::VARCHAR" if constant is None else literal(constant)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _text_sql(value: str, kind: pa.DataType, name: str, file: EventFile) -> str:
    """Text of a value; whole numbers that are stored as floats or decimals are written as whole numbers."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        hint = "name one field of it: user.id"
        if _is_list(kind):
            hint = "only one list is taken apart" if "[]" in name else f'a list is taken apart as "{name}[]"'
        raise ReadError(f"{file.path}: column {name!r} is {kind}, not one value a row", hint=hint)
    text, whole = f"CAST({value} AS VARCHAR)", f"CAST(CAST({value} AS HUGEINT) AS VARCHAR)"
    if pa.types.is_floating(kind):
        exact = f"isfinite({value}) AND {value} = trunc({value}) AND abs({value}) < 9e15"
        return f"CASE WHEN isnan({value}) THEN NULL WHEN {exact} THEN {whole} ELSE {text} END"
    if pa.types.is_decimal128(kind):
        return f"CASE WHEN {value} = trunc({value}) THEN {whole} ELSE {text} END"
    return value
