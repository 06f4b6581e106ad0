"""A disk that is really full, where a small one can be mounted, and files that may not grow, which works anywhere."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Ended
from failing import Failing

MEGABYTES = 48


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system in memory."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def run_with(failing: Failing, kilobytes: int) -> Ended:
    """Run the command with so much space left, and again with enough of it."""
    workspace = failing.start(f"{kilobytes} KB left")
    ballast = failing.folder / "ballast"
    disk = os.statvfs(failing.folder)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - kilobytes * 1024)
    ended = failing.run(workspace)
    ballast.unlink()
    failing.make_up_for_it(workspace, ended)
    return ended


def limit_files(size: int) -> None:
    """In a child: no file may grow beyond this."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def run_limited(failing: Failing, size: int) -> Ended:
    """Run the command with a limit on the size of any file, and again without."""
    workspace = failing.start(f"files of {size}")
    ended = failing.run(workspace, prepare=limit_files, args=(size,))
    failing.make_up_for_it(workspace, ended)
    return ended


def test_an_ingest_on_a_disk_with_little_space(worlds, small_disk, done):
    ended = run_with(Failing(worlds, "ingest", small_disk), 64)
    assert ended.code == 1
    assert "space" in ended.said or "full" in ended.said
    done["full disks"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ingest", "night", "promote", "forget"])
def test_more_and_more_space_until_it_is_enough(worlds, small_disk, done, tmp_path, name, every):
    folder = small_disk / name
    folder.mkdir()
    failing, kilobytes = Failing(worlds, name, folder, tmp_path / "log"), 8
    while run_with(failing, kilobytes).code:
        done["full disks"] += 1
        kilobytes += max(8, kilobytes // 2) if every == 1 else 2 * kilobytes
        assert kilobytes < 1024 * MEGABYTES // 2
    subprocess.run(["rm", "-r", folder], check=True)


def test_an_ingest_that_may_not_write_files_of_some_size(worlds, done, tmp_path):
    assert run_limited(Failing(worlds, "ingest", tmp_path), 2000).code == 1
    done["limited files"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ingest", "night", "promote", "forget"])
def test_larger_and_larger_files_until_they_suffice(worlds, done, tmp_path, name, every):
    failing, size = Failing(worlds, name, tmp_path), 500
    while run_limited(failing, size).code:
        done["limited files"] += 1
        size += size // 3 if every == 1 else 2 * size
        assert size < 2**24
