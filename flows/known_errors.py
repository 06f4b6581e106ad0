"""A flow that fails for a reason that we know logs the reason; where in the code it arose helps nobody who runs it."""

from __future__ import annotations

import logging

from imsr_core.errors import ImsrError

#: Where Prefect logs the exceptions of flow runs and of task runs.
_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


def log_known_errors_without_traceback() -> None:
    """From now on Prefect logs an ImsrError as its message; other exceptions are bugs, and show where they are."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.exc_info and isinstance(record.exc_info[1], ImsrError):
        record.exc_info = None
    return True
