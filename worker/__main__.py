"""Runs the commands: `python -m worker`, installed as `health-worker`."""

from __future__ import annotations

import gc
import os
import signal


def main() -> None:
    """Run a command, and be deaf to no signal while everything is imported."""
    # To process 1 of a container the kernel delivers no signal that has no handler.
    signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    gc.disable()  # modules stay: looking for garbage among them would find next to none
    from worker import cli  # noqa: PLC0415 -- takes long, see above

    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
