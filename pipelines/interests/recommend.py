"""Recommend from a version, in process: interests of a user, top-N for a batch of users.

recommender = Recommender.open("my-workspace")
recommender.interests("1018")                  # pyarrow table: interest_id, born_span, support, norm, vector
recommender.top_n(["1018", "27"], n=20)        # pyarrow table: user_id, rank, item_id, score, interest_id
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.errors import ConfigError, ImsrError
from imsr_core.interests import InterestStore
from imsr_core.retrieval import TopItems, top_items
from imsr_core.state import ModelState
from pipelines.interests.version import Version
from pipelines.sequences.loader import load_history, load_sequences
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import write_table


class UnknownUserError(ImsrError):
    """A user that the version has never seen."""


@dataclass
class Recommender:
    """One version, loaded once: item vectors and everybody's interests."""

    version: Version
    state: ModelState

    @classmethod
    def open(cls, workspace: Workspace | Path | str, version_id: str | None = None) -> Recommender:
        """The current version of a workspace, or the one of this id.

        Raises:
            WorkspaceError, VersionError, CheckpointError: what is asked for is not there, or damaged.
        """
        opened = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
        version = Version.open(opened, version_id)
        return cls(version, version.load())

    @cached_property
    def _items(self) -> Tensor:
        return self.state.item_vectors()

    @cached_property
    def _bias(self) -> Tensor:
        return self.state.item_bias()

    def interests(self, user_id: str) -> pa.Table:
        """The interests of one user, one row each, oldest first.

        Raises:
            UnknownUserError: the version has never seen the user.
        """
        index = torch.from_numpy(self._indices([user_id]))
        store = self.state.store.of_users(index)
        if not len(store):
            raise UnknownUserError(
                f"version {self.version.row.version_id} does not know user {user_id!r}",
                hint="ids are compared letter by letter; the `users` view lists them",
            )
        labels = pa.array(self.version.lineage.spans)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(store.vectors.numpy().ravel()), store.dim)
        return pa.table(
            {
                "interest_id": store.interest_id.numpy(),
                "born_span": labels.take(pa.array(store.born.numpy())),
                "active_span": labels.take(pa.array(store.active.numpy())),
                "support": store.support.numpy(),
                "norm": store.vectors.norm(dim=1).numpy(),
                "vector": vectors,
            }
        )

    def known(self, user_ids: Sequence[str]) -> NDArray[np.bool_]:
        """Which of these users (B,) have interests in this version."""
        indices = torch.from_numpy(self._indices(user_ids))
        return (self.state.store.counts_of(indices) > 0).numpy()

    def top_n(self, user_ids: Sequence[str], n: int = 20, *, exclude_seen: bool = False) -> pa.Table:
        """The ``n`` best items of each user, once: user_id, rank (from 1), item_id, score, interest_id, reason.

        The union of the lists of all interests, best score first. ``exclude_seen`` leaves out what the user had
        before. A user without interests gets the most popular items of the version's last span (reason "popular",
        score and interest_id NULL); everybody else's rows have reason "interest".

        Raises:
            ConfigError: ``n`` is below 1.
        """
        if n < 1:
            raise ConfigError(f"{n} items for each user", hint="ask for 1 or more")
        user_ids = list(dict.fromkeys(user_ids))
        indices = self._indices(user_ids)
        users = torch.from_numpy(indices)
        exclude = self._seen(indices) if exclude_seen else None
        lists = top_items(self.state.store, users, self._items, n, exclude, self._bias)
        known = (self.state.store.counts_of(users) > 0).numpy()
        parts = [self._rows(user_ids, users, lists)]
        strangers = [user for user, found in zip(user_ids, known, strict=True) if not found]
        if strangers:
            parts.append(self._popular(strangers, n))
        return pa.concat_tables(parts)

    def write_all(self, n: int = 20, *, exclude_seen: bool = False, chunk: int = 4096) -> Path:
        """Write everybody's lists to ``recommendations/<version id>.parquet``, behind the view `recommendations`."""
        users = self.state.store.users.numpy()
        ids = self.version.vocabulary.user_ids(users).to_pylist()
        parts = [self.top_n(ids[i : i + chunk], n, exclude_seen=exclude_seen) for i in range(0, len(ids), chunk)]
        version_id = self.version.row.version_id
        table = pa.concat_tables(parts) if parts else self._popular([], n)
        folder = self.version.workspace.root / "recommendations"
        folder.mkdir(exist_ok=True)
        path = folder / f"{version_id}.parquet"
        write_table(table.append_column("version_id", pa.array([version_id] * table.num_rows, pa.string())), path)
        return path

    def _indices(self, user_ids: Sequence[str]) -> NDArray[np.int64]:
        return self.version.vocabulary.users_of(pa.array(list(user_ids), pa.string()))

    def _rows(self, user_ids: Sequence[str], users: Tensor, lists: TopItems) -> pa.Table:
        shown = lists.items >= 0
        row, place = shown.nonzero(as_tuple=True)
        ids = pa.array(list(user_ids), pa.string())
        return pa.table(
            {
                "user_id": ids.take(pa.array(row.numpy())),
                "rank": pa.array(place.numpy() + 1),
                "item_id": self.version.vocabulary.item_ids(lists.items[shown].numpy()).combine_chunks(),
                "score": pa.array(lists.scores[shown].numpy()),
                "interest_id": pa.array(_interest_ids(self.state.store, users, lists)[shown].numpy()),
                "reason": pa.array(["interest"] * len(row), pa.string()),
            }
        )

    def _popular(self, user_ids: Sequence[str], n: int) -> pa.Table:
        workspace, lineage = self.version.workspace, self.version.lineage
        items = load_sequences(workspace.resolve(lineage.vocabulary[-1])).items
        counts = np.bincount(items) if len(items) else np.zeros(0, dtype=np.int64)
        best = np.argsort(-counts, kind="stable")[: min(n, int((counts > 0).sum()))]
        size = len(user_ids) * len(best)
        ids = pa.array(list(user_ids), pa.string())
        named = self.version.vocabulary.item_ids(best.astype(np.int64))
        return pa.table(
            {
                "user_id": ids.take(pa.array(np.repeat(np.arange(len(user_ids)), len(best)))),
                "rank": pa.array(np.tile(np.arange(1, len(best) + 1), len(user_ids))),
                "item_id": named.take(pa.array(np.tile(np.arange(len(best)), len(user_ids)))).combine_chunks(),
                "score": pa.nulls(size, pa.float32()),
                "interest_id": pa.nulls(size, pa.int64()),
                "reason": pa.array(["popular"] * size, pa.string()),
            }
        )

    def _seen(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(row, item) pairs of what each of the users (B,) had in any span that the version knows."""
        workspace = self.version.workspace
        folders = [workspace.resolve(path) for path in self.version.lineage.vocabulary]
        history = load_history(folders, users=np.unique(indices[indices >= 0]))
        order = np.argsort(indices, kind="stable")
        slot = np.searchsorted(indices[order], history.users)
        pairs = np.unique(np.stack([order[slot][history.rows], history.items], 1), axis=0)
        return torch.from_numpy(pairs[:, 0].copy()), torch.from_numpy(pairs[:, 1].copy())


def _interest_ids(store: InterestStore, users: Tensor, lists: TopItems) -> Tensor:
    if not len(store):
        return lists.interest
    found = store.rows_of(users)
    return store.interest_id[found.rows.gather(1, lists.interest.clamp(min=0))]
