"""Full retraining: forget M_{t-1} and train on everything up to span t (the paper's FR, section V-A).

It answers what a chain of updates has lost against training from scratch. It is `imsr` pre-training on the whole
history, so that a difference between the two is the data's and not the code's, and it is matched in capacity: each
user starts with as many interests as in ``state``, where an incremental chain has grown them.
"""

from __future__ import annotations

from imsr_core.errors import ConfigError
from imsr_core.interests import InterestStore
from imsr_core.ragged import SpanSequences, concatenate, drop_empty, empty_sequences
from imsr_core.score import MONTH
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr, trend_after
from imsr_core.strategies.protocol import History, Progress, SpanUpdate, silent, visible_part


def full_retrain(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
    like: InterestStore | None = None,
) -> SpanUpdate:
    """Train a model that starts from nothing on ``history`` and ``span``.

    Of ``state`` only the configuration and the numbers of interests are used (or those of ``like``), and how well it
    ranks the span with each weight of the trend: a model that starts over could not tell; the weights of its score are
    those of ``state``. The result begins a chain:
    it has learnt one span, and all interests, of all users, were born in it. Raises `ConfigError` without a
    ``history`` unless ``state`` has seen nothing.
    """
    if history is None and state.spans:
        raise ConfigError("full_retrain needs everything that happened before the span", hint="give it a history")
    past = history() if history is not None else empty_sequences()
    everything = concatenate([past, span])
    seen = None if visible is None else concatenate([past, visible_part(drop_empty(span), visible)])
    unit, categories = (MONTH, None) if state.score is None else (state.score.unit, state.score.categories)
    fresh = ModelState.initial(state.config, unit, categories)
    fresh.missed = state.missed
    update = imsr(fresh, everything, n_items, progress, visible=seen, like=state.store if like is None else like)
    judged = trend_after(state, span if visible is None else visible, n_items)
    update.state.trend = judged.with_counts_of(update.state.trend)
    if state.score is not None and state.score.weights.evidence:
        update = update.weighed(state.score.weights)
    return update
