"""SASRec (Kang and McAuley, ICDM 2018) with a softmax over the whole catalogue in place of one negative, which is what
makes it strong (Klenitskiy and Vasilev, RecSys 2023), trained from scratch on every history.

It is trained on an accelerator where torch finds one. First weights and batches are drawn on the processor, so that
both train the same within rounding, but for what dropout draws.

Each position of a sequence predicts the next item. Shapes: B sequences, L positions, d, N items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rivals.protocol import Rival, Scores, positions
from torch import Tensor, nn
from torch.nn import functional

from imsr_core.ragged import SpanSequences, last_n

LENGTH, DIM, BLOCKS, HEADS = 50, 64, 2, 1
BATCH, MOST_EPOCHS, PATIENCE = 64, 30, 2
#: Share of the users whose last event is held out, to know when to stop.
VALIDATION = 0.1


class SasRec(nn.Module):
    """Causal self-attention over the last L items; item vectors are shared with the output. Item N is padding."""

    def __init__(self, n_items: int, dropout: float) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, DIM, padding_idx=n_items)
        self.places = nn.Embedding(LENGTH, DIM)
        nn.init.normal_(self.items.weight, std=0.02)
        nn.init.normal_(self.places.weight, std=0.02)
        layer = nn.TransformerEncoderLayer(DIM, HEADS, DIM, dropout, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, BLOCKS, nn.LayerNorm(DIM), enable_nested_tensor=False)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("future", torch.triu(torch.full((LENGTH, LENGTH), -torch.inf), 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, L) items, padded in front -> (B, L, d): what comes after each position."""
        hidden = self.drop(self.items(inputs) * DIM**0.5 + self.places.weight)
        return self.blocks(hidden, mask=self.future, is_causal=True)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d) -> (..., N)."""
        return hidden @ self.items.weight[: self.n_items].T


def fit_sasrec(history: SpanSequences, n_items: int, settings: Mapping[str, Any]) -> Scores:
    """Train until the held-out last events get no better."""
    return trained(history, n_items, settings, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def trained(history: SpanSequences, n_items: int, settings: Mapping[str, Any], device: torch.device) -> Scores:
    """As `fit_sasrec`, on this device."""
    torch.manual_seed(0)
    model = SasRec(n_items, settings["dropout"]).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings["learning_rate"])
    rng = np.random.default_rng(0)
    held = np.flatnonzero((rng.random(len(history)) < VALIDATION) & (history.counts > 2))
    inputs, targets = (side.to(device) for side in windows(history, held, n_items))
    tail = tails(history, n_items).to(device)
    best, wait, kept = np.inf, 0, model.state_dict()
    for _ in range(MOST_EPOCHS):
        model.train()
        for batch in _batches(len(inputs), rng, device):
            loss = next_item_loss(model, inputs[batch], targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss_held = _held_out(model, tail[torch.from_numpy(held).to(device)])
        if loss_held < best:
            best, wait, kept = loss_held, 0, {name: value.clone() for name, value in model.state_dict().items()}
        elif (wait := wait + 1) >= PATIENCE:
            break
    model.load_state_dict(kept)
    model.eval()

    @torch.no_grad()
    def scores(wanted: NDArray[np.int64]) -> NDArray[np.float32]:
        place, _ = positions(history.users, wanted)
        return model.logits(model(tail[torch.from_numpy(place).to(device)][:, -LENGTH:])[:, -1]).cpu().numpy()

    return scores


def windows(history: SpanSequences, held: NDArray[np.int64], n_items: int) -> tuple[Tensor, Tensor]:
    """(S, L) inputs and targets: each user's events in pieces of L, without the last event of the ``held`` users."""
    counts = history.counts.copy()
    counts[held] -= 1
    rows, step = [], LENGTH
    for back in range(0, int(counts.max()), step):
        ends = history.offsets[:-1] + counts - back
        place = ends[:, None] + np.arange(-LENGTH - 1, 0)
        inside = place >= history.offsets[:-1, None]
        piece = np.where(inside, history.items[place.clip(min=0)], n_items)
        rows.append(piece[inside.sum(1) > 1])
    found = torch.from_numpy(np.concatenate(rows))
    return found[:, :-1], found[:, 1:]


def tails(history: SpanSequences, n_items: int) -> Tensor:
    """(U, L + 1) each user's last events, padded in front with N."""
    last = last_n(history, LENGTH + 1)
    found = np.full((len(last), LENGTH + 1), n_items, dtype=np.int64)
    column = LENGTH + 1 - np.repeat(last.offsets[1:], last.counts) + np.arange(last.n_events)
    found[last.rows, column] = last.items
    return torch.from_numpy(found)


def next_item_loss(model: SasRec, inputs: Tensor, targets: Tensor) -> Tensor:
    """Softmax over the catalogue at every position that has an input and a target."""
    real = (inputs != model.n_items) & (targets != model.n_items)
    return functional.cross_entropy(model.logits(model(inputs)[real]), targets[real])


@torch.no_grad()
def _held_out(model: SasRec, tail: Tensor) -> float:
    model.eval()
    losses = []
    for part in tail.split(256):
        logits = model.logits(model(part[:, :-1])[:, -1])
        losses.append(functional.cross_entropy(logits, part[:, -1], reduction="sum").item())
    return sum(losses) / max(len(tail), 1)


def _batches(size: int, rng: np.random.Generator, device: torch.device) -> Iterator[Tensor]:
    yield from torch.from_numpy(rng.permutation(size)).to(device).split(BATCH)


SASREC = Rival(
    "sasrec",
    "SASRec with a full softmax, trained from scratch on all data before each span",
    fit_sasrec,
    {"learning_rate": (0.0005, 0.001, 0.002, 0.004), "dropout": (0.1, 0.3, 0.5)},
    {"learning_rate": 0.001, "dropout": 0.3},
    random=0,
    once=True,
)
