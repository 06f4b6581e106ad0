"""Remove what nothing needs any more: ``[retention]`` says how much is kept besides.

In use, and kept whole: the current version of each line and those before it that ``[ingest] lookback_spans`` of late
events would have to be learnt from again, the last ``keep_versions`` that were live (one can roll back
to them) and the last that were made, the newest shadow, and whatever is younger than ``keep_days``. From these follows
the rest:

* a version of which a kept version still reads is *archived*: its interests and what else is read by user stay, its
  gate events go, and its model and optimiser, unless the kept version holds changes of those; all other versions are
  *pruned*, folder and lists. Their rows stay in the ledger, so that its log still answers; opening one is an error that
  says so. A span further back than the kept versions can only be learnt again from the first span on;
* sequences stay that are in force, or that a kept version takes its ids from;
* of a span's data versions the one in force stays;
* folders that the ledger does not name, unfinished files and ``staging/`` go.

The ledger changes first, in one transaction, then the views, then the folders: a run that was killed in between has
left orphans, and the next one removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path

from pipelines.care.damage import discard_damaged
from pipelines.care.forget import finish_forgetting
from pipelines.care.orphans import lists_of_versions, orphans, remove_orphans, version_of_list
from pipelines.sequences.chain import chain_of, latest_rows
from pipelines.settings.imsr_toml import RetentionSettings
from pipelines.versions.ancestry import chain_of_versions
from pipelines.versions.dependencies import read_by
from pipelines.versions.line import Line
from pipelines.versions.rebuilding import head_of_learning
from pipelines.warehouse.catalog import publish_catalog
from pipelines.workspace.editions import plain
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot, Transaction, VersionRow, iso
from pipelines.workspace.rewrite import is_unfinished, rewrite_folder
from pipelines.workspace.states import GONE, VersionState
from pipelines.workspace.writer import Writer, lent

#: The files of a version that hold its model: read by it alone, and by versions that hold changes of it.
CHECKPOINT = frozenset({"config.json", "model.safetensors", "optimizer.safetensors"})
#: Files that are read by the version itself alone, as patterns.
OWN = ("gate.parquet", "memory*")


@dataclass(frozen=True)
class Item:
    """One thing, whether it stays, and why. ``bytes`` are those that it has, or of an archived version loses: its
    ``files``."""

    kind: str
    name: str
    path: str
    bytes: int
    stays: bool
    why: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pruning:
    """Everything that can go or stay."""

    items: tuple[Item, ...]

    def going(self, *kinds: str) -> list[Item]:
        """What goes, of these kinds or of all."""
        return [item for item in self.items if not item.stays and (not kinds or item.kind in kinds)]

    @property
    def bytes(self) -> int:
        """Bytes that become free."""
        return sum(item.bytes for item in self.going())


def plan_pruning(workspace: Workspace, *, now: datetime) -> Pruning:
    """What ``prune`` would do. Reads only.

    Raises:
        CheckpointError, SequenceChainError: something in use is damaged; see imsr doctor.
    """
    with workspace.ledger.snapshot() as view:
        return _plan(workspace, view, now)


def prune(
    workspace: Workspace, *, now: datetime, damaged: bool = False, writer: Writer | None = None
) -> tuple[Pruning, list[str]]:
    """Remove what nothing needs; returns what that was, and the damaged things that were discarded before.

    ``damaged`` first discards sequences and versions that `imsr doctor --deep` finds damaged, with all that rests on
    them, and marks their spans stale, so that the next run builds them again.
    """
    with lent(writer, workspace, "imsr prune", now=now) as held:
        finish_forgetting(held)  # before damage is looked for: a rewriting that was interrupted looks like it
        discarded = discard_damaged(held) if damaged else []
        with held.transaction() as tx:
            pruning = _plan(workspace, tx, now)
            _record(tx, pruning, now)
            hit(FailPoint.PRUNE_BEFORE_COMMIT)
        hit(FailPoint.PRUNE_AFTER_COMMIT)
        publish_catalog(workspace)
        for item in pruning.going("model"):
            _archive(workspace.resolve(item.path), item.files)
        for item in pruning.going("lists"):
            workspace.resolve(item.path).unlink(missing_ok=True)
        remove_orphans(held)
    return pruning, discarded


def _plan(workspace: Workspace, view: Snapshot, now: datetime) -> Pruning:
    retention = workspace.settings.retention
    since = iso(now - timedelta(days=retention.keep_days))
    whole = {row.version_id: why for row, why in _kept_versions(view, retention, since)}
    late = chain_of_versions(view, head_of_learning(view))[: workspace.settings.ingest.lookback_spans + 1]
    for row in late:
        if row.state not in GONE:
            whole.setdefault(row.version_id, "late events may need it")
    readers: dict[str, str] = {}
    models: set[str] = set()
    folders: dict[str, str] = {}
    for name in whole:
        reads = read_by(workspace, workspace.version_folder(name))
        folders |= dict.fromkeys(reads.sequences, f"version {name} reads it")
        readers |= dict.fromkeys(reads.versions, name)
        models |= set(reads.models)
    items = [*_versions(workspace, view, whole, readers, models), *_sequences(workspace, view, folders, since)]
    items += _data(workspace, view, since)
    going = {item.path for item in items if not item.stays}
    items += [_item(workspace, "orphan", path, "the ledger does not name it") for path in orphans(workspace, view)]
    staging = sorted(workspace.staging.iterdir()) if workspace.staging.exists() else []
    items += [_item(workspace, "staging", path, "left by a run that died") for path in staging]
    items += _lists(workspace, view, {path for path in going if path.startswith("versions/")})
    return Pruning(tuple(items))


def _kept_versions(view: Snapshot, retention: RetentionSettings, since: str) -> Iterator[tuple[VersionRow, str]]:
    """Versions that stay whole, with the reason; a version may come several times."""
    for line in Line:
        rows = [row for row in view.versions(line) if row.state not in GONE]
        for why, kept in _reasons(view, line, rows, retention, since):
            yield from ((row, why) for row in kept)


def _reasons(
    view: Snapshot, line: Line, rows: list[VersionRow], retention: RetentionSettings, since: str
) -> Iterator[tuple[str, list[VersionRow]]]:
    """Why versions of a line stay, the weakest reason first."""
    lately = list(dict.fromkeys(move.version_id for move in reversed(view.promotions(line))))
    was_live = sorted((row for row in rows if row.version_id in lately), key=lambda row: lately.index(row.version_id))
    yield "younger than keep_days", [row for row in rows if row.created_at > since]
    yield "the newest shadow", [row for row in rows if row.state is VersionState.SHADOW][-1:]
    yield "made lately", rows[-retention.keep_versions :]
    yield "was live lately", was_live[: retention.keep_versions]
    if line is Line.INTERESTS:
        yield "the next span is learnt from it", [row for row in rows if row.version_id == head_of_learning(view)]
    yield "current", [row for row in rows if row.version_id == view.pointer(line)]


def _versions(
    workspace: Workspace, view: Snapshot, whole: dict[str, str], readers: dict[str, str], models: set[str]
) -> Iterable[Item]:
    for row in view.versions():
        name, folder = row.version_id, workspace.resolve(row.path)
        if row.state == VersionState.PRUNED:
            continue
        if name in whole:
            yield Item("version", name, row.path, _bytes(folder), True, whole[name])
        elif name not in readers:
            yield Item("version", name, row.path, _bytes(folder), False, "nothing needs it")
        else:
            yield Item("interests", name, row.path, _bytes(folder), True, f"version {readers[name]} reads them")
            model = sorted(path for path in folder.iterdir() if _is_for_itself(plain(path).name, name in models))
            if model or row.state != VersionState.ARCHIVED or is_unfinished(folder):
                size = sum(path.stat().st_size for path in model)
                why = "only its interests are read" if name not in models else "only its interests and model are read"
                yield Item("model", name, row.path, size, False, why, tuple(path.name for path in model))


def _sequences(workspace: Workspace, view: Snapshot, folders: dict[str, str], since: str) -> Iterable[Item]:
    needed = dict(folders)
    for row in latest_rows(view).values():
        for link in chain_of(workspace, row.span_id, row.fingerprint):
            needed[workspace.relative(link.folder)] = "in force"
    for row in view.sequences():
        why = needed.get(row.path) or ("younger than keep_days" if row.created_at > since else "")
        name = f"{row.span_id} {row.fingerprint}"
        size = _bytes(workspace.resolve(row.path))
        yield Item("sequences", name, row.path, size, bool(why), why or "nothing needs them")


def _data(workspace: Workspace, view: Snapshot, since: str) -> Iterable[Item]:
    current = {row.path for row in view.current_span_versions()}
    for row in view.span_versions():
        why = "in force" if row.path in current else "younger than keep_days" if row.created_at > since else ""
        size = _bytes(workspace.resolve(row.path))
        yield Item("data", f"{row.span_id} v{row.data_version}", row.path, size, bool(why), why or "restated since")


def _lists(workspace: Workspace, view: Snapshot, going: set[str]) -> Iterable[Item]:
    """Lists of recommendations and of nearest items of versions that are not whole."""
    whole = {row.version_id for row in view.versions() if row.state not in GONE and row.path not in going}
    for path in lists_of_versions(workspace):
        if version_of_list(path) not in whole:
            yield _item(workspace, "lists", path, "their version is not kept")


def _record(tx: Transaction, pruning: Pruning, now: datetime) -> None:
    """Take what goes out of the ledger."""
    gone = {item.path for item in pruning.going("sequences")}
    for sequences in tx.sequences():
        if sequences.path in gone:
            tx.delete("sequences", span_id=sequences.span_id, fingerprint=sequences.fingerprint)
    gone = {item.path for item in pruning.going("data")}
    for data in tx.span_versions():
        if data.path in gone:
            tx.delete("span_versions", span_id=data.span_id, data_version=data.data_version)
    for kind, state in (("version", VersionState.PRUNED), ("model", VersionState.ARCHIVED)):
        for item in pruning.going(kind):
            row = tx.version(item.name)
            if row is not None and row.state != state:
                removed = f"{state} on {iso(now)[:10]}, it was {row.state}"
                tx.put_version(replace(row, state=state).noting(removed=removed))


def _is_for_itself(name: str, model_is_read: bool) -> bool:
    """Whether a file of a version is read by nobody else."""
    return any(fnmatch(name, pattern) for pattern in OWN) or (name in CHECKPOINT and not model_is_read)


def _archive(folder: Path, files: tuple[str, ...]) -> None:
    """Drop what nobody else reads, and seal what is left."""
    there = [name for name in files if (folder / name).exists()]
    rewrite_folder(folder, dict.fromkeys(there))


def _item(workspace: Workspace, kind: str, path: Path, why: str) -> Item:
    return Item(kind, path.name, workspace.relative(path), _bytes(path), False, why)


def _bytes(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size if path.exists() else 0
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
