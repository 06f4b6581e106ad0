"""A value that cannot work is refused by section and key; everything is documented."""

import dataclasses
import math

import pytest

from imsr_core.config import (
    AderConfig,
    DetectorConfig,
    ElasticConfig,
    InterestsConfig,
    ModelConfig,
    RetainerConfig,
    ScoreConfig,
    SmlConfig,
    TrainingConfig,
    TrendConfig,
    TrimmerConfig,
)
from imsr_core.errors import ConfigError

SECTIONS = {
    "model": ModelConfig,
    "retainer": RetainerConfig,
    "detector": DetectorConfig,
    "trimmer": TrimmerConfig,
    "trend": TrendConfig,
    "score": ScoreConfig,
    "elastic": ElasticConfig,
    "sml": SmlConfig,
    "ader": AderConfig,
    "training": TrainingConfig,
}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "extractor", "comirec"),
        ("model", "dim", 1),
        ("model", "initial_interests", 0),
        ("model", "max_interests", 3),
        ("model", "history", 0),
        ("model", "routing_iterations", 0),
        ("model", "prior_mass", -0.1),
        ("model", "prior_mass", math.nan),
        ("model", "logit_scale", 0.0),
        ("model", "label_attention", "softer"),
        ("model", "attention_units", -1),
        ("retainer", "weight", -1.0),
        ("retainer", "weight", math.nan),
        ("retainer", "form", "kd4"),
        ("retainer", "temperature", 0.0),
        ("retainer", "items", 0),
        ("detector", "rule", "median"),
        ("detector", "c1", -0.1),
        ("detector", "c1", 1.1),
        ("detector", "c1", math.nan),
        ("detector", "new_interests", -1),
        ("detector", "new_scale", 0.0),
        ("trimmer", "c2", -0.1),
        ("trimmer", "c2", math.nan),
        ("trend", "weight", -1.0),
        ("trend", "weight", math.nan),
        ("elastic", "idle_spans", -1),
        ("elastic", "budget", -1),
        ("elastic", "merge_cosine", math.nan),
        ("sml", "kernel", "5x1"),
        ("sml", "filters", 0),
        ("sml", "mixed", 0),
        ("sml", "hidden", 0),
        ("sml", "epochs", -1),
        ("sml", "learning_rate", math.nan),
        ("sml", "decay", -1.0),
        ("sml", "pull", math.nan),
        ("ader", "pool", -1),
        ("ader", "cuts", 0),
        ("ader", "weight", math.nan),
        ("ader", "items", 0),
        ("ader", "selection", "loss"),
        ("training", "strategy", "frozen"),
        ("training", "seed", -1),
        ("training", "seed", 2**32),
        ("training", "batch_size", 0),
        ("training", "window", 0),
        ("training", "base_epochs", -1),
        ("training", "epochs", -1),
        ("training", "patience", -1),
        ("training", "targets_per_user", -1),
        ("training", "negatives", -1),
        ("training", "base_learning_rate", 0.0),
        ("training", "learning_rate", math.nan),
        ("training", "learning_rate", math.inf),
        ("training", "moments", "keep"),
    ],
)
def test_a_value_that_cannot_work_is_refused_by_name(section, key, value):
    with pytest.raises(ConfigError) as caught:
        SECTIONS[section](**{key: value})
    assert f"[{section}] {key} = {value!r}" in str(caught.value)
    assert key in caught.value.hint


def test_limits_that_mean_something_are_allowed():
    assert TrimmerConfig(c2=math.inf).c2 == math.inf
    assert DetectorConfig(rule="absolute", c1=7.0).c1 == 7.0
    assert TrainingConfig(negatives=0, targets_per_user=0, patience=0, epochs=0).epochs == 0
    assert ModelConfig(prior_mass=0).mass == 0


@pytest.mark.parametrize(
    ("extractor", "mass", "units"), [("comirec-dr", 2.0, 0), ("mind", 2.0, 0), ("comirec-sa", 4.0, 256)]
)
def test_defaults_follow_the_extractor(extractor, mass, units):
    model = ModelConfig(extractor=extractor)
    assert (model.mass, model.query_units) == (mass, units)
    assert ModelConfig(extractor="comirec-sa", attention_units=10).query_units == 10


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_documented_and_fixed(section):
    for field in dataclasses.fields(SECTIONS[section]):
        assert len(field.metadata["doc"]) > 10
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(SECTIONS[section](), field.name, 1)


def test_the_sections_of_a_line_are_these():
    assert {f.name for f in dataclasses.fields(InterestsConfig)} == {*SECTIONS, "own"}
