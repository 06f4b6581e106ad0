"""Our Adam for dense parameters is torch's, to the last bit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from imsr_core.dense_adam import DenseAdam


def gradients(module: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator) * 10.0 ** -(seed % 7)


@pytest.fixture
def twins():
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def test_it_steps_as_torch_does(twins):
    ours, theirs = twins
    mine, reference = DenseAdam(ours.named_parameters(), 0.003), torch.optim.Adam(theirs.parameters(), lr=0.003)
    for seed in range(50):
        gradients(ours, seed)
        gradients(theirs, seed)
        mine.step()
        reference.step()
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter)
        state = reference.state[parameter]
        for moment, key in zip(mine.moments[name], ("exp_avg", "exp_avg_sq", "step"), strict=True):
            assert torch.equal(moment, state[key])


def test_it_goes_on_from_moments_and_leaves_them_as_they_are(twins):
    ours, theirs = twins
    whole, first = DenseAdam(ours.named_parameters(), 0.01), DenseAdam(theirs.named_parameters(), 0.01)
    for seed in range(3):
        gradients(ours, seed)
        gradients(theirs, seed)
        whole.step()
        first.step()
    kept = first.copied_moments()
    second = DenseAdam(theirs.named_parameters(), 0.01)
    second.restore(kept)
    gradients(ours, 9)
    gradients(theirs, 9)
    whole.step()
    second.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    assert int(kept["weight"][2]) == 3
    assert int(second.moments["weight"][2]) == 4


def test_a_parameter_without_a_gradient_stays(twins):
    ours, theirs = twins
    optimizer = DenseAdam(ours.named_parameters(), 0.01)
    gradients(ours, 1)
    ours.bias.grad = None
    optimizer.step()
    assert torch.equal(ours.bias, theirs.bias)
    assert not torch.equal(ours.weight, theirs.weight)
    optimizer.zero_grad()
    assert ours.weight.grad is None
    assert set(optimizer.copied_moments()) == {"weight"}


def test_it_does_not_import_torchs_compiler():
    code = (
        "import sys, torch; from imsr_core.dense_adam import DenseAdam; m = torch.nn.Linear(2, 2);"
        "o = DenseAdam(m.named_parameters(), 0.1); m(torch.ones(1, 2)).sum().backward(); o.step();"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
