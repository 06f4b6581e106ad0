"""What views.sql reads of the ledger, as tables: its rows, and who is built on whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pyarrow as pa

from imsr_core.errors import CheckpointError
from pipelines.versions.ancestry import chain_of_versions
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import (
    MetricRow,
    PromotionRow,
    Snapshot,
    SpanRow,
    SpanVersionRow,
    VersionRow,
)
from pipelines.workspace.states import VersionState

_ARROW = {"str": pa.string(), "str | None": pa.string(), "int": pa.int64(), "int | None": pa.int64()}
_ARROW |= {"float": pa.float64(), "SpanState": pa.string(), "VersionState": pa.string(), "dict[str, Any]": pa.string()}


def ledger_tables(workspace: Workspace, view: Snapshot) -> dict[str, pa.Table]:
    """The tables by name; what is a dict in the ledger is JSON."""
    versions = view.versions()
    pointers = {line: view.pointer(line) for line in sorted({row.line for row in versions})}
    return {
        "spans": _table(SpanRow, view.spans()),
        "span_versions": _table(SpanVersionRow, view.span_versions()),
        "versions": _table(VersionRow, versions),
        "promotions": _table(PromotionRow, view.promotions()),
        "metrics": _table(MetricRow, view.metrics()),
        "pointers": pa.table(
            {
                "line": pa.array([line for line, at in pointers.items() if at], pa.string()),
                "version_id": pa.array([at for at in pointers.values() if at], pa.string()),
            }
        ),
        "version_chain": _chain_table(workspace, versions),
        "lineage": _lineage_table(view),
    }


def _table(kind: type, rows: Sequence[Any]) -> pa.Table:
    def values(name: str, annotation: str) -> list[Any]:
        column = [getattr(row, name) for row in rows]
        return [json.dumps(value) for value in column] if annotation.startswith("dict") else column

    return pa.table({f.name: pa.array(values(f.name, str(f.type)), _ARROW[str(f.type)]) for f in fields(kind)})


def _chain_table(workspace: Workspace, versions: Sequence[VersionRow]) -> pa.Table:
    """(version, ancestor, depth) of every interest file that is read as of a version."""
    chains: list[tuple[str, str, int]] = []
    for row in versions:
        if row.line == Line.INTERESTS and row.state != VersionState.PRUNED:
            with suppress(CheckpointError):  # damaged: the doctor's to say, and no reason to have no views
                read = Lineage.read(workspace.resolve(row.path)).interest_versions
                chains += [(row.version_id, ancestor, depth) for depth, ancestor in enumerate(reversed(read))]
    columns = list(zip(*chains, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.string(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=["version_id", "ancestor", "depth"])


def _lineage_table(view: Snapshot) -> pa.Table:
    """The current version and its ancestors: one version for each span that it has learnt; place 0 is the oldest."""
    chain = chain_of_versions(view, view.pointer(Line.INTERESTS))
    names = ("version_id", "span_id")
    columns = {name: pa.array([getattr(row, name) for row in chain], pa.string()) for name in names}
    return pa.table(columns | {"place": pa.array(range(len(chain) - 1, -1, -1), pa.int64())})
