"""The work of a span that goes user by user, done where the sequences are built (``[sequences] runner``).

A strategy asks for buckets of users (`imsr_core.hands`): interests that are read after training, contexts that are
counted. With several workers each bucket is a file of tensors, what came of it another, and a worker needs nothing but
the workspace's folder. Work over fewer users than a bucket holds stays in the process.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from safetensors.torch import load_file

from imsr_core.checkpoint import write_tensors
from imsr_core.hands import DoBucket, Hands, Tensors
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.build import runner_options
from pipelines.sequences.everywhere import do_everywhere
from pipelines.workspace.layout import Workspace
from pipelines.workspace.publish import staging_folder

#: Users of a bucket: those of the test and of everybody's lists.
BUCKET_USERS = 16_384


@dataclass(frozen=True)
class UserTask:
    """``do`` ("module:function") makes ``out`` of the tensors in ``shared`` and ``bucket``; ``how`` is JSON."""

    do: str
    shared: str
    bucket: str
    how: str
    out: str


def do_bucket(task: UserTask) -> None:
    """Write ``task.out``, whole or not at all; done twice it is the same file."""
    module, _, name = task.do.partition(":")
    do: DoBucket = getattr(import_module(module), name)
    found = do(load_file(task.shared), load_file(task.bucket), task.how)
    aside = Path(f"{task.out}.{secrets.token_hex(6)}")
    write_tensors(found, aside)
    os.replace(aside, task.out)


@dataclass(frozen=True)
class Workers:
    """The workers of a runner, as `imsr_core.hands.Hands`; they see the workspace's folder at the same path."""

    workspace: Workspace
    options: RunnerOptions
    bucket_users: int = BUCKET_USERS

    def __call__(self, do: DoBucket, shared: Tensors, buckets: Iterator[Tensors], how: str) -> Iterator[Tensors]:
        """Write the buckets, have them done, and read what came of them, one after the other.

        Raises:
            BeamJobError: the job failed, or a bucket is missing.
        """
        name = f"{do.__module__}:{do.__name__}"
        with staging_folder(self.workspace, "users") as folder:
            staging = folder.absolute()
            common = staging / "shared.safetensors"
            write_tensors(shared, common)
            tasks = []
            for number, bucket in enumerate(buckets):
                own, out = (staging / f"{kind}={number:06}.safetensors" for kind in ("bucket", "done"))
                write_tensors(bucket, own)
                tasks.append(UserTask(name, str(common), str(own), how, str(out)))
            do_everywhere(tasks, do_bucket, self.options, do.__name__.replace("_", " "))
            for task in tasks:
                yield load_file(task.out)


def hands_of(workspace: Workspace) -> Hands | None:
    """Who does the buckets of a workspace; None where one process does all the work."""
    options = runner_options(workspace.settings.sequences)
    return None if options.is_one_process else Workers(workspace, options)
