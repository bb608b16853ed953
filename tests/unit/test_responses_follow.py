"""A background response as a stream ends once its reader may not read it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ashore.core.errors import Unauthenticated
from ashore.core.ids import TenantId
from ashore.data.authority import PolicyAuthority, Principal
from ashore.data.http.openai.responses_follow import follow

ANN = Principal(id="ann", tenant=TenantId("acme"), kind="key", key_id="ash_1")


def followed(current: Callable[[Principal], Principal]) -> bytes:
    """Return what a reader gets of a response that never ends."""
    job = SimpleNamespace(job_id="resp_1", tenant="acme", account="ann", models="*", final=False)
    sent: list[bytes] = []

    async def call(work: Callable[[], Any]) -> Any:
        return work()

    async def end_stream(rest: bytes) -> None:
        sent.append(rest)

    async def caught_up() -> None:
        pass

    desk = SimpleNamespace(
        call=call,
        events=SimpleNamespace(after=lambda *_, **__: []),
        queue=SimpleNamespace(get=lambda *_, **__: job),
    )
    hold = SimpleNamespace(grow=lambda _: None, shrink_to=lambda _: None)
    exchange = SimpleNamespace(
        watch=lambda: None, start_stream=lambda _: None, put=sent.append, hold=hold, caught_up=caught_up,
        end_stream=end_stream, error_code="",
    )  # fmt: skip
    app = SimpleNamespace(
        desk=desk, authority=PolicyAuthority(), serving=SimpleNamespace(reception=SimpleNamespace(current=current))
    )
    work = follow(app, exchange, ANN, job, (b"first", b"second"), None, -1)  # type: ignore[arg-type]
    asyncio.run(asyncio.wait_for(work, 60))
    return sent[-1]


def gone(principal: Principal) -> Principal:
    raise Unauthenticated("the key was revoked")


def test_a_reader_whose_key_was_revoked_reads_no_further() -> None:
    assert b"the key was revoked" in followed(gone)


def test_a_reader_who_moved_to_another_tenant_reads_no_further() -> None:
    assert b"there is no" in followed(lambda principal: replace(principal, tenant=TenantId("other")))
