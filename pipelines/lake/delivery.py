"""Messages of a stream on their way into the lake: judged, de-duplicated and cut into spans like rows of a file.

A delivery is a Parquet file in the staging folder that holds the raw columns as text. ``row_number`` is the message's
offset less the first one of the delivery, plus 1, so that a refused message is in quarantine under the offset that the
broker knows it by.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from pipelines.lake.readers import RAW_COLUMNS

#: Columns of a delivery.
DELIVERY_SCHEMA = pa.schema(
    [pa.field("row_number", pa.int64()), *(pa.field(name, pa.string()) for name in RAW_COLUMNS)]
)


@dataclass(frozen=True)
class Delivery:
    """Messages of one partition, in the order of their offsets.

    Attributes:
        path: the file, with ``DELIVERY_SCHEMA``.
        source: what the lake and the quarantine call where the rows came from, as ``clicks/3``.
        first: the offset of row 1.
        time_unit: the unit of the times if it is known already, else it is decided as for a file.
    """

    path: Path
    source: str
    first: int
    time_unit: str | None = None


def read_delivery(connection: duckdb.DuckDBPyConnection, delivery: Delivery, table: str) -> None:
    """Make ``table(row_number BIGINT, <RAW_COLUMNS> VARCHAR)`` from a delivery."""
    columns = ", ".join(DELIVERY_SCHEMA.names)
    connection.execute(f"CREATE TABLE {table} AS SELECT {columns} FROM read_parquet(?)", [str(delivery.path)])
