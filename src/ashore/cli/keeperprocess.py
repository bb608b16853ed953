"""A scheduled process beside the server, started by a supervisor with a launch file.

It runs at the lowest CPU and disk priority, and ends at once on a signal.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from ashore.errors import AshoreError
from ashore.processes import beat_in_thread, become_idle, hold_hangups, take_pulse, wait_for_hangup

PATIENCE_S: Final = 60
"""Silence of a process that does not hang; since it works with what the others leave, it promises less."""


def run_keeper(
    module: str, what: str, keep: Callable[[Path, Callable[[float], bool]], None], words: Sequence[str] | None
) -> int:
    """Run one. Returns the exit code; errors of ours go to stderr in one line each.

    Args:
        module: Its name, for its help.
        what: What it does, for its help.
        keep: Does it until the process ends, by the launch file. What it gets besides waits so many seconds at most,
            and returns whether the launch file was written anew (SIGHUP) since it was last asked.
        words: Arguments; default: those of the process.
    """
    parser = argparse.ArgumentParser(prog=module, description=what)
    parser.add_argument("--launch", type=Path, required=True, help="file that the supervisor wrote")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    given = parser.parse_args(words)
    logging.basicConfig(
        level=given.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    hold_hangups()
    become_idle()
    beat_in_thread(take_pulse(), lambda: PATIENCE_S)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        keep(given.launch, wait_for_hangup)
    except AshoreError as fault:
        sys.stderr.write(f"{fault.code}: {fault.message}\n" + (f"  {fault.hint}\n" if fault.hint else ""))
        return fault.exit_code
    return 0


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)
