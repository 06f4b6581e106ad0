"""A span's events by who they are of: users whom the version has known for long, new ones, strangers, and segments.

    old_users      the version has known the user since before its newest span
    new_users      the user came with its newest span: one span of history
    strangers      the version has never seen the user. Ranked in the list that strangers are served (`popular`); in
                   ``everything`` they are misses all the same, so that it stays what the model alone can do
    <column>=<value>   the user is in this segment of the table that ``[segments]`` names (see `user_segments`);
                   ``unknown`` where the table says nothing of the user, ``other`` beyond the most frequent values

Indices of users are given in the order in which they came, and never move: how long a user has been known is a
comparison of numbers. All but ``strangers`` are slices of ``all``, or of ``last`` under the paper's protocol.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences
from imsr_core.score import Score
from pipelines.interests.popular import most_popular
from pipelines.interests.slice_names import NEW, OLD
from pipelines.interests.version import Version
from pipelines.lake.user_segments import kept_segments
from pipelines.workspace.parquet_files import read_table

#: Values of a column that are slices; a name or a postcode would be thousands.
MOST_VALUES = 20
UNKNOWN, OTHER = "unknown", "other"


@dataclass(frozen=True)
class UserSlices:
    """Slices of a span's events by user: ``members`` (E,) bool by name; which are of ``strangers`` (E,), and the rank
    (E,) of their items in the list that strangers get, ``top_n`` where it has them not."""

    members: dict[str, Tensor]
    strangers: Tensor
    stranger_ranks: Tensor


def user_slices(version: Version, score: Score | None, span: SpanSequences, top_n: int) -> UserSlices:
    """The slices of a span that the version, whose ``score`` this is, has not seen.

    Raises:
        ParquetFileError: the kept table of segments, or the vocabulary, is damaged.
    """
    first_new, end = _newest_users(version)
    owners = torch.from_numpy(span.users[span.rows])
    members = {OLD: owners < first_new, NEW: (owners >= first_new) & (owners < end)}
    members |= _segments(version, span)
    strangers = owners >= end
    popular = np.zeros(0, int)
    if bool(strangers.any()):
        popular = most_popular(version, score, top_n, version.vocabulary.n_items)
    place = np.full(int(max(span.items.max(initial=-1), popular.max(initial=-1))) + 1, top_n)
    place[popular] = np.arange(len(popular))
    return UserSlices(members, strangers, torch.from_numpy(place[span.items]))


def _newest_users(version: Version) -> tuple[int, int]:
    """The index of the first user who came with the newest span of the version, and that of the next to come."""
    starts = version.vocabulary.user_starts
    return int(starts[-2]) if len(starts) > 1 else 0, int(starts[-1])


def _segments(version: Version, span: SpanSequences) -> dict[str, Tensor]:
    """A slice for each value of each column; none without a table."""
    workspace = version.workspace
    with workspace.ledger.snapshot() as view:
        kept = kept_segments(view)
    columns = workspace.settings.segments.columns if workspace.settings.segments.users else ()
    if kept is None or not columns:
        return {}
    path = workspace.resolve(kept.path)
    table = read_table(path, ["user_id", *columns])
    known = span.users < version.vocabulary.n_users  # of a stranger nothing is in `all`
    ids = pa.array([None] * len(span.users), pa.string())
    ids = pc.replace_with_mask(ids, pa.array(known), version.vocabulary.user_ids(span.users[known]).combine_chunks())
    place = pc.index_in(ids, value_set=table["user_id"].combine_chunks())
    found = {}
    for column in dict.fromkeys(columns):
        texts = table[column].combine_chunks().cast(pa.string())
        own = pc.fill_null(_few(texts).take(place), UNKNOWN)
        for value in pc.unique(own.filter(pa.array(known))).to_pylist():
            member = pc.equal(own, value).to_numpy(zero_copy_only=False)
            found[f"{column}={value}"] = torch.from_numpy(member[span.rows])
    return found


def _few(texts: pa.Array) -> pa.Array:
    """The most frequent values as they are, all others as one."""
    counts = pc.value_counts(texts.drop_null())
    if len(counts) <= MOST_VALUES:
        return texts
    ordered = sorted(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True),
                     key=lambda pair: (-pair[1], pair[0]))  # fmt: skip
    kept = pa.array([value for value, _ in ordered[:MOST_VALUES]], pa.string())
    return pc.if_else(pc.or_(pc.is_null(texts), pc.is_in(texts, value_set=kept)), texts, OTHER)
