"""The Beam job against a SQL oracle, on every local runner; the same bytes whatever the workers."""

import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_logs import Event, contents, oracle, write_lake, written

from imsr_core.errors import ConfigError
from pipelines.sequences.beam_runner import BeamJobError, RunnerOptions, deadline, import_beam
from pipelines.sequences.bucket import BucketTask
from pipelines.sequences.build import SequenceCounts, SequencesError, build_sequences
from pipelines.sequences.loader import load_history, load_sequences
from pipelines.sequences.vocabulary import Vocabulary
from pipelines.workspace.parquet_files import ParquetFileError

ROOT = Path(__file__).parents[3]
MODES = [
    RunnerOptions(),
    RunnerOptions(few_events=1_000_000),
    RunnerOptions(mode="multi_threading", workers=2),
    pytest.param(RunnerOptions(mode="multi_processing", workers=1), marks=pytest.mark.slow),
    pytest.param(RunnerOptions(mode="multi_processing", workers=2, timeout_seconds=120), marks=pytest.mark.slow),
]
#: Two Python processes start.
SLOW_MODE = pytest.param("multi_processing", marks=pytest.mark.slow)
IDS = st.sampled_from(["a", "b", "c", "", "it's", "a\x00", "🛒"])
LOGS = st.lists(st.tuples(IDS, IDS, st.integers(-2, 4)), max_size=40)


def random_log(seed: int, n: int = 400) -> list[Event]:
    chance = random.Random(seed)
    return [(f"u{chance.randrange(25)}", f"i{chance.randrange(40)}", chance.randrange(12)) for _ in range(n)]


def build(files, out, limit=10, options=None, vocabulary=None) -> SequenceCounts:
    out.mkdir(parents=True)
    return build_sequences(
        span_files=files,
        vocabulary=vocabulary or Vocabulary.open([]),
        out=out,
        max_events_per_user=limit,
        options=options or RunnerOptions(),
    )


@settings(deadline=None, max_examples=12)
@given(LOGS, st.integers(1, 6))
def test_beam_equals_the_sql_oracle_row_for_row(tmp_path_factory, log, limit):
    folder = tmp_path_factory.mktemp("log")
    files = write_lake(folder / "lake", log)
    counts = build(files, folder / "out", limit)
    expected = oracle(files, limit)
    assert written(folder / "out") == expected
    assert counts.users == counts.new_users == len(expected)
    assert counts.events + counts.truncated == len(log)


@pytest.mark.parametrize("options", MODES, ids=lambda o: f"{o.mode}-{o.workers}")
def test_every_local_mode_writes_the_same_bytes(tmp_path, options):
    files = write_lake(tmp_path / "lake", random_log(1))
    counts = build(files, tmp_path / "reference")
    assert written(tmp_path / "reference") == oracle(files, 10)
    assert build(files, tmp_path / "other", options=options) == counts
    assert contents(tmp_path / "other") == contents(tmp_path / "reference")
    assert counts.truncated > 0


@pytest.mark.parametrize("options", MODES, ids=lambda o: f"{o.mode}-{o.workers}")
def test_an_empty_span_works_in_every_mode(tmp_path, options):
    assert build([], tmp_path / "out", options=options) == SequenceCounts()
    assert sorted(contents(tmp_path / "out")) == ["items.parquet", "users.parquet"]
    assert len(load_sequences(tmp_path / "out")) == 0


def test_files_and_rows_in_another_order_give_the_same_bytes(tmp_path):
    log = random_log(2)
    build(write_lake(tmp_path / "a", log), tmp_path / "one")
    build(write_lake(tmp_path / "b", log, shuffle=random.Random(5))[::-1], tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_one_user_with_100_000_events_among_1_000(tmp_path):
    log = [("robot", f"i{n % 700}", n) for n in range(100_000)]
    log += [(f"u{n}", f"i{n % 50}", n) for n in range(1000)]
    files = write_lake(tmp_path / "lake", log, buckets=16)
    counts = build(files, tmp_path / "out", limit=1000)
    assert counts == SequenceCounts(1001, 700, 2000, 99_000, 1001, 700)
    rows = {row[0]: row for row in written(tmp_path / "out")}
    assert [len(row[1]) for row in rows.values() if row[3]] == [1000]
    robot = next(row for row in rows.values() if row[3])
    assert robot[2] == list(range(99_000, 100_000))


def test_a_second_span_continues_the_numbering_and_loads_as_one_history(tmp_path):
    first, second = random_log(3, 60), [(u, i, t + 100) for u, i, t in random_log(4, 60)]
    build(write_lake(tmp_path / "lake1", first), tmp_path / "one", limit=1000)
    vocabulary = Vocabulary.open([tmp_path / "one"])
    counts = build(write_lake(tmp_path / "lake2", second), tmp_path / "two", limit=1000, vocabulary=vocabulary)
    assert counts.new_items == len({e[1] for e in second} - {e[1] for e in first})
    history = load_history([tmp_path / "one", tmp_path / "two"])
    both = oracle(write_lake(tmp_path / "both", first + second), 1000)
    assert history.users.tolist() == [row[0] for row in both]
    assert history.items.tolist() == [item for row in both for item in row[1]]
    assert history.timestamps.tolist() == [time for row in both for time in row[2]]


def test_loading_some_users_equals_loading_all_and_choosing(tmp_path):
    build(write_lake(tmp_path / "lake", random_log(6)), tmp_path / "out")
    everyone = load_sequences(tmp_path / "out")
    some = load_sequences(tmp_path / "out", users=everyone.users[[1, 4]])
    assert some.users.tolist() == everyone.users[[1, 4]].tolist()
    assert some.items[: some.offsets[1]].tolist() == everyone.items[slice(*everyone.offsets[1:3])].tolist()


@pytest.mark.parametrize("mode", ["in_memory", SLOW_MODE])
@pytest.mark.parametrize("place", ["ties", "footer"])
def test_a_damaged_lake_file_is_named_in_the_error(tmp_path, mode, place):
    files = write_lake(tmp_path / "lake", random_log(7))
    data = bytearray(files[1].read_bytes())
    chunk = pq.read_metadata(files[1]).row_group(0).column(6)
    ties = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 1
    data[ties if place == "ties" else -200] ^= 0xFF
    files[1].write_bytes(data)
    with pytest.raises((BeamJobError, ParquetFileError), match=rf"{files[1].name}: damaged Parquet file"):
        build(files, tmp_path / "out", options=RunnerOptions(mode=mode, timeout_seconds=60))


@pytest.mark.parametrize("mode", ["in_memory", "multi_threading", SLOW_MODE])
def test_an_error_on_a_worker_reaches_the_caller_in_one_line(tmp_path, mode):
    from pipelines.sequences.beam_job import run_bucket_tasks

    gone = str(tmp_path / "bucket=07.parquet")
    options = RunnerOptions(mode=mode, timeout_seconds=60)
    with pytest.raises(BeamJobError, match=r"bucket=07\.parquet: no such file") as caught:
        run_bucket_tasks([BucketTask(gone, gone, gone, gone, 10)], options)
    assert len(caught.value.message.splitlines()) == 1


@pytest.mark.parametrize("asked", [SystemExit(143), KeyboardInterrupt()], ids=["asked-to-end", "ctrl-c"])
def test_a_process_that_is_asked_to_end_ends_so_and_nothing_is_printed(tmp_path, monkeypatch, capfd, asked):
    """Beam would make a RuntimeError of it, and print a traceback."""
    from pipelines.sequences import beam_job as beam_sequences

    def end(task: BucketTask) -> None:
        raise asked

    monkeypatch.setattr(beam_sequences, "build_bucket", end)
    task = BucketTask(*(str(tmp_path / "x") for _ in range(4)), 10)
    with pytest.raises(type(asked)) as caught:
        beam_sequences.run_bucket_tasks([task], RunnerOptions())
    assert caught.value.args == asked.args
    assert "Traceback" not in capfd.readouterr().err


def test_work_that_a_runner_loses_is_noticed(tmp_path, monkeypatch):
    files = write_lake(tmp_path / "lake", random_log(8))
    from pipelines.sequences import beam_job as beam_sequences

    run = beam_sequences.run_bucket_tasks
    monkeypatch.setattr(beam_sequences, "run_bucket_tasks", lambda tasks, options: run(tasks[1:], options))
    with pytest.raises(SequencesError, match=r"wrote 3 of 4 buckets"):
        build(files, tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (("--direct_num_wrokers=2",), "--direct_num_workers"),
        (("--no_such_flag_at_all",), "pipeline options"),
        (("stray",), "pipeline options"),
        (("--direct_running_mode=magic",), "pipeline options"),
    ],
)
def test_a_flag_that_beam_would_only_warn_about_is_refused(tmp_path, flags, hint):
    files = write_lake(tmp_path / "lake", [("a", "b", 1)])
    with pytest.raises(ConfigError) as caught:
        build(files, tmp_path / "out", options=RunnerOptions(beam_flags=flags))
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"runner": "DirectRunner"},
        {"mode": "parallel"},
        {"workers": 2},
        {"workers": 0, "mode": "multi_threading"},
        {"timeout_seconds": 0},
    ],
)
def test_options_that_cannot_work_are_refused(values):
    with pytest.raises(ConfigError):
        RunnerOptions(**values)


def test_flags_of_other_runners_are_passed_on():
    flags = ("--flink_master=host:8081", "--parallelism=4")
    assert RunnerOptions("FlinkRunner", beam_flags=flags).flags(3) == ["--runner=FlinkRunner", *flags]


def test_importing_beam_is_silent_and_leaves_logging_alone():
    before = list(logging.root.handlers)
    import_beam()
    assert logging.root.handlers == before
    code = "from pipelines.sequences.beam_runner import import_beam; import_beam(); import pipelines.sequences.beam_job"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stderr == ""


KILLED_WORKER = """
import sys, pathlib
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.build import build_sequences
from pipelines.sequences.vocabulary import Vocabulary
lake, out = map(pathlib.Path, sys.argv[1:])
build_sequences(span_files=sorted(lake.glob("*")), vocabulary=Vocabulary.open([]), out=out,
    max_events_per_user=5, options=RunnerOptions(mode="multi_processing", workers=2, timeout_seconds=3600))
"""


@pytest.mark.slow
def test_a_killed_worker_process_ends_in_an_error_and_not_in_a_hang(tmp_path):
    write_lake(tmp_path / "lake", random_log(9))
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-c", KILLED_WORKER, str(tmp_path / "lake"), str(tmp_path / "out")]
    environment = {**os.environ, "IMSR_FAIL": "sequences.bucket_written"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90)
    assert result.returncode == 1
    assert "BeamJobError: sequences: a worker process died" in result.stderr


def test_a_deadline_is_given_back_to_the_alarm_that_was_there_before():
    import signal

    rang = []
    handler = signal.signal(signal.SIGALRM, lambda *_: rang.append(True))
    try:
        signal.setitimer(signal.ITIMER_REAL, 60)
        with deadline(30, "test"):
            pass
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        assert 0 < left <= 60
        assert signal.getsignal(signal.SIGALRM) is not None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert not rang
