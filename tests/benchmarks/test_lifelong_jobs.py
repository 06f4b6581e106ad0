"""Which cells `benchmark_lifelong.py` runs, in which order, and what it keeps for the others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from lifelong_cells import Cell, Place, base_of, cells_to_run
from lifelong_jobs import run_cells
from lifelong_kept import kept_references, learn_base, read_base
from lifelong_tables import report
from lifelong_worlds import WORLDS, World, smaller

from imsr_core.encoders.config import EncoderConfig
from imsr_core.lifelong.config import LifelongConfig, PretrainConfig, SplitConfig
from imsr_core.lifelong.methods import get_method
from imsr_core.lifelong.tasks import TaskData
from imsr_core.ragged import SpanSequences


def small_world() -> World:
    chance = np.random.default_rng(0)
    items, users = chance.integers(0, 9, size=120), 12
    sequences = SpanSequences(np.arange(users), np.arange(users + 1) * 10, items, np.arange(120))
    return World("small", sequences, 9, (), {})


def test_cells_of_the_first_pattern_come_first_and_none_twice() -> None:
    wanted = ["ml-100k/main/conure/1", "ml-100k/main/*/0", "ml-100k/main/*"]
    done = {"ml-100k/main/dnn/0"}
    cells = [str(cell) for cell in cells_to_run(["movietweetings", "ml-100k"], 2, wanted, done)]
    assert cells[0] == "ml-100k/main/conure/1"
    assert len(cells) == len(set(cells)) == 21
    assert all(cell.endswith("/0") for cell in cells[1:11])
    assert "ml-100k/main/dnn/0" not in cells


def test_every_pattern_of_the_docs_names_a_cell() -> None:
    docs = Path(__file__).parents[2] / "docs" / "lifelong-results.md"
    patterns = re.findall(r'--only "([^"]+)"', docs.read_text(encoding="utf-8"))
    patterns = [pattern for pattern in patterns if pattern != "DATASET/STUDY/METHOD/SEED"]
    assert len(patterns) > 10
    seeds = 3  # what the benchmark runs unless it is told otherwise
    assert list(cells_to_run(list(WORLDS), seeds, patterns, set()))


def test_a_pattern_like_no_cell_is_an_error_that_names_the_studies() -> None:
    with pytest.raises(ValueError, match=r"'ml-100k/gone/.*the studies are: .*main"):
        list(cells_to_run(["ml-100k"], 1, ["ml-100k/main/*", "ml-100k/gone/*"], set()))


def test_a_smaller_world_has_the_labels_of_its_users() -> None:
    world = small_world()
    users = np.array([1, 3, 3, 8])
    task = TaskData("age", world.sequences, users, np.array([0, 1, 0, 1]), 2)
    cut = smaller(replace(world, tasks=(task,)), 4)
    assert cut.sequences.users.tolist() == [0, 1, 2, 3]
    assert cut.sequences.items.tolist() == world.sequences.items[:40].tolist()
    assert cut.tasks[0].users.tolist() == [1, 3, 3]
    assert cut.tasks[0].labels.tolist() == [0, 1, 0]


def test_methods_with_the_same_t1_share_its_file() -> None:
    place = Place(Path("data"), Path("kept"), "cpu")
    files = {
        method: base_of(Cell("ml-100k", "main", method, 0), place)
        for method in ("sinmo", "peterrec", "conure", "teracon", "dnn", "peterzero")
    }
    assert files["sinmo"] == files["peterrec"]
    assert len(set(files.values())) == 5
    other = base_of(Cell("ml-100k", "main", "sinmo", 1), place)
    assert other != files["sinmo"]
    assert base_of(Cell("ml-100k", "20 users distilled", "teracon", 0), place) == files["teracon"]
    assert base_of(Cell("ml-100k", "items pruned too", "conure", 0), place) != files["conure"]


def test_a_kept_t1_is_the_one_that_was_learnt(tmp_path: Path) -> None:
    world = small_world()
    encoder, pretrain = EncoderConfig(dim=4, length=5, dilations=(1,)), PretrainConfig(epochs=1, min_epochs=1)
    config = LifelongConfig(encoder=encoder, pretrain=pretrain, split=SplitConfig(train=0.6, validation=0.2))
    learn_base(tmp_path, world, "sinmo", config, 3)
    (path,) = tmp_path.iterdir()
    kept, seconds = read_base(path)
    again = get_method("sinmo").pretrain(world.sequences, config, 3, world.n_items)
    assert kept.fingerprints() == again.fingerprints()
    assert kept.tasks == again.tasks
    assert seconds > 0


def test_scores_without_an_encoder_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = SplitConfig(train=0.6, validation=0.2)
    first = kept_references(tmp_path, small_world(), split, 5)
    monkeypatch.setattr("lifelong_kept.next_item_references", lambda *_: pytest.fail("computed again"))
    assert kept_references(tmp_path, small_world(), split, 5) == first


def test_the_tables_of_a_study_alone_say_no_change() -> None:
    """Where the main run of the method is not there yet, there is nothing to compare with."""
    study = Cell("small", "alpha 5", "teracon", 0, ["T1", "T2"], ["mrr@5", "accuracy"], [9, 2], [4, 4])
    study.matrix, study.seconds, study.parameters = [[0.2, None], [0.1, 0.5]], [1.0, 2.0], [10, 20]
    main = replace(study, study="main", matrix=[[0.2, None], [0.2, 0.4]])
    alone, both = (report([asdict(cell) for cell in cells]) for cells in ([study], [main, study]))
    assert "| alpha 5 | TERACON | 1 | 0.1000 | 0.5000 | 50.0% | 2.0 |" in alone
    assert "nan" not in alone
    assert "| alpha 5 | TERACON | 1 | 0.1000 (-50.0%) | 0.5000 (+25.0%) | 50.0% | 2.0 |" in both


@pytest.mark.slow
def test_a_t1_that_fails_takes_only_its_own_cells_along(tmp_path: Path) -> None:
    """The data are missing: every T1 fails, each is told once, and nothing hangs."""
    place = Place(tmp_path, tmp_path / "kept", "cpu")
    cells = [Cell("ml-100k", "main", method, 0) for method in ("sinmo", "peterrec", "dnn")]
    told: list[tuple[str, bool]] = []
    run_cells(cells, place, 2, lambda cell, found: told.append((cell.method, isinstance(found, Exception))))
    assert sorted(told) == [("dnn", True), ("sinmo", True)]


@pytest.mark.slow
def test_a_signal_ends_the_processes_too(tmp_path: Path) -> None:
    """SIGTERM to the first process alone, as `timeout --foreground` sends it."""
    script = tmp_path / "run.py"
    script.write_text(
        "import os, sys, time\n"
        "from lifelong_jobs import _ended, _processes\n"
        "if __name__ == '__main__':\n"
        "    with _processes(2) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        _ended([pool.submit(time.sleep, 600)])\n"
    )
    run = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment()
    )
    assert run.stdout is not None
    worker = int(run.stdout.readline())
    run.send_signal(signal.SIGTERM)
    assert run.communicate(timeout=60)[1] == ""
    assert run.returncode == 128 + signal.SIGTERM
    for _ in range(600):
        if not Path(f"/proc/{worker}").exists():
            return
        time.sleep(0.1)
    pytest.fail("a worker lives on")


def _environment() -> dict[str, str]:
    here = Path(__file__).parent
    return {**os.environ, "PYTHONPATH": f"{here}:{here.parent.parent}"}
