"""Where items live for hours, a version does not lose to the top list of the last span, by the hour or by the day."""

import pytest
from bench_cases import CONFIG, grid, run
from news_log import news

from pipelines.bench.cells import CellFiles
from pipelines.bench.summary import Scope, score_of
from pipelines.bench.variants import with_settings

SCORED = with_settings(CONFIG, {"score.enabled": True, "training.window": 1, "training.full_softmax": 10_000})


@pytest.mark.parametrize(("unit", "pretrain", "spans", "reads_an_hour"), [(24, 3, 4, 60), (1, 36, 8, 150)])
def test_an_update_is_no_worse_than_what_was_read_last(unit, pretrain, spans, reads_an_hour, tmp_path):
    data = news(unit, pretrain, spans, reads_an_hour)
    names = "popularity popularity-last imsr"
    steps = run(grid(data, names, config=SCORED), CellFiles(tmp_path))
    found = {
        discover: {
            step.cell.variant.name: score_of(step.result, Scope(data, 5, discover), served=True)
            for step in steps.values()
        }
        for discover in (False, True)
    }
    for scores in found.values():
        assert scores["popularity"] < scores["popularity-last"], "what is read now is not what was ever read most"
        for mine, last in zip(scores["imsr"], scores["popularity-last"], strict=True):
            assert mine >= last
