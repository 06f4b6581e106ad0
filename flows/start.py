"""Where the command `imsr` begins: nothing is imported before somebody who gives up at once is listened to."""

import signal
import sys


def main() -> None:
    """Run a command (`flows.cli.main`); Ctrl-C while it is still being loaded ends it as it does later."""
    try:
        from flows.cli import main as run
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    run()
