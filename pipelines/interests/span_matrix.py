"""R[version, span]: how well a version still ranks spans that it learnt before, by its interests alone.

    matrix/<version id>.parquet     version_id, span_id, metric, value, n

Behind the views `span_metrics` and `forgetting`. The counting terms of the score know every event that they counted,
so that nothing of theirs could be forgotten; what is asked is what updates do to interests and item vectors. It is a
sample, always the same: of each span the users of one bucket of its sequences (by a hash of their id), of these the
`[evaluation] matrix_users` who came first, and the newest spans. Who came first has most to be forgotten, and their
interests lie together, so that a night does not read everybody's. An event of a span that a version has learnt is no
test of it: a row says nothing alone, and is to be compared with other rows of its span.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from imsr_core.checkpoint import load_state
from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences, take_rows
from imsr_core.retrieval import score_chunks
from imsr_core.score.pairs import IntArray
from imsr_core.sorted_keys import unique
from pipelines.interests.evaluation import ranks_in
from pipelines.interests.interest_files import read_interests
from pipelines.interests.read_once import Tried
from pipelines.interests.version import Version
from pipelines.sequences.loader import load_bucket
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import write_table

#: The newest spans that are looked at.
SPANS = 12


@dataclass(frozen=True)
class _Sample:
    span_id: str
    sequences: SpanSequences


@torch.no_grad()
def write_span_matrix(workspace: Workspace, version_id: str, tried: Tried | None = None) -> Path:
    """Score a version on the sample of each span that it has learnt; returns the file. ``tried`` may have read its
    model already.

    Raises:
        VersionError, CheckpointError, ParquetFileError: the version or sequences it has learnt are not there.
    """
    version, settings = Version.open(workspace, version_id), workspace.settings.evaluation
    folders = [workspace.resolve(path) for path in version.lineage.vocabulary][-SPANS:]
    samples = [_sample(folder, settings.matrix_users) for folder in folders if folder.is_dir()]
    asked = unique(np.concatenate([np.zeros(0, dtype=np.int64), *(sample.sequences.users for sample in samples)]))
    state = (tried.take(version_id) if tried else None) or load_state(version.model_folders(), optimizer=False)
    store = read_interests(version.interest_files(), state.config.model.dim, state.config.model.query_units, asked)
    found = _hits(store, state.item_vectors(), asked, [sample.sequences for sample in samples], settings.top_n)
    metric = f"hr@{settings.top_n}"
    rows = [
        (version_id, sample.span_id, metric, hits / count, count)
        for sample, (hits, count) in zip(samples, found, strict=True)
        if count
    ]
    names = ("version_id", "span_id", "metric", "value", "n")
    kinds = (pa.string(), pa.string(), pa.string(), pa.float64(), pa.int64())
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    path = workspace.matrix_file(version_id)
    path.parent.mkdir(exist_ok=True)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    write_table(pa.table(arrays, names=list(names)), path)
    return path


def _sample(folder: Path, limit: int) -> _Sample:
    """Of the first ``limit`` users of a bucket of a span's sequences all events."""
    span_id = folder.parent.name.removeprefix("span=")
    bucket = load_bucket(folder, 0)
    return _Sample(span_id, take_rows(bucket, np.arange(min(limit, len(bucket)))))


def _hits(
    store: InterestStore, vectors: Tensor, users: IntArray, spans: Sequence[SpanSequences], top_n: int
) -> list[tuple[int, int]]:
    """Of each of ``spans`` how many events are among the first ``top_n``, and of how many: those whose user and item
    the version knows. ``users`` (ascending) are those of all spans: each one's scores are made once."""
    parts = [np.stack([np.full(s.n_events, n), s.users[s.rows], s.items]) for n, s in enumerate(spans)]
    span, owner, item = (torch.from_numpy(column) for column in np.concatenate([np.zeros((3, 0), int), *parts], 1))
    row = torch.from_numpy(np.searchsorted(users, owner.numpy()))
    people = torch.from_numpy(users)
    known = (store.counts_of(people)[row] > 0) & (item < len(vectors))
    span, row, item = (column[known][row[known].argsort(stable=True)] for column in (span, row, item))
    hits = torch.zeros(len(spans), dtype=torch.int64)
    for first, scores in score_chunks(store, people, vectors):
        here = slice(*torch.searchsorted(row, torch.tensor([first, first + len(scores)])).tolist())
        hit = ranks_in(scores, row[here] - first, item[here], top_n) < top_n
        hits.index_add_(0, span[here], hit.long())
    return list(zip(hits.tolist(), span.bincount(minlength=len(spans)).tolist(), strict=True))
