"""From a span of the lake to one sequence per user: plan, run the Beam job, check what it wrote, publish.

    sequences/span=<id>/<fingerprint>/bucket=NN.parquet   user_index, items, timestamps, truncated
                                      users.parquet       the ids that are new in this span,
                                      items.parquet       with their indices (see ``vocabulary``),
                                      *_by_id.parquet     and again in their own order, if many (see ``id_files``)
                                      sequences.json      what it was made from (see ``sequence_chain``)

Equal data, equal parent and equal settings give the same fingerprint and the same bytes, with any runner
and any number of workers.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.bucket import BucketTask, build_bucket, count_bucket
from pipelines.sequences.chain import (
    ChainLink,
    fingerprint_of,
    latest_rows,
    parent_chain,
    write_manifest,
)
from pipelines.sequences.vocabulary import SpanIds, Vocabulary, write_delta
from pipelines.settings.imsr_toml import SequencesSettings
from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SequencesRow, Snapshot, SpanRow, SpanState, SpanVersionRow, Transaction, iso
from pipelines.workspace.parquet_files import TEMPORARY_SUFFIX, write_table
from pipelines.workspace.publish import discard_orphan, move_into_place, staging_folder
from pipelines.workspace.seal import is_ready, is_same, seal, verify_folder
from pipelines.workspace.states import BEFORE_SEQUENCES
from pipelines.workspace.writer import Writer, lent

BUCKET_FILES = "bucket=*.parquet"
_LABEL = "sequences"


class SequencesError(ImsrError):
    """Sequences that cannot be built, or that are not what the span holds."""


@dataclass(frozen=True)
class SequenceCounts:
    """What was written, counted in the files themselves.

    Attributes:
        users, items: distinct users and items of the span.
        events: events in the sequences; ``truncated``: events cut off by the limit. Together the span's rows.
        new_users, new_items: ids that the vocabulary did not have before.
    """

    users: int = 0
    items: int = 0
    events: int = 0
    truncated: int = 0
    new_users: int = 0
    new_items: int = 0


@dataclass(frozen=True)
class SequenceOutcome:
    """What ``sequence_span`` did: ``built`` is False if the sequences were there already."""

    row: SequencesRow
    folder: Path
    built: bool

    def __str__(self) -> str:
        row = self.row
        if not self.built:
            return f"span {row.span_id}: sequences {row.fingerprint} are up to date, nothing to do"
        return (
            f"span {row.span_id}: {counted(row.events, 'event')} of {counted(row.users, 'user')} in sequences "
            f"{row.fingerprint} ({counted(row.new_users, 'new user')}, {counted(row.new_items, 'new item')}, "
            f"{counted(row.truncated, 'event')} over the limit)"
        )


def sequence_span(
    workspace: Workspace,
    span_id: str,
    *,
    options: RunnerOptions | None = None,
    writer: Writer | None = None,
    now: datetime | None = None,
) -> SequenceOutcome:
    """Build and publish the sequences of a span's data version in force; once they are there, do nothing.

    Spans are sequenced in the order of time, because each numbers its new ids after those of the span before.

    Args:
        workspace: where the lake and the ledger are.
        span_id: the span.
        options: where Beam runs; without it the ``[sequences]`` settings.
        writer: the caller's right to write; without it the lease is held for the call.
        now: time of the ledger's rows.

    Raises:
        SequencesError: the span has no data, or its published sequences are gone.
        SequenceOrderError: an earlier span must be sequenced first; the error lists which.
        BeamJobError: the job failed; nothing was published.
        PublishError: the span's data are damaged, or not all there.
    """
    settings = workspace.settings.sequences
    options = options or runner_options(settings)
    now = now or datetime.now(UTC)
    with lent(writer, workspace, f"sequences of {span_id}", now=now) as held:
        with workspace.ledger.snapshot() as snapshot:
            span, version = _span_with_data(snapshot, span_id)
            chain = parent_chain(workspace, snapshot, span)
            files = stored_files(workspace.resolve(version.path), BUCKET_FILES)
            link = _plan(workspace, version, chain, files)
            row = snapshot.sequence(span_id, link.fingerprint)
        if row is not None:
            return _keep(held, row, link, now)
        verify_folder(workspace.resolve(version.path))  # a bucket that is gone would not be missed
        with staging_folder(workspace, _LABEL) as staging:
            counts = build_sequences(
                span_files=files,
                vocabulary=Vocabulary.open([parent.folder for parent in chain]),
                out=staging,
                max_events_per_user=settings.max_events_per_user,
                options=options,
            )
            write_manifest(staging, link, chain)
            seal(staging)
            with held.transaction() as tx:
                row = _publish(workspace, tx, staging, link, counts, now)
    return SequenceOutcome(row, link.folder, built=True)


def runner_options(settings: SequencesSettings) -> RunnerOptions:
    """Where Beam runs, by the ``[sequences]`` settings."""
    flags = tuple(shlex.split(settings.beam_flags))
    where = (settings.runner, settings.mode, settings.workers, flags)
    return RunnerOptions(*where, settings.timeout_seconds, settings.few_events)


def build_sequences(
    *,
    span_files: Sequence[Path],
    vocabulary: Vocabulary,
    out: Path,
    max_events_per_user: int,
    options: RunnerOptions,
) -> SequenceCounts:
    """Run the job: one ``bucket=NN.parquet`` in ``out`` for each lake file, and the vocabulary's delta.

    Args:
        span_files: lake files of one span version, ``bucket=NN.parquet``, in any order; may be empty.
        vocabulary: the ids of all earlier spans.
        out: a staging folder, empty, on storage that all workers see.
        max_events_per_user: of each user's events the most recent ones are kept, at most this many.
        options: where Beam runs.

    Raises:
        SequencesError: what was written does not add up to what the span holds.
        BeamJobError: the job failed or ran out of time.
        ParquetFileError, VocabularyError: an input is damaged.
    """
    files = sorted(Path(file).absolute() for file in span_files)
    ids = vocabulary.extend(files)
    write_delta(out, ids)
    if files:
        lookup = out / "lookup"
        lookup.mkdir()
        tasks = _write_lookups(files, ids, lookup, out.absolute(), max_events_per_user)
        _run(tasks, options, ids.events)
        shutil.rmtree(lookup)
        for leftover in out.glob(f"*{TEMPORARY_SUFFIX}"):  # of a worker that died and was replaced
            leftover.unlink()
    return _count(files, ids, out)


def _run(tasks: list[BucketTask], options: RunnerOptions, events: int) -> None:
    if options.is_too_little_for_beam(events):
        for task in tasks:
            build_bucket(task)
        return
    from pipelines.sequences.beam_job import run_bucket_tasks  # imports Beam: 0.6 s, only where it is needed

    run_bucket_tasks(tasks, options)


def _write_lookups(files: Sequence[Path], ids: SpanIds, lookup: Path, out: Path, max_events: int) -> list[BucketTask]:
    """Write the ids each worker needs, so that its work follows its bucket and not the whole vocabulary."""
    items = lookup.absolute() / "items.parquet"
    write_table(ids.items, items)
    bucket = pc.index_in(ids.users["file"], value_set=pa.array([str(file) for file in files])).to_numpy()
    order = np.argsort(bucket, kind="stable")
    cuts = np.searchsorted(bucket[order], np.arange(len(files) + 1))
    users = ids.users.drop_columns(["file"]).take(pa.array(order))
    tasks = []
    for n, file in enumerate(files):
        mine = lookup.absolute() / f"users-{plain(file).name}"
        write_table(users.slice(cuts[n], cuts[n + 1] - cuts[n]), mine)
        tasks.append(BucketTask(str(file), str(mine), str(items), str(out / plain(file).name), max_events))
    return tasks


def _count(files: Sequence[Path], ids: SpanIds, out: Path) -> SequenceCounts:
    written = sorted(path.name for path in out.glob(BUCKET_FILES))
    if written != [plain(file).name for file in files]:
        raise SequencesError(
            f"the runner reported success, but wrote {len(written)} of {counted(len(files), 'bucket')}",
            hint='use runner = "FnApiRunner"',
        )
    buckets = [count_bucket(out / name) for name in written]
    counts = SequenceCounts(
        users=sum(bucket.users for bucket in buckets),
        items=ids.items.num_rows,
        events=sum(bucket.events for bucket in buckets),
        truncated=sum(bucket.truncated for bucket in buckets),
        new_users=ids.new_users.num_rows,
        new_items=ids.new_items.num_rows,
    )
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    if counts.users != ids.users.num_rows or counts.events + counts.truncated != rows:
        raise SequencesError(
            f"the span has {counted(rows, 'event')} of {counted(ids.users.num_rows, 'user')}, but "
            f"{counted(counts.users, 'user')} with {counted(counts.events, 'event')} and "
            f"{counts.truncated} cut off were written",
            hint="the lake changed meanwhile, or the runner lost work: run the span again",
        )
    return counts


def _span_with_data(snapshot: Snapshot, span_id: str) -> tuple[SpanRow, SpanVersionRow]:
    span, version = snapshot.span(span_id), snapshot.span_version(span_id)
    if span is None or version is None:
        raise SequencesError(f"span {span_id!r} has no data", hint="run: imsr ingest")
    return span, version


def _plan(workspace: Workspace, version: SpanVersionRow, chain: list[ChainLink], files: Sequence[Path]) -> ChainLink:
    fingerprint = fingerprint_of(
        data_fingerprint=version.fingerprint,
        parent_fingerprint=chain[-1].fingerprint if chain else None,
        max_events_per_user=workspace.settings.sequences.max_events_per_user,
        buckets=[plain(file).name for file in files],
    )
    folder = workspace.sequences_folder(version.span_id, fingerprint)
    return ChainLink(version.span_id, fingerprint, version.fingerprint, folder)


def _publish(
    workspace: Workspace,
    tx: Transaction,
    staging: Path,
    link: ChainLink,
    counts: SequenceCounts,
    now: datetime,
) -> SequencesRow:
    if not is_same(staging, link.folder):  # a run that was killed before its commit left them there, or half of them
        discard_orphan(workspace, link.folder, tx)
        move_into_place(staging, link.folder)
    row = SequencesRow(
        span_id=link.span_id,
        fingerprint=link.fingerprint,
        path=workspace.relative(link.folder),
        created_at=iso(now),
        **vars(counts),
    )
    tx.add_sequences(row)
    tx.set_span_state(link.span_id, SpanState.SEQUENCED, at=now)
    hit(FailPoint.SEQUENCES_BEFORE_COMMIT)
    return row


def _keep(writer: Writer, row: SequencesRow, link: ChainLink, now: datetime) -> SequenceOutcome:
    """The sequences exist. If the span's data went elsewhere and came back, put them in force again."""
    if not is_ready(link.folder):
        raise SequencesError(f"{link.folder}: published sequences are gone", hint="run: imsr doctor")
    with writer.transaction() as tx:
        span = tx.span(row.span_id)
        if latest_rows(tx)[row.span_id] != row:
            tx.delete("sequences", span_id=row.span_id, fingerprint=row.fingerprint)
            row = SequencesRow(**{**vars(row), "created_at": iso(now)})
            tx.add_sequences(row)
        if span is not None and span.state in BEFORE_SEQUENCES:
            tx.set_span_state(row.span_id, SpanState.SEQUENCED, at=now)
    return SequenceOutcome(row, link.folder, built=False)
