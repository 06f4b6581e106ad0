"""Hand a message to people's receivers, by apprise. A receiver that fails is a line of text and never an error.

Their URLs hold secrets: no message, log or file of ours shows one. A receiver is called by its place and its kind
("receiver 2 (slack)"), and what apprise says of a failure goes through `scrubbed`.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

from pipelines.settings.alerts import FROM_ENVIRONMENT

#: Parts of a URL that are shorter stand for nothing secret.
_SECRET_LENGTH = 4


@dataclass(frozen=True)
class Delivery:
    """What became of a message at one receiver; ``problem`` is empty if it was taken."""

    receiver: str
    problem: str = ""


def deliver(urls: Sequence[str], title: str, body: str, *, failure: bool = True) -> list[Delivery]:
    """Send a message to every receiver, and say what became of it at each.

    Args:
        urls: apprise URLs, or env:NAME.
        title, body: the message, as plain text.
        failure: whether something failed, which receivers show in their way.
    """
    return [_deliver(number, url, title, body, failure) for number, url in enumerate(urls, 1)]


def _deliver(number: int, given: str, title: str, body: str, failure: bool) -> Delivery:
    url, named = given, ""
    if given.startswith(FROM_ENVIRONMENT):
        named = given.removeprefix(FROM_ENVIRONMENT)
        url = os.environ.get(named, "")
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", url)
    receiver = f"receiver {number} ({scheme[0].lower() if scheme else named or 'no URL'})"
    if named and not url:
        return Delivery(receiver, f"the variable {named} is not set")
    from apprise import Apprise, NotifyFormat, NotifyType  # slow: only when there is something to send

    with _overheard() as said:
        try:
            client = Apprise.instantiate(url)
            if client is None:
                return Delivery(receiver, "it is no URL that apprise understands: https://github.com/caronc/apprise")
            kind = NotifyType.FAILURE if failure else NotifyType.INFO
            taken = client.notify(title=title, body=body, notify_type=kind, body_format=NotifyFormat.TEXT)
        except Exception as error:  # whatever a receiver's plugin does, the night goes on, and says this
            return Delivery(receiver, scrubbed(f"{type(error).__name__}: {error}", url))
    return Delivery(receiver, "" if taken else scrubbed("; ".join(said) or "it did not take the message", url))


def scrubbed(text: str, url: str) -> str:
    """``text`` without the URL and without any part of it that could be a secret."""
    parts = [url, *re.split(r"[^A-Za-z0-9_.~-]+", url), *re.split(r"[/:@?&=+#]+", unquote(url))]
    scheme = url.partition("://")[0]
    for part in sorted({p for p in parts if len(p) >= _SECRET_LENGTH and p != scheme}, key=len, reverse=True):
        text = re.sub(re.escape(part), "****", text, flags=re.IGNORECASE)
    return text


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What apprise warns of meanwhile, kept from all other logs: they would show it as it is."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    logger, listener = logging.getLogger("apprise"), Listener(logging.WARNING)
    before = logger.propagate, logger.handlers[:]
    logger.propagate, logger.handlers = False, [listener]
    try:
        yield said
    finally:
        logger.propagate, logger.handlers = before
