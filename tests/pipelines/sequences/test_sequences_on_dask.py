"""The same graph on a real distributed engine: Dask with two worker processes on this machine."""

import random

import pytest
from lake_logs import contents, write_lake

from pipelines.sequences.beam_runner import BeamJobError, RunnerOptions
from pipelines.sequences.bucket import BucketTask
from pipelines.sequences.build import build_sequences
from pipelines.sequences.vocabulary import Vocabulary

distributed = pytest.importorskip("distributed", reason="pip install 'imsr[dask]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    cluster = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=str(tmp_path_factory.mktemp("dask")),
    )
    with cluster:
        yield cluster.scheduler_address


def build(files, out, options):
    out.mkdir()
    return build_sequences(
        span_files=files,
        vocabulary=Vocabulary.open([]),
        out=out,
        max_events_per_user=10,
        options=options,
    )


def on_dask(address: str) -> RunnerOptions:
    return RunnerOptions("DaskRunner", beam_flags=(f"--dask_client_address={address}",), timeout_seconds=120)


def test_dask_writes_the_same_bytes_on_two_workers(tmp_path, address):
    chance = random.Random(1)
    log = [(f"u{chance.randrange(60)}", f"i{chance.randrange(50)}", chance.randrange(20)) for _ in range(900)]
    files = write_lake(tmp_path / "lake", log, buckets=8)
    assert build(files, tmp_path / "dask", on_dask(address)) == build(files, tmp_path / "one", RunnerOptions())
    assert contents(tmp_path / "dask") == contents(tmp_path / "one")


def test_an_error_on_a_dask_worker_reaches_the_caller(tmp_path, address):
    from pipelines.sequences.beam_job import run_bucket_tasks

    gone, out = str(tmp_path / "bucket=07.parquet"), str(tmp_path / "out.parquet")
    with pytest.raises(BeamJobError, match=r"bucket=07\.parquet: no such file"):
        run_bucket_tasks([BucketTask(gone, gone, gone, out, 10)], on_dask(address))


def test_an_empty_span_on_dask(tmp_path, address):
    assert build([], tmp_path / "out", on_dask(address)).users == 0


def test_buckets_are_spread_unless_the_user_says_how():
    flags = on_dask("tcp://127.0.0.1:1").flags(16)
    assert "--dask_npartitions=16" in flags
    own = RunnerOptions("DaskRunner", beam_flags=("--dask_partition_size=4",)).flags(16)
    assert not any(flag.startswith("--dask_npartitions") for flag in own)
