"""The one error root of the project: every error a user can cause says what happened and what to do next."""

from __future__ import annotations


class ImsrError(Exception):
    """An error with a message for a person and a ``hint``: the next thing to do or to type."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message


class ConfigError(ImsrError):
    """A setting has a value that cannot work."""


class CheckpointError(ImsrError):
    """A saved model is damaged, incomplete or of another shape than it claims."""


class NonFiniteError(ImsrError):
    """A loss, gradient or score became NaN or infinite; nothing of the step may be kept."""
