"""Everybody's lists, by buckets of users: in this process, or where the sequences are built (``[sequences] runner``).

A bucket is a range of user indices, for whom alone the version is read and the catalogue ranked. One process writes one
bucket after the other, so that neither everybody's interests nor everybody's lists are in memory at once. A worker
writes a file of its bucket; in the end the files are joined in the order of users. Nothing but the workspace's folder
is shared, and a bucket that is done twice, after a worker was lost, is the same file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.interests.recommend import Recommender
from pipelines.interests.version import Version
from pipelines.sequences.beam_runner import RunnerOptions
from pipelines.sequences.build import runner_options
from pipelines.sequences.everywhere import do_everywhere
from pipelines.workspace.editions import drop_editions
from pipelines.workspace.layout import Workspace
from pipelines.workspace.parquet_files import read_table, write_table, write_tables
from pipelines.workspace.publish import staging_folder

COLUMNS = ("user_id", "rank", "item_id", "score", "interest_id", "reason", "version_id")
#: Users of a bucket: enough that reading the item vectors does not matter, few enough to be held.
BUCKET_USERS = 16_384


@dataclass(frozen=True)
class ListTask:
    """The lists of the users with index ``first`` to ``last`` (exclusive) go to ``out``; ``how`` is JSON, what
    `Recommender.top_n` takes."""

    workspace: str
    version_id: str
    first: int
    last: int
    n: int
    how: str
    out: str


def write_bucket(task: ListTask) -> None:
    """Write ``task.out``: the lists of a bucket of users; a bucket of users without interests is an empty file."""
    version = Version.open(Workspace.open(task.workspace), task.version_id)
    write_table(_lists(version, task), Path(task.out))


def _lists(version: Version, task: ListTask) -> pa.Table:
    """The lists of a bucket of users."""
    recommender = Recommender(version, version.load(np.arange(task.first, task.last)))
    return recommender.lists_of_all(task.n, **json.loads(task.how))


def write_lists(
    workspace: Workspace,
    version_id: str | None = None,
    n: int = 20,
    *,
    variant: str = "",
    options: RunnerOptions | None = None,
    bucket_users: int = BUCKET_USERS,
    **how: Any,
) -> Path:
    """Write everybody's lists, behind the view `recommendations`; returns the file (see `Workspace.list_file`).

    ``how`` is what `Recommender.top_n` takes; ``options`` says where it is done, unset: the ``[sequences]`` settings.

    Raises:
        VersionError, CheckpointError: the version is not there, or damaged.
        BeamJobError: the job failed, or a bucket is missing: there are no new lists then.
    """
    options = options or runner_options(workspace.settings.sequences)
    version = Version.open(workspace, version_id)
    path = workspace.list_file(version.row.version_id, variant)
    path.parent.mkdir(exist_ok=True)
    with staging_folder(workspace, "lists") as staging:
        tasks = _tasks(version, n, how, staging, bucket_users)
        if options.is_one_process:
            parts = (_lists(version, task) for task in tasks)
        else:
            do_everywhere(tasks, write_bucket, options, "lists")
            parts = (read_table(Path(task.out), COLUMNS) for task in tasks)
        write_tables(parts, path)
    drop_editions(path)
    return path


def _tasks(version: Version, n: int, how: dict[str, Any], staging: Path, bucket_users: int) -> list[ListTask]:
    where, users = str(version.workspace.root.absolute()), version.vocabulary.n_users
    version_id, asked = version.row.version_id, json.dumps(how)
    return [
        ListTask(where, version_id, first, min(first + bucket_users, users), n, asked, str(staging.absolute() / name))
        for number, first in enumerate(range(0, max(users, 1), bucket_users))
        for name in (f"bucket={number:06}.parquet",)
    ]
