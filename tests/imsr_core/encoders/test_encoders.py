"""The contract of encoders, for each one that there is; sizes and reach that papers state."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, get_args

import pytest
import torch

from imsr_core.encoders.build import ENCODERS, build_encoder, initial_weights
from imsr_core.encoders.config import EncoderConfig, Layout
from imsr_core.encoders.protocol import run
from imsr_core.encoders.tokens import FIRST_ITEM
from imsr_core.errors import ConfigError
from imsr_core.testing.encoder_contract import EncoderContract


class TestNextItNet(EncoderContract):
    name = "nextitnet"


class TestPreActivation(EncoderContract):
    name = "nextitnet"
    settings: ClassVar = {"layout": "pre_activation"}


class TestNormConvRelu(EncoderContract):
    name = "nextitnet"
    settings: ClassVar = {"layout": "norm_conv_relu"}


class TestGRec(EncoderContract):
    name = "grec"


class TestSasRec(EncoderContract):
    name = "sasrec"


class TestSasRecOfTwoHeads(EncoderContract):
    name = "sasrec"
    settings: ClassVar = {"heads": 2, "layers": 1}


class TestGru4Rec(EncoderContract):
    name = "gru4rec"


class TestDssm(EncoderContract):
    name = "dssm"


def test_no_encoder_and_no_layout_goes_without_the_contract() -> None:
    cases = EncoderContract.__subclasses__()
    assert {case.name for case in cases} == set(ENCODERS)
    assert {case.settings.get("layout", EncoderConfig().layout) for case in cases} == set(get_args(Layout))


def test_parameter_count_of_the_papers_backbone() -> None:
    weights = initial_weights(EncoderConfig(dim=256, length=100, dilations=(1, 4) * 4), n_items=6, seed=0)
    encoder = build_encoder(EncoderConfig(dim=256, length=100, dilations=(1, 4) * 4))
    assert sum(weights[name].numel() for name in encoder.prunable()) == 3_145_728
    assert sum(w.numel() for name, w in weights.items() if name.startswith("norms")) == 8_192
    assert len(encoder.second_norms()) == 16


def test_receptive_field_of_the_papers_dilations_is_121() -> None:
    config = EncoderConfig(dim=16, length=130, dilations=(1, 4) * 4, layout="pre_activation")
    encoder = build_encoder(config)
    weights = {name: w.double() for name, w in initial_weights(config, 20, seed=0).items()}
    rows = torch.randint(FIRST_ITEM, FIRST_ITEM + 20, (1, 130), generator=torch.Generator().manual_seed(0))
    base = run(encoder, weights, rows)[0, -1]

    def moves(position: int) -> bool:
        changed = rows.clone()
        changed[0, position] = FIRST_ITEM + (rows[0, position] - FIRST_ITEM + 1) % 20
        return not torch.equal(run(encoder, weights, changed)[0, -1], base)

    assert moves(130 - 121)
    assert not moves(130 - 122)


@pytest.mark.parametrize(
    "wrong",
    [{"name": "bert"}, {"dim": 1}, {"layout": "x"}, {"heads": 3}, {"dilations": ()}, {"dropout": 1.0}],
)
def test_impossible_shapes_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        dataclasses.replace(EncoderConfig(), **wrong)
