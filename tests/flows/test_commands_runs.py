"""plan, run, backfill and restate on the command line, and how a run ends that is asked to."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from small_world import (
    BASE,
    DAYS,
    TOML,
    VERSIONS,
    current,
    learnt_content,
    log,
    make,
    run_all,
    states,
    tree,
    version_rows,
)
from typer.testing import CliRunner

from flows.cli import app
from flows.commands import backfill
from flows.console import console
from imsr_core.errors import ConfigError
from pipelines.nights.plan import PlanError
from pipelines.workspace.ending import EXIT_CODE

TERMINATED = 128 + signal.SIGTERM


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setattr(console, "_width", 200)


def imsr(workspace, *arguments, **options):
    """Run a command on a workspace in this process."""
    return CliRunner().invoke(app, [*arguments, "--workspace", str(workspace.root)], **options)


def bytes_of(workspace):
    return tree(workspace.root), workspace.ledger_file.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["run", "--dry-run"],
        ["backfill", "--dry-run"],
        ["backfill", "--which", "all", "--dry-run"],
    ],
)
def test_a_dry_run_names_every_span_and_writes_nothing(ingested, arguments):
    before = bytes_of(ingested)
    result = imsr(ingested, *arguments)
    assert result.exit_code == 0, result.output
    assert f"{BASE[0]} .. {BASE[1]}" in result.output
    assert all(day in result.output for day in DAYS[2:])
    assert "new data" in result.output
    assert bytes_of(ingested) == before


def test_a_run_says_how_many_events_are_over_the_limit_of_a_user(tmp_path):
    toml = f"{TOML}\n[sequences]\nmax_events_per_user = 3\n"
    workspace = make(tmp_path / "w", [("u", f"i{n}", f"{BASE[n % 2]}T0{n}:00:00Z") for n in range(10)], toml)
    output = imsr(workspace, "run").output
    assert "4 of 10 events are left out: [sequences] max_events_per_user, a user's newest 3 of a span" in output


def test_the_plan_says_that_a_label_file_is_missing(learnt, copy_of):
    workspace = copy_of(learnt)
    text = workspace.settings_file.read_text()
    workspace.settings_file.write_text(f'{text}\n[tasks.club]\nlabels = "labels/club.csv"\n')
    output = imsr(workspace, "plan").output
    assert "problem: task club: there is no file" in output


def test_a_dry_restatement_lists_what_becomes_stale_and_writes_nothing(learnt):
    before = bytes_of(learnt)
    result = imsr(learnt, "restate", DAYS[3], "--dry-run")
    assert result.exit_code == 0
    assert f"3 spans become stale: {', '.join(DAYS[3:])}" in result.output
    assert bytes_of(learnt) == before


def test_a_restatement_lists_first_and_does_nothing_without_a_yes(learnt):
    before = bytes_of(learnt)
    result = imsr(learnt, "restate", DAYS[3], input="n\n")
    assert result.exit_code == 1
    assert result.output.index("become stale") < result.output.index("go on?")
    assert bytes_of(learnt) == before


def test_a_restatement_that_nobody_can_answer_says_how_it_is_answered_beforehand(learnt):
    before = bytes_of(learnt)
    result = imsr(learnt, "restate", DAYS[3], input="")
    assert isinstance(result.exception, ConfigError)
    assert result.exception.hint == f"imsr restate {DAYS[3]} --yes does it"
    assert bytes_of(learnt) == before


def test_a_restatement_lists_first_and_then_learns(learnt, copy_of):
    workspace = copy_of(learnt)
    result = imsr(workspace, "restate", DAYS[4], "--yes")
    assert result.exit_code == 0, result.output
    assert result.output.index("2 spans become stale") < result.output.index(f"version {DAYS[4]}.2")
    assert list(version_rows(workspace))[5:] == [f"{day}.2" for day in DAYS[4:]]


def test_a_backfill_says_how_far_it_is_and_what_is_left(ingested, copy_of):
    workspace = copy_of(ingested)
    result = imsr(workspace, "backfill", "--to", DAYS[4])
    assert result.exit_code == 0, result.output
    assert f"due after the range: {DAYS[5]}" in result.output
    assert "left, judging by 2 spans" in result.output
    assert current(workspace) == f"{DAYS[4]}.1"
    assert "nothing is left to learn in this range" in imsr(workspace, "backfill", "--to", DAYS[4]).output


def test_a_backfill_whose_lists_fail_is_not_begun_again(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    words = ["backfill", "--which", "all", "--from", DAYS[5]]
    with monkeypatch.context() as patched:
        patched.setattr(backfill, "lists_and_report", full)
        assert imsr(workspace, *words).exception.errno == errno.ENOSPC
    again = imsr(workspace, *words)
    assert "nothing is left to learn in this range" in again.output
    assert list(version_rows(workspace))[5:] == [f"{DAYS[5]}.2"]


def test_out_of_order_is_refused(ingested):
    result = imsr(ingested, "backfill", "--from", DAYS[3])
    assert isinstance(result.exception, PlanError)
    assert f"{DAYS[1]}, {DAYS[2]}" in str(result.exception)
    assert set(states(ingested).values()) == {"ingested"}


def test_nights_without_data_are_in_plan_and_status(tmp_path):
    workspace = make(tmp_path / "workspace", log([0, 1, 2, 5]))
    for command in ("plan", "status"):
        output = imsr(workspace, command).output
        assert f"no data, passed over: {DAYS[3]}, {DAYS[4]}" in output
        assert f"no data since {DAYS[5]}: 2024-03-07 .. " in output


@pytest.mark.slow
@pytest.mark.parametrize("point", ["lease.taken", "train.started:2", "train.before_commit", "promote.before_commit:3"])
def test_sigterm_ends_a_run_cleanly_and_the_next_one_finishes_it(ingested, learnt, copy_of, point):
    workspace = copy_of(ingested)
    name, _, nth = point.partition(":")
    result = _process(workspace, IMSR_FAIL=f"{name}:{nth or 1}:term")
    assert result.returncode == EXIT_CODE == TERMINATED, result.stderr
    assert "Traceback" not in result.stderr
    with workspace.ledger.snapshot() as view:
        assert view.lease().holder is None
    assert "failed" not in states(workspace).values()
    run_all(workspace)
    for version in VERSIONS:
        assert learnt_content(workspace, version) == learnt_content(learnt, version)
    assert list(workspace.staging.iterdir()) == []


def _process(workspace, **environment):
    """`imsr run` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "run", "-w", str(workspace.root)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
