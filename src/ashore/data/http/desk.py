"""Submits jobs from the routes."""

from __future__ import annotations

import msgspec

from ashore.core.errors import AshoreError, DeadlineExceeded, HostDied, InvalidRequest, NotReady, Overloaded
from ashore.data.authority import Principal
from ashore.data.http.exchange import Exchange
from ashore.data.http.openai.common import priority_of
from ashore.data.jobs import Call, JobDesk, NewJob, new_id
from ashore.kit.call import Aside
from ashore.kit.decode import UNDECODABLE, check_parts
from ashore.kit.egress import check_url, parse_allow

CALL_KIND = "call"
RESPONSE_KIND = "response"
MAX_KEY_CHARS = 255
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def new_call(
    desk: JobDesk,
    exchange: Exchange,
    principal: Principal,
    *,
    kind: str,
    path: str,
    model: str,
    body: bytes,
    job_id: str = "",
    deadline_s: float | None = None,
) -> NewJob:
    """Return the job that runs one request later, for this principal.

    Args:
        deadline_s: Seconds from now after which its result is useless.

    Raises:
        InvalidRequest: the idempotency key is too long, or the priority is invalid.
        PermissionDenied: the webhook may not be called.
    """
    return NewJob(
        job_id=job_id or new_id("job_"),
        kind=kind,
        tenant=principal.tenant,
        principal=principal.acting_name,
        models=model,
        payload=msgspec.json.encode(Call(path=path, body=msgspec.Raw(body))),
        priority=priority_of(exchange),
        deadline_ms=None if deadline_s is None else desk.queue.now_ms() + int(deadline_s * 1000),
        max_attempts=desk.limits.max_attempts,
        ttl_ms=desk.limits.result_ttl_ms,
        idempotency_key=idempotency_key(exchange),
        webhook=webhook_of(desk, exchange),
    )


def idempotency_key(exchange: Exchange) -> str:
    """Return the value of `idempotency-key`."""
    key = exchange.headers.get(b"idempotency-key", b"").decode("latin-1")
    if len(key) > MAX_KEY_CHARS:
        raise InvalidRequest(f"the idempotency-key header is longer than {MAX_KEY_CHARS} characters")
    return key


def webhook_of(desk: JobDesk, exchange: Exchange) -> str:
    """Return the value of `x-ashore-webhook`, if it is allowed."""
    url = exchange.headers.get(b"x-ashore-webhook", b"").decode("latin-1")
    if url:
        check_url(url, parse_allow(desk.egress.allow))
    return url


def may_defer(exchange: Exchange, fault: AshoreError) -> bool:
    """Return whether a request that was not served becomes a job: its client allows it, and a later try may succeed.

    It found no room within its deadline, or its host was away or crashed.
    """
    return (
        exchange.headers.get(b"x-ashore-defer") == b"allow"
        and isinstance(fault, Overloaded | DeadlineExceeded | NotReady | HostDied)
        and not exchange.status
        and not exchange.job_id
    )


async def defer(desk: JobDesk, exchange: Exchange, principal: Principal, body: bytes, aside: Aside) -> None:
    """Store the request as a job, and answer 202 with the address of its result. `aside`: reads the body.

    Raises:
        AshoreError: it is not a JSON object, or cannot be stored.
    """
    is_response = exchange.route == "/v1/responses"

    def whole() -> tuple[str, bytes]:
        check_parts(body)
        try:
            fields = _fields.decode(body)
        except UNDECODABLE as fault:
            raise InvalidRequest("the body is not a JSON object") from fault
        kept = {name: value for name, value in fields.items() if name not in ("stream", "stream_options")}
        model: object = msgspec.json.decode(fields.get("model", b'""'))
        return str(model), msgspec.json.encode(kept)

    model, kept_body = await aside(principal, whole)
    job = new_call(
        desk,
        exchange,
        principal,
        kind=RESPONSE_KIND if is_response else CALL_KIND,
        path=exchange.route,
        model=model,
        body=kept_body,
        job_id=new_id("resp_") if is_response else "",
    )
    kept = await desk.submit(job)
    where = f"/v1/{'responses' if is_response else 'jobs'}/{kept.job_id}"
    answer = {"id": kept.job_id, "object": "job", "status": kept.state, "status_url": where}
    headers = [(b"content-type", b"application/json"), (b"location", where.encode()), (b"retry-after", b"1")]
    await exchange.respond(202, headers, msgspec.json.encode(answer))
