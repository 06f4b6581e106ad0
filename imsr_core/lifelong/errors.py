"""What can go wrong when a task is added to a lifelong encoder."""

from __future__ import annotations

from imsr_core.errors import ImsrError


class TaskError(ImsrError):
    """A task cannot be learnt or served: its labels, its users or its name do not fit the version."""


class CapacityError(ImsrError):
    """Conure has too few free weights left for another task; nothing was changed."""
