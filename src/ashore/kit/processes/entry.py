"""The entry point of a server's process: its words, its log, and the error that ends it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from ashore.core.errors import AshoreError
from ashore.core.visible import on_a_screen


class OneLine(logging.Formatter):
    """Writes each message on one line with nothing hidden: names that strangers typed are in some, and none may begin a
    line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return on_a_screen(super().formatMessage(record)).replace("\n", "\\n")


def log_to_stderr(level: str) -> None:
    """Have the log of this process go to stderr. The requests that it sends are not in it, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)


def run_process(
    parser: argparse.ArgumentParser, words: Sequence[str] | None, work: Callable[[argparse.Namespace], int]
) -> int:
    """Do the work of a process with its words, and return its exit code. Our errors go to stderr, one line each."""
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    given = parser.parse_args(words)
    log_to_stderr(given.log_level.upper())
    try:
        return work(given)
    except AshoreError as fault:
        sys.stderr.write(f"{fault.code}: {fault.message}\n" + (f"  {fault.hint}\n" if fault.hint else ""))
        return fault.exit_code
