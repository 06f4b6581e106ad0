"""Multi-interest extractors: from the items a user touched to the interests behind them.

Three readers behind one protocol (`protocol.Extractor`): ComiRec-DR and MIND route items to interests
(`routing`), ComiRec-SA attends to them (`attention`).
"""

from __future__ import annotations

import torch

from imsr_core.config import ModelConfig
from imsr_core.extractors.attention import SelfAttentionExtractor
from imsr_core.extractors.protocol import Extractor, Prior
from imsr_core.extractors.routing import DynamicRoutingExtractor, MindExtractor

__all__ = ["Extractor", "Prior", "build_extractor"]


def build_extractor(config: ModelConfig, generator: torch.Generator) -> Extractor:
    """The extractor that ``config.extractor`` names, with fresh parameters drawn from ``generator``."""
    if config.extractor == "comirec-sa":
        return SelfAttentionExtractor(config, generator)
    if config.extractor == "mind":
        return MindExtractor(config, generator)
    return DynamicRoutingExtractor(config)
