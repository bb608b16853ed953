"""The entry point of a server's process: its words, its log, and the error that ends it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

from ashore.core.errors import AshoreError


def run_process(
    parser: argparse.ArgumentParser, words: Sequence[str] | None, work: Callable[[argparse.Namespace], int]
) -> int:
    """Do the work of a process with its words, and return its exit code. Our errors go to stderr, one line each."""
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    given = parser.parse_args(words)
    logging.basicConfig(
        level=given.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        return work(given)
    except AshoreError as fault:
        sys.stderr.write(f"{fault.code}: {fault.message}\n" + (f"  {fault.hint}\n" if fault.hint else ""))
        return fault.exit_code
