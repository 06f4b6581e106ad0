"""T1's loss: every position predicts the next item, or hidden items are filled in.

Padding is never a target (the released code of all three papers lets pad -> pad dominate short users), and a
small share of inputs becomes UNKNOWN, because that row is frozen afterwards and stands for every newer item.
"""

from __future__ import annotations

import torch
from torch import Tensor

from imsr_core.encoders.tokens import FIRST_ITEM, MASK, PAD, UNKNOWN
from imsr_core.lifelong.config import ObjectiveConfig
from imsr_core.lifelong.heads import head_loss
from imsr_core.lifelong.view import View

# BERT's shares, as GRec takes them over: of the chosen items 80 % are hidden, 10 % random, 10 % left as they are.
_HIDDEN, _RANDOM = 0.8, 0.1


def next_item_loss(view: View, rows: Tensor, config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    """Loss of T1 on rows (B, L + 1), left-padded: causal encoders predict, others fill holes."""
    if view.encoder.causal:
        return _predict_next(view, rows, config, generator)
    return _fill_holes(view, rows, config, generator)


def _predict_next(view: View, rows: Tensor, config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    inputs, targets = rows[:, :-1], rows[:, 1:]
    keep = (inputs != PAD) & _is_label(targets, view)
    forget = _uniform(inputs, generator) < config.unknown_rate
    inputs = torch.where(forget & (inputs != PAD), torch.full_like(inputs, UNKNOWN), inputs)
    hidden = view.hidden(inputs)[keep]  # (n, d)
    if not len(hidden):  # a batch of one-item sequences, which only joint training meets
        return hidden.sum()
    return head_loss(hidden, targets[keep] - FIRST_ITEM, view.head, config, generator)


def _fill_holes(view: View, rows: Tensor, config: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    chance = torch.where(_is_label(rows, view), _uniform(rows, generator), 2.0)
    lowest = chance == chance.min(dim=1, keepdim=True).values  # at least one hole in each row
    chosen = ((chance < config.mask_rate) | lowest) & (chance < 2.0)
    how = _uniform(rows, generator)
    random = torch.randint(FIRST_ITEM, FIRST_ITEM + view.n_items, rows.shape, generator=generator).to(rows.device)
    inputs = torch.where(chosen & (how < _HIDDEN), torch.full_like(rows, MASK), rows)
    inputs = torch.where(chosen & (how >= 1.0 - _RANDOM), random, inputs)
    return head_loss(view.hidden(inputs)[chosen], rows[chosen] - FIRST_ITEM, view.head, config, generator)


def _is_label(rows: Tensor, view: View) -> Tensor:
    """Where a row is an item that T1's head has a label for."""
    return (rows >= FIRST_ITEM) & (rows < FIRST_ITEM + len(view.head.weight))


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator).to(like.device)
