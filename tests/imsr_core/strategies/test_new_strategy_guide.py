"""The example of docs/new_strategy.md: it is what it says, and it keeps the contract."""

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import imsr_core.strategies as strategies
from imsr_core.checkpoint import config_from_dict, config_to_dict
from imsr_core.errors import ConfigError
from imsr_core.own_settings import own
from imsr_core.parts import STRATEGIES
from imsr_core.state import ModelState
from imsr_core.testing.planted_logs import random_span, tiny_config
from imsr_core.testing.strategy_contract import StrategyContract, chain
from pipelines.bench.variants import variants_named
from pipelines.settings.imsr_toml import load_settings

GUIDE = Path(__file__).parents[3] / "docs" / "new_strategy.md"


@pytest.fixture(scope="module", autouse=True)
def averaged(tmp_path_factory):
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 42
    path = tmp_path_factory.mktemp("guide") / "averaged_by_the_guide.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    STRATEGIES.places["averaged"] = f"{path.stem}:averaged"
    yield module.averaged
    del STRATEGIES.places["averaged"], sys.modules[path.stem]


def test_the_rows_of_known_items_go_half_the_way_back(averaged):
    config = tiny_config()
    state = strategies.strategy_named("fine_tune")(ModelState.initial(config), random_span(1, range(9), 20), 20).state
    span = random_span(2, range(9), 24)
    tuned = strategies.strategy_named("fine_tune")(state, span, 24).state.items.weight
    found = averaged(state, span, 24).state.items.weight
    assert torch.allclose(found[:20], (tuned[:20] + state.items.weight) / 2, atol=1e-6)
    assert torch.equal(found[20:], tuned[20:])


def test_its_settings_are_a_section_that_is_checked_and_stored(averaged, tmp_path):
    text = '[training]\nstrategy = "averaged"\n[averaged]\nback = 1'
    config = load_settings(text=text).interests
    assert own(config, "averaged", averaged.settings).back == 1.0
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert "averaged" not in config_to_dict(load_settings(text="").interests)
    with pytest.raises(ConfigError, match=r"\[averaged\] back = 2.0: must be 0 .. 1"):
        load_settings(text="[averaged]\nback = 2")
    with pytest.raises(ConfigError, match="did you mean 'back'"):
        load_settings(text="[averaged]\nbak = 1")
    with pytest.raises(ConfigError, match="strategy fine_tune has no settings"):
        load_settings(text="[fine_tune]\nx = 1")


def test_its_settings_reach_it(averaged):
    config = tiny_config()
    state = strategies.strategy_named("fine_tune")(ModelState.initial(config), random_span(1, range(9), 20), 20).state
    span = random_span(2, range(9), 24)
    state.config = replace(config, own={"averaged": averaged.settings(back=1.0)})
    assert torch.equal(averaged(state, span, 24).state.items.weight[:20], state.items.weight)


def test_the_bench_knows_it(averaged):
    (variant,) = variants_named(["averaged"])
    assert variant.strategy == "averaged"


@pytest.mark.parametrize("extractor", ["comirec-dr", "comirec-sa", "mind"])
def test_it_keeps_the_contract(extractor, tmp_path):
    contract = StrategyContract()
    contract.name = "averaged"
    run = chain("averaged", extractor)
    contract.test_the_state_that_is_passed_in_stays_as_it_was(run)
    contract.test_everything_is_finite_and_something_was_learnt(run)
    contract.test_the_configuration_and_the_catalogue_are_those_asked_for(run)
    contract.test_users_outside_the_span_are_untouched_bit_for_bit(run)
    contract.test_the_interests_handed_back_are_those_of_the_span(run)
    contract.test_ids_are_for_life_and_dense_where_nothing_was_forgotten_and_the_cap_holds(run)
    contract.test_the_report_adds_up(run)
    contract.test_each_item_read_supports_one_interest(run)
    contract.test_save_and_load_equals_never_having_stopped(run, 3, tmp_path)
    contract.test_one_seed_gives_the_same_bits_and_another_gives_others(extractor)
