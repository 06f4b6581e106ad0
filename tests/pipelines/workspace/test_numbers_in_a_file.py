"""Numbers that wait in a file without a name: the same, out of memory, and where there is no room as they were."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipelines.workspace.memory import laid_aside

#: How much of 64 MB is in memory before they are laid aside, then, and when one number of a hundred thousand was read.
SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from pipelines.workspace.memory import laid_aside

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 1_000_000

values = np.ones(16_000_000, dtype=np.float32)
before = held()
values = laid_aside(values, Path(sys.argv[1]))
aside = held()
assert float(values.sum()) == 16_000_000
print(before, aside, held())
"""


def test_the_same_numbers_of_the_same_shape_which_can_be_written_to(tmp_path):
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    aside = laid_aside(values, tmp_path)
    assert not np.shares_memory(aside, values)
    assert np.array_equal(aside, values)
    assert aside.dtype == np.float32
    aside[0] = 7.0
    assert aside[0].tolist() == [7.0] * 4
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_they_take_memory_again_when_they_are_read(tmp_path):
    run = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True)
    before, aside, after = map(int, run.stdout.split())
    assert before - aside > 50
    assert after - aside > 50


@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_no_numbers_stay(shape, tmp_path):
    values = np.zeros(shape, dtype=np.float32)
    assert laid_aside(values, tmp_path) is values


def test_without_a_folder_they_stay(tmp_path):
    values = np.ones(3, dtype=np.float32)
    assert laid_aside(values, tmp_path / "nowhere") is values


@pytest.mark.parametrize(("free", "stay"), [(4 * 12 - 1, True), (4 * 12, False)])
def test_where_a_disk_has_hardly_room_for_what_will_be_written_they_stay(free, stay, tmp_path, monkeypatch):
    values = np.ones(3, dtype=np.float32)
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert (laid_aside(values, tmp_path) is values) == stay


@pytest.mark.skipif(sys.platform != "linux", reason="asks for a limit")
def test_on_a_full_disk_they_stay(tmp_path):
    import resource
    import signal

    values = np.ones(100_000, dtype=np.float32)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert laid_aside(values, tmp_path) is values
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
