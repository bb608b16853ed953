"""Entry point of the job worker: `python -m ashore.control.jobs.worker --launch FILE`.

Leases jobs from the state and runs them against the API of this machine. SIGTERM returns running jobs to the queue,
uncounted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.control.jobs.batch import LINE_KIND, BatchHandler
from ashore.control.jobs.operations.handler import OperationHandler
from ashore.control.jobs.runner import Lane, Runner
from ashore.control.jobs.webhook import WebhookHandler, webhook_secret
from ashore.core.clock import SystemClock
from ashore.core.errors import NotReady
from ashore.data.jobs import JobQueue, SqlConversations, SqlFiles, SqlJobs
from ashore.data.jobs.batchorder import KIND as BATCH_KIND
from ashore.data.jobs.launch import LOGINS, ApiAddress, JobsLaunch
from ashore.data.jobs.model import WEBHOOK_KIND, Lease, Outcome
from ashore.data.jobs.operations.model import BACKUP, HEAVY, LIGHT, PEOPLE, kind_of
from ashore.data.jobs.ports import Handler
from ashore.data.jobs.request import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S, AskWhetherAllowed, CallHandler
from ashore.kit.egress import parse_allow
from ashore.kit.processes import keep_beating, take_pulse
from ashore.kit.processes.entry import run_process
from ashore.kit.processes.launchfiles import read_launch
from ashore.kit.sealing import secrets_by_link
from ashore.kit.state import Database, open_state

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("ashore.jobs")

THREADS: Final = 8
"""For SQL; each statement is short, and SQLite's writers wait for one another anyway."""
BATCHES_AT_ONCE: Final = 2
WEBHOOKS_AT_ONCE: Final = 4
DIRECTORIES_AT_ONCE: Final = 2
PATIENCE_S: Final = 60
"""A loop that turns no more for so long hangs, and the supervisor starts this worker again."""


async def work(launch: JobsLaunch) -> None:
    """Run jobs until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    beating = loop.create_task(keep_beating(take_pulse(), PATIENCE_S), name="pulse")
    loop.set_default_executor(ThreadPoolExecutor(THREADS, thread_name_prefix="sql"))
    clock = SystemClock()
    database = open_state(
        launch.state_url,
        default=Path(launch.state_path),
        snapshots=Path(launch.snapshots),
        clock=clock,
        say=log.info,
        secrets=secrets_by_link(Path(launch.secrets_key)),
        create=False,
    )
    queue = JobQueue(SqlJobs(database), clock, lease_s=launch.lease_s)
    files = SqlFiles(database)
    doors = [open_door(address) for address in launch.api]
    calls = [CallHandler(door, lambda: read_token(Path(launch.token_file))) for door in doors]
    call = calls[0] if len(calls) == 1 else _InTurn(calls)
    batch = BatchHandler(queue, files, result_ttl_ms=launch.jobs.result_ttl_ms, max_attempts=launch.jobs.max_attempts)
    webhook = WebhookHandler(
        allow=parse_allow(launch.egress.allow), secret_of=lambda tenant: _secret(database, tenant), clock=clock
    )
    operations = OperationHandler(
        queue,
        environment=launch.environment | _logins(),
        still_allowed=AskWhetherAllowed(doors, lambda: read_token(Path(launch.token_file))),
    )
    heavy, light, backup, people = (
        tuple(kind_of(name, launch.home) for name in names) for names in (HEAVY, LIGHT, BACKUP, PEOPLE)
    )
    handlers: dict[str, Handler] = {
        "call": call,
        "response": call,
        LINE_KIND: call,
        BATCH_KIND: batch,
        WEBHOOK_KIND: webhook,
        **dict.fromkeys((*heavy, *light, *backup, *people), operations),
    }
    runner = Runner(
        queue,
        handlers,
        lanes=(
            Lane(kinds=("call", "response"), slots=launch.jobs.concurrency),
            Lane(kinds=(LINE_KIND,), slots=launch.jobs.concurrency),
            Lane(kinds=(BATCH_KIND,), slots=BATCHES_AT_ONCE),
            Lane(kinds=(WEBHOOK_KIND,), slots=WEBHOOKS_AT_ONCE),
            Lane(kinds=heavy, slots=launch.jobs.operations, apart=True),
            Lane(kinds=light, slots=launch.jobs.transfers, apart=True),
            Lane(kinds=backup, slots=len(BACKUP), apart=True),
            Lane(kinds=people, slots=DIRECTORIES_AT_ONCE, apart=True),
        ),
        owner=launch.owner,
        since_ms=launch.since_ms,
        changes=database.changes,
        files=files,
        conversations=SqlConversations(database),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runner.stop)
    log.info("running jobs of %s", database.place)
    try:
        await runner.run()
    finally:
        beating.cancel()
        for door in doors:
            await door.aclose()
        database.close()


class _InTurn:
    """Spreads calls over several API workers; the next attempt skips one that is down."""

    def __init__(self, calls: Sequence[CallHandler]) -> None:
        self._calls = tuple(calls)
        self._next = 0

    async def run(self, lease: Lease) -> Outcome:
        self._next = (self._next + 1) % len(self._calls)
        return await self._calls[self._next].run(lease)


def open_door(address: ApiAddress) -> httpx.AsyncClient:
    """Return a client of one API worker. It follows no redirects and uses no proxy."""
    import httpx

    timeout = httpx.Timeout(CALL_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    transport = httpx.AsyncHTTPTransport(uds=address.uds or None, trust_env=False)
    host = f"[{address.host}]" if ":" in address.host else address.host or "localhost"
    base = f"http://{host}:{address.port}" if address.port else f"http://{host}"
    return httpx.AsyncClient(base_url=base, transport=transport, timeout=timeout, trust_env=False)


def read_token(path: Path) -> str:
    """Return the internal token.

    Raises:
        NotReady: the file is missing.
    """
    try:
        return path.read_text().strip()
    except OSError as fault:
        raise NotReady(f"{path}: {fault.strerror}") from fault


def _logins() -> dict[str, str]:
    """Return the cloud and hub credentials that the supervisor passed, for operations that pull."""
    return {name: value for name, value in os.environ.items() if name.startswith(LOGINS)}


def _secret(database: Database, tenant: str) -> str:
    with database.write() as connection:
        return webhook_secret(connection, tenant)


def main(words: Sequence[str] | None = None) -> int:
    """Run the worker and return the exit code."""
    parser = argparse.ArgumentParser(prog="ashore.control.jobs.worker", description="Runs the jobs of one home.")
    parser.add_argument("--launch", type=Path, required=True, help="file written by the supervisor")
    return run_process(parser, words, _run)


def _run(given: argparse.Namespace) -> int:
    asyncio.run(work(read_launch(given.launch, JobsLaunch)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
