"""`imsr bench` from event files to tables, and again."""

import csv
import json

import pytest
from small_world import TOML, log
from typer.testing import CliRunner

from flows.cli import app
from flows.console import console
from imsr_core.errors import ConfigError
from pipelines.bench.data import BenchError


@pytest.fixture
def bench(tmp_path, learnt, copy_of, monkeypatch):
    """Run the command on a workspace of six days."""
    monkeypatch.setattr(console, "_width", 200)
    workspace = copy_of(learnt)

    def run(*arguments, names="popularity,fine_tune,imsr", log=("-w", str(workspace.root))):
        common = ["--out", str(tmp_path / "out"), "--strategies", names, "--seeds", "1", "--no-figures"]
        return CliRunner().invoke(app, ["bench", *log, *common, *arguments])

    run.out = tmp_path / "out"
    return run


@pytest.mark.slow
def test_bench_makes_a_workspace_of_event_files_once(bench, tmp_path):
    events, config = tmp_path / "log.csv", tmp_path / "bench.toml"
    with events.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("user_id", "item_id", "timestamp"), *log()])
    config.write_text(TOML)
    given = ("--data", str(config))
    assert "holds no log yet" in str(bench(log=given).exception)
    first = bench(names="popularity", log=(str(events), *given))
    assert first.exit_code == 0, first.output
    again = bench(names="popularity", log=given)  # the log is in the bench's workspace
    assert again.output.count(": found;") == 1
    assert bench(names="popularity").output.count(": found;") == 1, "the workspace holds the same log"


def test_bench_answers_programs(bench):
    bench()
    told = json.loads(bench("--json", "--found").stdout)
    assert [row["variant"] for row in told["methods"]] == ["popularity", "fine_tune", "imsr"]
    assert all(0 < row["hr"] < 1 for row in told["methods"])
    assert str(bench.out / "results.md") in told["written"]


def test_bench_writes_tables_and_goes_on_where_it_was(bench):
    first = bench()
    assert first.exit_code == 0, first.output
    assert "| imsr | comirec-dr |" in first.output
    assert (bench.out / "results.md").read_text(encoding="utf-8").startswith("# Methods side by side")
    tables = (bench.out / "results.parquet").read_bytes()
    again = bench()
    assert again.exit_code == 0, again.output
    assert again.output.count(": found;") == 3
    assert (bench.out / "results.parquet").read_bytes() == tables
    more = bench(names="fine_tune,frozen")
    assert (more.output.count(": found;"), more.output.count("CPU s;")) == (1, 1)


def test_what_is_found_can_be_reported_without_computing_the_rest(bench):
    assert isinstance(bench("--found").exception, BenchError)
    assert bench(names="fine_tune").exit_code == 0
    found = bench("--found", names="all")
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
        (["--data", __file__], "name a log, or a workspace"),
        (["--extractors", "comirec"], "no extractor"),
    ],
)
def test_wrong_arguments_are_refused(bench, arguments, message):
    result = bench(*arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in result.exception.message
