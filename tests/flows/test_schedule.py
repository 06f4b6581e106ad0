"""A schedule is looked at before anything starts."""

from datetime import UTC, datetime

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.serve import next_run
from imsr_core.errors import ConfigError
from pipelines.workspace.layout import Workspace


def test_the_next_run_of_a_schedule_lies_ahead():
    run = next_run("30 2 * * *")
    assert run > datetime.now(UTC)
    assert (run.hour, run.minute) == (2, 30)


@pytest.mark.parametrize("cron", ["99 * * * *", "x", "", "0 0 30 2 *", "* * * * * *", "0 2 * *", "@daily"])
def test_what_is_no_schedule_is_refused_with_an_example(cron, tmp_path):
    with pytest.raises(ConfigError) as caught:
        next_run(cron)
    assert "30 2 * * *" in caught.value.hint
    workspace = Workspace.create(tmp_path / "w")
    result = CliRunner().invoke(app, ["serve", "-w", str(workspace.root), "--cron", cron])
    assert isinstance(result.exception, ConfigError)
