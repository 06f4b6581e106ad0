"""Recommend from a version, in process: interests of a user, top-N for a batch of users.

recommender = Recommender.open("my-workspace")
recommender.interests("1018")                  # pyarrow table: interest_id, born_span, support, norm, vector
recommender.top_n(["1018", "27"], n=20)        # pyarrow table: user_id, rank, item_id, score, interest_id, reason
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.counted import counted
from imsr_core.errors import ConfigError, ImsrError
from imsr_core.item_vectors import ItemVectors
from imsr_core.score import InterestTerm
from imsr_core.score.serving import Scorer, with_places_kept
from imsr_core.session import session_state
from imsr_core.sorted_keys import unique
from imsr_core.state import ModelState
from pipelines.interests.asked_ids import Id, asked_count, asked_id, asked_ids
from pipelines.interests.popular import most_popular
from pipelines.interests.reasons import reasons
from pipelines.interests.remembered import had_before
from pipelines.interests.version import Version
from pipelines.versions.pruned_since import saying_if_pruned
from pipelines.workspace.editions import drop_editions
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import write_table


class UnknownUserError(ImsrError):
    """A user that the version has never seen."""


@dataclass(eq=False, repr=False)
class Recommender:
    """One version, loaded once: item vectors, and the interests of everybody or of the users it was opened for."""

    version: Version
    state: ModelState

    @classmethod
    def open(
        cls, workspace: Workspace | Path | str, version_id: str | None = None, *, users: Sequence[Id] | None = None
    ) -> Recommender:
        """The current version of a workspace, or the one of this id; for ``users`` alone it is read in a moment.

        Raises:
            WorkspaceError, VersionError, CheckpointError: what is asked for is not there, or damaged.
        """
        version = Version.open(Workspace.open(workspace), version_id)
        if users is None:
            return cls(version, version.load())
        indices = version.vocabulary.users_of(pa.array(asked_ids(users), pa.string()))
        return cls(version, version.load(unique(indices[indices >= 0])))

    def __repr__(self) -> str:
        return (
            f"Recommender({self.version.row.version_id!r} of {str(self.version.workspace.root)!r}: "
            f"{counted(len(self.state.store.users), 'user')}, {counted(self.state.n_items, 'item')})"
        )

    @cached_property
    def _interest(self) -> InterestTerm:
        """The interests as a term, for all scorers: what is made of the item vectors is made once."""
        return self.state.interest_term()

    @property
    def _items(self) -> ItemVectors:
        return self._interest.members[0][1]

    def interests(self, user_id: Id) -> pa.Table:
        """The interests of one user, one row each, oldest first.

        Raises:
            UnknownUserError: the version has never seen the user.
            VersionError: it was pruned since it was opened.
        """
        with self._saying_if_pruned():
            return self._interests(asked_id(user_id))

    def _interests(self, user_id: str) -> pa.Table:
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

    def known(self, user_ids: Sequence[Id]) -> NDArray[np.bool_]:
        """Which of these users (B,) have interests in this version."""
        with self._saying_if_pruned():
            indices = torch.from_numpy(self._indices(user_ids))
        return (self.state.store.counts_of(indices) > 0).numpy()

    def top_n(
        self,
        user_ids: Sequence[Id],
        n: int = 20,
        *,
        exclude_seen: bool = False,
        exclude: Sequence[Id] = (),
        only: Sequence[Id] | None = None,
        new_share: float | None = None,
    ) -> pa.Table:
        """The ``n`` best items of each user, once: user_id, rank (from 1), item_id, score, interest_id, reason.

        ``exclude_seen`` leaves out what the user had before, and scores with the weights for that. Items of ``exclude``
        are never shown; with ``only``, none but those. ``new_share`` of the places (unset: ``[recommend]``) are kept
        for what is new to the user. A user whom the version does not know gets what is in fashion (`popular`; reason
        "popular", score and interest_id NULL).

        Raises:
            ConfigError: ``n`` is below 1, ``new_share`` no share, an id no text or whole number, or no item of ``only``
                is known.
            VersionError: the version was pruned since it was opened.
        """
        share = self.version.workspace.settings.recommend.new_share if new_share is None else new_share
        if not 0 <= share <= 1:
            raise ConfigError(f"{share:g} of the items new", hint="ask for a share, 0 .. 1")
        wanted = asked_count(n, "items for each user")
        with self._saying_if_pruned():
            return self._top_n(list(dict.fromkeys(asked_ids(user_ids))), wanted, exclude_seen, exclude, only, share)

    def _top_n(
        self,
        user_ids: list[str],
        n: int,
        exclude_seen: bool,
        exclude: Sequence[Id],
        only: Sequence[Id] | None,
        share: float,
    ) -> pa.Table:
        indices = self._indices(user_ids)
        allowed = self._allowed(exclude, only)
        lists = self._lists(indices, n, exclude_seen, share, allowed)
        known = self._scorer("everything").known(indices)
        parts = [self._rows(user_ids, indices, *lists, "new" if exclude_seen else "everything")]
        strangers = [user for user, found in zip(user_ids, known, strict=True) if not found]
        if strangers:
            parts.append(self._popular(strangers, n, allowed))
        return pa.concat_tables(parts)

    def top_n_of_items(self, items: NDArray[np.int64], n: int, *, new: bool = True) -> pa.Table:
        """The ``n`` best items for somebody who had ``items`` (indices, the most recent last): rank, item_id, score,
        reason. Every term of the score reads them as it reads a user's; ``new`` leaves the items themselves out."""
        stranger = Recommender(self.version, session_state(self.state, torch.from_numpy(items)))
        stores = [stranger.state.store, *(member.store for member in stranger.state.members)]
        vars(stranger)["_interest"] = self._interest.asked_of(stores)  # a catalogue is not made anew for each request
        nobody, which = np.zeros(1, dtype=np.int64), "new" if new else "everything"
        hidden = (np.zeros(len(items), dtype=np.int64), items) if new else None
        lists = stranger._scorer(which).best(nobody, n, hidden)
        table = stranger._rows([""], nobody, *lists, which)
        told = pc.replace_substring_regex(table["reason"], "^interest.*", "near the items given")
        return table.select(["rank", "item_id", "score"]).append_column("reason", told)

    def write_all(self, n: int = 20, *, chunk: int = 4096, variant: str = "", **how: Any) -> Path:
        """Write everybody's lists, behind the view `recommendations`; returns the file (see `Workspace.list_file`).

        ``how`` is what `top_n` takes; lists of another ``variant`` stay beside these.
        """
        path = self.version.workspace.list_file(self.version.row.version_id, variant)
        path.parent.mkdir(exist_ok=True)
        write_table(self.lists_of_all(n, chunk=chunk, **how), path)
        drop_editions(path)
        return path

    def lists_of_all(self, n: int = 20, *, chunk: int = 4096, **how: Any) -> pa.Table:
        """The lists of all users that the version was opened for, as `top_n` gives them, with a column version_id."""
        users = self.state.store.users.numpy()
        ids = self.version.vocabulary.user_ids(users).to_pylist()
        parts = [self.top_n(ids[i : i + chunk], n, **how) for i in range(0, len(ids), chunk)]
        table = pa.concat_tables(parts) if parts else self._popular([], n, None)
        return table.append_column("version_id", pa.repeat(self.version.row.version_id, table.num_rows))

    def _saying_if_pruned(self) -> AbstractContextManager[None]:
        """Ids and histories are read when they are asked for: by then the version may be gone."""
        version = self.version
        return saying_if_pruned(version.workspace, version.row.version_id, version.lineage.vocabulary)

    def _scorer(self, which: str) -> Scorer:
        if which not in self._scorers:
            self._scorers[which] = self.state.scorer(which, self._interest)
        return self._scorers[which]

    @cached_property
    def _scorers(self) -> dict[str, Scorer]:
        """Those that were asked for so far; with the recommender they go, as one a session or a version is."""
        return {}

    def _lists(
        self, users: NDArray[np.int64], n: int, exclude_seen: bool, share: float, allowed: NDArray[np.bool_] | None
    ) -> tuple[Tensor, Tensor]:
        """Items and scores (B, n) of users (B,)."""
        seen = self._seen(users) if exclude_seen or share else None
        if exclude_seen:
            return self._scorer("new").best(users, n, seen, allowed)
        lists = self._scorer("everything").best(users, n, None, allowed)
        if not share:
            return lists
        return with_places_kept(lists, self._scorer("new").best(users, n, seen, allowed), share, lists[0].shape[1])

    def _allowed(self, exclude: Sequence[Id], only: Sequence[Id] | None) -> NDArray[np.bool_] | None:
        """(N,) which items may be shown; None: all of them."""
        left_out, wanted = asked_ids(exclude), None if only is None else asked_ids(only)
        if not left_out and wanted is None:
            return None
        allowed = np.full(self.state.n_items, wanted is None)
        for ids, value in ((wanted, True), (left_out, False)):
            if ids:
                found = self.version.vocabulary.items_of(pa.array(ids, pa.string()))
                allowed[found[(found >= 0) & (found < len(allowed))]] = value
        if not allowed.any():
            raise ConfigError(
                f"no item is left: version {self.version.row.version_id} knows none that may be shown",
                hint="ids are compared letter by letter; the `items` view lists them",
            )
        return allowed

    def unknown_items(self, item_ids: Sequence[Id]) -> list[str]:
        """Those of ``item_ids`` that the version does not know, each once."""
        ids = list(dict.fromkeys(asked_ids(item_ids)))
        found = self.version.vocabulary.items_of(pa.array(ids, pa.string()))
        known = (found >= 0) & (found < self.state.n_items)
        return [each for each, there in zip(ids, known.tolist(), strict=True) if not there]

    def _indices(self, user_ids: Sequence[Id]) -> NDArray[np.int64]:
        return self.version.vocabulary.users_of(pa.array(asked_ids(user_ids), pa.string()))

    def _rows(
        self, user_ids: Sequence[str], users: NDArray[np.int64], items: Tensor, scores: Tensor, which: str
    ) -> pa.Table:
        row, place = (part.numpy() for part in (items >= 0).nonzero(as_tuple=True))
        shown = items.numpy()[row, place]
        interests = self._interest_ids(users[row], shown)
        ids = pa.array(list(user_ids), pa.string())
        return pa.table(
            {
                "user_id": ids.take(pa.array(row)),
                "rank": pa.array(place + 1),
                "item_id": self.version.vocabulary.item_ids(shown).combine_chunks(),
                "score": pa.array(scores.numpy()[row, place]),
                "interest_id": pa.array(interests, mask=interests < 0),
                "reason": self._reasons(users[row], shown, interests, which),
            }
        )

    def _interest_ids(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
        """(P,) the user's interest that is nearest to each item; -1 for a user without interests."""
        store, people = self.state.store, torch.from_numpy(users)
        found = store.rows_of(people)
        if not len(store):
            return np.full(len(users), -1)
        near = (store.vectors[found.rows] * self._items.at(torch.from_numpy(items))[:, None]).sum(-1)
        best = near.masked_fill(~found.mask, -torch.inf).argmax(1)
        ids = store.interest_id[found.rows.gather(1, best[:, None]).squeeze(1)]
        return ids.where(store.counts_of(people) > 0, -1).numpy()

    def _reasons(
        self, users: NDArray[np.int64], items: NDArray[np.int64], interests: NDArray[np.int64], which: str
    ) -> pa.Array:
        if self.state.score is None:
            return pa.array(["interest"] * len(users), pa.string())
        named = self.version.vocabulary.item_ids
        return reasons(self.state.score, self._scorer(which), users, items, interests, named)

    def _popular(self, user_ids: Sequence[str], n: int, allowed: NDArray[np.bool_] | None) -> pa.Table:
        best = most_popular(self.version, self.state.score, n, self.state.n_items, allowed)
        size = len(user_ids) * len(best)
        ids = pa.array(list(user_ids), pa.string())
        named = self.version.vocabulary.item_ids(best)
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

    def _seen(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(row, item) pairs of what each of the users (B,) had in any span that the version knows."""
        return had_before(self.version, self.state.score, indices)
