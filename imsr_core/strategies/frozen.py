"""Never updated: the base model as it is, for ever. What any update must beat.

The first span is pre-trained like every chain's. After it neither weights nor interests nor the trend move, and users
and items that came later stay unknown.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from imsr_core.ragged import SpanSequences, drop_empty
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import (
    Change,
    History,
    InterestChanges,
    Progress,
    SpanUpdate,
    silent,
    visible_part,
)


def frozen(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
) -> SpanUpdate:
    """Count the span and learn nothing of it; see `imsr_core.strategies.imsr.imsr` for arguments and result."""
    if state.spans == 0:
        return imsr(state, span, n_items, progress, visible=visible)
    span = drop_empty(span)
    if visible is not None:
        visible_part(span, visible)
    kept = state.store.of_users(torch.from_numpy(span.users))
    unknown = torch.full((len(kept),), math.nan, dtype=torch.float64)
    changes = InterestChanges(
        user=kept.user,
        interest_id=kept.interest_id,
        change=torch.full((len(kept),), list(Change).index(Change.KEPT)),
        clarity=unknown,
        residual=unknown,
        drift=torch.zeros(len(kept), dtype=torch.float64),
        reason=torch.full((len(kept),), -1),
    )
    after = replace(state, spans=state.spans + 1)  # which is what it would be without the hidden events, too
    return SpanUpdate(after, kept, changes, losses=[], new_users=0, detected=0)
