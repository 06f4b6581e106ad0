"""Adam for the few dense parameters of an extractor, step for step and bit for bit as `torch.optim.Adam` does it.

Making a torch optimiser imports torch's compiler, a second of processor: more than a night of few events works.

Source: Adam (Kingma and Ba, 2015), algorithm 1; for a table of which a step touches some rows see `imsr_core.rows`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import Parameter

from imsr_core.devices import moved
from imsr_core.rows import BETA1, BETA2, EPSILON

#: First moment, second moment and number of steps of a parameter.
Moments = tuple[Tensor, Tensor, Tensor]


class DenseAdam:
    """Steps ``parameters``, which have names; ``moments`` are those of each that had a step so far."""

    def __init__(self, parameters: Iterable[tuple[str, Parameter]], learning_rate: float) -> None:
        self.parameters = dict(parameters)
        self.learning_rate = learning_rate
        self.moments: dict[str, Moments] = {}

    def copied_moments(self) -> dict[str, Moments]:
        """The moments as they are now: later steps do not change them."""
        return {name: (first.clone(), second.clone(), step.clone()) for name, (first, second, step) in self._all()}

    def restore(self, moments: dict[str, Moments]) -> None:
        """Go on from ``moments``, which stay as they are; what is not a parameter's name is left out."""
        known = {name: parts for name, parts in moments.items() if name in self.parameters}
        self.moments = {name: (a.clone(), b.clone(), step.clone()) for name, (a, b, step) in known.items()}

    def to(self, device: torch.device) -> None:
        """Carry the moments to the device where the parameters are; the count of steps stays with the processor."""
        self.moments = {name: (*moved(parts[:2], device), parts[2]) for name, parts in self.moments.items()}

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step of each parameter that has a gradient."""
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            if gradient is None:
                continue
            if name not in self.moments:
                self.moments[name] = (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.tensor(0.0))
            first, second, steps = self.moments[name]
            steps += 1
            first.lerp_(gradient, 1 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
            count = float(steps)
            root = (second.sqrt() / (1 - BETA2**count) ** 0.5).add_(EPSILON)
            parameter.addcdiv_(first, root, value=-self.learning_rate / (1 - BETA1**count))

    def _all(self) -> list[tuple[str, Moments]]:
        """In the order of the parameters, whatever came first."""
        return [(name, self.moments[name]) for name in self.parameters if name in self.moments]
