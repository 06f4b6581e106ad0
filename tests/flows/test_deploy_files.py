"""The systemd unit and the compose file of the docs: what they start is a command that there is, with its options."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from flows.cli import app

DEPLOY = Path(__file__).parents[2] / "docs" / "deploy"


def require_a_command(words: list[str]) -> None:
    """The words after ``imsr`` are understood; nothing is started."""
    command = get_command(app).get_command(None, words[0])  # type: ignore[attr-defined]
    with command.make_context(words[0], words[1:], resilient_parsing=False) as context:
        assert context.params["cron"] == "0 2 * * *"


def test_the_compose_file_starts_a_command_that_there_is(monkeypatch):
    monkeypatch.setenv("IMSR_WORKSPACE", "/data/shop")
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["imsr"]
    require_a_command(service["command"])
    built = (DEPLOY / service["build"]["context"]).resolve()
    assert (built / service["build"]["dockerfile"]).is_file()
    assert (built / "pyproject.toml").is_file()
    assert 'ENTRYPOINT ["imsr"]' in (built / service["build"]["dockerfile"]).read_text()
    # the workspace lies in what the image is built from, and must not get into it
    ignored = (built / ".dockerignore").read_text().splitlines()
    sources = [volume.partition(":")[0] for volume in service["volumes"]]
    assert all((DEPLOY / source).resolve().relative_to(built).as_posix() in ignored for source in sources)
    mounted = {volume.partition(":")[2] for volume in service["volumes"]}
    assert all(value.startswith(tuple(mounted)) for value in service["environment"].values())


def test_deployments_name_flows_from_where_prefect_deploy_is_run():
    root = Path(__file__).parents[2]
    deployments = yaml.safe_load((root / "prefect.yaml").read_text())["deployments"]
    for each in deployments:
        file, _, flow = each["entrypoint"].partition(":")
        assert f"def {flow}(" in (root / file).read_text(), each["entrypoint"]
    # in a wheel the file lies beside the flows: the documentation has people go to the folder above
    assert (
        'cd "$IMSR_CODE" && prefect deploy --all --prefect-file flows/prefect.yaml'
        in (root / "docs" / "operations.md").read_text()
    )


def test_the_unit_starts_a_command_that_there_is(monkeypatch):
    monkeypatch.setenv("IMSR_WORKSPACE", "/data/shop")
    lines = dict(line.split("=", 1) for line in (DEPLOY / "imsr.service").read_text().splitlines() if "=" in line[:40])
    program, *words = shlex.split(lines["ExecStart"])
    assert Path(program).name == "imsr"
    require_a_command(words)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_understands_the_unit(tmp_path):
    unit = tmp_path / "imsr.service"  # with a program that there is
    unit.write_text((DEPLOY / "imsr.service").read_text().replace("/opt/imsr/bin/imsr", "/bin/true"))
    said = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    ours = [line for line in said.stderr.splitlines() if "imsr.service" in line]
    assert ours == []
