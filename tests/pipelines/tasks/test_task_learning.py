"""One step of the `users` line: a pure function of its recipe, staged and recorded in one go."""

from dataclasses import replace

import pytest
from small_world import DAYS, NOW
from task_world import add, pretrain, users_current, users_rows, with_tasks

from flows.holding import holding
from imsr_core.errors import NonFiniteError
from imsr_core.lifelong.methods.conure import Conure
from pipelines.tasks.adding import prepare
from pipelines.tasks.learning import make_version
from pipelines.tasks.version import LINE, current_version
from pipelines.versions.candidates import find_version
from pipelines.workspace.seal import verify_folder
from pipelines.workspace.states import VersionState

T1, CLUB = (f"u-{DAYS[-1]}.{name}" for name in ("T1", "club"))


@pytest.fixture
def based(learnt, copy_of):
    """T1 is learnt, two tasks are declared."""
    workspace = with_tasks(copy_of(learnt))
    pretrain(workspace)
    return workspace


def recipe_of(workspace, name="club"):
    return prepare(workspace, name, current_version(workspace))


def make(recipe):
    with holding(recipe.workspace, "test", now=NOW) as writer:
        return make_version(recipe, writer)


def test_a_recipe_names_its_version_and_counts_further_attempts(based):
    recipe = recipe_of(based)
    assert recipe.version_id(set()) == CLUB
    assert recipe.version_id({CLUB}) == f"{CLUB}.2"
    assert recipe.version_id({CLUB, f"{CLUB}.2"}) == f"{CLUB}.3"
    assert replace(recipe, how="remove").version_id(set()) == f"u-{DAYS[-1]}.without-club"
    assert recipe.fingerprint == recipe_of(based).fingerprint
    assert recipe.fingerprint != replace(recipe, seed=1).fingerprint


def test_a_made_version_is_a_complete_candidate_that_is_not_live(based):
    row = make(recipe_of(based))
    assert row.state == VersionState.CANDIDATE
    assert users_rows(based)[CLUB] == row
    assert users_current(based) == T1
    verify_folder(based.resolve(row.path))
    assert list(based.staging.iterdir()) == []
    assert row.summary["train_seconds"] > 0
    assert row.summary["parameters"] > users_rows(based)[T1].summary["parameters"]


def test_what_was_made_is_found_again_also_after_the_run_died(based, monkeypatch):
    row = make(recipe_of(based))
    monkeypatch.setattr(Conure, "learn_task", None)
    assert make(recipe_of(based)) == row
    assert add(based, "club").version.version_id == CLUB
    assert users_current(based) == CLUB


def test_a_version_whose_folder_is_not_complete_is_made_anew(based):
    row = make(recipe_of(based))
    (based.resolve(row.path) / "READY").unlink()
    with based.ledger.snapshot() as view:
        assert find_version(view, based, LINE, row.fingerprint) is None
    again = make(recipe_of(based))
    assert again.version_id == f"{CLUB}.2"
    assert again.fingerprint == row.fingerprint
    ours, theirs = (based.resolve(each.path) / "state.safetensors" for each in (row, again))
    assert ours.read_bytes() == theirs.read_bytes()


def test_learning_that_diverges_leaves_nothing(based, monkeypatch):
    def diverge(self, state, problem):
        raise NonFiniteError("the loss is nan", hint="lower the learning rate")

    monkeypatch.setattr(Conure, "learn_task", diverge)
    with pytest.raises(NonFiniteError):
        add(based, "club")
    assert list(users_rows(based)) == [T1]
    assert users_current(based) == T1
    assert list(based.staging.iterdir()) == []


def test_other_labels_make_another_version(based):
    first = add(based, "club").version
    text = (based.root / "club.csv").read_text().replace("club 4", "club 3")
    (based.root / "club.csv").write_text(text)
    pretrain(based, anew=True)
    second = add(based, "club").version
    assert second.version_id == f"{CLUB}.2"
    assert second.parent == first.parent == T1
    assert second.fingerprint != first.fingerprint
