"""A Dask scheduler and two workers of its own, for tests in which one of them is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dask(tmp_path):
    """A scheduler of its own and two workers, as processes: (address, workers)."""
    pytest.importorskip("distributed", reason="pip install 'imsr[dask]'")
    address_file = tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--no-dashboard", "--scheduler-file", str(address_file)]
    with open(tmp_path / "dask.log", "w") as log:
        scheduler = subprocess.Popen(command, stdout=log, stderr=log)
        while not address_file.exists():
            assert scheduler.poll() is None, (tmp_path / "dask.log").read_text()
            time.sleep(0.1)
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address_file)]
        worker += ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)]
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        workers = [subprocess.Popen(worker, stdout=log, stderr=log, env=environment) for _ in range(2)]
        yield json.loads(address_file.read_text())["address"], workers
        for process in (*workers, scheduler):
            process.kill()
            process.wait()
