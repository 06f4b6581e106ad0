"""What the `users` line learns from: the sequences of all learnt spans, and a task's labels joined to them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.tasks import TaskData
from imsr_core.ragged import SpanSequences, drop_empty, restrict_users, take_rows
from imsr_core.sorted_keys import is_in, unique
from pipelines.sequences.chain import ChainLink, chain_of, latest_rows
from pipelines.sequences.loader import load_history
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.tasks.labels import label_numbers
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import Snapshot
from pipelines.workspace.states import DONE


def learnt_chain(workspace: Workspace, view: Snapshot) -> list[ChainLink]:
    """The sequences of all learnt spans, oldest first: the chain of the newest span that a night is done with.

    Raises:
        TaskError: nothing was learnt yet, or the data of an earlier span changed and were not learnt again.
    """
    latest = latest_rows(view)
    done = [span.span_id for span in view.spans() if span.state in DONE and span.span_id in latest]
    if not done:
        raise TaskError("no span is learnt yet", hint="run: imsr run")
    row = latest[done[-1]]
    chain = chain_of(workspace, row.span_id, row.fingerprint)
    stale = [link.span_id for link in chain if latest[link.span_id].fingerprint != link.fingerprint]
    if stale:
        raise TaskError(f"the data of span {stale[0]} changed since later spans were learnt", hint="run: imsr run")
    return chain


def vocabulary_of(chain: Sequence[ChainLink]) -> Vocabulary:
    """The ids that a chain numbers."""
    return Vocabulary.open([link.folder for link in chain])


def history(chain: Sequence[ChainLink], users: NDArray[np.int64] | None = None) -> SpanSequences:
    """Everything that happened in these spans, one sequence a user; users without events are left out."""
    return drop_empty(load_history([link.folder for link in chain], users=users))


def end_of(view: Snapshot, span_id: str) -> int:
    """The end of a span, microseconds."""
    row = view.span(span_id)
    if row is None:
        raise TaskError(f"span {span_id} is not in the ledger", hint="run: imsr doctor")
    return row.end_us


def labelled(
    name: str, kind: str, chain: Sequence[ChainLink], table: pa.Table, vocabulary: Sequence[str]
) -> tuple[TaskData, pa.Table]:
    """A task as the core takes it, and the rows of ``table`` (user_id, label, time) that are in it.

    Left out are rows of users who have no event (before their first label, where labels have a time), or whom the
    chain does not have.

    Raises:
        TaskError: nothing is left, or fewer than two labels.
    """
    users = vocabulary_of(chain).users_of(table["user_id"])
    sequences = history(chain, unique(users[users >= 0]))
    if pc.count(table["time"]).as_py():
        times = table["time"].to_numpy()
        sequences = before_labels(sequences, users[users >= 0], times[users >= 0].astype(np.int64))
    usable = (users >= 0) & is_in(users, sequences.users)
    kept, owners = table.filter(pa.array(usable)), users[usable]
    labels = label_numbers(vocabulary, kept["label"])
    if not len(owners) and (users >= 0).any():
        raise TaskError(
            f"task {name}: no user had an event before the label became known",
            hint="is the time of the task the right column? without a time, a label is of all events",
        )
    if not len(owners):
        raise TaskError(f"task {name}: no label belongs to a user with events", hint="compare its ids with view users")
    task = TaskData(
        name=name,
        sequences=restrict_users(sequences, owners),
        users=owners,
        labels=labels,
        n_labels=len(vocabulary),
        kind="classes" if kind == "class" else "items",
    )
    return task, kept


def before_labels(sequences: SpanSequences, users: NDArray[np.int64], times: NDArray[np.int64]) -> SpanSequences:
    """Each user's events before the user's first label, so that no later event gives a label away.

    Args:
        users: (N,) the user of each label; all are in ``sequences`` or are ignored.
        times: (N,) microseconds.
    """
    first = np.full(len(sequences), np.iinfo(np.int64).max)
    known = is_in(users, sequences.users)
    np.minimum.at(first, np.searchsorted(sequences.users, users[known]), times[known])
    rows = sequences.rows
    early = sequences.timestamps < first[rows]
    counts = np.bincount(rows[early], minlength=len(sequences))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    cut = SpanSequences(sequences.users, offsets, sequences.items[early], sequences.timestamps[early])
    return take_rows(cut, np.flatnonzero(counts > 0))
