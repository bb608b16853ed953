"""`ashore job`: operations, background responses, batches and deferred requests in the queue of the server."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import Annotated, Final

import msgspec
from cyclopts import Parameter

from ashore.cli.bootstrap import open_state
from ashore.cli.calls import Errand, noun_of, show, table
from ashore.control.jobs import webhook_secret
from ashore.control.jobs.calls import CALLS, Cancelled
from ashore.control.jobs.standing import JobOut
from ashore.kit.call import Items
from ashore.kit.settings import read_settings

LOOK_EVERY_S: Final = 1.0
EXIT_FAILED: Final = 1
Follow = Annotated[bool, Parameter(negative=(), help="Wait until it ends, and show its progress and its log.")]


def _show_list(found: Items[JobOut]) -> None:
    columns = ("id", "kind", "state", "tenant", "owner", "created", "progress", "children")
    print(table(found.items, columns) if found.items else "no jobs")


def _show_cancelled(done: Cancelled) -> None:
    if not done.changed:
        print(f"{done.job.id} has already ended: {done.job.state}")
    else:
        print(f"{done.job.id}: {'cancelling' if done.job.cancelling else done.job.state}")


def _show_job(job: JobOut) -> None:
    show(msgspec.structs.replace(job, operation=None))
    for line in job.operation.log if job.operation is not None else ():
        print(f"  | {line}")


def _show_new(job: JobOut) -> None:
    print(f"{job.id}: {job.kind} is {job.state}; follow it: ashore job show {job.id} --follow")


def _until_ended(errand: Errand, asked: msgspec.Struct, *, follow: Follow = False) -> None:
    """Show a job; with --follow, until it ends."""
    job = errand.ask(asked)
    said, log = "", list[str]()
    while follow and job.finished is None:
        line = f"{job.state}: {job.progress}" if job.progress else job.state
        fresh = _new_lines(log, job)
        if line != said or fresh:
            print("\n".join([*(f"  | {one}" for one in fresh), line]), file=sys.stderr, flush=True)
        said, log = line, job.operation.log if job.operation is not None else []
        time.sleep(LOOK_EVERY_S)
        job = errand.ask(asked)
    errand.tell(job)
    if follow and job.state != "succeeded":
        raise SystemExit(EXIT_FAILED)


def _new_lines(before: list[str], job: JobOut) -> list[str]:
    """Return the lines of a log that are new since the last look."""
    now = job.operation.log if job.operation is not None else []
    at = next((at for at in range(len(before) + 1) if before[at:] == now[: len(before) - at]), len(before))
    return now[len(before) - at :]


app = noun_of(
    "job",
    "List, show and cancel background work: operations, responses, batches, deferred requests.",
    CALLS,
    {"list": _show_list, "show": _show_job, "cancel": _show_cancelled, "again": _show_new},
    {"show": _until_ended},
)


@app.command(name="webhook-secret")
def show_webhook_secret(*, tenant: str = "default") -> None:
    """Print the secret that signs a tenant's webhooks. The receiver verifies their signatures with it.

    Args:
        tenant: Name of the tenant.
    """
    with closing(open_state(read_settings())) as state, state.write() as connection:
        print(webhook_secret(connection, tenant))
