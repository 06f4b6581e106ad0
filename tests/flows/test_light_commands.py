"""Commands that learn nothing import nothing that learns: what is imported is asserted, since times are not facts."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.command_list import COMMANDS
from flows.lazy import uncollected
from pipelines.interests.version import Version
from pipelines.workspace.layout import Workspace

HEAVY = ("torch", "apache_beam", "prefect", "matplotlib")

#: Runs a command and prints which of the heavy packages it imported.
SCRIPT = f"""
import sys
from flows.cli import app
app(sys.argv[1:], standalone_mode=False)
print("HEAVY:", *(name for name in {HEAVY} if name in sys.modules))
"""


def imported_by(*words: object, of: tuple[str, ...] = HEAVY) -> list[str]:
    script = SCRIPT.replace(str(HEAVY), str(of))
    run = subprocess.run(
        [sys.executable, "-c", script, *map(str, words)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.rpartition("HEAVY:")[2].split()


@pytest.fixture(scope="module")
def landed(tmp_path_factory):
    """A workspace with one file of events in its landing folder, which were ingested."""
    root = tmp_path_factory.mktemp("light")
    assert CliRunner().invoke(app, ["init", str(root)]).exit_code == 0
    rows = [f"u{n % 7},i{n % 5},2024-0{1 + n % 3}-0{1 + n % 9}T00:00:{n % 60:02d}" for n in range(60)]
    (root / "landing/events.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    assert CliRunner().invoke(app, ["ingest", "-w", str(root)]).exit_code == 0
    return root


@pytest.fixture
def workspace(landed, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(landed, tmp_path / "light"))


@pytest.fixture(scope="module")
def learnt(landed, tmp_path_factory):
    """Another copy, in which everything was learnt."""
    root = Path(shutil.copytree(landed, tmp_path_factory.mktemp("learnt") / "light"))
    assert CliRunner().invoke(app, ["run", "-w", str(root)]).exit_code == 0
    return root


@pytest.mark.parametrize(
    "words",
    [["--help"], ["ingest"], ["ingest", "--help"], ["plan"], ["status"], ["versions"], ["sql", "FROM spans"]],
    ids=" ".join,
)
def test_imports_neither_torch_nor_beam_nor_prefect(workspace, words):
    where = [] if "--help" in words else ["-w", workspace]
    assert imported_by(*words, *where) == []


@pytest.mark.parametrize("command", ["status", "versions"])
def test_to_look_starts_no_engine(workspace, command):
    engines = ("duckdb", "pyarrow", "numpy", "pipelines.lake.ingest")
    assert imported_by(command, "-w", workspace, of=engines) == []


@pytest.mark.parametrize("words", [["sql", "FROM spans"], ["run"]], ids=" ".join)
def test_who_asks_or_learns_brings_along_nothing_that_ingests_or_forgets(workspace, words):
    unwanted = ("pipelines.lake.ingest", "pipelines.care.forget", "pipelines.tasks")
    assert imported_by(*words, "-w", workspace, of=("duckdb", *unwanted)) == ["duckdb"]


def test_a_span_of_few_events_is_learnt_without_beam_and_torchs_compiler(workspace):
    """Each of the first is a second of processor, which is more than such a span takes."""
    unwanted = ("torch._dynamo", "torch._inductor", "sympy", "apache_beam", "prefect", "pandas", "dask")
    assert imported_by("run", "-w", workspace, of=("torch", *unwanted)) == ["torch"]
    assert "current" in CliRunner().invoke(app, ["status", "-w", str(workspace)]).output


def test_a_list_of_one_user_imports_what_scores_and_nothing_that_writes_or_asks(learnt):
    """More than half of what the command takes is torch, so that it brings nothing else along."""
    unwanted = ("torch._dynamo", "duckdb", "apache_beam", "prefect", "pandas", "pipelines.care", "pipelines.insight")
    assert imported_by("recommend", "--user", "u1", "-w", learnt, of=("torch", *unwanted)) == ["torch"]
    named = imported_by("recommend", "--user", "u1", "--names", "-w", learnt, of=unwanted)
    assert "pipelines.insight" in named  # so that the names above are those that would be there
    assert "duckdb" in imported_by("recommend", "--all", "-w", learnt, of=unwanted)


@pytest.mark.parametrize("words", [["recommend"], ["explain"], ["report"], ["report", None]], ids=str)
def test_what_is_asked_of_one_user_reads_the_interests_of_that_user(learnt, monkeypatch, words):
    """Of a million others it would be gigabytes. A report shows a user in detail, if need be one of its own choice."""
    read, load = [], Version.load

    def counted(version, users=None):
        state = load(version, users)
        read.append(len(state.store.users))
        return state

    monkeypatch.setattr(Version, "load", counted)
    asked = [] if None in words else ["--user", "u1"]
    done = CliRunner().invoke(app, [words[0], *asked, "-w", str(learnt)])
    assert (done.exit_code, read) == (0, [1]), done.output
    assert len(load(Version.open(Workspace.open(learnt))).store.users) == 7


def test_the_list_of_commands_imports_none_of_them():
    script = SCRIPT.replace(f"name in {HEAVY}", "name in sys.modules")
    run = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    modules = set(run.stdout.rpartition("HEAVY:")[2].split())
    assert not {f"flows.commands.{entry.place.partition(':')[0]}" for entry in COMMANDS} & modules
    assert "flows.cli" in modules
    assert "duckdb" not in modules


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_help_says_what_a_command_does_as_it_is_written(entry):
    shown = " ".join(CliRunner().invoke(app, [entry.name, "--help"], env={"COLUMNS": "200"}).output.split())
    listed = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400"}).output.split())
    command = app_command(entry.name)
    summary = command.help.replace("\\[", "[")
    assert len(summary) > 20
    assert summary in listed
    assert summary in shown


def app_command(name):
    from typer.main import get_command

    return get_command(app).commands[name]


def test_sections_in_help_are_text():
    shown = CliRunner().invoke(app, ["ingest", "--help"], env={"COLUMNS": "200"}).output
    assert "[ingest] lookback_spans" in shown


def test_a_run_that_finds_nothing_to_do_imports_nothing_that_learns(learnt):
    """A timer may call it every minute."""
    assert imported_by("run", "-w", learnt) == []


def test_importing_is_not_collected_and_what_a_long_run_leaves_is():
    before = gc.get_freeze_count()
    with uncollected():
        assert not gc.isenabled()
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)
    sys.modules.pop("colorsys", None)
    with uncollected():
        import_module("colorsys")
    assert gc.get_freeze_count() > before
    gc.unfreeze()


def test_importing_within_importing_is_not_collected_either():
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_the_table_of_contents_has_whole_sentences(entry):
    assert app_command(entry.name).help[-1] in ".?"
