"""One version, loaded once to answer many: lists for users, for sessions, and items that are alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from imsr_core.errors import ImsrError
from imsr_core.objectives import unit
from pipelines.interests.asked_ids import Id, asked_count, asked_ids
from pipelines.interests.catalogue import Catalogue
from pipelines.interests.recommend import Recommender
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import READY

Row = dict[str, Any]


class UnknownItemError(ImsrError):
    """Items that the version has never seen."""


@dataclass(frozen=True, repr=False)
class ServedModel:
    """A version with what every answer needs: the ``directions`` (N, d) of its items, at length 1, the ``catalogue``
    with what is known of them, and when the folders of its interests were ``seals``-ed."""

    recommender: Recommender
    directions: Tensor
    catalogue: Catalogue
    seals: tuple[int, ...]

    @classmethod
    def load(cls, workspace: Workspace | Path | str, version_id: str | None = None) -> ServedModel:
        """The current version, or the one of this id, ready to answer.

        Raises:
            VersionError, CheckpointError: it is not there, or damaged.
        """
        recommender = Recommender.open(workspace, version_id)
        seals, directions = _seals(recommender), unit(recommender.state.item_vectors())
        for new in (False, True):
            recommender.top_n([""], 1, exclude_seen=new)  # what is loaded on first use is loaded now
        catalogue = Catalogue.of(recommender.version, recommender.state.n_items)
        return cls(recommender, directions, catalogue, seals)

    def __repr__(self) -> str:
        return f"ServedModel({self.recommender!r})"

    @property
    def version_id(self) -> str:
        """The version that answers."""
        return self.recommender.version.row.version_id

    def is_fresh(self) -> bool:
        """Whether its files are those that were loaded; forgetting a user rewrites them."""
        return _seals(self.recommender) == self.seals

    def recommend(self, user_id: Id, n: int, *, new: bool = False) -> list[Row]:
        """The ``n`` best items of a user, best first; a stranger gets the most popular ones (reason "popular")."""
        table = self.recommender.top_n([user_id], n, exclude_seen=new)
        return [_plain(row) for row in table.drop_columns(["user_id"]).to_pylist()]

    def recommend_session(self, item_ids: Sequence[Id], n: int, *, new: bool = True) -> tuple[list[Row], int]:
        """The ``n`` best items for somebody who had these (the most recent last), and how many of them are known.

        Nothing is trained or stored: every term reads the items as it would a user's (`imsr_core.session`). ``new``
        leaves the items themselves out.

        Raises:
            UnknownItemError: none of them is known.
        """
        n, known = asked_count(n), self._known(item_ids)
        if not len(known):
            raise UnknownItemError(
                f"version {self.version_id} knows none of these items", hint="the view `items` lists those it knows"
            )
        table = self.recommender.top_n_of_items(known.numpy(), n, new=new)
        return table.to_pylist(), len(known)

    def similar(self, item_id: Id, n: int) -> list[Row]:
        """The ``n`` items whose vectors point most nearly the same way, best first; ``score`` is the cosine.

        Raises:
            UnknownItemError: the version has never seen the item.
        """
        n, known = asked_count(n), self._known([item_id])
        if not len(known):
            raise UnknownItemError(
                f"version {self.version_id} does not know item {item_id!r}", hint="ids are compared letter by letter"
            )
        cosine = self.directions @ self.directions[known[0]]
        cosine[known[0]] = -torch.inf
        best = cosine.topk(min(n, len(cosine) - 1))
        return self._named(best.indices, best.values)

    def _known(self, item_ids: Sequence[Id]) -> Tensor:
        indices = self.recommender.version.vocabulary.items_of(pa.array(asked_ids(item_ids), pa.string()))
        return torch.from_numpy(indices[(indices >= 0) & (indices < len(self.directions))].astype(np.int64))

    def _named(self, items: Tensor, scores: Tensor) -> list[Row]:
        shown = items >= 0
        ids = self.recommender.version.vocabulary.item_ids(items[shown].numpy()).to_pylist()
        return [
            {"rank": rank, "item_id": item, "score": float(score)}
            for rank, (item, score) in enumerate(zip(ids, scores[shown], strict=True), 1)
        ]


def _seals(recommender: Recommender) -> tuple[int, ...]:
    seals = (path.parent / READY for path in recommender.version.interest_files())
    return tuple(seal.stat().st_mtime_ns if seal.exists() else 0 for seal in seals)


def _plain(row: Row) -> Row:
    """A row without what is not said of it."""
    return {name: value for name, value in row.items() if value is not None}
