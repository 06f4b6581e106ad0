"""A sweep: which variants it is, what it refuses before anything runs, and its picture."""

from __future__ import annotations

from dataclasses import fields

import pytest
from typer.testing import CliRunner

from flows.cli import app
from imsr_core.config import InterestsConfig
from imsr_core.errors import ConfigError
from pipelines.bench.summary import Summary
from pipelines.bench.sweep import Sweep
from pipelines.bench.variants import VARIANTS

CONFIG = InterestsConfig()
TEXT = "detector.c1=0.3:0.7, trimmer.c2=0.1:0.5,detector.rule=quantile:absolute"


def test_each_value_is_a_variant_beside_the_one_as_it_is():
    sweep = Sweep.of(TEXT, VARIANTS["imsr"], CONFIG)
    assert [variant.name for variant in sweep.variants] == [
        "imsr",
        *("imsr~detector.c1=0.3", "imsr~detector.c1=0.7", "imsr~trimmer.c2=0.1", "imsr~trimmer.c2=0.5"),
        *("imsr~detector.rule=quantile", "imsr~detector.rule=absolute"),
    ]
    (_, first), _ = sweep.settings["detector.c1"]
    assert first.config(CONFIG, "comirec-dr", 0).detector.c1 == 0.3
    assert first.config(CONFIG, "comirec-dr", 0).trimmer == CONFIG.trimmer


@pytest.mark.parametrize(
    "text", ["detector.c1", "detector.c1=", "", "nothing.c1=1", "detector.no=1", "detector.c1=-1", "detector.c1=maybe"]
)
def test_what_is_no_sweep_is_refused(text):
    with pytest.raises(ConfigError):
        Sweep.of(text, VARIANTS["imsr"], CONFIG)


def test_a_counter_has_no_settings():
    with pytest.raises(ConfigError, match="no settings to sweep"):
        Sweep.of(TEXT, VARIANTS["popularity"], CONFIG)


def test_the_picture_shows_what_was_computed(tmp_path):
    pytest.importorskip("matplotlib")
    sweep = Sweep.of("detector.c1=0.3:0.7", VARIANTS["imsr"], CONFIG)
    plain = {f.name: 0.1 for f in fields(Summary)} | {"extractor": "comirec-dr", "seeds": 1, "gains": {}}
    lines = [Summary(**(plain | {"variant": variant.name, "hr_sd": float("nan")})) for variant in sweep.variants[:2]]
    assert [value for value, _ in sweep.points("detector.c1", lines)] == ["0.3"]
    assert sweep.draw(lines, 20, tmp_path).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_command_computes_and_draws_it(learnt, copy_of, tmp_path):
    pytest.importorskip("matplotlib")
    common = ["bench", "-w", str(copy_of(learnt).root), "--out", str(tmp_path / "out"), "--seeds", "1"]
    result = CliRunner().invoke(app, [*common, "--sweep", "trimmer.c2=0.1:0.9"])
    assert result.exit_code == 0, result.output
    assert "imsr~trimmer.c2=0.9" in (tmp_path / "out" / "results.md").read_text()
    assert (tmp_path / "out" / "sweep.png").exists()
    again = CliRunner().invoke(app, [*common, "--sweep", "trimmer.c2=0.1:0.9"])
    assert again.output.count(": found;") == 3
