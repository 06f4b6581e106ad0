"""A search sees the tuning spans and nothing later."""

from itertools import product

import pytest
from bench_cases import LENGTH, NAMES, bench_data, grid, spans, unwatched

from imsr_core.errors import ConfigError
from pipelines.bench.cells import CellFiles
from pipelines.bench.data import BenchError, cut, renumbered
from pipelines.bench.search import FIRST, SPACE, as_toml, candidates, search, searchable, space_of
from pipelines.bench.summary import Scope
from pipelines.bench.variants import VARIANTS, with_settings
from pipelines.settings.imsr_toml import load_settings


def trials(data, folder, count=3):
    (cell,) = grid(data, "imsr").cells()
    return list(search(cell, Scope(data, 5), CellFiles(folder), count, unwatched))


def test_the_reported_spans_do_not_reach_a_search(tmp_path):
    """Another future, the same choice: scores, to the last digit."""
    parts = spans()
    now, other = bench_data(parts), bench_data([*parts[:3], parts[4], parts[3]])
    assert [a.id for a in now.reported] == ["s3", "s4"]
    assert now.fingerprint != other.fingerprint
    found = [
        [(t.settings, t.score, t.hr, t.ndcg) for t in trials(d, tmp_path / name)]
        for d, name in ((now, "a"), (other, "b"))
    ]
    assert found[0] == found[1]
    assert len({score for _, score, _, _ in found[0]}) > 1


def test_a_search_that_is_run_again_reads_its_trials(tmp_path):
    data = bench_data()
    first = trials(data, tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert [t.score for t in trials(data, tmp_path)] == [t.score for t in first]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == files


def test_candidates_begin_with_the_given_settings_and_never_repeat():
    found = candidates(SPACE, 40, seed=1)
    assert found[0] == {}
    assert found == candidates(SPACE, 40, seed=1)
    assert len({tuple(point.items()) for point in found}) == 40
    assert candidates({"a": (1, 2)}, 100, 0)[1:] in ([{"a": 1}, {"a": 2}], [{"a": 2}, {"a": 1}])
    combinations = [dict(zip(FIRST, values, strict=True)) for values in product(*FIRST.values())]
    assert found[1:9] == combinations, "window, softmax and residual together, before anything else"
    given = with_settings(grid(bench_data(), "imsr").config, combinations[2])
    assert candidates(SPACE, 8, 1, given)[1:] == combinations[:2] + combinations[3:], "not the one that is given"
    for point in found:
        with_settings(given, point)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("imsr", []),
        ("elastic", []),
        ("imsr-literal", ["model.prior_mass"]),
        ("fine_tune-literal", ["model.prior_mass", "retainer.weight", "detector.c1", "detector.min_items"]),
        ("fine_tune", ["retainer.weight", "detector.c1", "detector.min_items"]),
        ("imsr-no-eir", ["retainer.weight"]),
        ("imsr-no-nid-pit", ["detector.c1", "detector.min_items"]),
    ],
)
def test_a_search_leaves_a_variant_what_makes_it_one(name, left_out):
    given = with_settings(grid(bench_data(), "imsr").config, {"score.enabled": True})
    assert space_of(VARIANTS[name], given) == {path: values for path, values in SPACE.items() if path not in left_out}


def test_interests_learn_what_counters_leave_only_where_there_are_counters():
    config = grid(bench_data(), "imsr").config
    assert "training.residual" not in space_of(VARIANTS["imsr"], with_settings(config, {"score.enabled": False}))


def test_the_best_settings_can_be_pasted_into_an_imsr_toml():
    point = candidates(SPACE, 12, seed=0)[11]
    read = load_settings(text=as_toml(point))
    assert read.interests == with_settings(load_settings(text="").interests, point)


def test_what_cannot_be_searched_is_refused(tmp_path):
    for name in ("popularity", "full_retrain"):
        with pytest.raises(BenchError, match="nothing to search"):
            searchable(VARIANTS[name])
    with pytest.raises(BenchError, match="tuning_spans"):
        trials(cut(NAMES, renumbered(spans()), "prequential", 1, LENGTH), tmp_path)
    with pytest.raises(ConfigError):
        grid(bench_data(), "nonsense")
