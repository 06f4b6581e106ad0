"""SML: a learnt transfer makes M_t from M_{t-1} and the newly trained parameters (Zhang et al., SIGIR 2020).

W^_t are the parameters trained on span t, f is the transfer (see `imsr_core.strategies.row_transfer`). Span t is
learnt in this order:

    teach     f, so that f(W_{t-2}, W^_{t-1}), which was served until now, fits span t; W is fixed       SML, step 2
    train     W^_t from W_{t-1}, so that f(W_{t-1}, W^_t) fits span t; f is fixed                        SML, step 1
    serve     W_t = f(W_{t-1}, W^_t)

As published: the two steps, their order (the span is tested before the transfer sees it, so nothing leaks from the
future), one transfer for items and one for users, L2 on the transfer and on what is trained.

Adapted to multi-interest models: a user's rows are the stored interests, old h^{t-1}, new as read from span t. In the
teaching step, stored interests meet the next span's items directly, as they do when the model is tested; in the
training step, interests are read from the history first. The extractor's matrices and the queries of ComiRec-SA take
no part in the teaching step; they pass unchanged, since a transfer is applied only to what it was taught on, and so do
rows that are new in the span. SML alternates both steps several times over two periods; here a span is seen once, so
each step is done once, with some epochs each, and W_{t-1} is what was served: remaking it with the newly taught
transfer costs accuracy, since the span is then learnt by a model that has seen it. The loss is L_SS as for every
strategy; SML's is a binary cross entropy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from imsr_core.devices import moved
from imsr_core.draws import Purpose, seeded
from imsr_core.extractors import Prior
from imsr_core.ragged import SpanSequences, drop_empty
from imsr_core.state import ModelState
from imsr_core.strategies.fine_tune import without_modules
from imsr_core.strategies.imsr import imsr
from imsr_core.strategies.protocol import History, Progress, SpanUpdate, silent, visible_part
from imsr_core.strategies.row_transfer import Transfers
from imsr_core.strategies.transfer_teaching import LastUpdate, teach
from imsr_core.trainer import SpanTrainer

OWNER = "sml"


def sml(
    state: ModelState,
    span: SpanSequences,
    n_items: int,
    progress: Progress = silent,
    *,
    visible: SpanSequences | None = None,
    history: History | None = None,
) -> SpanUpdate:
    """One span of SML; see `imsr_core.strategies.imsr.imsr` for arguments and result."""
    span = drop_empty(span)
    seen = span if visible is None else visible_part(span, visible)
    transfers = transfers_of(state)
    last = LastUpdate.of(state, OWNER, transfers)
    teach(state, seen, transfers, last)
    plain = replace(state, config=without_modules(state.config))
    trainer = partial(TransferTrainer, transfers=transfers, known_items=state.n_items)
    update = imsr(plain, span, n_items, progress, visible=visible, make_trainer=trainer)
    update.state.config = state.config
    return update


def transfers_of(state: ModelState) -> Transfers:
    """The transfers of items and users that a state carries, or fresh ones. Those of another shape are left behind."""
    dim, config = state.config.model.dim, state.config.sml
    generator = seeded(state.config.training.seed, 0, Purpose.TRANSFER)
    transfers = Transfers(dim, config, generator)
    own = transfers.state_dict()
    carried = {name: state.memory.get(f"{OWNER}.{name}") for name in own}
    if all(tensor is not None and tensor.shape == own[name].shape for name, tensor in carried.items()):
        transfers.load_state_dict(carried)
    return transfers


@dataclass
class TransferTrainer(SpanTrainer):
    """Trains W^_t behind a fixed transfer; ``known_items`` have rows from before the span."""

    transfers: Transfers
    known_items: int

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transfers.requires_grad_(False)
        self.old_items = self.state.items.weight[: self.known_items].clone()
        self.new_items = self.old_items
        self.read_last = self.working.store.vectors
        self.read_blind: tuple[Tensor, Tensor] | None = None

    def to(self, device: torch.device) -> None:
        """With the transfers and what the span started from."""
        super().to(device)
        self.transfers.to(device)
        self.old_items, self.read_last = moved((self.old_items, self.read_last), device)

    def regularised(self, loss: Tensor, rows: Tensor, size: int) -> Tensor:
        """With lambda_1 on the trained rows."""
        return loss + self.config.sml.pull * rows.square().sum() / size

    def item_rows(self, ids: Tensor, leaf: Tensor) -> Tensor:
        """Merged rows; new items pass unchanged."""
        known = ids < self.known_items
        old, new = self.old_items[ids[known]], leaf[known]
        return leaf.masked_scatter(known[:, None], self.transfers.item(old, new)) if len(old) else leaf

    def read(self, history: Tensor, mask: Tensor, prior: Prior) -> Tensor:
        """Interests as everywhere, stored ones merged with what they were."""
        interests, stored = super().read(history, mask, prior), prior.stored
        if not bool(stored.any()):
            return interests
        kept = self.transfers.user(prior.start[stored], interests[stored])
        return interests.masked_scatter(stored[..., None], kept.to(interests.dtype))

    @torch.no_grad()
    def finish(self) -> None:
        """Put the merged rows in the place of the trained ones, and remember both."""
        known = self.known_items
        self.new_items = self.state.items.weight[:known].clone()
        self.state.items.weight[:known] = self.transfers.item.merged(self.old_items, self.new_items)

    @torch.no_grad()
    def settled(self, vectors: Tensor, rows: Tensor | None = None) -> Tensor:
        """Stored interests merged with what was read; others as they were read. What is remembered of users with hidden
        events is what was read without them."""
        if rows is not None:
            self.read_blind = (rows, vectors)
        else:
            self.read_last = vectors
            if self.read_blind is not None:
                self.read_last = vectors.clone()
                self.read_last[self.read_blind[0]] = self.read_blind[1]
        own = slice(None) if rows is None else rows
        stored = self.working.stored[own]
        result = vectors.clone()
        before = self.working.store.vectors[own][stored]
        result[stored] = self.transfers.user.merged(before, vectors[stored])
        return result

    def remembered(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The transfers as they were taught, and what this span moved: the next span's lesson."""
        taught = {f"{OWNER}.{name}": tensor for name, tensor in self.transfers.state_dict().items()}
        rows, interests = self.last_update().memory(OWNER)
        return taught | rows, interests

    def last_update(self) -> LastUpdate:
        """Old and new values of everything that this span moved."""
        rows = (self.old_items != self.new_items).any(-1).nonzero()[:, 0]
        store, stored = self.working.store, self.working.stored
        return LastUpdate(
            rows=rows,
            old_items=self.old_items[rows],
            new_items=self.new_items[rows],
            user=store.user[stored],
            interest_id=store.interest_id[stored],
            old_interests=store.vectors[stored],
            new_interests=self.read_last[stored],
        )
