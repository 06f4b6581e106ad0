"""The score of a version in the making: what it starts from, what of it is written, what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imsr_core.ragged import SpanSequences, all_but_last, concatenate, drop_empty
from imsr_core.score import SETS, Score
from imsr_core.state import ModelState
from imsr_core.strategies import SpanUpdate
from pipelines.interests.score_files import USER_ITEMS, ScoreChanges
from pipelines.interests.version import Version
from pipelines.sequences.loader import load_sequences
from pipelines.workspace.editions import is_stored
from pipelines.workspace.layout import Workspace

SECOND = 1_000_000  # microseconds
DAY = 86_400 * SECOND
#: How long a span of each calendar unit lasts, a month on average.
LENGTHS = {"hour": DAY // 24, "day": DAY, "week": 7 * DAY, "month": int(30.4375 * DAY)}


def length_of_a_span(workspace: Workspace) -> int:
    """How long the spans of a workspace last, in microseconds; cut spans: those after the first."""
    settings = workspace.settings.spans
    if settings.unit in LENGTHS:
        return LENGTHS[settings.unit]
    with workspace.ledger.snapshot() as view:
        spans = view.spans()
    row = spans[min(1, len(spans) - 1)]
    return max(SECOND, row.end_us - row.start_us)


def scored(state: ModelState, made_by: Version) -> ModelState:
    """``state``, of the version ``made_by``, with a score as its configuration wants it.

    A model that was made without one counts what it has learnt anew, from the sequences of its spans: the same counts
    as if it had counted all along.
    """
    config = state.config.score
    if not config.enabled:
        state.score = None
    elif state.score is not None:
        state.score = state.score.configured(config)
    else:
        empty = Score.empty(config, length_of_a_span(made_by.workspace))
        state.score = empty.begun(_learnt_by(made_by), state.n_items, state.config.training.seed)
    return state


def _learnt_by(version: Version) -> SpanSequences:
    folders = [version.workspace.resolve(path) for path in version.lineage.vocabulary]
    parts = [load_sequences(folder) for folder in folders]
    if version.lineage.protocol == "holdout":
        parts = [all_but_last(part, 2) for part in parts]
    return concatenate([drop_empty(part) for part in parts])


def changes_of(
    parent: Version | None, before: ModelState, update: SpanUpdate, users: NDArray[np.int64]
) -> ScoreChanges | None:
    """What of the score's tables is to be written, ``users`` (sorted) being those whose events were counted; None
    without a score."""
    score = update.state.score
    if score is None or before.score is None:
        return None
    folders = () if parent is None else tuple(parent.score_folders())
    has_tables = all(is_stored(folder / USER_ITEMS) for folder in folders)
    return ScoreChanges(update.state, users, folders if has_tables else ())


def described(score: Score) -> dict[str, Any]:
    """The weights and what they rest on, as a version's summary holds them."""
    values = dict(zip(SETS, score.weights.values.tolist(), strict=True))
    sets = {
        which: {
            "weights": {name: round(w, 4) for name, w in zip(score.columns, values[which], strict=True)},
            "evidence": score.described()["evidence"].get(which),
        }
        for which in SETS
    }
    if not score.strangers:
        return sets
    alone = zip(score.trend.columns, score.strangers, strict=True)
    return sets | {"strangers": {"weights": {name: round(w, 4) for name, w in alone}, "evidence": None}}
