"""Named places where a run can be made to fail on purpose, so that crash safety is tested and not hoped for.

``IMSR_FAIL=ingest.before_commit`` kills the process the first time it gets there;
``IMSR_FAIL=ingest.renamed_one:3:raise`` raises at the third time. Without the variable a hit does nothing.
The points are an enum, so a test that walks over it covers a new point by its existing.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum

from imsr_core.errors import ConfigError, ImsrError
from pipelines.workspace.ending import end_if_asked

VARIABLE = "IMSR_FAIL"

_SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "hup": signal.SIGHUP, "stop": signal.SIGSTOP}
ACTIONS = (*_SIGNALS, "raise")

#: How often each point was passed by this process while the variable named it.
_passed: dict[str, int] = {}


class FailPoint(StrEnum):
    """Every step after which a crash leaves something on disk that the next run has to deal with."""

    PUBLISH_SEALED = "publish.sealed"
    PUBLISH_RENAMED = "publish.renamed"
    INGEST_STAGED = "ingest.staged"
    INGEST_RENAMED_ONE = "ingest.renamed_one"
    INGEST_BEFORE_COMMIT = "ingest.before_commit"
    INGEST_AFTER_COMMIT = "ingest.after_commit"
    STREAM_WRITTEN = "stream.written"
    STREAM_TIDIED = "stream.tidied"
    LEASE_TAKEN = "lease.taken"
    SEQUENCES_BUCKET_WRITTEN = "sequences.bucket_written"
    SEQUENCES_BEFORE_COMMIT = "sequences.before_commit"
    EVALUATE_BEFORE_COMMIT = "evaluate.before_commit"
    TRAIN_STARTED = "train.started"
    TRAIN_STAGED = "train.staged"
    TRAIN_BEFORE_COMMIT = "train.before_commit"
    TRAIN_AFTER_COMMIT = "train.after_commit"
    PROMOTE_BEFORE_COMMIT = "promote.before_commit"
    PROMOTE_AFTER_COMMIT = "promote.after_commit"
    REJECT_BEFORE_COMMIT = "reject.before_commit"
    ROLLBACK_BEFORE_COMMIT = "rollback.before_commit"
    ROLLBACK_AFTER_COMMIT = "rollback.after_commit"
    TASK_LABELS_KEPT = "task.labels_kept"
    TASK_STARTED = "task.started"
    TASK_STAGED = "task.staged"
    TASK_BEFORE_COMMIT = "task.before_commit"
    TASK_AFTER_COMMIT = "task.after_commit"
    TASK_BEFORE_PROMOTE = "task.before_promote"
    TASK_AFTER_PROMOTE = "task.after_promote"
    CATALOG_STAGED = "catalog.staged"
    CATALOG_REPLACED = "catalog.replaced"
    REWRITE_STARTED = "rewrite.started"
    REWRITE_REPLACED = "rewrite.replaced"
    REWRITE_SEALED = "rewrite.sealed"
    REWRITE_DROPPED = "rewrite.dropped"
    FORGET_JOURNALED = "forget.journaled"
    FORGET_LANDING_REPLACED = "forget.landing_replaced"
    FORGET_BEFORE_COMMIT = "forget.before_commit"
    FORGET_AFTER_COMMIT = "forget.after_commit"
    FORGET_VIEWS_WRITTEN = "forget.views_written"
    PRUNE_BEFORE_COMMIT = "prune.before_commit"
    PRUNE_AFTER_COMMIT = "prune.after_commit"
    PRUNE_REMOVED_ONE = "prune.removed_one"


class InjectedFailure(ImsrError):
    """Raised by a fail point whose action is ``raise``."""


def hit(point: FailPoint) -> None:
    """A step is done. Fail here if the environment asks for it: ``IMSR_FAIL=name[:nth[:action]]``.

    Raises:
        Terminated: the process was asked to end.
        InjectedFailure: the action is ``raise``.
        ConfigError: the variable names no known point, no positive count or no known action.
    """
    end_if_asked()
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, nth, action = _parse(wanted)
    if name != point:
        return
    _passed[name] = _passed.get(name, 0) + 1
    if _passed[name] != nth:
        return
    if action == "raise":
        raise InjectedFailure(f"fail point {name} (pass {nth})", hint=f"unset {VARIABLE} to run normally")
    os.kill(os.getpid(), _SIGNALS[action])


def _parse(wanted: str) -> tuple[FailPoint, int, str]:
    name, _, rest = wanted.partition(":")
    count, _, action = rest.partition(":")
    try:
        point, nth = FailPoint(name), int(count or 1)
    except ValueError as error:
        raise ConfigError(
            f"{VARIABLE}={wanted}: {error}", hint=f"points: {', '.join(FailPoint)}; form: name[:nth[:action]]"
        ) from error
    if nth < 1 or (action or "kill") not in ACTIONS:
        raise ConfigError(f"{VARIABLE}={wanted}: nth is 1 or more", hint=f"actions: {', '.join(ACTIONS)}")
    return point, nth, action or "kill"
