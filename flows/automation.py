"""The automation that tells what no run can say itself: that none began in time, or that it was killed.

It waits on the Prefect server for the events ``prefect.flow-run.Late`` and ``prefect.flow-run.Crashed`` of this
workspace's flow runs (by their tag ``workspace:NAME``, or ``workspace:FOLDER``), and sends a notification to the
receivers of [alerts]. Everything else a run tells by itself (see `flows.alerts`).
"""

from __future__ import annotations

import os
import re
from typing import cast
from uuid import UUID

from prefect.blocks.notifications import SlackWebhook
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from pydantic import SecretStr

from pipelines.settings.alerts import FROM_ENVIRONMENT
from pipelines.workspace.layout import Workspace

#: Names of states of a flow run that nobody in the run can tell of.
TOLD_BY_THE_SERVER = ("Late", "Crashed")
_BODY = (
    "flow run {{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message or 'no run began in time' }}"
)


def automation_name(workspace: Workspace) -> str:
    """What the automation of a workspace is called on the server."""
    return f"imsr {workspace.root.name}: late or killed"


def install_automation(workspace: Workspace) -> tuple[str, int]:
    """Make the automation of a workspace on the server of PREFECT_API_URL, or write it anew.

    Returns:
        Its name, and how many receivers it tells. One whose variable (env:NAME) is not set is left out.
    """
    urls = [_resolved(given) for given in workspace.settings.alerts.urls]
    blocks = [_block(workspace, number, url) for number, url in enumerate(urls, 1) if url]
    name = automation_name(workspace)
    tags = [f"prefect.tag.workspace:{each}" for each in (workspace.root.name, workspace.root)]
    wanted = AutomationCore(
        name=name,
        description="made by imsr: tells the receivers of [alerts] in imsr.toml",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{state}" for state in TOLD_BY_THE_SERVER},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": tags},
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
        ),
        actions=[
            SendNotification(block_document_id=block, subject=f"imsr {workspace.root.name}", body=_BODY)
            for block in blocks
        ],
    )
    with get_client(sync_client=True) as client:
        for old in client.read_automations_by_name(name):
            client.delete_automation(old.id)
        client.create_automation(wanted)
    return name, len(blocks)


def _block(workspace: Workspace, number: int, url: str) -> UUID:
    """The id of the block that keeps a receiver's URL, encrypted, on the server.

    A block must be of a class that every server knows. Of Prefect's own, "Slack Webhook" hands whatever is no address
    of Slack's to apprise as it is; the base class does the same and cannot be stored.
    """
    name = re.sub(r"[^a-z0-9]+", "-", f"imsr-{workspace.root.name}-{number}".lower()).strip("-")
    SlackWebhook.register_type_and_schema()
    block = SlackWebhook(url=SecretStr(url), notify_type="failure")
    return cast(UUID, block.save(name, overwrite=True))


def _resolved(given: str) -> str:
    return os.environ.get(given.removeprefix(FROM_ENVIRONMENT), "") if given.startswith(FROM_ENVIRONMENT) else given
