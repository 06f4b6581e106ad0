"""What a bench says of its cells: gains with intervals, forgetting, tables, pictures."""

import builtins

import numpy as np
import pyarrow.parquet as pq
import pytest
from bench_cases import bench_data, grid, spans

from imsr_core.bootstrap import Interval
from imsr_core.errors import ConfigError
from pipelines.bench.cells import CellResult
from pipelines.bench.data import BenchError
from pipelines.bench.figures import draw
from pipelines.bench.kept import SpanRecord
from pipelines.bench.picks import best_rival, picks
from pipelines.bench.rivals import RivalFiles
from pipelines.bench.summary import Scope, figures, gain, summaries
from pipelines.bench.tables import REFERENCES, gain_in_words, markdown, write_report
from pipelines.bench.variants import VARIANTS, variants_named, with_settings


@pytest.fixture(scope="module")
def data():
    return bench_data()


def planted(data, names, hits, seed=0, seeds=(0,)):
    """Cells that find each event's item with this chance, at rank 0."""
    rng = np.random.default_rng(seed)
    done = []
    for cell in grid(data, names, seeds).cells():
        chance = hits[cell.variant.name]
        ranks = {
            span.id: np.where(rng.random(span.sequences.n_events) < chance, 0, 5).astype(np.int16)
            for span in data.tested
        }
        matrix = np.array([[0.1 * (3 + i - abs(i - t)) for i in range(4)] for t in range(4)])
        records = [SpanRecord(span.id, 1.0 + n, 2.0, 100.0, 3.0, 24) for n, span in enumerate(data.spans[:-1])]
        done.append((cell, CellResult(cell.name, ranks, matrix=matrix, records=records)))
    return done


def test_a_variant_gains_nothing_over_itself_and_an_oracle_gains_with_certainty(data):
    half, other, oracle = (planted(data, "imsr", {"imsr": chance}, seed) for seed, chance in enumerate((0.5, 0.5, 1)))
    assert gain(half, half, Scope(data, 5)) == gain(oracle, oracle, Scope(data, 5))
    assert gain(half, half, Scope(data, 5)).mean == 0
    better = gain(oracle, half, Scope(data, 5))
    assert better.low > 0.5
    noise = gain(other, half, Scope(data, 5))
    assert noise.low < 0 < noise.high


def test_a_gain_is_the_mean_over_spans_not_over_events(data):
    """A candidate that is perfect on one of the two reported spans and useless on the other gains nothing over one
    that is the other way round, however many events each span has."""
    first, second = planted(data, "imsr", {"imsr": 1.0}), planted(data, "imsr", {"imsr": 1.0})
    first[0][1].ranks["s3"][:] = 5
    second[0][1].ranks["s4"][:] = 5
    sizes = [int(span.slices["all"].sum()) for span in data.reported]
    assert sizes[0] != sizes[1]
    assert gain(first, second, Scope(data, 5)).mean == pytest.approx(0)


def test_as_it_serves_only_the_candidate(data):
    half, oracle = planted(data, "imsr", {"imsr": 0.5}), planted(data, "imsr", {"imsr": 1.0})
    half[0][1].served = oracle[0][1].ranks
    scope = Scope(data, 5)
    assert gain(half, half, scope, served=True) == gain(oracle, half, scope)
    assert gain(oracle, half, scope, served=True) == gain(oracle, half, scope), "what is no more than its model"
    assert np.isnan(gain(half, half, Scope(data, 5, discover=True)).mean), "not ranked without what users had"


def test_only_what_is_new_counts_in_discover(data):
    """An oracle on what users had before gains nothing there."""
    half, oracle = (planted(data, "imsr", {"imsr": chance}) for chance in (0.5, 0.5))
    for result in (half[0][1], oracle[0][1]):
        result.discover = {span: ranks.copy() for span, ranks in result.ranks.items()}
    for span in data.tested:
        oracle[0][1].discover[span.id][span.slices["repeat"]] = 0
    scope = Scope(data, 5, discover=True)
    assert gain(oracle, half, scope).mean == 0
    for span in data.tested:
        oracle[0][1].discover[span.id][span.slices["explore"]] = 0
    assert gain(oracle, half, scope).low > 0
    assert summaries(oracle, scope, ())[0].hr == 1


def test_what_a_user_would_pick_instead_marks_the_best_that_is_no_model(data):
    hits = {"popularity": 0.4, "popularity-last": 0.0, "fine_tune": 1.0, "imsr": 0.7}
    done = planted(data, " ".join(hits), hits)
    for _, result in done:
        result.discover = result.ranks
    found = {pick.variant: pick for pick in picks(done, data, 5)}
    assert [name for name, pick in found.items() if pick.everything.best_rival] == ["popularity"]
    assert best_rival(list(found.values()), discover=True).variant == "popularity"
    assert found["imsr"].everything.gain is None
    assert found["popularity"].everything.gain.low > 0
    assert found["fine_tune"].discover.gain.high < 0


def test_a_rivals_result_stands_beside_the_cells(data, tmp_path):
    """If it is of these events and lists of this length."""
    imsr = planted(data, "imsr", {"imsr": 0.5})
    result = planted(data, "imsr", {"imsr": 1.0})[0][1]
    files = RivalFiles(tmp_path)
    files.put("als", "factors 8", data, 5, result)
    files.put("als-10", "longer lists", data, 10, result)
    files.put("als-elsewhere", "another log", bench_data(spans(1)), 5, result)
    ((cell, read),) = files.all(data, 5)
    assert (cell.variant.name, cell.variant.what, cell.variant.is_model) == ("als", "factors 8", False)
    assert all(np.array_equal(read.ranks[span], ranks) for span, ranks in result.ranks.items())
    text = markdown([*imsr, (cell, read)], Scope(data, 5), "Planted")
    assert "| als | none | **100.00** |" in text
    assert "- `als`: factors 8" in text


def test_the_methods_table_in_figures(data):
    hits = {"fine_tune": 0.4, "imsr": 0.8, "popularity": 0.1}
    done = planted(data, "popularity fine_tune imsr", hits, seeds=(0, 1))
    lines = {line.variant: line for line in summaries(done, Scope(data, 5), REFERENCES)}
    assert [line.seeds for line in lines.values()] == [1, 2, 2]
    imsr = lines["imsr"]
    by_hand = np.mean(
        [
            [(result.ranks[span.id][span.slices["all"]] < 5).mean() for span in data.reported]
            for cell, result in done
            if cell.variant.name == "imsr"
        ]
    )
    assert imsr.hr == pytest.approx(by_hand)
    assert imsr.hr_sd > 0
    assert np.isnan(lines["popularity"].hr_sd)
    assert imsr.gains["fine_tune"].low > 0
    assert lines["popularity"].gains["fine_tune"].high < 0
    assert "fine_tune" not in lines["fine_tune"].gains
    # R[t, i] falls by 0.1 with each span between: versions 1..3 on spans 1..3
    assert imsr.forgetting == pytest.approx((0.2 + 0.1) / 2)
    assert imsr.backward == pytest.approx(-(0.2 + 0.1) / 2)
    assert imsr.seconds == pytest.approx(3.0), "updates only, without the pre-training"


def test_the_report_holds_every_figure(data, tmp_path):
    done = planted(data, "fine_tune imsr", {"fine_tune": 0.4, "imsr": 0.8})
    text = write_report(done, Scope(data, 5), tmp_path, "Planted")
    assert text == (tmp_path / "results.md").read_text(encoding="utf-8") == markdown(done, Scope(data, 5), "Planted")
    scored = sum(int(Scope(data, 5).member(span).sum()) for span in data.reported)
    assert f"({scored:,} of {sum(span.sequences.n_events for span in data.reported):,} events: those of known" in text
    assert "misses; popularity has a list for everybody" in text
    assert "| comirec-dr | fine_tune | +" in text, "imsr against each"
    for name in ("| imsr |", "| fine_tune |", "(s1)", "Reported: s3, s4", VARIANTS["imsr"].what):
        assert name in text
    table = pq.read_table(tmp_path / "results.parquet").to_pylist()
    assert len(table) == len(list(figures(done, data, 5)))
    (row,) = [
        row
        for row in table
        if (row["variant"], row["span"], row["slice"], row["metric"]) == ("imsr", "s4", "all", "hr@5")
        and row["scorer"] == "model"
        and row["shown"] == "everything"
    ]
    member = data.spans[4].slices["all"]
    assert row["value"] == pytest.approx((done[1][1].ranks["s4"][member] < 5).mean())
    assert (row["version"], row["n"], row["reported"]) == ("s3", int(member.sum()), True)


def test_pictures_are_drawn_or_the_missing_extra_is_named(data, tmp_path, monkeypatch):
    done = planted(data, "fine_tune imsr", {"fine_tune": 0.4, "imsr": 0.8})
    lines = summaries(done, Scope(data, 5), REFERENCES)
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(BenchError, match="matplotlib") as caught:
            draw(done, lines, Scope(data, 5), tmp_path)
    assert "imsr[bench]" in caught.value.hint
    pytest.importorskip("matplotlib")
    for path in draw(done, lines, Scope(data, 5), tmp_path):
        assert path.read_bytes()[:4] == b"\x89PNG"


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ConfigError) as caught:
        variants_named(["imsr", "finetune"])
    assert "'fine_tune'" in caught.value.hint
    config = VARIANTS["imsr"].config(grid(bench_data(), "imsr").config, "mind", 3)
    assert (config.model.extractor, config.training.seed) == ("mind", 3)
    with pytest.raises(ConfigError, match="nothing"):
        with_settings(config, {"model.nothing": 1})
    with pytest.raises(ConfigError, match="nothing"):
        with_settings(config, {"nothing.dim": 1})


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_variant_can_be_made(variant, data):
    cells = grid(data, variant.name).cells()
    assert cells[-1].variant is variant
    assert [cell.variant.name for cell in cells[:-1]] == ([variant.like] if variant.like else [])


def test_a_gain_over_next_to_nothing_is_told_as_so_many_times():
    assert gain_in_words(Interval(0.012, -0.001, 0.03)) == "+1.2% (-0.1 .. +3.0)"
    assert gain_in_words(Interval(832.4, 500.2, 1000.0)) == "833 times (501 .. 1001)"
    assert gain_in_words(None) == gain_in_words(Interval(*[float("nan")] * 3)) == "-"
