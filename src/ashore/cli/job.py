"""`ashore job`: what is in the queue of this home, seen and cancelled straight in the state."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, cast, get_args

import cyclopts
import msgspec

from ashore.bootstrap import open_state
from ashore.core import SystemClock
from ashore.errors import InvalidRequest, NotFound
from ashore.jobs import Job, JobQueue, JobState, SqlJobs, webhook_secret
from ashore.settings import read_settings

app = cyclopts.App(name="job", help="List, show and cancel jobs: background responses, batches, put-off requests.")

Json = Annotated[bool, cyclopts.Parameter(name="--json", negative=())]
MOST_SHOWN = 1000


@app.command(name="list")
def list_jobs(*, state: str = "", tenant: str = "", limit: int = 20, json_: Json = False) -> int:
    """List jobs, the newest first; the lines of a batch stand behind `show`.

    Parameters
    ----------
    state
        Only those in this state: queued, running, succeeded, failed, dead, cancelled, expired.
    tenant
        Only those of this tenant.
    limit
        At most so many.
    json_
        Print JSON.
    """
    states = get_args(JobState)
    if state and state not in states:
        raise InvalidRequest(f"there is no state {state!r}", hint=", ".join(states))
    if not 1 <= limit <= MOST_SHOWN:
        raise InvalidRequest(f"--limit {limit}: expected 1 to {MOST_SHOWN}")
    with _queue() as queue:
        jobs = queue.store.select(
            limit=limit,
            tenant=tenant or None,
            states=(cast(JobState, state),) if state else (),
            parent_id="",
        )
    if json_:
        print(msgspec.json.encode({"items": [_facts(job) for job in jobs]}).decode())
        return 0
    if not jobs:
        print("no jobs")
        return 0
    print(f"{'id':<42} {'kind':<9} {'state':<10} {'tenant':<12} {'tries':>5}  {'created':<19}  done")
    for job in jobs:
        done = f"{job.children_succeeded + job.children_failed}/{job.children_total}" if job.children_total else ""
        print(
            f"{job.job_id:<42} {job.kind:<9} {job.state:<10} {job.tenant:<12} {job.attempts:>5}  "
            f"{_moment(job.created_ms):<19}  {done}"
        )
    return 0


@app.command
def show(job_id: str, /, *, json_: Json = False) -> int:
    """Show one job. What was asked and answered is not shown: it is its tenant's.

    Parameters
    ----------
    job_id
        As `ashore job list` prints it.
    json_
        Print JSON.
    """
    with _queue() as queue:
        job = queue.get(job_id, tenant=None)
    facts = _facts(job)
    if json_:
        print(msgspec.json.encode(facts).decode())
        return 0
    for name, value in facts.items():
        if value not in (None, "", {}):
            print(f"{name:<14} {value}")
    return 0


@app.command
def cancel(job_id: str, /, *, json_: Json = False) -> int:
    """Cancel one job; a batch keeps what is done. One that has ended stays as it is.

    Parameters
    ----------
    job_id
        As `ashore job list` prints it.
    json_
        Print JSON.
    """
    with _queue() as queue:
        changed = queue.cancel(job_id)
        job = changed or queue.get(job_id, tenant=None)
    if json_:
        print(msgspec.json.encode({**_facts(job), "changed": changed is not None}).decode())
    elif changed is None:
        print(f"{job_id} had ended already: {job.state}")
    else:
        print(f"{job_id}: {'is being cancelled' if not job.final else job.state}")
    return 0


@app.command(name="webhook-secret")
def show_webhook_secret(*, tenant: str = "default") -> int:
    """Print the secret with which the webhooks of a tenant are signed; its receiver needs it.

    Parameters
    ----------
    tenant
        Whose.
    """
    state = open_state(read_settings())
    try:
        with state.write() as connection:
            print(webhook_secret(connection, tenant))
    finally:
        state.close()
    return 0


@contextmanager
def _queue() -> Iterator[JobQueue]:
    settings = read_settings()
    if not settings.state_url and not settings.home.state_db.exists():
        raise NotFound(f"{settings.home.root} has no state yet", hint="`ashore up` makes it")
    state = open_state(settings)
    try:
        yield JobQueue(SqlJobs(state), SystemClock())
    finally:
        state.close()


def _facts(job: Job) -> dict[str, Any]:
    return {
        "id": job.job_id,
        "kind": job.kind,
        "state": job.state,
        "tenant": job.tenant,
        "principal": job.principal.partition("#")[0],
        "priority": job.priority,
        "attempts": job.attempts,
        "max_attempts": job.max_attempts,
        "takeovers": job.takeovers,
        "created": _moment(job.created_ms),
        "started": _moment(job.started_ms),
        "finished": _moment(job.finished_ms),
        "expires": _moment(job.expires_ms),
        "deadline": _moment(job.deadline_ms),
        "cancelling": job.cancel_requested and not job.final,
        "progress": msgspec.json.decode(job.progress) if job.progress else None,
        "children": {
            "total": job.children_total,
            "succeeded": job.children_succeeded,
            "failed": job.children_failed,
        }
        if job.children_total
        else None,
        "error_code": job.error_code,
        "error_message": job.error_message,
        "webhook": job.webhook,
    }


def _moment(ms: int | None) -> str | None:
    if ms is None:
        return None
    return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
