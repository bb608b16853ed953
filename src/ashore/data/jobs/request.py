"""The handler that sends a request to the API on behalf of its principal.

It speaks HTTP to the API of this machine with an internal token. The API knows from that token that the request is
background work: it has the lowest priority, and a line of a batch yields its slot to interactive requests.
"""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import msgspec

from ashore.core.errors import AshoreError, UnknownRoute
from ashore.core.wholenumber import whole_number
from ashore.data.jobs.model import REFUSED, Again, CutOff, Done, Failed, Job, Lease, Outcome
from ashore.kit.decode import UNDECODABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

NOT_ITS_FAULT: Final = frozenset(("preempted", "overloaded", "draining", "not_ready"))
"""Codes of the API after which an attempt does not count: there was no room, or nobody was there."""
ITS_OWN: Final = frozenset(("engine_failed", "kv_cache_exhausted", "deadline_exceeded"))
"""Codes after which an attempt counts: an engine ran the request, and it was too much for it or too slow."""
TRIED_AGAIN: Final = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 507))
AROUND_IT: Final = frozenset((429, 502, 503, 504, 507))
"""Those of them that tell of what lies around the request: it died, is full, or cannot be reached."""
DEATHS: Final = frozenset(("host_died", "kills_hosts", "worker_died"))
"""Those after which a process died that had the request."""
NO_ROOM_PAUSE_S: Final = 0.25
AWAY_PAUSE_S: Final = 0.5
MOST_BUDGET_PAUSE_S: Final = 300.0
"""A job whose budget is used up looks again so soon: the budget may have been raised."""
CALL_TIMEOUT_S: Final = 3600.0
CONNECT_TIMEOUT_S: Final = 5.0
ASK_S: Final = 30.0
"""Longest wait for the answer whether an operation may start."""

Urgency = Literal["background", "batch"]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a job that is one request."""

    path: str
    body: msgspec.Raw
    urgency: Urgency = "background"
    custom_id: str = ""
    """Of a line of a batch."""
    request_id: str = ""
    extra: msgspec.Raw = msgspec.Raw(b"null")
    """What the one who submitted it wants to remember."""


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a single-request job."""

    status: int
    request_id: str
    body: msgspec.Raw


class _Error(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _Error | None = None


_call = msgspec.json.Decoder(Call)
_error = msgspec.json.Decoder(_ErrorBody)


class CallHandler:
    """A `Handler` for single-request jobs. `read_token` is called each time: a new API has a new token."""

    def __init__(self, http: httpx.AsyncClient, read_token: Callable[[], str]) -> None:
        self._http = http
        self._read_token = read_token

    async def run(self, lease: Lease) -> Outcome:
        import httpx

        job, call = lease.job, _call.decode(lease.payload)
        request_id = f"{job.job_id}.{lease.number}"
        headers = {
            "content-type": "application/json",
            "x-request-id": request_id,
            "x-ashore-on-behalf-of": _behalf(job),
            "x-ashore-urgency": call.urgency,
            "x-ashore-job": job.job_id,
            "x-ashore-attempt": str(lease.number),
            "x-ashore-priority": str(job.priority),
            "x-ashore-deadline-ms": str(int(CALL_TIMEOUT_S * 1000)),
        }
        try:
            headers["authorization"] = f"Bearer {self._read_token()}"
            answer = await self._http.post(call.path, content=bytes(call.body), headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout, OSError) as fault:
            return _later("not_ready", f"the API is not reachable: {fault}")
        except AshoreError as fault:
            return _later(fault.code, fault.message)
        except httpx.LocalProtocolError as fault:
            return Again(code="not_sent", message=f"the job is not a valid HTTP request: {fault}")
        except httpx.HTTPError as fault:  # one of our processes died or hung during the request
            what = f"the connection to the API was lost: {type(fault).__name__}"
            return CutOff(code="cut_off", message=what, died=not isinstance(fault, httpx.TimeoutException))
        reset_s = whole_number(answer.headers.get("retry-after", "").encode())
        return outcome_of(answer.status_code, answer.content, request_id, reset_s=reset_s)


class AskWhetherAllowed:
    """Asks the API of this machine whether the submitter of an operation still may run it."""

    def __init__(self, doors: Sequence[httpx.AsyncClient], read_token: Callable[[], str]) -> None:
        """`doors`: one for each API worker, tried in turn."""
        self._doors = cycle(doors)
        self._read_token = read_token

    async def __call__(self, lease: Lease) -> Outcome | None:
        """Return None if it may; otherwise the job's outcome, also if no worker can answer now."""
        import httpx

        job = lease.job
        if not job.tenant:  # the schedule queued it in the name of ashore itself, which has no rights to lose
            return None
        try:
            headers = {"authorization": f"Bearer {self._read_token()}", "x-ashore-on-behalf-of": _behalf(job)}
            path = f"/admin/v1/jobs/{quote(job.job_id, safe='')}/allowed"
            answer = await next(self._doors).get(path, headers=headers, timeout=ASK_S)
        except (httpx.HTTPError, OSError) as fault:
            return _later("not_ready", f"the API is not reachable: {fault}")
        except AshoreError as fault:
            return _later(fault.code, fault.message)
        if answer.status_code == 200:
            return None
        code, message = _words(answer.content)
        if answer.status_code == 403:
            return Failed(code=REFUSED, message=f"a right was taken away while the job waited: {message}")
        if answer.status_code in (400, 404) and code not in (
            "",
            UnknownRoute.code,
        ):  # the submitter belongs to another tenant
            return Failed(code=REFUSED, message=f"nobody may do any more what the job does: {message}")
        return _later(code or f"http_{answer.status_code}", message)


def _later(code: str, message: str) -> Again:
    return Again(after_s=AWAY_PAUSE_S, counted=False, code=code, message=message)


def _behalf(job: Job) -> str:
    """Return the header that names the principal of a job."""
    return f"{quote(job.principal, safe='')}/{quote(job.tenant, safe='')}"


def outcome_of(status: int, body: bytes, request_id: str, *, reset_s: int | None = None) -> Outcome:
    """Return the outcome of a job for an answer of the API.

    Only faults of the request itself count as attempts. If there is no capacity or no server, the job waits
    indefinitely. Failures of what it ran on are counted separately (`rules.MOST_DEATHS`, `rules.MOST_TAKEOVERS`).

    Args:
        status: Of the answer.
        body: Of the answer.
        request_id: Of this attempt.
        reset_s: The answer's `retry-after`.
    """
    code, message = _words(body)
    if code == "budget_exceeded" and reset_s is not None:  # not its fault, and no use before the window ends
        return Again(after_s=min(float(reset_s), MOST_BUDGET_PAUSE_S), counted=False, code=code, message=message)
    if status == 401:
        return _later(code, "the token of the API has changed")
    if code in DEATHS:
        return CutOff(code=code, message=message, died=True)
    if status in TRIED_AGAIN and code in NOT_ITS_FAULT:
        return Again(after_s=NO_ROOM_PAUSE_S, counted=False, code=code, message=message)
    if status in AROUND_IT and code not in ITS_OWN and code != "budget_exceeded":
        return CutOff(code=code or f"http_{status}", message=message)
    if status in TRIED_AGAIN and code != "budget_exceeded":
        return Again(code=code or f"http_{status}", message=message)
    if not _is_json(body):
        return Failed(code="not_json", message=f"the API answered {status} with a body that is not JSON")
    reply = msgspec.json.encode(Reply(status=status, request_id=request_id, body=msgspec.Raw(body)))
    if status >= 400:
        return Failed(code=code or f"http_{status}", message=message, result=reply)
    return Done(result=reply)


def _words(body: bytes) -> tuple[str, str]:
    try:
        error = _error.decode(body).error
    except UNDECODABLE:
        return "", ""
    return ("", "") if error is None else (error.code, error.message)


def _is_json(body: bytes) -> bool:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except UNDECODABLE:
        return False
    return True
