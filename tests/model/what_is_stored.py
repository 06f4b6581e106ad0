"""What a workspace's files hold: events, what a version learnt of them, any text."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from ledger_model import Event

from pipelines.interests.version import Version
from pipelines.lake.spans import from_us
from pipelines.sequences.chain import link_of
from pipelines.sequences.loader import load_sequences


def events_of(path: Path) -> list[Event]:
    """The events of a file of the lake."""
    table = pq.ParquetFile(path).read(columns=["user_id", "item_id", "timestamp"]).to_pylist()
    return [(row["user_id"], row["item_id"], row["timestamp"].isoformat()) for row in table]


def learnt_events(version: Version) -> dict[str, set[Event]]:
    """The events of every span in a version's numbering, decoded from its sequences."""
    found = {}
    for stored in version.lineage.vocabulary:
        folder = version.workspace.resolve(stored)
        sequences = load_sequences(folder)
        owners = version.vocabulary.user_ids(sequences.users[sequences.rows]).to_pylist()
        items = version.vocabulary.item_ids(sequences.items).to_pylist()
        times = [from_us(us).isoformat() for us in sequences.timestamps.tolist()]
        found[link_of(folder).span_id] = set(zip(owners, items, times, strict=True))
    return found


def mentions(path: Path, text: str) -> bool:
    """Whether a file has a text, in its bytes or in a column of text."""
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path).read()
        columns = [c for c in table.columns if pa.types.is_string(c.type) or pa.types.is_large_string(c.type)]
        if any(text in (value or "") for column in columns for value in column.to_pylist()):
            return True
    return text.encode() in path.read_bytes()
