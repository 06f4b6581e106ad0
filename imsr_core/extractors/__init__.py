"""Multi-interest extractors: from the items a user touched to the interests behind them.

Readers behind one protocol (`protocol.Extractor`): ComiRec-DR and MIND route items to interests (`routing`), ComiRec-SA
attends to them (`attention`). A new one is one class in one file and one line in `imsr_core.parts`.
"""

from __future__ import annotations

import torch

from imsr_core.config import ModelConfig
from imsr_core.extractors.protocol import Extractor, Prior
from imsr_core.parts import EXTRACTORS

__all__ = ["EXTRACTORS", "Extractor", "Prior", "build_extractor"]


def build_extractor(config: ModelConfig, generator: torch.Generator) -> Extractor:
    """The extractor that ``config.extractor`` names, with fresh parameters drawn from ``generator``."""
    made: Extractor = EXTRACTORS.named(config.extractor)(config, generator)
    return made
