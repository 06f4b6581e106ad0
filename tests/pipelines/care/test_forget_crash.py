"""Forgetting is killed at every step, for real; the same command, or any later run, ends as if it had not been."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
from forget_cases import SALT, ZOE, places_of, state_of, zoes_world
from small_world import NOW

from pipelines.care.doctor import Severity, examine
from pipelines.care.forget import ForgetError, finish_forgetting, forget
from pipelines.care.receipts import read_journal
from pipelines.interests.recommend import Recommender
from pipelines.workspace.failpoints import VARIABLE, FailPoint
from pipelines.workspace.layout import Workspace
from pipelines.workspace.writer import writing

#: argv: workspace, user, salt, now
FORGET = """
import sys
from datetime import datetime
from pipelines.care.forget import forget
from pipelines.workspace.layout import Workspace
now = datetime.fromisoformat(sys.argv[4])
forget(Workspace.open(sys.argv[1]), sys.argv[2], salt=sys.argv[3], now=now, landing=True)
"""
OWN = [str(point) for point in FailPoint if point.startswith(("forget.", "rewrite."))]
LATER = ["rewrite.replaced:9", "rewrite.started:5", "rewrite.sealed:7", "forget.landing_replaced:2"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return zoes_world(tmp_path_factory.mktemp("zoe") / "workspace")


@pytest.fixture(scope="module")
def unkilled(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("unkilled") / "workspace"
    shutil.copytree(world.root, root)
    workspace = Workspace.open(root)
    forget(workspace, ZOE, now=NOW, landing=True, salt=SALT)
    return state_of(workspace)


def killed(workspace, failure):
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], VARIABLE: failure}
    command = [sys.executable, "-c", FORGET, str(workspace.root), ZOE, SALT, NOW.isoformat()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("failure", [*OWN, *LATER])
def test_the_same_command_again_finishes(world, unkilled, copy_of, failure):
    workspace = copy_of(world)
    killed(workspace, failure)
    assert Recommender.open(workspace).top_n(["u1"], 3).num_rows == 3  # readers go on meanwhile
    finding = next(each for each in examine(workspace) if each.mend == "imsr forget")
    assert finding.severity == Severity.ERROR
    forget(workspace, ZOE, now=NOW, landing=True)
    assert state_of(workspace) == unkilled
    assert places_of(workspace, ZOE) == []
    assert examine(workspace, deep=True) == []


@pytest.mark.slow
def test_any_later_run_finishes_first_and_nobody_else_is_forgotten_meanwhile(world, unkilled, copy_of):
    workspace = copy_of(world)
    killed(workspace, "rewrite.replaced:4")
    with pytest.raises(ForgetError, match="another user is being forgotten"):
        forget(workspace, "u1", now=NOW)
    with writing(workspace, "imsr run", now=NOW) as writer:
        receipt = finish_forgetting(writer)
        assert finish_forgetting(writer) is None
    assert receipt.is_of(ZOE)
    with workspace.ledger.snapshot() as view:
        assert read_journal(view) is None
    assert state_of(workspace) == unkilled
    assert places_of(workspace, ZOE) == []
