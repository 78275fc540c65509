"""The demo's command: how long it runs, and how Ctrl-C ends it."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def interrupt(_: int, __: FrameType | None) -> None:
    """Begin to take everything down; a second Ctrl-C must not cut that short."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Run the demo; Ctrl-C ends it and everything that it started."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from demo.story import run  # noqa: PLC0415 -- a Ctrl-C during the imports is no traceback
    from testbed.programs import ProgramError  # noqa: PLC0415 -- during this one neither

    parser = argparse.ArgumentParser(prog="demo", description=run.__doc__)
    parser.add_argument("--seconds", type=float, default=0, help="end by itself (0: never)")
    seconds = parser.parse_args().seconds
    for number in SIGNALS:
        signal.signal(number, interrupt)
    try:
        run(seconds)
    except KeyboardInterrupt:
        return
    except ProgramError as fault:
        print(f"demo: {fault}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
