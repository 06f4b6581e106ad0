"""A span's work over users gives the same rows, whoever does it: one process, threads, or workers that are killed."""

import os
import signal
import threading
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_world import TOML, VERSIONS, log, make, run_all

from imsr_core.extraction import CHUNK
from pipelines.interests import training
from pipelines.interests.many_hands import Workers, hands_of
from pipelines.interests.version import Version
from pipelines.sequences import beam_job
from pipelines.sequences.beam_runner import BeamJobError, RunnerOptions
from pipelines.workspace.seal import READY

THREADS = RunnerOptions(mode="multi_threading", workers=2)
SCORED = TOML + "[score]\nenabled = true\n"


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """Six days with all terms, learnt here. Read only."""
    workspace = make(tmp_path_factory.mktemp("one") / "w", log(), SCORED)
    run_all(workspace)
    return workspace


@pytest.fixture
def nights_by(monkeypatch, tmp_path):
    """Options of a runner -> a workspace with six days that it has learnt, two users a bucket."""

    def run(options):
        monkeypatch.setattr(training, "hands_of", lambda w: Workers(w, options, bucket_users=2))
        workspace = make(tmp_path / "w", log(), SCORED)
        run_all(workspace)
        assert not list(workspace.staging.iterdir())
        return workspace

    return run


def require_near(values, wanted, what):
    """Equal; numbers with a point within rounding."""
    if not any(isinstance(each, float | list) for each in values):
        assert values == wanted, what
        return
    assert [each is None for each in values] == [each is None for each in wanted], what
    numbers = [np.concatenate([[0.0], *(np.ravel(each) for each in v if each is not None)]) for v in (values, wanted)]
    np.testing.assert_allclose(*numbers, rtol=1e-3, atol=1e-5, err_msg=what)


def require_same(workspace, one):
    """The same rows of everything that versions write of users; vectors, whose chunks are cut otherwise, nearly."""
    compared = set()
    for version_id in VERSIONS:
        mine, other = (Version.open(each, version_id).folder for each in (workspace, one))
        assert {path.name for path in mine.iterdir()} == {path.name for path in other.iterdir()}
        for path in sorted(mine.glob("*.parquet")):
            left, right = (pq.read_table(folder / path.name).to_pydict() for folder in (mine, other))
            assert left.keys() == right.keys()
            for name, values in left.items():
                require_near(values, right[name], f"{version_id} {path.name} {name}")
            compared.add(path.name)
    assert {"interests.parquet", "interest_counts.parquet", "neighbour_contexts.parquet"} <= compared


def test_threads_learn_what_one_process_learns(one_process, nights_by):
    require_same(nights_by(THREADS), one_process)


def test_one_process_lends_nobody(learnt, tmp_path):
    assert hands_of(learnt) is None
    settings = TOML + '[sequences]\nmode = "multi_threading"\nworkers = 2\n'
    hands = hands_of(make(tmp_path / "w", log(), settings))
    assert (hands.options.mode, hands.options.workers, hands.bucket_users) == ("multi_threading", 2, 16_384)
    assert hands.bucket_users % CHUNK == 0  # so that buckets begin where a chunk does


def test_a_lost_bucket_fails_the_span_and_leaves_nothing(nights_by, monkeypatch):
    monkeypatch.setattr(beam_job, "run_tasks", lambda tasks, do, *rest: [do(task) for task in tasks[:-1]])
    with pytest.raises(BeamJobError, match=r"bucket: the runner FnApiRunner reported success, but wrote \d+ of"):
        nights_by(THREADS)


@pytest.mark.slow
def test_two_workers_of_which_one_is_killed_learn_what_one_process_learns(one_process, nights_by, dask, tmp_path):
    address, workers = dask
    killed = []

    def kill_one_in_the_middle():
        done = "w/staging/users.*/done=*.safetensors"
        while not list(tmp_path.glob(done)):
            time.sleep(0.002)
        killed.append(len(list(tmp_path.glob("w/staging/users.*/bucket=*"))) - len(list(tmp_path.glob(done))))
        os.kill(workers[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one_in_the_middle, daemon=True)
    killer.start()
    flags = (f"--dask_client_address={address}",)
    workspace = nights_by(RunnerOptions("DaskRunner", beam_flags=flags, timeout_seconds=120))
    killer.join()
    assert workers[0].wait() == -signal.SIGKILL
    assert killed[0] > 0, "it was not in the middle"
    assert all((Version.open(workspace, version_id).folder / READY).exists() for version_id in VERSIONS)
    require_same(workspace, one_process)
