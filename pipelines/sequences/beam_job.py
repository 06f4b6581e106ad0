"""The Beam graph of all work over buckets: Create(buckets) | Reshuffle | ParDo(do a bucket).

One element is one bucket, never one event or user: a worker reads, computes and writes a whole file with numpy. The
graph keeps to what every runner, Dask's among them, executes rightly: one terminal branch, no output from
``finish_bundle``, no tagged outputs, no windows or state, and nothing read from metrics. Some runners run
an element twice; what writes the file (`pipelines.workspace.parquet_files.write_table`) does not mind.

Import this module only where a job runs: it imports Apache Beam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from imsr_core.errors import ImsrError
from pipelines.sequences.beam_runner import (
    BeamJobError,
    RunnerOptions,
    deadline,
    import_beam,
    importable_workers,
    silent_workers,
)
from pipelines.sequences.bucket import BucketTask, build_bucket
from pipelines.sequences.worker_processes import watched_workers

beam = import_beam()

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402  (beam is imported in its own way)

#: What asked the process to end while it did a bucket: Beam would pass it on as a RuntimeError.
_asked_to_end: list[SystemExit | KeyboardInterrupt] = []


class Task(Protocol):
    """What a worker needs to do one bucket; ``out`` is the file that it writes. It is pickled, so paths are strings."""

    @property
    def out(self) -> str:
        """The file to write."""
        ...


class DoBucket(beam.DoFn):  # type: ignore[name-defined]
    """Do one bucket and pass on the name of its file."""

    def __init__(self, do: Callable[[Any], None]) -> None:
        super().__init__()
        self._do = do

    def process(self, task: Task) -> Iterator[str]:
        """Yield ``task.out`` once the file is there, whole."""
        try:
            self._do(task)
        except (SystemExit, KeyboardInterrupt) as asked:
            _asked_to_end.append(asked)
            raise
        yield task.out


def run_bucket_tasks(tasks: Sequence[BucketTask], options: RunnerOptions) -> None:
    """Build the buckets of sequences with Beam; see `run_tasks`."""
    run_tasks(tasks, build_bucket, options, "sequences")


def run_tasks(tasks: Sequence[Task], do: Callable[[Any], None], options: RunnerOptions, label: str) -> None:
    """Do all tasks with Beam, and return when the runner says that it is done.

    ``do`` is a function of a module, which workers import. What was done is read from the files afterwards, never taken
    from the runner.

    Raises:
        ConfigError: a runner flag that Beam does not know.
        BeamJobError: the job failed or ran out of time; the message ends with the worker's error.
    """
    _asked_to_end.clear()
    flags = PipelineOptions(options.flags(partitions=len(tasks)))
    with ExitStack() as stack:
        stack.enter_context(importable_workers())
        stack.enter_context(silent_workers())
        if options.can_lose_workers:
            give_up = stack.enter_context(deadline(options.timeout_seconds, label))
            stack.enter_context(watched_workers(give_up))
        try:
            result = pipeline_of(tasks, do, flags).run()
            stack.callback(_close_client, result)
            result.wait_until_finish()
        except BeamJobError:
            raise
        except Exception as error:
            if _asked_to_end:
                raise _asked_to_end.pop() from None
            raise BeamJobError(
                f"{label}: the Beam job failed on {options.runner}: {_reason(error)}",
                hint=error.hint if isinstance(error, ImsrError) else "",
            ) from error


def pipeline_of(tasks: Sequence[Task], do: Callable[[Any], None], flags: PipelineOptions) -> Any:
    """The graph, a `beam.Pipeline` that has not run yet."""
    pipeline = beam.Pipeline(options=flags)
    (
        pipeline
        | "Buckets" >> beam.Create(list(tasks), reshuffle=False)
        | "Spread over workers" >> beam.Reshuffle()
        | "Do bucket" >> beam.ParDo(DoBucket(do))
    )
    return pipeline


def _reason(error: Exception) -> str:
    """What happened: a worker's error may arrive as itself, or as the text of its traceback."""
    if isinstance(error, ImsrError):
        return error.message
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith("->")]  # the hint comes last, if there is one
    return said[-1] if said else type(error).__name__


def _close_client(result: object) -> None:
    """The Dask runner opens a client of its own and never closes it."""
    client = getattr(result, "client", None)
    if client is not None:
        client.close()
