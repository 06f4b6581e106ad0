"""The one training loop of the `users` line: epochs, early stopping, the best parameters, frozen values kept.

A method hands in leaf tensors by name, a loss and a score. Some elements of a tensor may be frozen (Conure):
their gradient is set to zero and, because momentum, weight decay or restored moments move a weight without any
gradient, their *values* are put back after every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from imsr_core.errors import NonFiniteError
from imsr_core.lifelong.config import PhaseConfig
from imsr_core.lifelong.evaluation import Score

Tensors = dict[str, Tensor]

LEAST_GAIN = 1e-4
"""Patience waits for so much more held-out log-likelihood an example, in one epoch or in many ..."""
NEARLY_SURE = -0.01
"""... and above this (0 is the most) for nothing: labels that can be told apart exactly gain for ever."""


@dataclass(frozen=True)
class Step:
    """Where training is: batch ``batch`` of ``batches`` in epoch ``epoch``, all counted from 0."""

    epoch: int
    batch: int
    batches: int


@dataclass(frozen=True)
class PhaseProgress:
    """How far a phase is after a step. Nobody knows when it ends: that is for its held-out log-likelihood to say.

    Attributes:
        task: what is learnt, and ``phase`` of it.
        done: steps so far, of ``most``.
        least: steps that are left if no epoch gains anything on the best one so far.
        likelihood: of the best epoch so far, and its number from 1; None and 0 in the first one.
    """

    task: str
    phase: str
    step: Step
    loss: float
    done: int
    most: int
    least: int
    likelihood: float | None = None
    best_epoch: int = 0


Progress = Callable[[PhaseProgress], None]


def silent(_: PhaseProgress) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class PhaseResult:
    """A finished phase: the parameters of its best epoch."""

    parameters: Tensors
    score: Score
    best_epoch: int
    epochs: int

    def report(self) -> dict[str, float]:
        """What a version records of the phase."""
        return {
            "metric": self.score.metric,
            "log_likelihood": self.score.likelihood,
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
        }


BatchLoss = Callable[[Tensors, Tensor, Step], Tensor]
"""(parameters, positions of the batch's examples (B,), step) -> scalar loss."""

ScoreOf = Callable[[Tensors], Score]
AfterStep = Callable[[Tensors, Step], None]


def train_phase(
    start: Mapping[str, Tensor],
    batch_loss: BatchLoss,
    score_of: ScoreOf,
    *,
    n_examples: int,
    config: PhaseConfig,
    seed: int,
    movable: Mapping[str, Tensor] | None = None,
    after_step: AfterStep | None = None,
    progress: Progress = silent,
    called: tuple[str, str] = ("", ""),
) -> PhaseResult:
    """Train copies of ``start`` and return those of the best epoch; ``start`` itself is never changed.

    Args:
        start: name -> initial value.
        n_examples: examples are addressed by positions 0 .. n_examples - 1, shuffled in each epoch.
        seed: of the shuffling, and of dropout.
        movable: name -> bool mask; elements where it is False keep their value bit for bit.
        after_step: may edit parameters in place under no_grad after each optimiser step.
        progress: is told of every step.
        called: (task, phase), for ``progress``.

    Raises:
        NonFiniteError: the total loss is NaN or infinite; nothing of the phase is kept.
    """
    updates = _Updates(start, movable or {}, config)
    parameters = updates.parameters
    best: PhaseResult | None = None
    gained: PhaseResult | None = None
    batches = -(-n_examples // config.batch_size)
    with _seeded(seed, next(iter(parameters.values())).device):
        for epoch in range(config.epochs):
            order = torch.randperm(n_examples)
            for batch, positions in enumerate(order.split(config.batch_size)):
                step = Step(epoch, batch, batches)
                loss = batch_loss(parameters, positions, step)
                _check_finite(loss, step)
                updates.descend(loss)
                if after_step is not None:
                    with torch.no_grad():
                        after_step(parameters, step)
                progress(_progress(called, step, loss, best, gained, config))
            reached = score_of(parameters)
            if best is None or reached > best.score:
                best = PhaseResult(updates.copies(), reached, epoch, epoch + 1)
            if gained is None or reached.likelihood > gained.score.likelihood + LEAST_GAIN:
                gained = best
            if _is_over(epoch, gained, batches, config):
                break
    assert best is not None  # PhaseConfig has at least one epoch
    return PhaseResult(best.parameters, best.score, best.best_epoch, epoch + 1)


def _is_over(epoch: int, gained: PhaseResult, batches: int, config: PhaseConfig) -> bool:
    """Whether the phase is long enough, and there is nothing left to gain or the patience is used up, in epochs and in
    steps since the last gain."""
    waited = epoch - gained.best_epoch
    used_up = waited >= config.patience and waited * batches >= config.patience_steps
    return epoch + 1 >= config.min_epochs and (used_up or gained.score.likelihood > NEARLY_SURE)


def _progress(
    called: tuple[str, str],
    step: Step,
    loss: Tensor,
    best: PhaseResult | None,
    gained: PhaseResult | None,
    config: PhaseConfig,
) -> PhaseProgress:
    """What is to be said of a step, with the fewest epochs that the patience leaves."""
    since, batches = 0 if gained is None else gained.best_epoch, step.batches
    waiting = max(config.patience, -(-config.patience_steps // batches))
    last = min(max(since + waiting, config.min_epochs - 1, step.epoch), config.epochs - 1)
    done = step.epoch * batches + step.batch + 1
    likelihood = None if best is None else best.score.likelihood
    least, number = (last + 1) * batches - done, 0 if best is None else best.best_epoch + 1
    return PhaseProgress(*called, step, loss.item(), done, config.epochs * batches, least, likelihood, number)


class _Updates:
    """Copies of the start values, and the optimiser's steps on them."""

    def __init__(self, start: Mapping[str, Tensor], movable: Mapping[str, Tensor], config: PhaseConfig) -> None:
        self.parameters = {name: value.detach().clone().requires_grad_() for name, value in start.items()}
        self._freeze = _Freeze(self.parameters, movable)
        self._config = config
        self._optimizers: list[torch.optim.Optimizer] = []

    def descend(self, loss: Tensor) -> None:
        """One step down this loss; frozen elements stay."""
        for parameter in self.parameters.values():
            parameter.grad = None
        loss.backward()
        self._freeze.mask_gradients()
        self._optimizers = self._optimizers or _optimizers(self.parameters, self._config)
        for optimizer in self._optimizers:
            optimizer.step()
        self._freeze.restore_values()

    def copies(self) -> Tensors:
        """The values as they are now."""
        return {name: value.detach().clone() for name, value in self.parameters.items()}


class _Freeze:
    """Keeps the frozen elements of parameters at their values."""

    def __init__(self, parameters: Tensors, movable: Mapping[str, Tensor]) -> None:
        self._held = [(parameters[name], mask, parameters[name].detach().clone()) for name, mask in movable.items()]

    def mask_gradients(self) -> None:
        for parameter, mask, _ in self._held:
            if parameter.grad is not None:
                parameter.grad.masked_fill_(~mask, 0.0)

    @torch.no_grad()
    def restore_values(self) -> None:
        for parameter, mask, value in self._held:
            parameter.copy_(torch.where(mask, parameter, value))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's global generators (dropout has none of its own) inside the block, restore them after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _check_finite(loss: Tensor, step: Step) -> None:
    if not torch.isfinite(loss):
        raise NonFiniteError(
            f"the loss is {loss.item()} in epoch {step.epoch}, batch {step.batch}",
            hint="nothing was kept; lower learning_rate and train again",
        )


def _optimizers(parameters: Tensors, config: PhaseConfig) -> list[torch.optim.Optimizer]:
    """After the first backward pass, because only gradients tell which tables are sparse; those do not decay."""
    sparse = [p for p in parameters.values() if p.grad is not None and p.grad.is_sparse]
    dense = [p for p in parameters.values() if p.grad is None or not p.grad.is_sparse]
    rate, decay = config.learning_rate, config.weight_decay
    made: list[torch.optim.Optimizer] = []
    flat = [p for p in dense if p.dim() < 2]  # biases and norms do not decay
    groups = [
        {"params": [p for p in dense if p.dim() >= 2], "weight_decay": decay},
        {"params": flat, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        groups.append({"params": sparse, "weight_decay": 0.0})
        return [torch.optim.SGD([g for g in groups if g["params"]], lr=rate, momentum=config.momentum)]
    if sparse:
        made.append(torch.optim.SparseAdam(sparse, lr=rate))
    if dense:
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        made.append(kind([group for group in groups if group["params"]], lr=rate))
    return made
