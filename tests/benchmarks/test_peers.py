"""The comparison with peers: the same work for all, the same lists, and a table that says what is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_growth import modules, seconds_of, spans
from benchmark_peers import shown
from peers import ours
from peers.machine import measured, rate
from peers.problem import Problem

TINY = Problem(items=300, users=64, length=6, dim=8, interests=2, batch=16, negatives=3)


def test_everybody_gets_the_same_events():
    rows = TINY.sequences().items.reshape(TINY.users, TINY.length)
    ((past, target, negatives),) = TINY.batches(1)
    known = {tuple(row) for row in rows.tolist()}
    assert {(*one, last) for one, last in zip(past.tolist(), target.tolist(), strict=True)} <= known
    assert (past.shape, target.shape, negatives.shape) == ((16, 5), (16,), (16, 3))


@pytest.mark.parametrize("extractor", ours.EXTRACTORS.values())
def test_our_training_ends_when_its_rate_is_known(extractor):
    assert ours.samples_per_second(extractor, TINY, 0.01) > 0


def test_faiss_finds_what_we_find():
    faiss_flat = pytest.importorskip("peers.faiss_flat", exc_type=ImportError)
    store, items = ours.interests_and_items(users=9, items=200, dim=8, interests=3)
    found = faiss_flat.search(faiss_flat.index_of(items.numpy()), store.vectors.view(9, 3, 8).numpy(), 5)
    assert np.array_equal(faiss_flat.united(*found, 5), ours.lists(store, items, 5).numpy())


def test_a_rate_is_work_over_processor_time():
    done = []
    assert rate(lambda: done.append(sum(range(1000))), 0.01) > 0
    assert len(done) >= 3
    assert min(vars(measured(0.01)).values()) > 0


def test_a_chain_grows_by_new_items_alone():
    chain = spans(3, events=60, users=10, items=50)
    assert [n_items for _, n_items in chain] == [50, 70, 90]
    assert {sequences.n_events for sequences, _ in chain} == {60}
    assert len(seconds_of("full_retrain", chain, 1)) == 3
    assert min(modules(chain, 1, times=1).values()) > 0


def test_what_is_not_installed_is_said():
    assert shown(None, 10.0) == ("not installed", "-")
    assert shown(5.0, 10.0) == ("5", "2.0")


@pytest.mark.slow
def test_the_smoke_run_prints_both_tables():
    script = Path(__file__).with_name("benchmark_peers.py")
    done = subprocess.run([sys.executable, script, "--smoke"], capture_output=True, text=True, check=True)
    assert "GFLOP/s" in done.stdout
    assert done.stdout.count("| imsr |") == 3


def test_the_device_is_measured_where_there_is_none():
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("benchmark_device.py"), "--smoke"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| 2,000")]
    assert len(rows) == 6
    assert all(float(line[-4].replace(",", "")) > 0 for line in rows)


@pytest.mark.slow
def test_processes_that_share_a_table_keep_it_the_same():
    script = Path(__file__).with_name("benchmark_parallel.py")
    done = subprocess.run([sys.executable, script, "--smoke"], capture_output=True, text=True, check=True)
    assert [line.split(" | ")[2] for line in done.stdout.splitlines()[2:]] == ["1", "2"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="binds itself to cores")
def test_members_side_by_side_are_the_same_as_one_after_the_other():
    script = Path(__file__).with_name("benchmark_members.py")
    done = subprocess.run([sys.executable, script, "--smoke"], capture_output=True, text=True, check=True)
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()[2:]] == ["| 200"]
