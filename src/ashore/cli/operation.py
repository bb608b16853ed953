"""Entry point of the process that does one operation: `python -m ashore.cli.operation`, started by the job worker.

It reads the request from standard input and runs at the lowest CPU and disk priority. It logs to its output and writes
progress to the pipe of `progress.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from ashore.cli.bootstrap.operations import find_operation
from ashore.cli.calls import Server
from ashore.cli.main import report
from ashore.cli.progress import tell, tell_error
from ashore.core.errors import AshoreError
from ashore.data.jobs.operations.model import RESULT

CONFIG: Final = "ASHORE_CHILD_CONFIG"
"""Variable with the ashore.toml of the server."""
OOM_SCORE: Final = 800
"""Of 1,000: where memory runs out, the system ends this before it ends a server."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What the job worker says."""

    name: str
    asked: msgspec.Raw
    principal: str
    """As `Principal.acting_name` said it."""
    account: str
    tenant: str


def do(order: Order) -> int:
    """Do one operation, and return its exit code.

    Raises:
        AshoreError: it failed.
    """
    from ashore.cli.operations import run
    from ashore.cli.recorded import acting_for
    from ashore.cli.target import on_behalf_of

    operation = find_operation(order.name)
    asked = msgspec.json.decode(order.asked, type=operation.takes)
    config = os.environ.get(CONFIG) if operation.configured else None
    with acting_for(order.account), on_behalf_of(order.principal, order.tenant):
        shown = run(operation, asked, Server(), config=Path(config) if config else None)
    for line in shown.lines:
        print(line)
    tell(stage=RESULT, done=1, total=1, says=shown.says or "".join(shown.lines[:1]))
    return shown.code


def _told(work: Callable[[], int]) -> int:
    """Run a function, also sending its error to the job worker."""
    from ashore.cli.systemerrors import system_errors

    try:
        with system_errors():
            return work()
    except AshoreError as fault:
        tell_error(fault)
        raise


def main() -> int:
    """Do what standard input says. Returns the exit code; errors go to stderr as those of a command do."""
    from ashore.kit.processes.priority import become_idle

    become_idle()
    with suppress(OSError):
        os.nice(19)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    return report(lambda: _told(lambda: do(order)))


if __name__ == "__main__":
    raise SystemExit(main())
