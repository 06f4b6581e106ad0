"""Train a version from its parent and a span's sequences, and put it into the ledger as a candidate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from imsr_core.checkpoint import MODEL, OPTIMIZER, config_to_dict
from imsr_core.config import InterestsConfig
from imsr_core.devices import training_device
from imsr_core.errors import ConfigError
from imsr_core.hands import lent
from imsr_core.holdout import hide_last
from imsr_core.letting_go import given_back_by
from imsr_core.ragged import SpanSequences, all_but_last, concatenate, drop_empty
from imsr_core.score import Score
from imsr_core.sorted_keys import union, unique
from imsr_core.state import ModelState
from imsr_core.strategies import Change, SpanUpdate, strategy_named
from pipelines.interests.category_files import CategoryRows
from pipelines.interests.gate_events import MOST_HIDDEN, GateEvents, rank_hidden, salt_of
from pipelines.interests.item_categories import CategoryTable, rows_after
from pipelines.interests.many_hands import hands_of
from pipelines.interests.read_once import Read, read_to_train
from pipelines.interests.score_files import ScoreChanges
from pipelines.interests.scoring import changes_of, described, length_of_a_span, scored
from pipelines.interests.version import LINE, Version, fingerprint_of, write_version
from pipelines.sequences.chain import ChainLink, chain_of
from pipelines.sequences.loader import load_sequences
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.versions.candidates import Making, find_version, new_row, publish_version
from pipelines.versions.lineage import Lineage, VersionError, installed_packages
from pipelines.workspace.ending import noticing
from pipelines.workspace.failpoints import FailPoint, hit
from pipelines.workspace.layout import Workspace
from pipelines.workspace.ledger import SequencesRow, SpanState, Transaction, VersionRow
from pipelines.workspace.memory import keep_memory, laid_aside, release_memory
from pipelines.workspace.seal import verify_folder
from pipelines.workspace.states import VersionState
from pipelines.workspace.writer import Writer

#: Strategy name that the ledger shows for a base model.
PRETRAIN = "pretrain"
MAKING = Making(FailPoint.TRAIN_STAGED, FailPoint.TRAIN_BEFORE_COMMIT, FailPoint.TRAIN_AFTER_COMMIT)

#: Called with (steps done, steps in all at most, loss of the step).
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TrainingInput:
    """Everything that determines a version: its parent, the spans it learns with their sequences, and how.

    ``holdout`` is the share of the last span's events that are kept from learning; they are ranked up to ``top_n``.
    With ``like`` the version is a shadow: it starts over on all spans, beside the chain whose head that version is.
    ``read`` reads the parent's model.
    """

    workspace: Workspace
    parent: Version | None
    spans: tuple[str, ...]
    sequences: tuple[SequencesRow, ...]
    config: InterestsConfig
    strategy: str
    protocol: str
    holdout: float = 0.0
    top_n: int = 20
    like: Version | None = None
    read: Read = read_to_train

    @property
    def span_id(self) -> str:
        """The last span that is learnt; the version is named after it."""
        return self.spans[-1]

    @property
    def name(self) -> str:
        """The strategy as the ledger names it: a version that begins the first chain is pre-trained."""
        return PRETRAIN if self.parent is None and self.like is None else self.strategy

    @property
    def fingerprint(self) -> str:
        """See `pipelines.interests.version.fingerprint_of`."""
        data = {row.span_id: row.fingerprint for row in self.sequences}
        parent = self.parent.lineage.fingerprint if self.parent else None
        like = self.like.lineage.fingerprint if self.like else None
        how = (self.config, self.name, self.protocol)
        learnt_from = self.categories.fingerprint if self.categories else ""
        return fingerprint_of(parent, data, *how, holdout=self.holdout, like=like, categories=learnt_from)

    @cached_property
    def categories(self) -> CategoryTable | None:
        """The table about items that is learnt from, as it is now."""
        return CategoryTable.in_force(self.workspace, self.config)

    def folders(self) -> list[Path]:
        """Sequence folders of the spans, oldest first."""
        return [self.workspace.resolve(row.path) for row in self.sequences]

    def vocabulary_folders(self) -> list[Path]:
        """Vocabulary deltas up to and including the last span, oldest first."""
        return [link.folder for link in self._chain]

    def missed_folders(self) -> list[Path]:
        """Sequence folders of spans before the last one that the chain has not learnt: what learnt them was rejected,
        or rolled back. Oldest first."""
        return [link.folder for link in self._missed]

    def missed_spans(self) -> list[str]:
        """The same spans, by name."""
        return [link.span_id for link in self._missed]

    @cached_property
    def _chain(self) -> list[ChainLink]:
        last = self.sequences[-1]
        return chain_of(self.workspace, last.span_id, last.fingerprint)

    @cached_property
    def _missed(self) -> list[ChainLink]:
        known = set() if self.parent is None else {self.workspace.resolve(p) for p in self.parent.lineage.vocabulary}
        known |= set(self.folders())
        return [link for link in self._chain if link.folder not in known]

    def verify(self) -> None:
        """Compare all that is learnt from with what was published: a weight that flipped is still a number."""
        for folder in (*self.missed_folders(), *self.folders(), *([self.parent.folder] if self.parent else [])):
            verify_folder(folder)
        for folder in self.parent.model_folders()[:-1] if self.parent else ():
            verify_folder(folder, only=(MODEL, OPTIMIZER), lately=True)

    def load(self) -> list[SpanSequences]:
        """What is learnt of each span: all events, or all but each user's last two under the paper's protocol."""
        return [self._load(folder) for folder in self.folders()]

    def load_missed(self) -> SpanSequences:
        """The same of the spans that the chain has not learnt, as one."""
        return concatenate([self._load(folder) for folder in self.missed_folders()])

    def _load(self, folder: Path) -> SpanSequences:
        part = load_sequences(folder)
        return drop_empty(all_but_last(part, 2) if self.protocol == "holdout" else part)


def train_version(source: TrainingInput, writer: Writer, *, progress: Progress) -> VersionRow:
    """The version that ``source`` determines: found if it was trained before, else trained and recorded.

    Raises:
        NonFiniteError: training diverged; nothing is recorded, the current version stays.
        VersionError: the parent numbers its ids by other data than those in force.
        PublishError: the parent or the sequences are damaged: no version may rest on them.
    """
    with source.workspace.ledger.snapshot() as view:
        row = find_version(view, source.workspace, LINE, source.fingerprint)
        attempts = [r for r in view.versions(LINE) if r.span_id == source.span_id]
    if row is not None:
        return row
    training_device(source.config.training.device)  # one that is not there is said before anything is read
    source.verify()
    release_memory()
    keep_memory()
    started = time.perf_counter()
    learnt = _learn(source, progress)
    release_memory()
    lineage = _lineage(source, f"{source.span_id}.{len(attempts) + 1}")

    def write(folder: Path) -> None:
        learnt.events.write(folder)
        vocabulary = Vocabulary.open(source.vocabulary_folders())
        own = (learnt.score, learnt.before, learnt.categories)
        write_version(folder, learnt.update, lineage, source.parent, vocabulary, *own)

    def mark_trained(tx: Transaction) -> None:
        for span_id in source.spans if source.like is None else ():
            tx.set_span_state(span_id, SpanState.TRAINED, at=writer.now)

    row = _row(source, lineage, learnt.update, writer.now, time.perf_counter() - started)
    publish_version(writer, row, write, MAKING, also=mark_trained)
    return row


@dataclass(frozen=True)
class _Learnt:
    """The update, how it ranks the ``events`` that were kept from it, what of the score's tables has changed, and
    the model ``before``, as the parent's files have it (None without a parent, or where they have no score yet), and
    the ``categories`` of items, if they are learnt from."""

    update: SpanUpdate
    events: GateEvents
    score: ScoreChanges | None
    before: ModelState | None
    categories: CategoryRows | None


def _learn(source: TrainingInput, progress: Progress) -> _Learnt:
    (past, span), n_items = _spans(source), _catalogue_size(source)
    before, categories = _start(source, span.users), _categories(source)
    if before.score is not None:
        before.score = before.score.with_categories(categories.categories if categories else None)
    share = min(source.holdout, MOST_HIDDEN / max(span.n_events, 1))
    visible, hidden = hide_last(span, share, salt_of(source.config.training.seed, source.span_id))
    hit(FailPoint.TRAIN_STARTED)
    aside = partial(laid_aside, folder=source.workspace.staging)
    with one_thread(), lent(hands_of(source.workspace)), given_back_by(release_memory, aside):
        update = strategy_named(source.strategy)(
            before,
            span,
            n_items,
            noticing(progress),
            visible=visible if len(hidden) else None,
            history=None if past is None else lambda: past,
        )
    users, current = span.users, before if source.parent is not None else None
    del span, visible  # a first span is as large as what is made of it
    events = rank_hidden(hidden, current, update.unseen(torch.from_numpy(hidden.users)), source.top_n)
    if source.like is not None:
        events = events.compared_with(GateEvents.read(source.like.folder))
    score = changes_of(source.parent, before, update, union(users, before.missed.users))
    on_disk = source.parent is not None and (score is None or bool(score.folders))
    return _Learnt(update.without_blind(), events, score, before if on_disk else None, categories)


def _spans(source: TrainingInput) -> tuple[SpanSequences | None, SpanSequences]:
    """What happened before the span that a shadow learns last, and the span; of all others None, and all as one."""
    parts = source.load()
    return (concatenate(parts[:-1]), parts[-1]) if source.like else (None, concatenate(parts))


def _categories(source: TrainingInput) -> CategoryRows | None:
    """What the items of the span's catalogue are, if that is learnt from; of those that the parent knows as it has it,
    unless the table is another one since."""
    if source.categories is None:
        return None
    parent = source.parent
    same = parent is not None and parent.lineage.categories == source.categories.fingerprint
    folders, known = (parent.score_folders(), parent.row.summary["items"]) if parent is not None and same else ([], 0)
    return rows_after(source.categories, Vocabulary.open(source.vocabulary_folders()), folders, known)


@contextmanager
def one_thread() -> Iterator[None]:
    """Take each step on one core: its tensors are so small that threads would wait for each other longer than they
    work. (Members of a model learn side by side.)

    It also makes a version independent of the machine's number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _start(source: TrainingInput, users: NDArray[np.int64]) -> ModelState:
    """What the strategy starts from: nothing, the parent as far as it knows ``users``, or for a shadow the chain's
    numbers of interests. With what the chain has missed."""
    missed = source.load_missed()
    if source.like is not None:
        state = source.like.load()
    elif source.parent is None:
        return ModelState.initial(source.config, length_of_a_span(source.workspace))
    else:
        _require_same_numbering(source.parent, source)
        state = source.read(source.parent, union(users, missed.users))
        _require_same_shape(source.parent, state.config, source.config)
    state.config, state.missed = source.config, missed
    made_by = source.parent or source.like
    assert made_by is not None
    return scored(state, made_by)


def _require_same_numbering(parent: Version, source: TrainingInput) -> None:
    """Users and items must have the indices in the span that they have in the parent."""
    if not parent.continues_in(source.vocabulary_folders()):
        raise VersionError(
            f"version {parent.row.version_id} cannot learn span {source.span_id}: it was made before the data of an "
            "earlier span changed",
            hint="promote a version that was made since (see: imsr versions), or restate the span that changed",
        )


def _require_same_shape(parent: Version, old: InterestsConfig, new: InterestsConfig) -> None:
    """The tensors of a chain have the shapes that its base was made with."""
    for key, shape in (
        ("extractor", "extractor"),
        ("dim", "dim"),
        ("members", "members"),
        ("attention_units", "query_units"),
    ):
        if getattr(old.model, shape) != getattr(new.model, shape):
            raise ConfigError(
                f"[model] {key} = {getattr(new.model, key)!r}: version {parent.row.version_id} was made with "
                f"{getattr(old.model, key)!r}",
                hint=f"set {key} back in imsr.toml, or learn everything anew: imsr restate {parent.lineage.spans[0]}",
            )


def _catalogue_size(source: TrainingInput) -> int:
    return Vocabulary.open(source.vocabulary_folders()).n_items


def _lineage(source: TrainingInput, version_id: str) -> Lineage:
    workspace, parent = source.workspace, source.parent
    return Lineage(
        version_id=version_id,
        span_id=source.span_id,
        spans=(*(parent.lineage.spans if parent else ()), source.span_id),
        parent=parent.row.version_id if parent else None,
        strategy=source.name,
        protocol=source.protocol,
        fingerprint=source.fingerprint,
        data={row.span_id: row.fingerprint for row in source.sequences},
        vocabulary=tuple(workspace.relative(folder) for folder in source.vocabulary_folders()),
        interests=parent.lineage.interests if parent else (),
        config=config_to_dict(source.config),
        packages=installed_packages(),
        categories=source.categories.fingerprint if source.categories else "",
    )


def _row(source: TrainingInput, lineage: Lineage, update: SpanUpdate, now: datetime, seconds: float) -> VersionRow:
    state = VersionState.CANDIDATE if source.like is None else VersionState.SHADOW
    summary = _summary(update, source.parent) | {"spans": list(source.spans), "train_seconds": round(seconds, 3)}
    summary |= {"beside": source.like.row.version_id} if source.like else {}
    missed = source.missed_spans()
    summary |= {"missed": missed} if missed else {}
    return new_row(source.workspace, LINE, lineage, state, at=now, summary=summary)


def _summary(update: SpanUpdate, parent: Version | None) -> dict[str, Any]:
    """What `imsr status` and the views show of a version."""
    before = parent.row.summary if parent else {"users": 0, "interests": 0}
    new_interests = update.changes.count(Change.BORN) - update.changes.count(Change.FORGOTTEN)
    users = before["users"] + update.new_users
    interests = before["interests"] + new_interests
    return {
        "users": users,
        "items": update.state.n_items,
        "interests": interests,
        "mean_interests": interests / users if users else 0.0,
        "active_users": len(update.interests.users),
        "new_users": update.new_users,
        "detected_users": update.detected,
        "born": update.changes.count(Change.BORN),
        "trimmed": update.changes.count(Change.TRIMMED),
        "forgotten": update.changes.count(Change.FORGOTTEN),
        "losses": [round(loss, 6) for loss in update.losses],
        "clarity_threshold": _finite(update.threshold),
        "clarity_quantiles": update.clarity_quantiles,
    } | ({} if update.state.score is None else _said_of(update.state.score))


def _said_of(score: Score) -> dict[str, Any]:
    known = {} if score.categories is None else {"described_items": len(unique(score.categories.item))}
    return {"score": described(score)} | known


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
