import signal
import subprocess
import sys

import pytest

from imsr_core.errors import ConfigError
from pipelines.workspace import failpoints
from pipelines.workspace.failpoints import FailPoint, InjectedFailure, hit

POINT = FailPoint.INGEST_STAGED


def test_nothing_happens_without_the_variable(monkeypatch):
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    for point in FailPoint:
        hit(point)


def test_raise_at_the_nth_pass_of_that_point_only(monkeypatch):
    monkeypatch.setenv(failpoints.VARIABLE, f"{POINT}:3:raise")
    for _ in range(5):
        hit(FailPoint.INGEST_AFTER_COMMIT)
    hit(POINT)
    hit(POINT)
    with pytest.raises(InjectedFailure, match=r"ingest\.staged"):
        hit(POINT)
    hit(POINT)


@pytest.mark.parametrize(
    ("action", "number"), [("", signal.SIGKILL), (":1:kill", signal.SIGKILL), (":1:term", signal.SIGTERM)]
)
def test_the_process_dies_by_the_signal(action, number):
    code = "from pipelines.workspace.failpoints import FailPoint, hit; hit(FailPoint.INGEST_STAGED); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={failpoints.VARIABLE: f"{POINT}{action}", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -number
    assert done.stdout == b""


@pytest.mark.parametrize("bad", ["no.such.point", f"{POINT}:x", f"{POINT}:0", f"{POINT}:1:explode"])
def test_a_wrong_variable_is_refused(monkeypatch, bad):
    monkeypatch.setenv(failpoints.VARIABLE, bad)
    with pytest.raises(ConfigError, match=failpoints.VARIABLE):
        hit(POINT)


@pytest.mark.parametrize("test", ["one", "another"])
def test_no_test_of_a_process_counts_what_another_has_passed(monkeypatch, test):
    monkeypatch.setenv(failpoints.VARIABLE, f"{POINT}:1:raise")
    with pytest.raises(InjectedFailure):
        hit(POINT)
