"""Model versions of the `interests` line: what a version folder holds, how one is written and read.

    versions/<span>.<attempt>/
        config.json, model.safetensors, optimizer.safetensors    the checkpoint (imsr_core.checkpoint); of items what
                                changed since the parent's, where that is little (imsr_core.changed_rows)
        interests.parquet       interests of the users that the span touched (see `interest_files`); those of the
                                m-th further member of the model, if any, in member-<m>.parquet
        interest_counts.parquet how many those are, of each user (see `count_files`)
        changes.parquet         what happened to each interest: born, kept, trimmed, forgotten
        user_items.parquet, recent_items.parquet, neighbour_contexts.parquet or neighbour_counts.parquet
                                what the score counts, of what the span touched (see `score_files`)
        item_categories.parquet or new_item_categories.parquet
                                categories that it learns from, if any (see `category_files`)
        memory-*.parquet        what the strategy remembers of users, if anything (see `memory_files`)
        gate.parquet            events that were kept from learning, and their ranks (see `gate_events`)
        lineage.json            parent, data fingerprints, vocabulary, interest chain, configuration, packages
        READY                   size and hash of every file

A version is a pure function of its lineage's fingerprint: the same parent, data, configuration and seed give the
same tensors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from imsr_core.checkpoint import Before, chain_at, config_identity, load_state, save_state
from imsr_core.config import InterestsConfig
from imsr_core.interests import InterestStore
from imsr_core.sorted_keys import unique
from imsr_core.state import ModelState
from imsr_core.strategies import Change, SpanUpdate
from imsr_core.strategies.protocol import InterestChanges
from imsr_core.strategies.shrinking import Reason
from pipelines.interests.category_files import CategoryRows, read_categories
from pipelines.interests.count_files import write_counts
from pipelines.interests.interest_files import (
    COMPACTION_FACTOR,
    member_file,
    owners_in,
    read_interests,
    rows_in,
    write_interests,
)
from pipelines.interests.memory_files import read_user_memory, write_user_memory
from pipelines.interests.score_files import ScoreChanges, read_score, write_score
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.versions.line import Line
from pipelines.versions.lineage import Lineage
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import VersionRow
from pipelines.workspace.memory import release_memory
from pipelines.workspace.parquet_files import write_tables

LINE = Line.INTERESTS
#: Raise when the same inputs would give another model.
MODEL_FORMAT = 1
#: Changes of interests that are made ready to be written at once.
_CHANGES = 131_072


def fingerprint_of(
    parent: str | None,
    data: dict[str, str],
    config: InterestsConfig,
    strategy: str,
    protocol: str,
    *,
    holdout: float = 0.0,
    like: str | None = None,
    categories: str = "",
) -> str:
    """What determines a version: ``parent`` is the parent's fingerprint, ``data`` the sequences' by span.

    ``holdout`` is the share of events that are kept from learning, ``like`` the fingerprint of the version whose
    numbers of interests a model that starts over takes, ``categories`` that of the table about items that is learnt
    from.
    """
    content: dict[str, Any] = {
        "format": MODEL_FORMAT,
        "parent": parent,
        "data": sorted(data.items()),
        "config": config_identity(config),
        "strategy": strategy,
        "protocol": protocol,
        "holdout": holdout,
        "like": like,
    }
    if categories:
        content["categories"] = categories
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Version:
    """A version of the `interests` line, opened for reading."""

    workspace: Workspace
    row: VersionRow
    lineage: Lineage

    @classmethod
    def open(cls, workspace: Workspace, version_id: str | None = None) -> Version:
        """The version of this id, or the current one.

        Raises:
            VersionError: there is no such version, or no current one yet.
        """
        with workspace.ledger.snapshot() as view:
            row = LINE.row(view, version_id)
        return cls(workspace, row, Lineage.read(workspace.resolve(row.path)))

    @property
    def folder(self) -> Path:
        """The version's folder."""
        return self.workspace.resolve(self.row.path)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The ids that the version knows."""
        return Vocabulary.open([self.workspace.resolve(path) for path in self.lineage.vocabulary])

    def interest_files(self) -> list[Path]:
        """The chain of interest files, oldest first."""
        return [self.workspace.resolve(path) for path in self.lineage.interests]

    def member_files(self, number: int) -> list[Path]:
        """The chain of interest files of the further member ``number`` (from 1), oldest first."""
        return [member_file(path.parent, number) for path in self.interest_files()]

    def score_folders(self) -> list[Path]:
        """The folders with the score's tables, oldest first: those of the interests."""
        return [path.parent for path in self.interest_files()]

    def read_folders(self) -> list[Path]:
        """The folders of other versions that this one reads, oldest first."""
        folders = dict.fromkeys([*self.model_folders(), *self.score_folders()])
        return [folder for folder in folders if folder != self.folder]

    def model_folders(self) -> list[Path]:
        """The checkpoints that the model is read from, oldest first: a whole one, and changes up to the own."""
        return [self.workspace.resolve(path) for path in self.lineage.model] or [self.folder]

    def some_users(self, limit: int) -> NDArray[np.int64]:
        """At most ``limit`` users, evenly spread, of those whose interests the version's newest file has."""
        users = owners_in(self.interest_files()[-1])
        return users[np.linspace(0, len(users) - 1, min(limit, len(users))).astype(np.int64)]

    def continues_in(self, folders: Sequence[Path]) -> bool:
        """Whether users and items have the same indices in this vocabulary, a list of folders, oldest first."""
        known = list(self.lineage.vocabulary)
        return [self.workspace.relative(folder) for folder in folders[: len(known)]] == known

    def load(self, users: NDArray[np.int64] | None = None, *, optimizer: bool = False, own: bool = False) -> ModelState:
        """The model, with the interests of ``users`` (indices) or of everybody; with ``own`` its score knows of what
        goes with what the version's own part alone (see `read_score`)."""
        state = load_state(self.model_folders(), optimizer=optimizer)
        model = state.config.model
        state.store = read_interests(self.interest_files(), model.dim, model.query_units, users)
        for number, member in enumerate(state.members, 1):
            member.store = read_interests(self.member_files(number), model.dim, model.query_units, users)
        if state.score is not None:
            state.score = read_score(self.score_folders(), state.score, users, own=own)
            if state.score.categories is not None:
                state.score = state.score.with_categories(read_categories(self.score_folders()))
        if optimizer:
            state.user_memory = read_user_memory(self.folder)
        return state


def write_version(
    folder: Path,
    update: SpanUpdate,
    lineage: Lineage,
    parent: Version | None,
    vocabulary: Vocabulary,
    score: ScoreChanges | None = None,
    before: ModelState | None = None,
    categories: CategoryRows | None = None,
) -> Lineage:
    """Write all files of a version but READY into ``folder``; returns the lineage with its chains of files.

    ``lineage.interests`` must be the parent's chain; ``folder`` will be ``versions/<version id>`` in the end. With
    ``before``, the parent's model as it was loaded, moments and all, the model is written as changes if they are few.
    """
    model = _write_model(folder, update.state, lineage.version_id, parent, before)
    write_user_memory(update.state.user_memory, folder)
    store, chain = update.interests, lineage.interests
    stores = [store, *(member.interests for member in update.members)]
    own = f"versions/{lineage.version_id}/interests.parquet"
    anew = parent is not None and (_overgrown(parent, len(store)) or (score is not None and not score.folders))
    if parent is not None and anew:
        stores, chain = [_with_earlier(parent, number, each) for number, each in enumerate(stores)], ()
    if score is not None:
        write_score(score, vocabulary, lineage.version_id, folder, everybody=anew)
        if not score.folders:  # all was counted
            release_memory()
    if categories is not None:
        categories.write(folder, whole=not chain)
    store, *further = stores
    user_ids, active = _user_ids(vocabulary, store), unique(update.changes.user.numpy())
    write_interests(store, user_ids, lineage.spans, lineage.version_id, folder / "interests.parquet")
    for number, each in enumerate(further, 1):
        ids = _user_ids(vocabulary, each)
        write_interests(each, ids, lineage.spans, lineage.version_id, member_file(folder, number))
    write_counts(store, user_ids, active, lineage.version_id, (lineage.span_id, len(lineage.spans) - 1), folder)
    _write_changes(update, lineage, vocabulary, folder / "changes.parquet")
    complete = Lineage(**(lineage.__dict__ | {"interests": (*chain, own), "model": model}))
    (folder / "lineage.json").write_text(complete.to_json(), encoding="utf-8")
    return complete


def _write_model(
    folder: Path, state: ModelState, version_id: str, parent: Version | None, before: ModelState | None
) -> tuple[str, ...]:
    """Write the checkpoint; returns the folders that it is read from, none where it is whole."""
    if parent is None or before is None:
        save_state(state, folder)
        return ()
    chain = save_state(state, folder, Before(before, chain_at(parent.folder)))
    earlier = tuple(parent.workspace.relative(path) for path in parent.model_folders())
    return (*earlier, f"versions/{version_id}") if chain.links else ()


def _with_earlier(parent: Version, number: int, store: InterestStore) -> InterestStore:
    """The interests of everybody by the member ``number`` (0: the first), with those of the span's users."""
    files = parent.member_files(number) if number else parent.interest_files()
    return read_interests(files, store.dim, store.queries.shape[1]).updated(store)


def _overgrown(parent: Version, new_rows: int) -> bool:
    files = parent.interest_files()
    if len(files) < 2:
        return False
    living = parent.row.summary.get("interests", 0)
    return rows_in(files) + new_rows > COMPACTION_FACTOR * max(living, new_rows)


def _user_ids(vocabulary: Vocabulary, store: InterestStore) -> pa.ChunkedArray:
    return vocabulary.user_ids(store.users.numpy())


def _write_changes(update: SpanUpdate, lineage: Lineage, vocabulary: Vocabulary, path: Path) -> None:
    rows = range(0, max(len(update.changes.user), 1), _CHANGES)
    tables = (_changes(update.changes.take(slice(n, n + _CHANGES)), lineage, vocabulary) for n in rows)
    write_tables(tables, path, row_group_size=_CHANGES)


def _changes(changes: InterestChanges, lineage: Lineage, vocabulary: Vocabulary) -> pa.Table:
    users, place = torch.unique(changes.user, return_inverse=True)
    names, reasons = (pa.array([str(name) for name in kind]) for kind in (Change, Reason))
    rows = len(changes.user)

    def numbers(values: torch.Tensor) -> pa.Array:
        return pa.array(values.contiguous().numpy(), from_pandas=True)  # NaN, that is not measured, becomes NULL

    return pa.table(
        {
            "version_id": pa.array([lineage.version_id] * rows, pa.string()),
            "span_id": pa.array([lineage.span_id] * rows, pa.string()),
            "user_id": vocabulary.user_ids(users.numpy()).take(pa.array(place.numpy())),
            "user_index": pa.array(changes.user.numpy()),
            "interest_id": pa.array(changes.interest_id.numpy(), mask=changes.interest_id.numpy() < 0),
            "change": names.take(pa.array(changes.change.numpy())),
            "clarity": numbers(changes.clarity),
            "residual": numbers(changes.residual),
            "drift": numbers(changes.drift),
            "reason": reasons.take(pa.array(changes.reason.numpy(), mask=changes.reason.numpy() < 0)),
        }
    )
