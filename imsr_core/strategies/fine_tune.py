"""Fine-tuning (FT): inherit M_{t-1}, train on span t, nothing else (paper, section V-A).

It is `imsr` with EIR, NID and PIT off: the same loop, loss and extraction, so that a difference between the two is
the modules' and nothing else's. With ``[model] prior_mass = 0`` it is the paper's literal FT.
"""

from __future__ import annotations

from dataclasses import replace

from imsr_core.config import InterestsConfig
from imsr_core.ragged import SpanSequences
from imsr_core.state import ModelState
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import History, Progress, SpanUpdate, silent


def without_modules(config: InterestsConfig) -> InterestsConfig:
    """The same configuration with EIR, NID and PIT switched off."""
    return replace(
        config,
        retainer=replace(config.retainer, enabled=False),
        detector=replace(config.detector, enabled=False),
        trimmer=replace(config.trimmer, enabled=False),
    )


def fine_tune(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
) -> SpanUpdate:
    """One span of plain fine-tuning; see `imsr_core.strategies.imsr.imsr` for arguments and result."""
    plain = replace(state, config=without_modules(state.config))
    update = imsr(plain, span, n_items, progress, visible=visible)
    update.state.config = state.config
    return update
