"""The consumer group of a workspace: all that write to it share the partitions, and nobody else does."""

from __future__ import annotations

import re
import secrets

from pipelines.workspace.layout import Workspace

#: Key of the ledger's ``meta``.
GROUP = "stream_group"


def own_group(workspace: Workspace) -> str:
    """The group's name, made at the first stream: two workspaces that read one topic must not halve it between them."""
    with workspace.ledger.transaction() as tx:
        name = tx.meta(GROUP)
        if name is None:
            name = f"imsr-{re.sub(r'[^A-Za-z0-9._-]', '-', workspace.root.name)[:60]}-{secrets.token_hex(4)}"
            tx.put_meta(GROUP, name)
    return name
