"""What the command `gradsplinter` starts: outside of the package, whose import takes seconds in which Ctrl-C may come."""

from __future__ import annotations

import sys

INTERRUPTED = 130


def main() -> None:
    """Entry point of `gradsplinter`."""
    try:
        from gradsplinter.cli import main as run  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was begun\n")
        raise SystemExit(INTERRUPTED) from None
    run()
