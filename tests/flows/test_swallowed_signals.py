"""SIGTERM ends a process wherever it arrives, also where Python cannot let its exception through."""

import signal
import subprocess
import sys
import textwrap

import pytest

START = """
    import gc, os, signal, sys, time, weakref
    from flows.termination import bring_back_swallowed_signals, end_cleanly_on_sigterm
    from pipelines.workspace.ending import noticing
    from pipelines.workspace.failpoints import FailPoint, hit
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where they run under nohup
    end_cleanly_on_sigterm()

    def be_asked(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):
            pass

    class Thing:
        pass

    def work():
        for _ in range(600):
            time.sleep(0.1)
"""
PLACES = {
    "a weakref callback": "thing = Thing(); keep = weakref.ref(thing, be_asked); del thing; work()",
    "a destructor": "Thing.__del__ = be_asked; thing = Thing(); del thing; work()",
    "the garbage collector": """
    once = lambda *_: (gc.callbacks.remove(once), be_asked())
    gc.callbacks.append(once)
    gc.collect()
    work()""",
    "somebody's except, then a step": """
    try:
        be_asked()
    except BaseException:
        pass
    hit(FailPoint.TRAIN_STARTED)
    work()""",
    "somebody's except, then a batch": """
    try:
        be_asked()
    except BaseException:
        pass
    noticing(lambda *_: None)(1, 2, 0.5)
    work()""",
    "a weakref callback in a Prefect flow": """
    from prefect.utilities.engine import capture_sigterm
    thing = Thing()
    keep = weakref.ref(thing, be_asked)
    with capture_sigterm():
        del thing
        work()""",
    "the import of an extension": """
    import enum
    assert "duckdb" not in sys.modules
    made = enum.EnumType.__call__
    def be_asked_once(*arguments, **options):  # by C++, which aborts where it gets no enumeration
        enum.EnumType.__call__ = made
        be_asked()
        return made(*arguments, **options)
    enum.EnumType.__call__ = be_asked_once
    import duckdb
    work()""",
}

#: One query after the other, each a fraction of a second: DuckDB lets a task end before it is interrupted.
PLACES["a query"] = """
    import tempfile, threading
    from pipelines.workspace.engine import duckdb_session
    from pipelines.workspace.layout import Workspace
    from pipelines.workspace.lease import hold
    asked = threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM))
    with hold(Workspace.create(tempfile.mkdtemp() + "/w"), "imsr run"), duckdb_session() as connection:
        asked.start()
        for _ in range(1000):
            connection.execute("SELECT sum(a.range * b.range) FROM range(30000) a, range(10000) b")"""


@pytest.mark.parametrize("place", PLACES)
def test_a_signal_that_arrives_in(place):
    script = textwrap.dedent(START) + textwrap.dedent(PLACES[place])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 143, done.stderr
    assert "Terminat" not in done.stderr


@pytest.mark.parametrize(
    "place", ["a weakref callback", "a destructor", "the garbage collector", "a query", "the import of an extension"]
)
def test_a_ctrl_c_that_arrives_in(place):
    script = (textwrap.dedent(START) + textwrap.dedent(PLACES[place])).replace("signal.SIGTERM", "signal.SIGINT")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == -signal.SIGINT, done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_terminal_that_is_closed_has_its_own_exit_code(place):
    script = (textwrap.dedent(START) + textwrap.dedent(PLACES[place])).replace("signal.SIGTERM", "signal.SIGHUP")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=200)
    assert done.returncode == 129, done.stderr
