"""Everybody's lists are the same rows, whoever writes them: one process, threads, or workers of which one is killed."""

import os
import signal
import threading
import time

import pyarrow.parquet as pq
import pytest

from pipelines.interests import list_job
from pipelines.interests.list_job import ListTask, write_bucket, write_lists
from pipelines.interests.recommend import Recommender
from pipelines.sequences import beam_job
from pipelines.sequences.beam_runner import BeamJobError, RunnerOptions

N = 5
THREADS = RunnerOptions(mode="multi_threading", workers=2)


def require_same(path, expected):
    rows = sorted(pq.read_table(path).to_pylist(), key=lambda row: (row["user_id"], row["rank"]))
    wanted = sorted(expected, key=lambda row: (row["user_id"], row["rank"]))
    for name in ("user_id", "rank", "item_id", "interest_id", "reason", "version_id"):
        assert [row[name] for row in rows] == [row[name] for row in wanted], name
    assert [row["score"] for row in rows] == pytest.approx([row["score"] for row in wanted], rel=1e-5)


HOW = pytest.mark.parametrize("how", [{}, {"exclude_seen": True, "exclude": ["i3"]}, {"new_share": 0.4}])


@HOW
@pytest.mark.parametrize("bucket_users", [4, 1000])
def test_one_process_has_a_bucket_of_users_in_memory_and_writes_what_the_whole_version_says(
    learnt, copy_of, monkeypatch, how, bucket_users
):
    workspace = copy_of(learnt)
    wanted = pq.read_table(Recommender.open(workspace).write_all(N, **how)).to_pylist()
    asked, load = [], list_job.Version.load
    monkeypatch.setattr(list_job.Version, "load", lambda self, users: asked.append(users) or load(self, users))
    path = write_lists(workspace, None, N, bucket_users=bucket_users, **how)
    found = pq.read_table(path).to_pylist()
    assert [row["user_id"] for row in found] == [row["user_id"] for row in wanted]
    require_same(path, wanted)
    assert max(map(len, asked)) <= bucket_users
    assert sum(map(len, asked)) == list_job.Version.open(workspace).vocabulary.n_users


@HOW
def test_buckets_on_threads_write_what_one_process_writes(learnt, copy_of, how):
    workspace = copy_of(learnt)
    one = pq.read_table(write_lists(workspace, None, N, **how)).to_pylist()
    path = write_lists(workspace, None, N, options=THREADS, bucket_users=4, variant="threads", **how)
    assert len(one) > N
    require_same(path, one)
    assert not list(workspace.staging.iterdir())


def test_a_bucket_of_nobody_is_an_empty_file(learnt, tmp_path):
    version = list_job.Version.open(learnt).row.version_id
    write_bucket(ListTask(str(learnt.root), version, 900, 901, N, "{}", str(tmp_path / "nobody.parquet")))
    assert pq.read_table(tmp_path / "nobody.parquet").num_rows == 0


def test_a_runner_that_loses_a_bucket_leaves_the_lists_of_before(learnt, copy_of, monkeypatch):
    workspace = copy_of(learnt)
    path = write_lists(workspace, None, N)
    before = path.read_bytes()
    monkeypatch.setattr(beam_job, "run_tasks", lambda tasks, do, *rest: [do(task) for task in tasks[:-1]])
    with pytest.raises(BeamJobError, match=r"lists: the runner FnApiRunner reported success, but wrote \d+ of"):
        write_lists(workspace, None, 2 * N, options=THREADS, bucket_users=4)
    assert path.read_bytes() == before


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_write_what_one_process_writes(learnt, copy_of, dask):
    workspace = copy_of(learnt)
    address, workers = dask
    one = pq.read_table(write_lists(workspace, None, N)).to_pylist()
    killed = []

    def kill_one_in_the_middle():
        while not list(workspace.staging.glob("lists.*/bucket=*.parquet")):
            time.sleep(0.002)
        killed.append(len(list(workspace.staging.glob("lists.*/bucket=*.parquet"))))
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one_in_the_middle, daemon=True)
    killer.start()
    options = RunnerOptions("DaskRunner", beam_flags=(f"--dask_client_address={address}",), timeout_seconds=120)
    path = write_lists(workspace, None, N, options=options, bucket_users=1, variant="dask")
    killer.join()
    assert workers[0].wait() == -signal.SIGKILL
    assert killed[0] < len({row["user_id"] for row in one}), "it was not in the middle"
    require_same(path, one)
