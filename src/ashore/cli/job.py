"""`ashore job`: background responses, batches and deferred requests in the queue of the server."""

from __future__ import annotations

from ashore.bootstrap import open_state
from ashore.cli.calls import noun_of, table
from ashore.jobs import webhook_secret
from ashore.jobs.calls import CALLS, Cancelled, JobList
from ashore.settings import read_settings


def _show_list(found: JobList) -> None:
    columns = ("id", "kind", "state", "tenant", "owner", "attempts", "created", "children")
    print(table(found.items, columns) if found.items else "no jobs")


def _show_cancelled(done: Cancelled) -> None:
    if not done.changed:
        print(f"{done.job.id} has already ended: {done.job.state}")
    else:
        print(f"{done.job.id}: {'cancelling' if done.job.cancelling else done.job.state}")


app = noun_of(
    "job",
    "List, show and cancel background work: responses, batches, deferred requests.",
    CALLS,
    {"list": _show_list, "cancel": _show_cancelled},
)


@app.command(name="webhook-secret")
def show_webhook_secret(*, tenant: str = "default") -> None:
    """Print the secret that signs a tenant's webhooks. The receiver verifies their signatures with it.

    Args:
        tenant: Name of the tenant.
    """
    state = open_state(read_settings())
    try:
        with state.write() as connection:
            print(webhook_secret(connection, tenant))
    finally:
        state.close()
