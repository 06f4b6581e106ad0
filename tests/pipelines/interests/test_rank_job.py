"""The test of a version gives the same figures in one process and by buckets of users."""

import torch
from small_world import LATER, TOML, VERSIONS, log, make, run_all

from pipelines.interests.evaluation import rank_events
from pipelines.interests.rank_job import ranks_everywhere
from pipelines.interests.version import Version
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.loader import load_sequences

TOP_N = 3


def test_buckets_on_threads_rank_as_one_process_does(learnt, copy_of):
    workspace = copy_of(learnt)
    version = Version.open(workspace, VERSIONS[-2])
    folder = workspace.resolve(Version.open(workspace).lineage.vocabulary[-1])
    span = load_sequences(folder)
    ranks, scorable = rank_events(version.load(span.users), span, TOP_N)
    threads = RunnerOptions(mode="multi_threading", workers=2)
    for bucket_users in (1, 5, 1000):
        found = ranks_everywhere(version, folder, TOP_N, threads, bucket_users=bucket_users)
        assert torch.equal(found[0], ranks)
        assert torch.equal(found[1], scorable)
    assert 0 < int((ranks < TOP_N).sum()) < span.n_events
    assert not list(workspace.staging.iterdir())


def test_nights_on_an_engine_have_the_same_figures(learnt, tmp_path):
    settings = TOML.replace("[evaluation]", '[sequences]\nmode = "multi_threading"\nworkers = 2\n[evaluation]')
    workspace = make(tmp_path / "w", log(), settings)
    run_all(workspace)
    with workspace.ledger.snapshot() as view, learnt.ledger.snapshot() as other:
        found, wanted = (
            {(row.version_id, row.span_id, row.slice, row.metric): row.value for row in each.metrics()}
            for each in (view, other)
        )
    assert {span for _, span, *_ in wanted} == set(LATER)
    assert found == wanted
