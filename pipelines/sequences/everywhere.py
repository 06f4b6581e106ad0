"""Work over buckets wherever ``[sequences] runner`` says, with a look at what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imsr_core.counted import counted
from pipelines.sequences.beam_runner import BeamJobError, RunnerOptions

if TYPE_CHECKING:
    from pipelines.sequences.beam_job import Task


def do_everywhere(tasks: Sequence[Task], do: Callable[[Any], None], options: RunnerOptions, label: str) -> None:
    """Do all tasks (see `pipelines.sequences.beam_job.run_tasks`) and see that each has left its file.

    Raises:
        ConfigError: a runner flag that Beam does not know.
        BeamJobError: the job failed, ran out of time, or reported a success that it was not.
    """
    from pipelines.sequences.beam_job import run_tasks  # imports Beam: 0.6 s, only where it is needed

    run_tasks(tasks, do, options, label)
    written = sum(Path(task.out).exists() for task in tasks)
    if written < len(tasks):
        raise BeamJobError(
            f"{label}: the runner {options.runner} reported success, but wrote "
            f"{written} of {counted(len(tasks), 'bucket')}",
            hint='use runner = "FnApiRunner"',
        )
