"""Access to stored files, batches, responses and jobs: each belongs to a principal, whichever key created it.

Another principal's objects need a right on `tenant/NAME/stored/OWNER`. A key restricted to some models sees only what
those models can have produced. Everything else appears not to exist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from ashore.core.errors import NotFound
from ashore.core.wanted import check_wanted
from ashore.data.authority import STORED_SHOW, Authority, Principal
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.paging import page_of
from ashore.data.jobs import ANY_MODEL, Job, StoredFile
from ashore.kit.call import SETTLE_S, Actor

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

ROWS_AT_ONCE: Final = 500


class Stored(Protocol):
    """A stored object of a principal."""

    @property
    def tenant(self) -> str: ...

    @property
    def account(self) -> str: ...

    @property
    def models(self) -> str: ...


S = TypeVar("S", Job, StoredFile)
T = TypeVar("T")


def may(authority: Authority, principal: Principal, action: str, thing: Stored) -> bool:
    """Return whether the principal may do `action`, `stored:show` or `stored:remove`, on a stored object."""
    if not principal.scope.asks(thing.models):
        return False
    if thing.account == principal.id and thing.tenant == principal.tenant:
        return True
    resource = f"tenant/{thing.tenant}/stored/{thing.account}"
    return authority.decide(principal, action, resource).allowed


def models_of(principal: Principal) -> str:
    """Return the models that an object of this principal may involve, as in `NewJob.models`."""
    return " ".join(principal.scope.models) or ANY_MODEL


async def read_out(app: HttpApp, exchange: Exchange, principal: Principal, num_bytes: int, work: Callable[[], T]) -> T:
    """Run `work`, which reads and decodes so many bytes of the state, and return its result.

    The bytes count with the body of the request until it ends. `work` runs on a thread, in the queue of the principal's
    prompts: stored data is as large as received data, and costs as much.

    Raises:
        Overloaded: the bodies and stored things that this worker holds leave no room for them.
        DeadlineExceeded: its turn did not come in time.
    """
    exchange.hold.grow(min(num_bytes, app.limits.max_body_bytes))
    return await app.serving.read_aside(principal, work)


async def note_use(
    app: HttpApp, exchange: Exchange | None, principal: Principal, action: str, thing: Stored, **detail: str
) -> None:
    """Record the use of another's stored object. The record is on disk before anything of it is shown or changed.
    Without an exchange nothing is shown or changed, and nothing is recorded.

    Raises:
        AuditUnavailable: it cannot be recorded.
    """
    if exchange is None or (thing.tenant, thing.account) == (principal.tenant, principal.id):
        return
    app.recorder.check_acts()
    actor = Actor(principal=principal, origin=exchange.origin, request_id=exchange.request_id)
    actor.record(app.recorder, action, f"tenant/{thing.tenant}/stored/{thing.account}", detail=detail)
    await asyncio.to_thread(app.recorder.settle, SETTLE_S)


async def find_job(
    app: HttpApp,
    exchange: Exchange | None,
    job_id: str,
    principal: Principal,
    *,
    kinds: Sequence[str] = (),
    action: str = STORED_SHOW,
) -> Job:
    """Return a job on which the principal may do `action`. `exchange`: as in `note_use`.

    Raises:
        NotFound: there is none, or it is not theirs: the answer is the same.
        AuditUnavailable: it is another's, and nothing can be recorded.
    """
    job = await app.desk.call(lambda: app.desk.queue.get(job_id, tenant=None, kinds=kinds))
    if not may(app.authority, principal, action, job):
        raise NotFound(f"there is no {job_id[:80]!r}", hint="it may have expired")
    await note_use(app, exchange, principal, action, job, job=job.job_id)
    return job


async def shown(
    app: HttpApp,
    principal: Principal,
    rows: Callable[[str | None, tuple[int, str] | None, int], list[S]],
    place: Callable[[S], tuple[int, str]],
    after: tuple[int, str] | None,
    limit: int,
    write: Callable[[list[S], bool], bytes],
) -> bytes:
    """Return the result of `write` on the first `limit` rows of the tenant behind `after` that the principal may see,
    and on whether there are more. All of it runs as in `read_out`.

    `rows` reads them, of one account or of all, behind a place: `(account, after, limit)`.
    """
    account = None if app.authority.holds(principal, STORED_SHOW) else principal.id

    def work() -> bytes:
        found: list[S] = []
        behind = after
        while len(found) <= limit:
            check_wanted()
            page = rows(account, behind, ROWS_AT_ONCE)
            found += [row for row in page if may(app.authority, principal, STORED_SHOW, row)]
            if len(page) < ROWS_AT_ONCE:
                break
            behind = place(page[-1])
        return write(found[:limit], len(found) > limit)

    return await app.serving.read_aside(principal, work)


async def page_of_jobs(
    app: HttpApp,
    exchange: Exchange,
    principal: Principal,
    write: Callable[[list[Job], bool], bytes],
    *,
    kinds: Sequence[str] = (),
) -> bytes:
    """Return the result of `write` on the requested page of jobs, without the lines of batches, and on whether there
    are more.

    Raises:
        InvalidRequest: the query is malformed.
        NotFound: `after` is not a job of these kinds.
    """
    page = page_of(exchange, default=20, most=100)
    after = _place(await find_job(app, None, page.after, principal, kinds=kinds)) if page.after else None
    return await shown(
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
        page.limit,
        write,
    )


def _place(job: Job) -> tuple[int, str]:
    return job.created_ms, job.job_id
