"""From item indices to the rows an encoder reads: reserved ids, left padding, task tokens.

    table row   0     1         2      3      4 ...
    meaning     PAD   UNKNOWN   MASK   TASK   item 0, item 1, ...

The papers' code lets one row be padding, unknown, mask and task token at once. Here each has its own row.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imsr_core.ragged import SpanSequences

PAD = 0  # before the first item of a short sequence; always the zero vector
UNKNOWN = 1  # an item this model (or this older task) has no row for
MASK = 2  # the hole that masked pre-training fills
TASK = 3  # the task token [TCL] of PeterRec and Conure
FIRST_ITEM = 4  # table row of item index 0


def left_pad(sequences: SpanSequences, length: int) -> Tensor:
    """Each user's ``length`` most recent items as table rows, right-aligned: (U, length) int64."""
    return _right_aligned(sequences, sequences.offsets[1:], np.minimum(sequences.counts, length), length)


def windows(sequences: SpanSequences, length: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Whole histories cut from the end into windows of ``length`` steps from one item to the next.

    Two windows of a user share one item, so that every step of the history is in exactly one window; only the oldest
    window may be shorter. A user with one item has none.

    Returns:
        (W, length + 1) int64 table rows, left-padded, a user's most recent window first, and (W,) the position of its
        owner in ``sequences``.
    """
    steps = np.maximum(sequences.counts - 1, 0)
    owners = np.repeat(np.arange(len(sequences), dtype=np.int64), -(-steps // length))
    back = np.arange(len(owners), dtype=np.int64) - np.searchsorted(owners, owners)  # 0 = the most recent window
    kept = np.minimum(length, steps[owners] - back * length) + 1
    return _right_aligned(sequences, sequences.offsets[1:][owners] - back * length, kept, length + 1), owners


def _right_aligned(sequences: SpanSequences, ends: NDArray[np.int64], kept: NDArray[np.int64], length: int) -> Tensor:
    """(R, length) table rows: row r holds the ``kept[r]`` events before the event ``ends[r]``, PAD before them."""
    owners = np.repeat(np.arange(len(ends), dtype=np.int64), kept)
    last = np.cumsum(kept)
    steps = np.arange(last[-1] if len(last) else 0, dtype=np.int64)
    from_end = np.repeat(last, kept) - steps  # kept[r] .. 1 within a row
    rows = np.full((len(ends), length), PAD, dtype=np.int64)
    rows[owners, length - from_end] = sequences.items[np.repeat(ends, kept) - from_end] + FIRST_ITEM
    return torch.from_numpy(rows)


def hide_newer(rows: Tensor, n_items: int) -> Tensor:
    """Items from index ``n_items`` on become UNKNOWN; same shape."""
    return torch.where(rows >= FIRST_ITEM + n_items, torch.full_like(rows, UNKNOWN), rows)


def append_token(rows: Tensor, token: int) -> Tensor:
    """(B, L) -> (B, L + 1): every sequence ends with ``token``."""
    return torch.cat([rows, rows.new_full((len(rows), 1), token)], dim=1)


def wrap_with_token(rows: Tensor, token: int) -> Tensor:
    """(B, L) -> (B, L + 2): ``token`` before the first item (after the padding) and after the last."""
    wrapped = append_token(torch.cat([rows.new_full((len(rows), 1), PAD), rows], dim=1), token)
    first = first_position(rows).unsqueeze(1)  # the place just before the first item, after the shift by one
    return wrapped.scatter(1, first, token)


def first_position(rows: Tensor) -> Tensor:
    """(B, L) -> (B,) where the padding ends; L for a row of nothing but padding."""
    return (rows == PAD).sum(dim=1)
