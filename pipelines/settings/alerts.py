"""Who is told when a night goes wrong, and of what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from imsr_core.fields import Section, documented
from pipelines.settings.sections import duration_seconds

#: What there is to tell.
KINDS = ("failed", "rejected", "stale", "quarantined", "late")
#: How a receiver begins that stands in a variable of the environment.
FROM_ENVIRONMENT = "env:"

_DURATION = ("([0-9]{1,6}[smhdw])?", "a duration such as '90m', '6h', '2d', or empty")


@dataclass(frozen=True)
class AlertsSettings(Section):
    """Messages to people, by apprise: sent by the nightly flow, by `imsr run --alert` and `imsr alerts check`."""

    urls: tuple[str, ...] = documented(
        (),
        "receivers as apprise URLs (mailtos://..., slack://..., json://host/path), or env:NAME for a variable that "
        "holds one, so that no secret stands here; empty = nobody is told",
        secret=True,
    )
    on: tuple[str, ...] = documented(
        KINDS,
        "what is told: failed = a night, a span or a task; rejected = a version, by the gate; stale = nothing was "
        "learnt for long; quarantined = an ingest had too many refused rows; late = what is due is not done",
    )
    stale_after: str = documented(
        "",
        "stale: the newest learnt span ended longer ago than this (s, m, h, d, w); empty = twice its length and a day",
        like=_DURATION,
    )
    late_after: str = documented(
        "1d",
        "late: a span with data has been due for longer than this, or a night began this much behind its schedule; "
        "empty = never",
        like=_DURATION,
    )

    def clashes(self) -> Iterator[tuple[str, str]]:
        """A kind that there is not. (Receivers are looked at when they are used: apprise takes long to import.)"""
        if not set(self.on) <= set(KINDS):
            yield "on", f"some of {', '.join(KINDS)}"

    @property
    def stale_seconds(self) -> float | None:
        """``stale_after`` in seconds; None if it follows the spans."""
        return duration_seconds(self.stale_after) if self.stale_after else None

    @property
    def late_seconds(self) -> float | None:
        """``late_after`` in seconds; None for never."""
        return duration_seconds(self.late_after) if self.late_after else None
