"""Test-then-train: score a version on a span that it has not seen, over the full catalogue.

The version's interests are taken as they were stored after its last span; nothing of the tested span is read but the
items to be found. Slices of the events:

    all         the user has stored interests and the version knows the item
    last        of those, the user's last event in the span (the paper's test)
    repeat      of those, items that the user had before, in an earlier span or earlier in this one
    explore     of those, items new to the user (the paper's case study)
    everything  all events of the span; unknown users and items count as misses
    validation  the second last event of a user (only under the paper's protocol, with ``last``)

and slices by who the user is, where the caller knows it (see `user_slices`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.metrics import hit_rate, ndcg, ranks_within, reciprocal_rank
from imsr_core.ragged import SpanSequences
from imsr_core.score.pairs import IntArray, Pairs
from imsr_core.sorted_keys import is_in
from imsr_core.state import ModelState
from pipelines.interests.slice_names import STRANGERS
from pipelines.interests.user_slices import UserSlices
from pipelines.workspace.editions import plain, stored_files
from pipelines.workspace.engine import duckdb_session
from pipelines.workspace.ledger import MetricRow
from pipelines.workspace.parquet_files import ParquetFileError


@dataclass(frozen=True)
class Evaluation:
    """Ranks of a span's events under a version, and the slices (E,) that they belong to.

    ``ranks`` (E,) is exact below ``top_n`` and ``top_n`` otherwise; ``scorable`` (E,) is False where the version
    knows the user or the item not at all (their rank is ``top_n``). ``other_ranks`` (E,) by slice are of slices that
    something else than the model serves.
    """

    ranks: Tensor
    scorable: Tensor
    slices: dict[str, Tensor]
    top_n: int
    other_ranks: dict[str, Tensor] = field(default_factory=dict)

    def rows(self, version_id: str, span_id: str, protocol: str) -> list[MetricRow]:
        """One row for each slice that is not empty, and metric."""
        n = self.top_n
        values = {f"hr@{n}": hit_rate, f"ndcg@{n}": ndcg, f"mrr@{n}": reciprocal_rank}
        rows = []
        for name, member in self.slices.items():
            ranks = self.other_ranks.get(name, self.ranks)[member]
            if len(ranks):
                for metric, function in values.items():
                    value = float(function(ranks, n).mean())
                    rows.append(MetricRow(version_id, span_id, name, protocol, metric, value, len(ranks)))
        return rows


def evaluate(state: ModelState, span: SpanSequences, seen: Tensor, *, top_n: int, protocol: str) -> Evaluation:
    """Rank every event of ``span`` (or its last two a user, under ``holdout``) by ``state``.

    ``state.store`` must hold the interests of the span's users. ``seen`` (E,) marks events whose item the user had
    before (see `seen_before`).
    """
    return evaluate_ranks(rank_events(state, span, top_n), span, seen, top_n=top_n, protocol=protocol)


def evaluate_ranks(
    ranked: tuple[Tensor, Tensor],
    span: SpanSequences,
    seen: Tensor,
    *,
    top_n: int,
    protocol: str,
    by_user: UserSlices | None = None,
) -> Evaluation:
    """As `evaluate`, of the ranks that `rank_events` gave, and with the slices ``by_user``."""
    ranks, scorable = ranked
    ends = torch.from_numpy(span.offsets[1:] - 1)[torch.from_numpy(span.counts > 0)]
    last = torch.zeros(span.n_events, dtype=torch.bool)
    last[ends] = True
    if protocol == "holdout":
        second = torch.zeros_like(last)
        second[ends[torch.from_numpy(span.counts[span.counts > 0] > 1)] - 1] = True
        slices = {"last": last & scorable, "validation": second & scorable, "everything": last}
    else:
        slices = {
            "all": scorable,
            "last": last & scorable,
            "repeat": seen & scorable,
            "explore": ~seen & scorable,
            "everything": torch.ones_like(last),
        }
    if by_user is None:
        return Evaluation(ranks, scorable, slices, top_n)
    main = slices["last"] if protocol == "holdout" else scorable
    slices |= {name: member & main for name, member in by_user.members.items()}
    slices[STRANGERS] = by_user.strangers & slices["everything"]
    return Evaluation(ranks, scorable, slices, top_n, {STRANGERS: by_user.stranger_ranks})


def rank_events(state: ModelState, span: SpanSequences, top_n: int) -> tuple[Tensor, Tensor]:
    """Rank (E,) of every event's item in its user's full ranking, and whether it could be ranked (E,)."""
    (ranks,), known = ranks_among(state, span, top_n, (None,))
    return ranks, known


@torch.no_grad()
def ranks_among(
    state: ModelState, span: SpanSequences, top_n: int, catalogues: Sequence[int | None]
) -> tuple[Tensor, Tensor]:
    """Ranks (C, E) of every event's item among the first items of each of C catalogues, and the rankable events (E,).

    ``catalogues`` holds numbers of items, None for all that the model has; what lies outside has the rank ``top_n``.
    """
    items = torch.from_numpy(span.items)
    rows = torch.from_numpy(span.rows)
    scorer = state.scorer()
    known = (items < scorer.n_items) & torch.from_numpy(scorer.known(span.users))[rows]
    ranks = torch.full((len(catalogues), span.n_events), top_n, dtype=torch.int64)
    if not bool(known.any()):
        return ranks, known
    sizes = [scorer.n_items if size is None else min(size, scorer.n_items) for size in catalogues]
    for first, scores in scorer.chunks(span.users):
        part = slice(int(span.offsets[first]), int(span.offsets[first + len(scores)]))
        for n, size in enumerate(sizes):
            here = known[part] & (items[part] < size)
            ranks[n, part][here] = ranks_in(scores[:, :size], rows[part][here] - first, items[part][here], top_n)
    return ranks, known


def ranks_in(scores: Tensor, row: Tensor, item: Tensor, top_n: int) -> Tensor:
    """Ranks (P,) of the items (P,) in rows (P,) of ``scores``, exact below ``top_n``."""
    depth = min(top_n + 1, scores.shape[1])
    top = scores.topk(depth, dim=1).values
    if depth <= top_n:  # a catalogue shorter than the list: nothing scores below its last place
        top = torch.nn.functional.pad(top, (0, top_n + 1 - depth), value=-torch.inf)
    return ranks_within(top[row], scores[row, item])


def seen_before(span: SpanSequences, earlier: Sequence[Path], own: Path | None = None) -> Tensor:
    """Which events (E,) repeat an item that the user had in an ``earlier`` sequences folder or before in this span.

    A user is in the same bucket of every span: with the span's ``own`` folder, only files of its buckets are read.

    Raises:
        ParquetFileError: a file of an earlier span is damaged; the message names it.
    """
    width = int(span.items.max(initial=0)) + 1
    pairs = _pairs(span, files_of_its_buckets(earlier, own), width)
    return _repeats(span, lambda users, items: is_in(users * width + items, pairs))


def seen_in_counts(span: SpanSequences, had: Pairs) -> Tensor:
    """The same from what users ``had``, where that is all of it (`counts_are_all`): no earlier span is opened."""
    return _repeats(span, lambda users, items: had.find(users, items) >= 0)


def _repeats(span: SpanSequences, had: Callable[[IntArray, IntArray], NDArray[np.bool_]]) -> Tensor:
    """Which events (E,) are not the first of their user and item, or are what the user ``had``."""
    users = span.users[span.rows]
    _, first = np.unique(users * (int(span.items.max(initial=0)) + 1) + span.items, return_index=True)
    seen = np.ones(len(users), dtype=bool)
    seen[first] = had(users[first], span.items[first])
    return torch.from_numpy(seen)


def files_of_its_buckets(folders: Sequence[Path], own: Path | None) -> list[Path]:
    """The files of ``folders`` of sequences in which users of the ``own`` folder can be."""
    found = [path for folder in folders for path in stored_files(folder, "bucket=*.parquet")]
    if own is None:
        return found
    buckets = {plain(path).name for path in stored_files(own, "bucket=*.parquet")}
    return [path for path in found if plain(path).name in buckets]


def _pairs(span: SpanSequences, files: Sequence[Path], width: int) -> NDArray[np.int64]:
    if not files or not span.n_events:
        return np.zeros(0, dtype=np.int64)
    query = """
        SELECT DISTINCT user_index * $width + item AS pair FROM (
            SELECT user_index, unnest(items) AS item FROM read_parquet($files)
            SEMI JOIN (SELECT unnest($users) AS user_index) USING (user_index))
        WHERE item < $width
    """
    values = {"width": width, "files": [str(path) for path in files], "users": span.users.tolist()}
    try:
        with duckdb_session() as connection:
            return connection.execute(query, values).fetchnumpy()["pair"].astype(np.int64)
    except duckdb.Error as error:
        raise ParquetFileError(f"sequences of an earlier span: {error}", hint="run: imsr doctor --deep") from error
