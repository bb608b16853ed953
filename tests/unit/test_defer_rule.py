"""Which requests become jobs instead of errors."""

from __future__ import annotations

import pytest
from direct import Direct

from ashore.core.errors import (
    AshoreError,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    HostDied,
    InvalidRequest,
    NotReady,
    Overloaded,
    PermissionDenied,
)
from ashore.data.http.desk import may_defer
from ashore.data.http.exchange import Exchange


async def _nothing(*_: object) -> object:
    raise AssertionError("nothing is read or sent")


def exchange(defer: str = "allow") -> Exchange:
    headers = [(b"x-ashore-defer", defer.encode())] if defer else []
    scope = {"method": "POST", "path": "/v1/chat/completions", "headers": headers, "ashore.direct": Direct()}
    return Exchange(scope, _nothing, _nothing)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Overloaded, DeadlineExceeded, NotReady, HostDied])
def test_what_a_later_try_mends_may_be_put_off(kind: type[AshoreError]) -> None:
    assert may_defer(exchange(), kind("no"))


@pytest.mark.parametrize("kind", [InvalidRequest, PermissionDenied, EngineFailed, Draining])
def test_what_is_wrong_stays_an_error(kind: type[AshoreError]) -> None:
    assert not may_defer(exchange(), kind("no"))


@pytest.mark.parametrize("said", ["", "no", "ALLOW"])
def test_nobody_is_put_off_who_did_not_allow_it(said: str) -> None:
    assert not may_defer(exchange(said), Overloaded("no"))


def test_an_answer_that_has_begun_and_a_job_are_not_put_off() -> None:
    begun, job = exchange(), exchange()
    begun.status, job.job_id = 200, "job_1"
    assert not may_defer(begun, HostDied("no")) and not may_defer(job, Overloaded("no"))
