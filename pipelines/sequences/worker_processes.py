"""Beam's worker processes on this machine: one that dies ends the job, and a job that is over ends them.

Beam does neither. It goes on waiting for what a killed worker had to do. And when a job is over, because it is done,
failed, or was given up, it tells its workers and then waits for each to end, without a limit: one that was still
starting hears nothing, connects afterwards, waits for work, and both wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

#: Seconds that workers have to end by themselves.
GRACE = 10.0
#: What the command of a worker has in it.
WORKER = "apache_beam.runners.worker.sdk_worker_main"


@contextmanager
def watched_workers(lost: Callable[[str], None], grace: float = GRACE) -> Iterator[None]:
    """For the block, call ``lost`` (in some thread) with what happened when a worker dies before its job is over, and
    kill the workers that are still there ``grace`` seconds after Beam began to wait for their end."""
    from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler as Handler
    from apache_beam.runners.portability.local_job_service import SubprocessSdkWorker as Worker

    over = False

    def run(worker: Any) -> None:
        try:
            run_before(worker)
        except RuntimeError as error:  # it ended with another code than 0
            if not over:
                lost(f"a worker process died ({error})")

    def stop_worker(handler: Any) -> None:
        nonlocal over
        over = True
        handler.worker_thread.join(grace)
        while handler.worker_thread.is_alive():  # one that had not begun its process yet has one in a moment
            _kill_workers()
            handler.worker_thread.join(1.0)

    run_before, stop_before = Worker.run, Handler.stop_worker
    Worker.run, Handler.stop_worker = run, stop_worker  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        Worker.run, Handler.stop_worker = run_before, stop_before  # type: ignore[method-assign]


def _kill_workers() -> None:
    """Kill this process's workers and the shells that Beam starts them in."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if WORKER in " ".join(child.cmdline()):
                child.kill()
