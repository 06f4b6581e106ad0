"""Chains of a bench: against the strategies called by hand; resumed, shared, matched."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from bench_cases import CONFIG, bench_data, grid, run, spans
from hypothesis import given
from hypothesis import strategies as st

from imsr_core.ragged import concatenate, from_events
from imsr_core.state import ModelState
from imsr_core.strategies import strategy_named
from pipelines.bench.cells import CellFiles, CellResult, base_config
from pipelines.bench.data import BenchError, BenchSpan
from pipelines.bench.floors import FloorRun, one_list, rank_floor
from pipelines.bench.grid import Estimate
from pipelines.bench.ranking import rank_everything
from pipelines.bench.summary import Scope, summaries
from pipelines.bench.variants import VARIANTS, with_settings
from pipelines.interests.evaluation import rank_events

FEW = "popularity frozen fine_tune imsr fixed-k full_retrain"


@pytest.fixture(scope="module")
def data():
    return bench_data()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return CellFiles(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def steps(data, folder):
    return run(grid(data, FEW), folder)


def without_trend(state: ModelState) -> ModelState:
    return replace(state, config=with_settings(state.config, {"trend.enabled": False}))


def result(steps, name: str) -> CellResult:
    return next(step.result for key, step in steps.items() if key.startswith(f"{name}."))


@pytest.mark.parametrize("name", ["fine_tune", "imsr"])
def test_a_chain_equals_the_strategy_called_by_hand(steps, data, name):
    """Tested on each span by the version before it, then learnt."""
    config = VARIANTS[name].config(CONFIG, "comirec-dr", 0)
    state = strategy_named("imsr")(ModelState.initial(config), data.spans[0].learnt, data.spans[0].n_items).state
    for span in data.tested:
        for kept, scored in ((result(steps, name).ranks, without_trend(state)), (result(steps, name).served, state)):
            assert kept[span.id].tolist() == rank_events(scored, span.sequences, 5)[0].tolist()
        state = strategy_named(name)(state, span.learnt, span.n_items).state


@pytest.mark.parametrize(
    ("extractor", "protocol"), [("mind", "prequential"), ("comirec-sa", "prequential"), ("comirec-dr", "holdout")]
)
def test_every_extractor_and_protocol(extractor, protocol, tmp_path):
    data = bench_data(protocol=protocol)
    steps = run(grid(data, "fine_tune imsr fixed-k full_retrain", extractors=(extractor,)), CellFiles(tmp_path))
    lines = summaries([(step.cell, step.result) for step in steps.values()], Scope(data, 5), ("fine_tune",))
    assert [line.extractor for line in lines] == [extractor] * 4
    for line in lines:
        assert 0 < line.hr <= 1
        assert line.hr == line.last or protocol == "prequential"
    queries = 4 * CONFIG.model.dim if extractor == "comirec-sa" else 0
    found = result(steps, "fixed-k").records[-1]
    interests = result(steps, "fixed-k").counts["s3"][:, 1].sum()
    assert found.stored_floats == interests * (CONFIG.model.dim + queries)


def test_full_retrain_starts_over_with_as_many_interests_as_imsr(steps, data):
    config = VARIANTS["full_retrain"].config(CONFIG, "comirec-dr", 0)
    found, matched = result(steps, "full_retrain"), result(steps, "imsr")
    assert list(found.ranks) == ["s3", "s4"], "it is not learnt for spans that are only tuned on"
    for number in (2, 3):
        history = concatenate([span.learnt for span in data.spans[: number + 1]])
        counts = dict(matched.counts[f"s{number}"].tolist())
        mine = dict(found.counts[f"s{number}"].tolist())
        assert mine == {user: counts[user] for user in history.users.tolist()}
    assert config.training.base_epochs == CONFIG.training.base_epochs


def test_fixed_k_has_imsrs_final_numbers_from_the_start(steps):
    final = dict(list(result(steps, "imsr").counts.values())[-1].tolist())
    for counts in result(steps, "fixed-k").counts.values():
        assert all(final[user] == number for user, number in counts.tolist())
    assert any(number > CONFIG.model.initial_interests for number in final.values())


def test_frozen_never_changes(steps):
    found = result(steps, "frozen")
    assert len({counts.tobytes() for counts in found.counts.values()}) == 1
    assert np.array_equal(found.matrix, np.repeat(found.matrix[:1], len(found.matrix), axis=0))


def test_the_second_run_computes_nothing(steps, data, folder):
    again = run(grid(data, FEW), folder)
    assert all(step.found for step in again.values())
    for name, step in again.items():
        assert all(np.array_equal(step.result.ranks[s], ranks) for s, ranks in steps[name].result.ranks.items())
        assert np.array_equal(step.result.matrix, steps[name].result.matrix, equal_nan=True)
        assert repr(step.result.records) == repr(steps[name].result.records)  # repr: NaN is not NaN


def test_variants_of_one_base_share_it(steps, folder):
    assert len(list((folder.root / "bases").iterdir())) == 2  # fixed-k has its own numbers of interests
    first = [step.result.records[0] for name, step in steps.items() if name.split(".")[0] in ("imsr", "fine_tune")]
    assert repr(first[0]) == repr(first[1])


@pytest.mark.parametrize("name", ["sml", "ader", "elastic"])
def test_a_strategy_that_remembers_begins_with_its_own_pretraining(data, tmp_path, name):
    """As if it had never stopped, and also from a base that was kept."""
    config = VARIANTS[name].config(CONFIG, "comirec-dr", 0)
    state, history = ModelState.initial(config), []
    expected = {}
    for span in data.spans:
        if history:
            expected[span.id] = rank_events(without_trend(state), span.sequences, 5)[0].tolist()
        past = concatenate(history) if history else None
        look = (lambda past=past: past) if history else None
        state = strategy_named(name)(state, span.learnt, span.n_items, history=look).state
        history.append(span.learnt)
    files = CellFiles(tmp_path)
    for _ in range(2):
        found = result(run(grid(data, name), files), name).ranks
        assert {span: ranks.tolist() for span, ranks in found.items()} == expected
        for path in (tmp_path / "cells").iterdir():
            path.unlink()


def test_a_bench_that_was_killed_goes_on(data, tmp_path):
    """What was done is taken, a half-written base is not."""
    files = CellFiles(tmp_path)
    stream = iter(run(grid(data, "fine_tune"), files).values())
    next(stream)
    (tmp_path / "bases" / ".half.0").mkdir()
    found = run(grid(data, "fine_tune imsr"), files)
    assert [step.found for step in found.values()] == [True, False]


def test_other_data_settings_and_seeds_are_other_cells(data):
    def prints(**changes):
        return {cell.fingerprint for cell in grid(**({"data": data, "names": "imsr"} | changes)).cells()}

    same = prints()
    parts = spans()
    others = [
        prints(data=bench_data(parts[:3] + parts[4:] + parts[3:4])),
        prints(names="fine_tune"),
        prints(seeds=(1,)),
        prints(top_n=6),
        prints(config=with_settings(CONFIG, {"retainer.weight": 0.5})),
    ]
    assert prints() == same
    assert all(not found & same for found in others)


def test_what_pretraining_does_not_read_does_not_make_another_base(data):
    def base(changes):
        return grid(data, "imsr", config=with_settings(CONFIG, changes)).cells()[0].base_fingerprint

    assert base({"retainer.weight": 0.5, "model.prior_mass": 7.0, "training.epochs": 9, "detector.c1": 0.1}) == base({})
    assert base({"model.dim": 4}) != base({})
    assert base({"training.base_epochs": 9}) != base({})


@pytest.mark.parametrize("changes", [{"retainer.weight": 9.0, "retainer.form": "bce"}, {"model.prior_mass": 0.0}])
def test_pretraining_indeed_does_not_read_it(data, changes):
    span = data.spans[0]
    states = [
        strategy_named("imsr")(ModelState.initial(config), span.learnt, span.n_items).state
        for config in (base_config(CONFIG), with_settings(CONFIG, changes))
    ]
    assert torch.equal(states[0].items.weight, states[1].items.weight)
    assert torch.equal(states[0].store.vectors, states[1].store.vectors)


def test_a_damaged_cell_is_named(data, tmp_path):
    files = CellFiles(tmp_path)
    step = next(iter(run(grid(data, "popularity"), files).values()))
    files.path(step.cell).write_bytes(b"broken")
    with pytest.raises(BenchError, match=r"popularity.*damaged"):
        files.get(step.cell)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.lists(st.integers(0, 9), max_size=6), st.integers(1, 9))
def test_one_list_for_everybody_equals_a_count(counts, items, top_n):
    wanted = np.array(items, dtype=np.int64)
    sequences = from_events(np.zeros_like(wanted), wanted, np.arange(len(wanted)))
    span = BenchSpan("s", sequences, sequences, 10, {})
    found = rank_everything(one_list(np.array(counts), len(sequences)), span, top_n)
    naive = [
        min(sum(other >= counts[i] for n, other in enumerate(counts) if n != i), top_n)
        if i < len(counts) and counts[i]
        else top_n
        for i in items
    ]
    assert found.tolist() == naive


def test_the_last_span_after_pretraining_is_its_last_calendar_span(data):
    """Not all of it: what came within the length of a span."""
    data = replace(data, span_length=data.span_length // 2)
    assert 0 < data.newest.n_events < data.spans[0].learnt.n_events
    assert np.ptp(data.newest.timestamps) < data.span_length
    result = CellResult("popularity-last")
    rank_floor(FloorRun("popularity-last", data, 1, 5), result)
    span = data.spans[1]
    counts = np.bincount(data.newest.items, minlength=data.spans[0].n_items)
    expected = rank_everything(one_list(counts, len(span.sequences)), span, 5)
    assert result.ranks["s1"].tolist() == expected.tolist()


def test_the_estimate_is_an_interval_of_the_rates_that_were_seen():
    estimate = Estimate()
    assert estimate.left([("imsr", 10.0)]) is None
    estimate.add("imsr", 10.0, 20.0)
    estimate.add("imsr", 10.0, 40.0)
    estimate.add("full_retrain", 1.0, 50.0)
    assert estimate.left([("imsr", 5.0), ("popularity", 0.0)]) == (10.0, 20.0)
    assert estimate.left([("sml", 1.0)]) == (2.0, 50.0)
    assert estimate.left([]) == (0.0, 0.0)


SCORED = with_settings(CONFIG, {"score.enabled": True})


@pytest.mark.parametrize("name", ["imsr", "fine_tune", "full_retrain"])
def test_another_score_trains_nothing_and_ranks_as_if_it_had(data, tmp_path, name, monkeypatch):
    run(grid(data, name, config=SCORED), CellFiles(tmp_path / "kept"))
    other = grid(data, name, config=with_settings(SCORED, {"score.neighbours": False}))
    direct = run(other, CellFiles(tmp_path / "fresh"))
    monkeypatch.setattr("pipelines.bench.chain._learn", None)
    monkeypatch.setattr("pipelines.bench.chain.strategy_named", None)
    again = run(other, CellFiles(tmp_path / "kept"))
    for kind in ("ranks", "served", "discover", "discover_served"):
        for span, ranks in getattr(result(direct, name), kind).items():
            assert getattr(result(again, name), kind)[span].tolist() == ranks.tolist()


def test_interests_that_learn_what_a_score_leaves_belong_to_that_score(data):
    residual = grid(data, "imsr", config=with_settings(SCORED, {"training.residual": True})).cells()[0]
    assert not residual.is_scored_apart
    assert grid(data, "imsr", config=SCORED).cells()[0].is_scored_apart
