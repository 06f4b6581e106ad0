"""Count what the sample holds: ``python -m sample_data.figures``; README.md shows this very text."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import sample_data

EVENT_KEY = ["household_id", "product_id", "transaction_timestamp"]


def landing_files(folder: Path) -> list[Path]:
    """The monthly event files below ``folder``, in order of time."""
    return sorted((folder / "landing").glob("*.parquet"))


def data_bytes(folder: Path) -> int:
    """Bytes of all Parquet files below ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*.parquet"))


def distinct(table: pa.Table, columns: list[str]) -> int:
    """How many different combinations of ``columns`` occur in ``table``."""
    return table.group_by(columns).aggregate([]).num_rows


def month_table(files: list[Path]) -> list[str]:
    """A Markdown table with one row a month: events, households, products, first and last event, bytes."""
    lines = [
        "| file | events | households | products | first | last | bytes |",
        "|---|--:|--:|--:|---|---|--:|",
    ]
    for file in files:
        events = pq.read_table(file)
        ends = pc.min_max(events["transaction_timestamp"]).as_py()
        counts = [events.num_rows, distinct(events, ["household_id"]), distinct(events, ["product_id"])]
        numbers = " | ".join(f"{count:,}" for count in counts)
        span = f"{ends['min']:%Y-%m-%d %H:%M:%S} | {ends['max']:%Y-%m-%d %H:%M:%S}"
        lines.append(f"| landing/{file.name} | {numbers} | {span} | {file.stat().st_size:,} |")
    return lines


def figures(folder: Path) -> str:
    """The figures of the sample in ``folder`` as Markdown."""
    files = landing_files(folder)
    events = pa.concat_tables([pq.read_table(file) for file in files])
    products = pq.read_table(folder / "products.parquet")
    per_household = events.group_by("household_id").aggregate([("product_id", "count")])["product_id_count"]
    median = pc.quantile(per_household, 0.5, interpolation="lower")[0].as_py()
    count = {
        "events": events.num_rows,
        "households, all with demographics": distinct(events, ["household_id"]),
        "products": distinct(events, ["product_id"]),
        "products the source does not describe": products["department"].null_count,
        "product categories": pc.count_distinct(products["product_category"]).as_py(),
        "shopping trips (household and time)": distinct(events, ["household_id", "transaction_timestamp"]),
        "events of a household, fewest": pc.min(per_household).as_py(),
        "events of a household, median": median,
        "events of a household, most": pc.max(per_household).as_py(),
        "events that repeat a household, product and time": events.num_rows - distinct(events, EVENT_KEY),
        "events with quantity 0": pc.sum(pc.equal(events["quantity"], 0)).as_py(),
        "campaign mailings": pq.read_metadata(folder / "campaigns.parquet").num_rows,
        "coupon redemptions": pq.read_metadata(folder / "coupon_redemptions.parquet").num_rows,
        "bytes of data": data_bytes(folder),
    }
    lines = [
        "| what | how many |",
        "|---|--:|",
        *(f"| {name} | {value:,} |" for name, value in count.items()),
    ]
    return "\n".join([*lines, "", *month_table(files)])


if __name__ == "__main__":
    print(figures(sample_data.path()))
