"""Training one phase of a task through a method's view of it: what every method calls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from imsr_core.lifelong.config import PhaseConfig
from imsr_core.lifelong.evaluation import Score, ranks_and_likelihood, score
from imsr_core.lifelong.problems import BaseProblem, Problem
from imsr_core.lifelong.seeds import phase_seed
from imsr_core.lifelong.training import AfterStep, PhaseResult, Step, Tensors, train_phase
from imsr_core.lifelong.view import View

STANDARD_ERRORS = 2.0
"""What the encoder adds to the wide part must be worth so many of held-out users."""

ViewOf = Callable[[Tensors, Step | None], View]
"""(trainable tensors, step or None when scoring) -> the task as it is served with them."""

ExtraLoss = Callable[[Tensors, Tensor, Step], Tensor]
"""(trainable tensors, the batch's input rows, step) -> a scalar added to the loss."""


def fit(
    problem: Problem,
    start: Mapping[str, Tensor],
    view_of: ViewOf,
    phase: str,
    settings: PhaseConfig,
    *,
    movable: Mapping[str, Tensor] | None = None,
    after_step: AfterStep | None = None,
    extra_loss: ExtraLoss | None = None,
) -> PhaseResult:
    """Train ``start`` on the problem; see ``training.train_phase`` for ``movable`` and ``after_step``.

    Args:
        phase: name of the phase; with the task and the seed it decides every random number.
        extra_loss: a further term of the total loss, such as the distillation of older tasks.
    """
    seed = phase_seed(problem.seed, problem.name, phase)
    generator = torch.Generator().manual_seed(seed)

    def batch_loss(parameters: Tensors, positions: Tensor, step: Step) -> Tensor:
        view = view_of(parameters, step)
        view.encoder.train()
        loss = problem.loss(view, positions, generator)
        return loss if extra_loss is None else loss + extra_loss(parameters, problem.inputs(positions), step)

    def score_of(parameters: Tensors) -> Score:
        return score(problem.served(view_of(parameters, None)), problem.validation, problem.kind)

    result = train_phase(
        start,
        batch_loss,
        score_of,
        n_examples=len(problem),
        config=settings,
        seed=seed,
        movable=movable,
        after_step=after_step,
        progress=problem.progress,
        called=(problem.name, phase),
    )
    return _at_least_wide(problem, result, view_of)


def _at_least_wide(problem: Problem, result: PhaseResult, view_of: ViewOf) -> PhaseResult:
    """The result with a silent head where held-out users are hardly better off than with the wide part alone.

    Hardly is by less than two standard errors of the mean gain in log-likelihood: the best of many epochs on few users
    looks better than it is, and with one of them a part that was worth nothing got in.
    """
    if isinstance(problem, BaseProblem) or problem.residual is None:
        return result
    head = f"head/{problem.name}/"
    silent = {n: torch.zeros_like(t) if n.startswith(head) else t for n, t in result.parameters.items()}
    with_it, without = (
        ranks_and_likelihood(problem.served(view_of(parameters, None)), problem.validation)[1].double()
        for parameters in (result.parameters, silent)
    )
    gain = with_it - without
    if float(gain.mean()) > STANDARD_ERRORS * float(gain.std(correction=0)) / len(gain) ** 0.5:
        return result
    reached = score(problem.served(view_of(silent, None)), problem.validation, problem.kind)
    return dataclasses.replace(result, parameters=silent, score=reached)
