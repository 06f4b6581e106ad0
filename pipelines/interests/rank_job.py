"""The test of a version on a span: in this process, or by buckets of users where the sequences are built.

With a ``[sequences] runner`` of several workers each of them reads the version for the users of its bucket alone, ranks
what they did and writes the ranks, event by event.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from imsr_core.ragged import SpanSequences, slice_rows, take_rows
from pipelines.interests.evaluation import evaluate_ranks, rank_events, seen_before, seen_in_counts
from pipelines.interests.read_once import Read
from pipelines.interests.remembered import counts_are_all
from pipelines.interests.user_slices import user_slices
from pipelines.interests.version import Version
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.build import runner_options
from pipelines.sequences.chain import chain_of
from pipelines.sequences.everywhere import do_everywhere
from pipelines.sequences.loader import load_sequences
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import MetricRow, SequencesRow
from pipelines.workspace.parquet_files import read_table, write_table
from pipelines.workspace.publish import staging_folder

#: Users of a bucket.
BUCKET_USERS = 16_384


@dataclass(frozen=True)
class RankTask:
    """The ranks of what the users at positions ``first`` to ``last`` (exclusive) of ``sequences`` did go to ``out``."""

    workspace: str
    version_id: str
    sequences: str
    first: int
    last: int
    top_n: int
    out: str


def rank_bucket(task: RankTask) -> None:
    """Write ``task.out``: rank and whether it could be ranked, of each event in order."""
    span = slice_rows(load_sequences(Path(task.sequences)), task.first, task.last)
    version = Version.open(Workspace.open(task.workspace), task.version_id)
    ranks, scorable = rank_events(version.load(span.users), span, task.top_n)
    write_table(pa.table({"rank": ranks.numpy(), "scorable": scorable.numpy()}), Path(task.out))


def ranks_everywhere(
    version: Version, sequences: Path, top_n: int, options: RunnerOptions, *, bucket_users: int = BUCKET_USERS
) -> tuple[Tensor, Tensor]:
    """Rank (E,) of every event of a folder of sequences, and whether it could be ranked (E,); see `rank_events`.

    Raises:
        BeamJobError: the job failed, or a bucket is missing.
    """
    users, workspace = len(load_sequences(sequences)), version.workspace
    where, folder = str(workspace.root.absolute()), str(sequences.absolute())
    with staging_folder(workspace, "ranks") as staging:
        tasks = [
            RankTask(where, version.row.version_id, folder, first, first + bucket_users, top_n, str(out))
            for number, first in enumerate(range(0, users, bucket_users))
            for out in (staging.absolute() / f"bucket={number:06}.parquet",)
        ]
        if tasks:
            do_everywhere(tasks, rank_bucket, options, "test")
        parts = [read_table(Path(task.out), ["rank", "scorable"]) for task in tasks]
    columns = [[part[name].to_numpy() for part in parts] for name in ("rank", "scorable")]
    ranks = np.concatenate([np.zeros(0, dtype=np.int64), *columns[0]])
    scorable = np.concatenate([np.zeros(0, dtype=bool), *columns[1]])
    return torch.from_numpy(ranks), torch.from_numpy(scorable)


def asked_of(sequences: SpanSequences, most: int, span_id: str) -> SpanSequences:
    """All users of a span, or ``most`` of them (0 = all), drawn by the span's id: the same for every version."""
    if not most or len(sequences) <= most:
        return sequences
    rng = np.random.default_rng(list(span_id.encode()))
    return take_rows(sequences, np.sort(rng.permutation(len(sequences))[:most]))


def score(
    workspace: Workspace, version_id: str, row: SequencesRow, protocol: str, *, read: Read = Version.load
) -> list[MetricRow]:
    """Metrics of a version, which is ``read`` so, on a span's sequences.

    Raises:
        BeamJobError: the job failed on the runner of ``[sequences]``.
    """
    folder = workspace.resolve(row.path)
    sequences, version = load_sequences(folder), Version.open(workspace, version_id)
    earlier = [link.folder for link in chain_of(workspace, row.span_id, row.fingerprint)[:-1]]
    top_n, options = workspace.settings.evaluation.top_n, runner_options(workspace.settings.sequences)
    everybody = len(sequences)
    sequences = asked_of(sequences, workspace.settings.evaluation.test_users, row.span_id)
    here = options.is_one_process or len(sequences) < everybody
    state = read(version, sequences.users if here else sequences.users[:0])
    ranked = rank_events(state, sequences, top_n) if here else ranks_everywhere(version, folder, top_n, options)
    known = [workspace.relative(path) for path in earlier] == list(version.lineage.vocabulary)
    if here and known and state.score is not None and counts_are_all(version, state.score, sequences.users).all():
        seen = seen_in_counts(sequences, state.score.personal.pairs)
    else:
        seen = seen_before(sequences, earlier, folder)
    by_user = user_slices(version, state.score, sequences, top_n)
    result = evaluate_ranks(ranked, sequences, seen, top_n=top_n, protocol=protocol, by_user=by_user)
    return result.rows(version_id, row.span_id, protocol)
