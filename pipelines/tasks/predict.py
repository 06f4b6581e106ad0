"""Ask a version of the `users` line: what it predicts of users, for one of its tasks.

predictor = TaskPredictor.open("my-workspace", "age")
predictor.top_n(["1018", "27"], n=3)           # pyarrow table: user_id, rank, label, score, probability
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from imsr_core.lifelong.errors import TaskError
from imsr_core.lifelong.tasks import BASE_TASK
from imsr_core.ragged import SpanSequences
from imsr_core.sorted_keys import is_in, unique
from pipelines.interests.asked_ids import Id, asked_count, asked_ids
from pipelines.interests.recommend import UnknownUserError
from pipelines.lake.item_metadata import kept_metadata
from pipelines.sequences.chain import ChainLink
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.tasks.data import history, learnt_chain, vocabulary_of
from pipelines.tasks.version import LearntTask, UserVersion
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import column_names, read_table


@dataclass(frozen=True, repr=False)
class TaskPredictor:
    """One task of one version, and the sequences that users have by now."""

    version: UserVersion
    task: LearntTask
    chain: tuple[ChainLink, ...]
    vocabulary: Vocabulary

    @classmethod
    def open(cls, workspace: Workspace | Path | str, task: str, version_id: str | None = None) -> TaskPredictor:
        """A task of the current version, or of the one of this id.

        Raises:
            WorkspaceError, VersionError, CheckpointError, TaskError: what is asked for is not there, or damaged.
        """
        version = UserVersion.open(Workspace.open(workspace), version_id)
        learnt = version.task(task)
        chain = _newest_chain(version)
        return cls(version, learnt, tuple(chain), vocabulary_of(chain))

    def __repr__(self) -> str:
        return f"TaskPredictor({self.task.name!r} of {self.version.row.version_id!r})"

    def known(self, user_ids: Sequence[Id]) -> list[bool]:
        """Of which of these users something is known."""
        users = self.vocabulary.users_of(pa.array(asked_ids(user_ids), pa.string()))
        return is_in(users, history(self.chain, unique(users[users >= 0])).users).tolist()

    def top_n(self, user_ids: Sequence[Id], n: int = 3) -> pa.Table:
        """The ``n`` best labels of each user, best first: user_id, rank, label, score, probability (softmax).

        Labels of T1 are the items that may come next. Items that are newer than the task are read as unknown ones.

        Raises:
            UnknownUserError: nothing is known of a user.
            ConfigError: ``n`` is below 1, or an id no text or whole number.
        """
        ids, n = list(dict.fromkeys(asked_ids(user_ids))), asked_count(n, "labels for each user")
        users, sequences = self._sequences_of(ids)
        logits = self.version.method.predict(self.version.state, self.task.name, sequences)
        logits = logits[torch.from_numpy(np.searchsorted(sequences.users, users))]
        n = min(n, logits.shape[1])
        best = logits.topk(n)
        probability = logits.softmax(dim=1).gather(1, best.indices)
        return pa.table(
            {
                "user_id": pa.array(np.repeat(np.array(ids, dtype=object), n), pa.string()),
                "rank": np.tile(np.arange(1, n + 1), len(ids)),
                "label": self._labels().take(pa.array(best.indices.flatten().numpy())),
                "score": best.values.flatten().numpy(),
                "probability": probability.flatten().numpy(),
            }
        )

    def histories(self, user_ids: Sequence[Id], last: int, name: str = "") -> dict[str, list[str]]:
        """The ``last`` items of each user, the most recent first: what the prediction was made from.

        Args:
            name: column of the items' metadata that stands for an item where it has one; empty = its id.

        Raises:
            UnknownUserError: nothing is known of a user.
            TaskError: the workspace has no metadata of items, or not this column.
        """
        ids = list(dict.fromkeys(asked_ids(user_ids)))
        users, sequences = self._sequences_of(ids)
        names = _names_of(self.version.workspace, name) if name else {}
        rows = np.searchsorted(sequences.users, users)
        found = {}
        for user_id, row in zip(ids, rows.tolist(), strict=True):
            start, stop = sequences.offsets[row], sequences.offsets[row + 1]
            items = self.vocabulary.item_ids(sequences.items[max(start, stop - last) : stop][::-1]).to_pylist()
            found[user_id] = [names.get(item, item) for item in items]
        return found

    def _sequences_of(self, ids: Sequence[str]) -> tuple[NDArray[np.int64], SpanSequences]:
        """The indices (U,) of these users, and all that they did."""
        users = self.vocabulary.users_of(pa.array(ids, pa.string()))
        sequences = history(self.chain, unique(users[users >= 0]))
        unknown = ~is_in(users, sequences.users)
        if unknown.any():
            raise UnknownUserError(
                f"nobody in the learnt spans is called {ids[int(np.argmax(unknown))]!r}",
                hint="ids are compared letter by letter; the `users` view lists them",
            )
        return users, sequences

    def _labels(self) -> pa.Array | pa.ChunkedArray:
        """Label number -> text."""
        if self.task.name != BASE_TASK:
            return pa.array(self.task.vocabulary, pa.string())
        n_items = self.version.state.task(BASE_TASK).n_labels
        return self.version.vocabulary.item_ids(np.arange(n_items))


def _names_of(workspace: Workspace, column: str) -> dict[str, str]:
    """Item id -> its text in a column of the items' metadata."""
    with workspace.ledger.snapshot() as view:
        kept = kept_metadata(view)
    if kept is None:
        raise TaskError("this workspace has no metadata of items", hint="name a table: [items] metadata in imsr.toml")
    path = workspace.resolve(kept.path)
    columns = column_names(path)
    if column not in columns:
        raise TaskError(f"the items' metadata have no column {column!r}", hint=f"they have {', '.join(columns)}")
    table = read_table(path, list(dict.fromkeys(["item_id", column])))
    pairs = zip(table["item_id"].to_pylist(), table[column].to_pylist(), strict=True)
    return {item: str(value) for item, value in pairs if value is not None}


def _newest_chain(version: UserVersion) -> Sequence[ChainLink]:
    """The sequences of all learnt spans; where data were restated, those that the version was made from."""
    workspace = version.workspace
    try:
        with workspace.ledger.snapshot() as view:
            newest = learnt_chain(workspace, view)
    except TaskError:  # a span waits to be learnt again
        return version.tasks[-1].chain(workspace)
    return newest if version.numbers_like(newest) else version.tasks[-1].chain(workspace)
