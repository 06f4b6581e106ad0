"""Worker processes of Beam: their death ends the job, and the end of the job ends them."""

import signal
import subprocess
import sys
import threading

import pytest
from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler
from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker

from pipelines.sequences.beam_runner import BeamJobError, deadline
from pipelines.sequences.worker_processes import WORKER, watched_workers


def handler_that_waits_for(process):
    """Beam's handler of a worker, which has started."""
    handler = object.__new__(SubprocessSdkWorkerHandler)
    handler.worker_thread = threading.Thread(target=process.wait)
    handler.worker_thread.start()
    return handler


def test_a_worker_that_does_not_end_is_killed_and_others_are_not():
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    worker, other = subprocess.Popen([*sleep, WORKER]), subprocess.Popen(sleep)
    try:
        with watched_workers(pytest.fail, grace=0.2):
            handler_that_waits_for(worker).stop_worker()
        assert worker.returncode == -signal.SIGKILL
        assert other.poll() is None
    finally:
        worker.kill()
        other.kill()


def test_a_worker_has_time_to_end_by_itself():
    with watched_workers(pytest.fail, grace=60):
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(.3)", WORKER])
        handler_that_waits_for(worker).stop_worker()
    assert worker.returncode == 0


def test_beam_is_as_it_was_afterwards():
    before = SubprocessSdkWorker.run, SubprocessSdkWorkerHandler.stop_worker
    with watched_workers(pytest.fail):
        assert before != (SubprocessSdkWorker.run, SubprocessSdkWorkerHandler.stop_worker)
    assert before == (SubprocessSdkWorker.run, SubprocessSdkWorkerHandler.stop_worker)


def test_another_thread_ends_the_wait_with_its_reason():
    def wait():
        with deadline(3600, "job") as give_up:
            threading.Thread(target=give_up, args=("a worker process died",)).start()
            signal.pause()

    with pytest.raises(BeamJobError, match="job: a worker process died"):
        wait()
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
