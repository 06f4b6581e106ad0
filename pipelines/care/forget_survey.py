"""What is found of a user before anything is removed: which files, which data, which models learnt from it.

A run that goes on after a kill finds less, so that what it finds is added to what the journal says.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from imsr_core.errors import CheckpointError, ImsrError
from pipelines.care.forget_places import Search
from pipelines.care.receipts import Journal
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.parquet_files import read_table
from pipelines.workspace.states import GONE


def survey(workspace: Workspace, view: Snapshot, search: Search, journal: Journal) -> Journal:
    """Add what is found now to what the journal says was found when it began."""
    found = search.found() | journal.found
    data = {row.path: (row.span_id, row.data_version) for row in view.span_versions()}
    sequences = {row.path: (row.span_id, row.fingerprint) for row in view.sequences()}
    folders = {path.rpartition("/")[0] for path in found}
    lake = tuple(sorted(key for path, key in data.items() if path in folders))
    learnt = tuple(sorted(key for path, key in sequences.items() if path in folders))
    receipt = journal.receipt
    touched = {span for span, _ in lake} | set(receipt.spans)
    names = _sources(workspace, search, found) | set(receipt.sources)
    direct, later = _versions(workspace, view, set(learnt)) if learnt else (receipt.learnt_from, receipt.built_on_these)
    receipt = replace(
        receipt,
        rows=receipt.rows | _rows_by_place(workspace, search, found),
        spans=tuple(span.span_id for span in view.spans() if span.span_id in touched),
        sources=tuple(sorted(names)),
        learnt_from=direct,
        built_on_these=later,
    )
    return replace(journal, found=found, lake=lake, sequences=learnt, receipt=receipt)


def _rows_by_place(workspace: Workspace, search: Search, found: dict[str, int]) -> dict[str, int]:
    rows: dict[str, int] = {}
    for path, count in found.items():
        name = search.place_of(workspace.resolve(path)).name
        rows[name] = rows.get(name, 0) + count
    return rows


def _sources(workspace: Workspace, search: Search, found: dict[str, int]) -> set[str]:
    """Names of the files that brought the user's events, from the lake's own column."""
    names: set[str] = set()
    for path in found:
        if path.startswith("lake/"):
            with suppress(ImsrError):  # damaged since, or discarded
                table = read_table(workspace.resolve(path), ["user_id", "source"])
                own = table.filter(pc.equal(table["user_id"].cast(pa.string()), search.user_id))
                names |= {name for name in own["source"].to_pylist() if name}
    return names


def _versions(
    workspace: Workspace, view: Snapshot, learnt: set[tuple[str, str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Versions that learnt one of these sequences, and those that descend from one that did."""
    direct: list[str] = []
    later: list[str] = []
    for row in view.versions():
        folder = workspace.resolve(row.path)
        data: dict[str, str] = {}
        if row.state not in GONE:
            with suppress(CheckpointError):  # damaged: the doctor's to say
                data = Lineage.read(folder).data
        if learnt & set(data.items()):
            direct.append(row.version_id)
        elif row.parent in {*direct, *later}:
            later.append(row.version_id)
    return tuple(direct), tuple(later)
