"""The spans that a bench learns and tests on: a workspace's sequences, filtered, numbered anew, cut into slices.

    all         the user was learnt before, and the item was in the catalogue before
    last        of those, the user's last event in the span (the paper's test)
    repeat      of those, items that the user had before
    explore     of those, items new to the user
    everything  all events; what nobody can know counts as a miss

Unlike the slices of `pipelines.interests.evaluation` these follow from the data and not from the model, so that all
methods are scored on the same events: what a method does not know counts as a miss of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imsr_core.counted import counted
from imsr_core.errors import ImsrError
from imsr_core.ragged import SpanSequences, all_but_last, between, concatenate, drop_empty, from_events
from imsr_core.score.content import Categories
from imsr_core.sorted_keys import is_in, union, unique
from pipelines.interests.category_files import categories_in
from pipelines.interests.item_categories import CategoryTable, learns_categories
from pipelines.lake.frozen import frozen_calendar
from pipelines.lake.item_metadata import item_table
from pipelines.sequences.build import sequence_span
from pipelines.sequences.chain import latest_rows
from pipelines.sequences.loader import load_sequences
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.settings.bench import BenchSettings
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

BoolArray = NDArray[np.bool_]


class BenchError(ImsrError):
    """A comparison that cannot be made."""


@dataclass(frozen=True)
class SeenPairs:
    """What the users of a span had before it: P pairs of a position in its users, in increasing order, and an item."""

    rows: NDArray[np.int64]
    items: NDArray[np.int64]


NOTHING_SEEN = SeenPairs(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class BenchSpan:
    """One span: ``sequences`` holds all its E events, ``learnt`` those that may be trained on; ``n_items`` is the
    size of the catalogue after it. ``slices`` (E,) by name; empty for the pre-training. ``seen`` is what its users had
    before."""

    id: str
    sequences: SpanSequences
    learnt: SpanSequences
    n_items: int
    slices: dict[str, BoolArray]
    seen: SeenPairs = NOTHING_SEEN

    @property
    def users(self) -> NDArray[np.int64]:
        """The user of each event (E,)."""
        return self.sequences.users[self.sequences.rows]


@dataclass(frozen=True)
class BenchData:
    """``spans[0]`` is the pre-training, of which ``newest`` holds the last calendar span; each of the others is tested
    on, then learnt. ``span_length`` is that of an ordinary span, in microseconds. ``categories`` of the items are what
    the table ``described`` (a fingerprint) says; None where the score learns from none."""

    spans: tuple[BenchSpan, ...]
    protocol: str
    tuning: int
    span_length: int
    categories: Categories | None = None
    described: str = ""

    @property
    def newest(self) -> SpanSequences:
        """What may be learnt of the last calendar span of the pre-training."""
        learnt = self.spans[0].learnt
        end = int(learnt.timestamps.max()) + 1
        return drop_empty(between(learnt, end - self.span_length, end))

    @property
    def tested(self) -> tuple[BenchSpan, ...]:
        """The spans after the pre-training."""
        return self.spans[1:]

    @property
    def reported(self) -> tuple[BenchSpan, ...]:
        """The spans behind those for tuning. No search of a bench sees them; whether somebody looked at them when
        the defaults were chosen is another matter, and docs/bench.md says of which logs that is so."""
        return self.spans[1 + self.tuning :]

    @property
    def main_slice(self) -> str:
        """The slice that decides: every event, or the last one of each user under the paper's protocol."""
        return "last" if self.protocol == "holdout" else "all"

    def slice_for(self, *, discover: bool) -> str:
        """The slice that decides: `main_slice`, or what of it is new to its user."""
        return "explore" if discover else self.main_slice

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the sha256 over all events."""
        digest = hashlib.sha256(self.protocol.encode())
        for span in self.spans:
            digest.update(span.id.encode())
            for array in (span.sequences.users, span.sequences.offsets, span.sequences.items):
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def history(self, before: int) -> SpanSequences:
        """What may be learnt of all spans before number ``before``."""
        return concatenate([span.learnt for span in self.spans[:before]])


def load_bench_data(workspace: Workspace, settings: BenchSettings, *, now: datetime) -> BenchData:
    """The data of a workspace; sequences that are not there yet are built.

    Raises:
        BenchError: there are too few spans with data, or the filters leave nothing of one.
        KeptTableError: the table about items, which the score learns from, cannot be read.
    """
    folders = sequence_folders(workspace, now=now)
    pretrain = workspace.settings.spans.pretrain
    if len(folders) < pretrain + settings.tuning_spans + 1:
        raise BenchError(
            f"{workspace.root} has {counted(len(folders), 'span')} with data: {pretrain} for pre-training and "
            f"{settings.tuning_spans} for tuning leave none to report",
            hint="lower [spans] pretrain or [bench] tuning_spans",
        )
    named = filtered([load_sequences(folder) for _, folder in folders], settings)
    parts = renumbered(named)
    names = [span_id for span_id, _ in folders[pretrain - 1 :]]
    parts = [concatenate(parts[:pretrain]), *parts[pretrain:]]
    empty = [name for name, part in zip(names, parts, strict=True) if not part.n_events]
    if empty:
        raise BenchError(f"the filters leave no event in {', '.join(empty)}", hint="lower them in [bench]")
    data = cut(names, parts, workspace.settings.evaluation.protocol, settings.tuning_spans, span_length(workspace))
    return described(data, workspace, [folder for _, folder in folders], named, now=now)


def described(
    data: BenchData, workspace: Workspace, folders: Sequence[Path], named: Sequence[SpanSequences], *, now: datetime
) -> BenchData:
    """With the categories of items, if the score learns from them. ``named`` are the events as they were `renumbered`
    into ``data``, with items numbered as in the vocabulary of ``folders``.

    Raises:
        KeptTableError: the table about items cannot be read.
    """
    settings = workspace.settings
    if learns_categories(workspace, settings.interests):
        with writing(workspace, "imsr bench", now=now) as writer:
            item_table(settings).keep(writer)
    table = CategoryTable.in_force(workspace, settings.interests)
    if table is None:
        return data
    ids = Vocabulary.open(folders).item_ids(_by_first_event(named)).combine_chunks()
    return replace(data, categories=categories_in(table.rows(ids, 0)), described=table.fingerprint)


def span_length(workspace: Workspace) -> int:
    """Microseconds of an ordinary span of a workspace that has data."""
    with workspace.ledger.snapshot() as view:
        calendar = frozen_calendar(view)
    if calendar is None:
        raise BenchError(f"{workspace.root} holds no event", hint="imsr ingest FILES...")
    return calendar.ordinary_us


def sequence_folders(workspace: Workspace, *, now: datetime) -> list[tuple[str, Path]]:
    """(span id, sequences folder) of every span with data, in the order of time."""
    with workspace.ledger.snapshot() as view:
        wanted = [row.span_id for row in view.current_span_versions()]
    with writing(workspace, "imsr bench", now=now) as writer:
        for span_id in wanted:
            sequence_span(workspace, span_id, now=now, writer=writer)
    with workspace.ledger.snapshot() as view:
        latest = latest_rows(view)
    return [(span_id, workspace.resolve(latest[span_id].path)) for span_id in wanted]


def filtered(parts: Sequence[SpanSequences], settings: BenchSettings) -> list[SpanSequences]:
    """The events of the users and items that ``[bench]`` keeps."""
    users = np.concatenate([part.users[part.rows] for part in parts])
    items = np.concatenate([part.items for part in parts])
    keep = np.ones(len(users), dtype=bool)
    if settings.max_users:
        everybody = unique(users)
        chosen = np.random.default_rng(settings.seed).permutation(everybody)[: settings.max_users]
        keep &= is_in(users, chosen)
    if settings.max_items:
        counts = np.bincount(items[keep], minlength=int(items.max()) + 1)
        keep &= is_in(items, np.argsort(-counts, kind="stable")[: settings.max_items])
    keep &= np.bincount(users[keep], minlength=int(users.max()) + 1)[users] >= settings.min_user_events
    found, first = [], 0
    for part in parts:
        mine = keep[first : first + part.n_events]
        first += part.n_events
        found.append(from_events(part.users[part.rows][mine], part.items[mine], part.timestamps[mine]))
    return found


def renumbered(parts: Sequence[SpanSequences]) -> list[SpanSequences]:
    """The same events with items numbered by the span of their first event, without gaps."""
    order = _by_first_event(parts)
    number = np.empty(int(order.max(initial=-1)) + 1, dtype=np.int64)
    number[order] = np.arange(len(order))
    return [SpanSequences(part.users, part.offsets, number[part.items], part.timestamps) for part in parts]


def _by_first_event(parts: Sequence[SpanSequences]) -> NDArray[np.int64]:
    """(N,) the items of all parts by the place of their first event."""
    items, first = np.unique(np.concatenate([part.items for part in parts]), return_index=True)
    return items[np.argsort(first, kind="stable")]


def cut(names: Sequence[str], parts: Sequence[SpanSequences], protocol: str, tuning: int, length: int) -> BenchData:
    """Slices of each span and what of it may be learnt, under a protocol; ``length`` is a span's, in microseconds."""
    spans: list[BenchSpan] = []
    n_items, users = 0, np.zeros(0, dtype=np.int64)
    width = 1 + max(int(part.items.max()) for part in parts)
    pairs = np.zeros(0, dtype=np.int64)
    for name, part in zip(names, parts, strict=True):
        keys = part.users[part.rows] * width + part.items
        known = (part.items < n_items) & is_in(part.users, users)[part.rows]
        slices = _slices(part, known, _seen(keys, pairs), protocol) if spans else {}
        seen = _had_before(part.users, pairs, width)
        learnt = drop_empty(all_but_last(part, 2) if protocol == "holdout" else part)
        n_items = max(n_items, int(part.items.max()) + 1)
        users, pairs = union(users, learnt.users), union(pairs, keys)
        spans.append(BenchSpan(name, part, learnt, n_items, slices, seen))
    return BenchData(tuple(spans), protocol, tuning, length)


def _seen(keys: NDArray[np.int64], earlier: NDArray[np.int64]) -> BoolArray:
    """Which (user, item) pairs were there in an earlier span or before in this one."""
    seen = np.ones(len(keys), dtype=bool)
    _, first = np.unique(keys, return_index=True)
    seen[first] = is_in(keys[first], earlier)
    return seen


def _had_before(users: NDArray[np.int64], pairs: NDArray[np.int64], width: int) -> SeenPairs:
    """The sorted ``pairs`` (user x width + item) of these sorted ``users``."""
    owners, items = np.divmod(pairs, width)
    mine = is_in(owners, users)
    return SeenPairs(np.searchsorted(users, owners[mine]), items[mine])


def _slices(part: SpanSequences, known: BoolArray, seen: BoolArray, protocol: str) -> dict[str, BoolArray]:
    last = np.zeros(part.n_events, dtype=bool)
    last[part.offsets[1:] - 1] = True
    counted = last if protocol == "holdout" else np.ones_like(last)
    slices = {
        "all": known & counted,
        "last": known & last,
        "repeat": known & counted & seen,
        "explore": known & counted & ~seen,
        "everything": counted,
    }
    if protocol == "holdout":
        second = np.zeros_like(last)
        second[part.offsets[1:][part.counts > 1] - 2] = True
        slices["validation"] = known & second
    return slices
