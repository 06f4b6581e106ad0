"""The contract of strategies, for each one that there is."""

import pytest

from imsr_core.errors import ConfigError
from imsr_core.strategies import STRATEGIES, Change, strategy_named
from imsr_core.testing.planted_logs import EXTRACTORS
from imsr_core.testing.strategy_contract import StrategyContract, chain


class TestImsr(StrategyContract):
    name = "imsr"


class TestElastic(StrategyContract):
    name = "elastic"


class TestFineTune(StrategyContract):
    name = "fine_tune"


class TestAder(StrategyContract):
    name = "ader"


class TestSml(StrategyContract):
    name = "sml"


def test_no_strategy_goes_without_the_contract():
    assert {case.name for case in StrategyContract.__subclasses__()} == set(STRATEGIES)


def test_an_unknown_strategy_is_refused_with_the_names_there_are():
    with pytest.raises(ConfigError) as caught:
        strategy_named("imrs")
    assert "imrs" in str(caught.value)
    assert all(name in caught.value.hint for name in STRATEGIES)


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_the_spans_of_the_contract_use_every_module(extractor):
    _, updates, _ = chain("imsr", extractor)
    born = sum(int((~u.changes.residual.isnan() & (u.changes.interest_id >= 0)).sum()) for u in updates)
    assert born
    assert sum(update.changes.count(Change.TRIMMED) for update in updates)
    for t, update in enumerate(updates):
        assert bool(update.clarity_quantiles) == (t > 0)
        assert bool(update.detected) == (t > 0)
