"""The version that is live, loaded for answering, and the next one as soon as the pointer has moved.

    live = Live.open("my-workspace")
    with live.model() as model: model.recommend("1018", n=10)

A request holds the model that it began with, so that no answer mixes two versions; the next version is loaded aside,
and requests go on with the one before until it is there. A version that cannot be loaded leaves the one before in
place. A version whose files were rewritten, because a user was forgotten, is loaded again. The pointer is looked at
when something is asked, and in the block of `Live.watching` by itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imsr_core.errors import ImsrError
from pipelines.interests.version import LINE
from pipelines.serving.model import ServedModel
from pipelines.workspace.layout import Workspace

#: Seconds between two looks at the pointer, by itself while the current version cannot be loaded.
LOOK_SECONDS, STUCK_SECONDS = 1.0, 10.0


@dataclass
class Live:
    """Answers from the current version of a workspace, whichever that is. Safe to use from several threads."""

    workspace: Workspace
    served: ServedModel
    look_seconds: float = LOOK_SECONDS
    switches: int = 0
    problem: str = ""
    _looked: float = field(default_factory=time.monotonic)
    _loading: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, workspace: Workspace | Path | str, *, look_seconds: float = LOOK_SECONDS) -> Live:
        """Load the current version.

        Raises:
            WorkspaceError, VersionError, CheckpointError: there is no workspace, no version yet, or it is damaged.
        """
        opened = Workspace.open(workspace)
        return cls(opened, ServedModel.load(opened), look_seconds)

    @contextmanager
    def model(self) -> Iterator[ServedModel]:
        """The model that answers one request, whole."""
        if time.monotonic() - self._looked >= self.look_seconds and self._loading.acquire(blocking=False):
            threading.Thread(target=self._look, daemon=True).start()
        yield self.served

    @contextmanager
    def watching(self) -> Iterator[None]:
        """For the block, look at the pointer whether something is asked or not: the first answer after a quiet night is
        that night's, and nobody is answered from what was forgotten in it."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(max(self.look_seconds, STUCK_SECONDS if self.problem else 0.0)):
                self.refresh()

        threading.Thread(target=watch, name="pointer", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def refresh(self) -> bool:
        """Load the current version now if it is another one; whether it was."""
        with self._loading:
            return self._switch()

    def _look(self) -> None:
        try:
            self._switch()
        finally:
            self._loading.release()

    def _switch(self) -> bool:
        try:
            with self.workspace.ledger.snapshot() as view:
                current = view.pointer(LINE)
            self.problem = ""
            if current is None or (current == self.served.version_id and self.served.is_fresh()):
                return False
            self.served = ServedModel.load(self.workspace, current)
            self.switches += 1
            return True
        except (ImsrError, OSError) as error:  # the one before goes on answering; /health says so
            self.problem = error.message if isinstance(error, ImsrError) else str(error)
            return False
        finally:
            self._looked = time.monotonic()
