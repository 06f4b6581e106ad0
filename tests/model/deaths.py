"""Commands that die at a fail point."""

import os
import sys
import traceback
from collections.abc import Callable

from pipelines.workspace import failpoints
from pipelines.workspace.failpoints import VARIABLE, FailPoint, InjectedFailure


def dies(action: Callable[[], object], point: FailPoint, nth: int, how: str) -> bool:
    """Run ``action`` to this fail point: in a process of its own that is killed there, or with an exception here."""
    os.environ[VARIABLE] = f"{point}:{nth}:{how}"
    failpoints._passed.clear()
    try:
        return _raises(action) if how == "raise" else _killed(action)
    finally:
        del os.environ[VARIABLE]


def _raises(action: Callable[[], object]) -> bool:
    try:
        action()
    except InjectedFailure:
        return True
    return False


def _killed(action: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the command failed by itself"
    return os.WIFSIGNALED(status)
