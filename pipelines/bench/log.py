"""`imsr bench`: a workspace of its own for a log, and the cells of a grid on it.

OUT/workspace/       the log, ingested and sequenced once by the same code as everywhere
OUT/cells, OUT/bases see `pipelines.bench.cells`
OUT/results.parquet, results.md, *.png      see `pipelines.bench.summary`
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipelines.bench.data import BenchError
from pipelines.lake.ingest import IngestReport, ingest
from pipelines.settings.imsr_toml import load_settings
from pipelines.workspace.layout import Workspace
from pipelines.workspace.seal import write_atomic


def open_log(
    config: Path, events: Sequence[Path], out: Path, *, now: datetime
) -> tuple[Workspace, IngestReport | None]:
    """The bench's workspace with ``events`` in the lake; what was ingested before is skipped.

    ``config`` is an imsr.toml; where the workspace is there already, its settings are replaced by it.

    Raises:
        ConfigError: the settings are not valid, or cut time otherwise than the workspace does.
        BenchError: there is no log.
    """
    text = config.read_text(encoding="utf-8")
    load_settings(config)
    root = out / "workspace"
    if (root / "imsr.toml").is_file():
        write_atomic(root / "imsr.toml", text.encode())
        workspace = Workspace.open(root)
    else:
        if not events:
            raise BenchError(
                f"{root} holds no log yet", hint="name the event files: imsr bench EVENTS... --data CONFIG"
            )
        workspace = Workspace.create(root, text)
    return workspace, ingest(workspace, list(events), now=now) if events else None
