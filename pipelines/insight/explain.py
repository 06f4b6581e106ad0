"""A user's interests, explained: what each stands for, how old it is, how it drifted, what it brings lately.

explainer = Explainer.open("my-workspace")      # users=["2453"]: for them alone, in a moment
explainer.user("2453")        # a Meaning for each interest, oldest first
explainer.write_all()         # everybody's nearest items, behind the view `interest_items`
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

from imsr_core.overlap import overlap
from pipelines.insight.meaning import Standout, labels, nearest_items, neighbourhood, standouts, tidy
from pipelines.interests.asked_ids import Id
from pipelines.interests.catalogue import Catalogue
from pipelines.interests.recommend import Recommender
from pipelines.workspace.editions import drop_editions, is_stored
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table, write_table

#: Folder of everybody's nearest items, a file a version.
FOLDER = "explanations"
#: Categories of an interest that are shown, and that are looked at for its label.
SHOWN, FOR_LABELS = 3, 6


@dataclass(frozen=True)
class Meaning:
    """One interest of one user; ``label`` is what it stands for, in a few words.

    ``support`` counts the items of the last active span that were nearest to it; ``overlap`` is the cosine to the
    nearest older interest (None for the oldest); ``drift`` the mean 1 - cosine that a span moved it (None if it was
    never measured); ``brings`` how many of the user's first ``of`` recommendations come from it.
    """

    interest_id: int
    label: str
    born_span: str
    active_span: str
    support: int
    norm: float
    overlap: float | None
    drift: float | None
    brings: int
    of: int
    categories: tuple[Standout, ...]
    items: tuple[tuple[str, str], ...]


@dataclass
class Explainer:
    """One version, with what is known of its items (``described``, if the caller has it already)."""

    recommender: Recommender
    described: Catalogue | None = None

    @classmethod
    def open(
        cls, workspace: Workspace | Path | str, version_id: str | None = None, *, users: Sequence[Id] | None = None
    ) -> Explainer:
        """The current version of a workspace, or the one of this id; for ``users`` alone it is read in a moment.

        Raises:
            WorkspaceError, VersionError, CheckpointError: what is asked for is not there, or damaged.
        """
        return cls(Recommender.open(workspace, version_id, users=users))

    @cached_property
    def catalogue(self) -> Catalogue:
        """The items that the model has vectors of."""
        return self.described or Catalogue.of(self.recommender.version, self.recommender.state.n_items)

    def labels(self, vectors: torch.Tensor) -> list[str]:
        """What each of a user's interests (K, d) stands for, in a few words (see `meaning.labels`)."""
        nearest = nearest_items(vectors, self.recommender.state.item_vectors(), neighbourhood(self._n_items)).items
        return self._labels(standouts(nearest, self.catalogue, FOR_LABELS), nearest)

    def labels_of(self, user_id: str) -> dict[int, str]:
        """Interest of a user -> what it stands for, in a few words; nothing for a user who is not known."""
        if not self.recommender.known([user_id])[0]:
            return {}
        table = self.recommender.interests(user_id)
        return dict(zip(table["interest_id"].to_pylist(), self.labels(_vectors(table)), strict=True))

    def user(self, user_id: str, *, items: int = 5, of: int = 20, drifts: bool = True) -> list[Meaning]:
        """What each interest of one user stands for, oldest first, by its ``items`` nearest items.

        Without ``drifts`` no file of the version is read: an answer of the memory alone.

        Raises:
            UnknownUserError: the version has never seen the user.
        """
        table = self.recommender.interests(user_id)
        vectors = _vectors(table)
        near = neighbourhood(self._n_items)
        nearest = nearest_items(vectors, self.recommender.state.item_vectors(), max(near, items))
        told = standouts(nearest.items[:, :near], self.catalogue, FOR_LABELS)
        named = self._labels(told, nearest.items)
        older = overlap(vectors, torch.zeros(len(vectors), dtype=torch.int64)).numpy()
        drifted, brought = self._drifts(user_id) if drifts else {}, self._brought(user_id, of)
        shown = self._named(nearest.items[:, :items].ravel())
        width = min(items, nearest.items.shape[1])
        return [
            Meaning(
                interest_id=row["interest_id"],
                label=named[at],
                born_span=row["born_span"],
                active_span=row["active_span"],
                support=row["support"],
                norm=row["norm"],
                overlap=None if np.isnan(older[at]) else float(older[at]),
                drift=drifted.get(row["interest_id"]),
                brings=brought.get(row["interest_id"], 0),
                of=of,
                categories=tuple(told[at][:SHOWN]),
                items=tuple(shown[at * width : (at + 1) * width]),
            )
            for at, row in enumerate(table.drop_columns(["vector"]).to_pylist())
        ]

    def write_all(self, items: int = 5) -> Path:
        """Write the nearest items of everybody's interests to ``explanations/<version id>.parquet``."""
        recommender = self.recommender
        store, version = recommender.state.store, recommender.version
        nearest = nearest_items(store.vectors, recommender.state.item_vectors(), items)
        rows, width = nearest.items.shape
        users = version.vocabulary.user_ids(store.users.numpy())
        owner = np.repeat(np.arange(len(store.users)), store.counts.numpy() * width)
        table = pa.table(
            {
                "version_id": pa.array([version.row.version_id] * (rows * width), pa.string()),
                "user_id": users.take(pa.array(owner)).combine_chunks(),
                "interest_id": pa.array(np.repeat(store.interest_id.numpy(), width)),
                "rank": pa.array(np.tile(np.arange(1, width + 1), rows)),
                "item_id": self.catalogue.ids.take(pa.array(nearest.items.ravel())),
                "score": pa.array(nearest.scores.ravel()),
            }
        )
        folder = version.workspace.root / FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{version.row.version_id}.parquet"
        write_table(table, path)
        drop_editions(path)
        return path

    @property
    def _n_items(self) -> int:
        return self.recommender.state.n_items

    def _labels(self, told: list[list[Standout]], nearest: NDArray[np.int64]) -> list[str]:
        first = [name for _, name in self._named(nearest[:, 0])] if nearest.size else [""] * len(nearest)
        return labels(told, first)

    def _named(self, items: NDArray[np.int64]) -> list[tuple[str, str]]:
        """(id, name) of each item; what has no name is called by its id, as it is."""
        columns = (self.catalogue.ids, self.catalogue.names)
        pairs = zip(*(column.take(pa.array(items)).to_pylist() for column in columns), strict=True)
        return [(item, name if name == item else tidy(name)) for item, name in pairs]

    def _brought(self, user_id: str, of: int) -> dict[int, int]:
        """Interest -> how many of the user's first recommendations it brings."""
        brought = self.recommender.top_n([user_id], of)["interest_id"].drop_null().value_counts()
        return {pair["values"]: pair["counts"] for pair in brought.to_pylist()}

    def _drifts(self, user_id: str) -> dict[int, float]:
        """Interest -> its mean drift over the spans of the version's chain in which the user was active."""
        version = self.recommender.version
        drifts: dict[int, list[float]] = {}
        for path in version.lineage.interests:
            changes = version.workspace.resolve(path).parent / "changes.parquet"
            if not is_stored(changes):  # an archived version keeps it; a pruned one has neither
                continue
            table = read_table(changes, ["user_id", "interest_id", "drift"])
            own = table.filter(pa.compute.equal(table["user_id"], user_id)).drop_null()
            for interest, drift in zip(own["interest_id"].to_pylist(), own["drift"].to_pylist(), strict=True):
                drifts.setdefault(interest, []).append(drift)
        return {interest: float(np.mean(values)) for interest, values in drifts.items()}


def _vectors(interests: pa.Table) -> torch.Tensor:
    """(K, d) of a table of one user's interests."""
    return torch.from_numpy(np.array(interests["vector"].to_pylist(), dtype=np.float32))
