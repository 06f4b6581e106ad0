"""`imsr tune`: a plan, a search that goes on, a note in imsr.toml; a setting changes with --apply alone."""

import json
import re

import numpy as np
from typer.testing import CliRunner

from flows.cli import app
from flows.commands import tune
from imsr_core.bootstrap import Interval
from pipelines.bench.tuning import Choice
from pipelines.settings.imsr_toml import load_settings


def run(workspace, *arguments):
    return CliRunner().invoke(app, ["tune", "-w", str(workspace.root), "--trials", "2", *arguments])


def test_tune_notes_what_it_found_and_changes_no_setting(ingested, copy_of):
    workspace = copy_of(ingested)
    before = workspace.settings_file.read_text()
    plan = run(workspace, "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert re.search("2 to try: at most [1-9][0-9]* s of CPU", plan.output)
    assert "as it was" in plan.output
    assert workspace.settings_file.read_text() == before
    first = run(workspace)
    assert first.exit_code == 0, first.output
    after = workspace.settings_file.read_text()
    assert after.startswith(before.rstrip())
    assert "# --- imsr tune ---" in after
    assert load_settings(text=after) == load_settings(text=before)
    told = json.loads(run(workspace, "--json").stdout)
    assert [each["settings"] for each in told["tried"]] == [each["settings"] for each in told["planned"]]
    assert told["best"] in [each["settings"] for each in told["tried"]]
    assert told["applied"] is False
    again = run(workspace)
    assert "0 to try: all are found" in again.output
    assert workspace.settings_file.read_text() == after


def test_apply_puts_in_force_what_is_certainly_better(ingested, copy_of, monkeypatch):
    workspace = copy_of(ingested)
    found = {}

    def second_is_better(low):
        def choose(plan, trials):
            found["settings"] = trials[1].settings
            return Choice(trials[1], trials[0], Interval(0.1, low, 0.2))

        monkeypatch.setattr(tune, "choose", choose)

    before = load_settings(workspace.settings_file)
    second_is_better(-0.01)
    assert run(workspace, "--apply").exit_code == 0
    assert load_settings(workspace.settings_file) == before, "the interval holds zero"
    second_is_better(0.05)
    result = run(workspace, "--apply")
    assert result.exit_code == 0, result.output
    assert "They were put in force above." in result.output
    changed = load_settings(workspace.settings_file).interests
    for path, value in found["settings"].items():
        section, key = path.split(".")
        assert np.all(getattr(getattr(changed, section), key) == value)


def test_a_forgotten_user_leaves_no_trial(learnt, copy_of):
    workspace = copy_of(learnt)
    assert run(workspace).exit_code == 0
    assert any(workspace.trials.rglob("*.safetensors"))
    forgotten = CliRunner().invoke(app, ["forget", "--user", "u1", "-w", str(workspace.root)])
    assert forgotten.exit_code == 0, forgotten.output
    assert not workspace.trials.exists()
