"""Access to stored files, batches, responses and jobs: each belongs to a principal, whichever key created it.

What belongs to another takes a right on `tenant/NAME/stored/OWNER`. A key that is narrowed to some models sees, of
both, only what those models can have made. Everything else is as if it did not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from ashore.access import STORED_SHOW, Authority, Principal
from ashore.api.http.exchange import Exchange
from ashore.api.http.openai.paging import page_of
from ashore.errors import NotFound
from ashore.jobs import ANY_MODEL, Job, StoredFile

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

ROWS_AT_ONCE = 500


class Stored(Protocol):
    """What is kept for somebody."""

    @property
    def tenant(self) -> str: ...

    @property
    def account(self) -> str: ...

    @property
    def models(self) -> str: ...


S = TypeVar("S", Job, StoredFile)


def may(authority: Authority, principal: Principal, action: str, thing: Stored) -> bool:
    """Return whether the principal may do `action`, `stored:show` or `stored:remove`, to a stored thing."""
    if not principal.scope.asks(thing.models):
        return False
    if thing.account == principal.id and thing.tenant == principal.tenant:
        return True
    resource = f"tenant/{thing.tenant}/stored/{thing.account}"
    return authority.decide(principal, action, resource).allowed


def models_of(principal: Principal) -> str:
    """Return what may be in something that this principal makes, as `NewJob.models` says it."""
    return " ".join(principal.scope.models) or ANY_MODEL


async def find_job(
    app: HttpApp, job_id: str, principal: Principal, *, kinds: Sequence[str] = (), action: str = STORED_SHOW
) -> Job:
    """Return a job on which the principal may do `action`.

    Raises:
        NotFound: there is none, or it is none of theirs: the answer is the same.
    """
    job = await app.desk.call(lambda: app.desk.queue.get(job_id, tenant=None, kinds=kinds))
    if not may(app.authority, principal, action, job):
        raise NotFound(f"there is no {job_id[:80]!r}", hint="it may have expired")
    return job


async def shown(
    app: HttpApp,
    principal: Principal,
    rows: Callable[[str | None, tuple[int, str] | None, int], list[S]],
    place: Callable[[S], tuple[int, str]],
    after: tuple[int, str] | None,
    limit: int,
) -> list[S]:
    """Return the first `limit` of the tenant's rows behind `after` that the principal may see.

    `rows` reads them, of one account or of all, behind a place: `(account, after, limit)`.
    """
    account = None if app.authority.holds(principal, STORED_SHOW) else principal.id
    found: list[S] = []
    at_once = max(limit, ROWS_AT_ONCE)
    while len(found) < limit:
        page = await app.desk.call(partial(rows, account, after, at_once))
        found += [row for row in page if may(app.authority, principal, STORED_SHOW, row)]
        if len(page) < at_once:
            break
        after = place(page[-1])
    return found[:limit]


async def page_of_jobs(
    app: HttpApp, exchange: Exchange, principal: Principal, *, kinds: Sequence[str] = ()
) -> tuple[list[Job], bool]:
    """Return the jobs that a list asks for, without the lines of batches, and whether there are more.

    Raises:
        InvalidRequest: the query is malformed.
        NotFound: there is no job of these kinds to go on from.
    """
    page = page_of(exchange, default=20, most=100)
    after = _place(await find_job(app, page.after, principal, kinds=kinds)) if page.after else None
    jobs = await shown(
        app,
        principal,
        lambda account, behind, limit: app.desk.queue.store.select(
            tenant=principal.tenant,
            account=account,
            kinds=kinds,
            parent_id="",
            limit=limit,
            after=behind,
            oldest_first=page.oldest_first,
        ),
        _place,
        after,
        page.limit + 1,
    )
    return jobs[: page.limit], len(jobs) > page.limit


def _place(job: Job) -> tuple[int, str]:
    return job.created_ms, job.job_id
