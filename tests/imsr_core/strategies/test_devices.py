"""Training elsewhere: the same draws and the same result, nothing left behind, and half precision within tolerance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pretended import PretendedCuda, is_there

from imsr_core.checkpoint import config_identity
from imsr_core.config import InterestsConfig, TrainingConfig
from imsr_core.devices import training_device
from imsr_core.errors import ConfigError
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS, assert_equal, tensors_of, tiny_config
from imsr_core.testing.strategy_contract import span_number

LEARNING = ("imsr", "fine_tune", "sml", "ader", "elastic")
BOTH_MODULES = {"detector": {"c1": 0.7}, "trimmer": {"c2": 0.15}, "ader": {"pool": 20, "items": 5}}


def learnt(strategy, extractor, spans, **training):
    """The state after some spans."""
    state = ModelState.initial(tiny_config(extractor, **BOTH_MODULES, training=training))
    for t in range(spans):
        state = strategy_named(strategy)(state, *span_number(t)).state
    return state


@pytest.fixture
def elsewhere(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return PretendedCuda()


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("strategy", LEARNING)
def test_nothing_is_left_behind_and_all_comes_back(elsewhere, strategy, extractor):
    here = learnt(strategy, extractor, 3)
    with elsewhere:
        there = learnt(strategy, extractor, 3, device="cuda")
    assert elsewhere.calls > 1000
    assert_equal(tensors_of(there), tensors_of(here))
    assert not any(is_there(tensor) for tensor in tensors_of(there).values())


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_spread_starts_are_made_there(elsewhere, extractor):
    states = []
    for device in ("cpu", "cuda"):
        state = ModelState.initial(tiny_config(extractor, model={"starts": "spread"}, training={"device": device}))
        with elsewhere:
            for t in range(2):
                state = strategy_named("imsr")(state, *span_number(t)).state
        states.append(tensors_of(state))
    assert_equal(*states)


@pytest.mark.parametrize("residual", [False, True])
def test_counting_terms_stay_with_the_processor(elsewhere, residual):
    config = tiny_config("comirec-dr", score={"enabled": True}, training={"residual": residual})
    states = []
    for device in ("cpu", "cuda"):
        state = ModelState.initial(replace(config, training=replace(config.training, device=device)))
        with elsewhere:
            for t in range(3):
                state = strategy_named("imsr")(state, *span_number(t)).state
        states.append(state)
    assert_equal(*map(tensors_of, states))


def test_what_fails_there_comes_back_too(elsewhere):
    state = learnt("imsr", "comirec-dr", 2, device="cpu")
    state.config = replace(state.config, training=replace(state.config.training, device="cuda", learning_rate=1e30))
    with elsewhere, pytest.raises(Exception, match="lower \\[training\\] learning_rate"):
        strategy_named("imsr")(state, *span_number(2))
    assert not any(is_there(tensor) for tensor in tensors_of(state).values())


def test_the_pretended_device_refuses_what_torch_refuses():
    with PretendedCuda():
        there, here = torch.ones(3).to("cuda"), torch.ones(3)
        assert (there.device.type, (there * 2).device.type, here.device.type) == ("cuda", "cuda", "cpu")
        with pytest.raises(RuntimeError, match="two devices"):
            there + here
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert (there + here.sum()).device.type == "cuda"
        assert there.to("cpu").numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_half_precision_ends_near_full(extractor):
    """Eight bits of a product's factors: rows move by Adam's steps, so that they end within a few of them."""
    full, half = learnt("fine_tune", extractor, 3), learnt("fine_tune", extractor, 3, precision="bfloat16")
    assert half.items.weight.dtype == half.store.vectors.dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(full.items.weight, half.items.weight, dim=-1)
    assert float(cosine.quantile(0.05)) > 0.98
    cosine = torch.nn.functional.cosine_similarity(full.store.vectors, half.store.vectors, dim=-1)
    assert float(cosine.quantile(0.05)) > 0.95


def test_without_an_accelerator_it_says_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device("auto") == training_device("cpu") == torch.device("cpu")
    with pytest.raises(ConfigError, match="CUDA") as error:
        training_device("cuda")
    assert '"auto"' in error.value.hint


def test_a_fingerprint_does_not_know_where_it_was_trained():
    def identity(**training):
        return config_identity(InterestsConfig(training=TrainingConfig(**training)))

    assert identity(device="cuda") == identity(device="auto") == identity()
    assert identity(precision="bfloat16") != identity()
