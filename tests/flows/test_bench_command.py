"""`imsr bench` from event files to tables, and again."""

import csv

import pytest
from small_world import TOML, log
from typer.testing import CliRunner

from flows.cli import app
from flows.console import console
from imsr_core.errors import ConfigError
from pipelines.bench_data import BenchError


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Run the command on a log of six days."""
    monkeypatch.setattr(console, "_width", 200)
    events, config = tmp_path / "log.csv", tmp_path / "bench.toml"
    with events.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user_id", "item_id", "timestamp"), *log()])
    config.write_text(TOML)

    def run(*arguments, names="popularity,fine_tune,imsr", log=(str(events),)):
        common = ["--data", str(config), "--out", str(tmp_path / "out"), "--strategies", names, "--seeds", "1"]
        return CliRunner().invoke(app, ["bench", *log, *common, *arguments])

    run.out = tmp_path / "out"
    return run


def test_bench_writes_tables_and_goes_on_where_it_was(bench):
    first = bench("--no-figures")
    assert first.exit_code == 0, first.output
    assert "| imsr | comirec-dr |" in first.output
    assert (bench.out / "results.md").read_text(encoding="utf-8").startswith("# Methods side by side")
    tables = (bench.out / "results.parquet").read_bytes()
    again = bench("--no-figures", log=())  # the log is in the bench's workspace
    assert again.exit_code == 0, again.output
    assert again.output.count(": found;") == 3
    assert (bench.out / "results.parquet").read_bytes() == tables
    more = bench("--no-figures", names="fine_tune,frozen", log=())
    assert (more.output.count(": found;"), more.output.count("CPU s;")) == (1, 1)


def test_what_is_found_can_be_reported_without_computing_the_rest(bench):
    assert isinstance(bench("--found", "--no-figures").exception, BenchError)
    assert bench("--no-figures", names="fine_tune").exit_code == 0
    found = bench("--found", "--no-figures", names="all", log=())
    assert found.exit_code == 0, found.output
    assert (found.output.count(": found;"), found.output.count("CPU s;")) == (1, 0)
    assert "| fine_tune | comirec-dr |" in (bench.out / "results.md").read_text(encoding="utf-8")


def test_search_prints_what_to_put_into_the_settings(bench):
    found = bench("--search", "2", names="fine_tune")
    assert found.exit_code == 0, found.output
    assert "scores on 2024-03-03, 2024-03-04" in found.output
    assert "best" in found.output
    assert not (bench.out / "results.md").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workspace", "."], "name a log, or a workspace"),
        (["--extractors", "comirec"], "no extractor"),
    ],
)
def test_wrong_arguments_are_refused(bench, arguments, message):
    result = bench(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in result.exception.message


def test_a_bench_without_a_log_says_so(bench):
    assert "holds no log yet" in str(bench(log=()).exception)
