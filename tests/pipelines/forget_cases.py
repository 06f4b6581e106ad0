"""A learnt world with a user, Zoe, whose id is in every place where one can be, and a scan that finds her anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from small_world import NOW, TOML, log, run_all

from pipelines.interests.recommend import Recommender
from pipelines.lake.ingest import ingest
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SpanState
from pipelines.workspace.writer import writing

ZOE = "zoe-73c1f9"
SALT = "00112233445566778899aabbccddeeff"
EVENTS = [(ZOE if user == "u3" else user, item, time) for user, item, time in log(range(4))]
REFUSED = [f"{ZOE},,2024-03-02T10:00:00Z", f'{ZOE},"i1" x,2024-03-02T11:00:00Z', f"{ZOE},i2,never", "u1,,never"]


def zoes_world(root: Path) -> Workspace:
    """Four days, learnt; Zoe is in the lake, quarantine, sequences, models, lists, labels, landing and an error."""
    workspace = Workspace.create(root, TOML)
    lines = [
        "user_id,item_id,timestamp",
        *(f'{user},"{item.replace(chr(34), chr(34) * 2)}",{t}' for user, item, t in EVENTS),
    ]
    first = workspace.root / "landing" / "log.csv"
    first.write_text("\n".join([*lines, *REFUSED]) + "\n")
    second = workspace.root / "landing" / "more.jsonl"
    records = [{"user_id": user, "item_id": "i1", "timestamp": "2024-03-04T12:00:00Z"} for user in (ZOE, "u1", "alone")]
    second.write_text("".join(json.dumps(record) + "\n" for record in records))
    ingest(workspace, [first, second], now=NOW)
    run_all(workspace)
    Recommender.open(workspace).write_all(5)
    labels = workspace.root / "labels" / "age"
    labels.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [ZOE, "u1"], "label": [1, 2]}), labels / "part.parquet")
    with writing(workspace, "test", now=NOW) as writer, writer.transaction() as tx:
        tx.set_span_state("2024-03-04", SpanState.PUBLISHED, at=NOW, error=f"user {ZOE!r} was odd")
    publish_catalog(workspace)
    return workspace


def texts_of(path: Path) -> Iterator[str]:
    """All text that is in a Parquet file, which its compression hides from a scan of bytes."""
    with pq.ParquetFile(path) as file:
        table = file.read()
    for column in table.columns:
        if pa.types.is_string(column.type):
            yield from (text for text in column.to_pylist() if text)


def places_of(workspace: Workspace, user_id: str) -> list[str]:
    """Every file below the workspace that holds the id, in raw bytes or as text of a Parquet file."""
    found = []
    for path in sorted(p for p in workspace.root.rglob("*") if p.is_file()):
        hit = user_id.encode() in path.read_bytes()
        if hit or (path.suffix == ".parquet" and any(user_id in text for text in texts_of(path))):
            found.append(workspace.relative(path))
    return found


def state_of(workspace: Workspace) -> dict[str, object]:
    """All that must be the same after a kill: every byte but those of the views and the lease, and all rows."""
    skip = ("catalog", "ledger", "views.sql")
    files = {
        workspace.relative(p): p.read_bytes()
        for p in sorted(workspace.root.rglob("*"))
        if p.is_file() and not workspace.relative(p).startswith(skip)
    }
    with workspace.ledger.snapshot() as view:
        rows = (view.spans(), view.span_versions(), view.sequences(), view.versions(), view.batches())
        meta = [view.meta(key) for key in ("forgotten", "forgetting")]
        return {"files": files, "rows": rows, "meta": meta, "pointer": view.pointer("interests")}
