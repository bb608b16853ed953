"""`/v1/responses`: answer at once, streamed or in the background; store responses and return them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.access import INFER, STORED_REMOVE, STORED_SHOW, Principal
from ashore.api.http.desk import RESPONSE_KIND, new_call
from ashore.api.http.exchange import Exchange
from ashore.api.http.openai.common import deadline_of
from ashore.api.http.openai.conversations import append, find_conversation, items_in, kept_items, kept_output
from ashore.api.http.openai.dialects import RESPONSES_READER
from ashore.api.http.openai.paging import page_of
from ashore.api.http.openai.responses_follow import FIRST, EventKeeper, follow, keeper_of
from ashore.api.http.openai.responses_parse import item_of, items_of, listed, messages_of, to_generation
from ashore.api.http.openai.responses_render import ResponseWriter, response_out
from ashore.api.http.openai.responses_types import (
    InputTokens,
    Item,
    ItemList,
    ResponseDeleted,
    ResponseFault,
    ResponseOut,
    ResponsesRequest,
    Status,
)
from ashore.api.http.stored import find_job
from ashore.api.http.streaming import JSON, Answering, answer_headers, standing_headers, stream_answer
from ashore.core import Message, did_you_mean, whole_number
from ashore.errors import Bug, InvalidRequest, NotFound, NotReady, UnknownField, UnknownModel
from ashore.jobs import Call, Conversation, Job, NewJob, Reply, new_id
from ashore.serving import ChoiceEnded, Delta, GenerationRequest, Hear, ServingEvent, Started, Usage

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp

KINDS: Final = (RESPONSE_KIND,)
LONGEST_CHAIN: Final = 100
"""Responses that one may follow from, over `previous_response_id`."""
MOST_ITEMS: Final = 100
RETRIEVED_WITH: Final = ("include", "include[]", "include_obfuscation", "starting_after", "stream")
"""Parameters of `GET /v1/responses/{id}`. A stored response has what its request included, whatever is said here."""

_call = msgspec.json.Decoder(Call)
_reply = msgspec.json.Decoder(Reply)
_output = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


async def create(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/responses`."""
    body = await exchange.body(app.limits)
    request = await RESPONSES_READER.body_of(app, exchange, principal)
    exchange.model = request.model[:64]
    if request.background and not exchange.job_id:
        app.authority.require(principal, INFER, f"model/{request.model}")
        await _background(app, exchange, principal, request, body)
        return
    conversation = await _conversation(app, request, principal, action=STORED_REMOVE)
    history = await _history(app, request, principal, conversation)
    is_job = exchange.job_id.startswith("resp_")
    response_id = exchange.job_id if is_job else new_id("resp_")
    generation = msgspec.structs.replace(to_generation(request, exchange, history), answer_id=response_id)
    keeper, first = None, 0
    if is_job and request.stream:
        keeper, first = await keeper_of(app.desk, exchange)
    writer = ResponseWriter(
        _as_used(app, request),
        response_id,
        background=bool(request.background),
        with_logprobs=generation.top_logprobs is not None,
        first_number=first,
        says_created=keeper is None or first > FIRST,
    )
    keep = None
    if request.store and not exchange.job_id:
        keep = new_call(
            app.desk,
            exchange,
            principal,
            kind=RESPONSE_KIND,
            path="/v1/responses",
            model=request.model,
            body=body,
            job_id=response_id,
        )
        await app.desk.check(keep)  # before anything is generated
    mirror = writer.twin()

    async def keep_it(usage: Usage) -> None:  # before the last event tells the client that it is whole
        whole = mirror.whole(usage)
        if conversation is not None:
            said = [*kept_items(items_of(request)), *kept_output(whole.output)]
            await append(app, conversation, said, source=response_id, model=request.model)
        if keep is not None:
            await _keep(app, generation, keep, whole)

    def answer(hear: Hear) -> Awaitable[None]:
        def both(event: ServingEvent) -> None:
            _follow(mirror, event)
            hear(event)

        told = hear if keep is None and conversation is None else both
        return app.serving.answer(generation, principal, told, before_end=keep_it)

    if request.stream and not exchange.job_id:
        await stream_answer(exchange, answer, writer, loads=partial(app.serving.loads, generation.model))
        return
    exchange.watch()
    if keeper is None:
        started, response = await _whole(answer, writer)
    else:
        started, response = await _whole_kept(answer, writer, keeper)
    exchange.tokens = response.usage.output_tokens if response.usage else 0
    await exchange.respond(200, [JSON, *answer_headers(started)], _encode(response))


async def _whole_kept(answer: Answering, writer: ResponseWriter, keeper: EventKeeper) -> tuple[Started, ResponseOut]:
    """Return the answer once it is whole, and keep its events, but for the last one, while it is made."""
    keeping = asyncio.get_running_loop().create_task(keeper.run(), name="keep the events of a response")
    try:
        found = await _whole(answer, writer, lambda events: keeper.put(events, writer.last_number))
        await keeper.flush()
        return found
    finally:
        keeping.cancel()


async def _whole(
    answer: Answering, writer: ResponseWriter, tell: Callable[[bytes], None] = lambda events: None
) -> tuple[Started, ResponseOut]:
    started: Started | None = None
    response: ResponseOut | None = None

    def hear(event: ServingEvent) -> None:
        nonlocal started, response
        tell(_follow(writer, event))
        if isinstance(event, Started):
            started = event
        elif isinstance(event, Usage):
            response = writer.whole(event)

    await answer(hear)
    if started is None or response is None:
        raise Bug("an answer ended without its first or last event")
    return started, response


def _follow(writer: ResponseWriter, event: ServingEvent) -> bytes:
    match event:
        case Started():
            return writer.opened(event)
        case Delta():
            return writer.delta(event)
        case ChoiceEnded():
            return writer.ended(event)
        case Usage():
            return b""


async def _background(
    app: HttpApp, exchange: Exchange, principal: Principal, request: ResponsesRequest, body: bytes
) -> None:
    """Keep the request as a job and answer at once, or with its events; the job has the id of the response."""
    if request.store is False:
        raise InvalidRequest("a background response is always stored; store is false", hint="omit store", param="store")
    to_generation(request, exchange, ())
    aliases = {card.alias for card in app.serving.models()}
    if request.model not in aliases:
        hint = did_you_mean(request.model[:100], aliases)
        raise UnknownModel(f"no model is called {request.model[:100]!r} here", hint=hint, param="model")
    conversation = await _conversation(app, request, principal, action=STORED_REMOVE)
    await _history(app, request, principal, conversation)
    job = new_call(
        app.desk,
        exchange,
        principal,
        kind=RESPONSE_KIND,
        path="/v1/responses",
        model=request.model,
        body=body,
        job_id=new_id("resp_"),
        deadline_s=deadline_of(exchange),
    )
    kept = await app.desk.submit(job)
    if request.stream:
        await _follow_job(app, exchange, kept, request, after=-1)
        return
    await exchange.respond(200, [JSON], await _render(app, kept))


async def _follow_job(app: HttpApp, exchange: Exchange, job: Job, request: ResponsesRequest, *, after: int) -> None:
    created_s = job.created_ms // 1000
    queued = response_out(_as_used(app, request), job.job_id, created_s=created_s, status="queued", background=True)
    await follow(app, exchange, job, queued, partial(_render, app), after)


async def _keep(app: HttpApp, generation: GenerationRequest, call: NewJob, response: ResponseOut) -> None:
    """Keep a response that was answered at once, because its request said so."""
    reply = Reply(status=200, request_id=generation.request_id, body=msgspec.Raw(_encode(response)))
    await app.desk.submit(replace(call, result=_encode(reply), idempotency_key="", webhook=""))


async def input_tokens(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/responses/input_tokens`: the tokens that the model would read, with what came before."""
    request = await RESPONSES_READER.body_of(app, exchange, principal)
    exchange.model = request.model[:64]
    conversation = await _conversation(app, request, principal, action=STORED_SHOW)
    history = await _history(app, request, principal, conversation)
    tokens = await app.serving.tokens.count(to_generation(request, exchange, history), principal)
    headers = [JSON, *standing_headers(app.serving.standing(principal, request.model))]
    await exchange.respond(200, headers, _encode(InputTokens(input_tokens=tokens)))


async def retrieve(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/responses/{id}`."""
    query = exchange.query()
    for name in query:
        if name not in RETRIEVED_WITH:
            raise UnknownField(
                f"unknown parameter {name[:80]!r}", hint=f"known: {', '.join(RETRIEVED_WITH)}", param=name[:80]
            )
    stream, after = _streamed(query)
    job = await find_job(app, exchange.argument, principal, kinds=KINDS)
    if stream:
        request, _, _ = await _stored(app, job)
        if not (request.background and request.stream):
            raise InvalidRequest(
                "only a response that was created with background: true and stream: true can be streamed",
                hint="omit stream, and poll while the status is queued or in_progress",
                param="stream",
            )
        await _follow_job(app, exchange, job, request, after=after)
        return
    await exchange.respond(200, [JSON], await _render(app, job))


def _streamed(query: Mapping[str, str]) -> tuple[bool, int]:
    """Return whether a stored response is asked for as a stream, and the number of the last event that is there."""
    stream, given = query.get("stream", "false").lower(), query.get("starting_after")
    if stream not in ("true", "false"):
        raise InvalidRequest(f"stream is {stream[:20]!r}; expected true or false", param="stream")
    after = -1 if given is None else whole_number(given.encode())
    if after is None:
        raise InvalidRequest(
            f"starting_after is {str(given)[:20]!r}; expected the sequence_number of an event", param="starting_after"
        )
    if given is not None and stream != "true":
        raise InvalidRequest("starting_after needs stream=true", param="starting_after")
    return stream == "true", after


async def cancel(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/responses/{id}/cancel`. One that has ended stays as it is."""
    job = await find_job(app, exchange.argument, principal, kinds=KINDS, action=STORED_REMOVE)
    changed = await app.desk.call(lambda: app.desk.queue.cancel(job.job_id))
    await exchange.respond(200, [JSON], await _render(app, changed or job))


async def delete(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /v1/responses/{id}`; one that has not ended is cancelled first."""
    job = await find_job(app, exchange.argument, principal, kinds=KINDS, action=STORED_REMOVE)
    await app.desk.call(lambda: app.desk.queue.delete(job.job_id))
    await exchange.respond(200, [JSON], _encode(ResponseDeleted(id=job.job_id)))


async def input_items(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/responses/{id}/input_items`."""
    page = page_of(exchange, default=20, most=MOST_ITEMS, extra=("include", "include[]"))
    job = await find_job(app, exchange.argument, principal, kinds=KINDS)
    request, _, _ = await _stored(app, job)
    suffix = job.job_id.removeprefix("resp_")
    items = [{**listed(item), "id": item.id or f"in_{suffix}_{at}"} for at, item in enumerate(items_of(request))]
    if not page.oldest_first:
        items.reverse()
    ids = [item["id"] for item in items]
    if page.after and page.after not in ids:
        raise NotFound(f"there is no item {page.after[:80]!r} in {job.job_id}", param="after")
    first = ids.index(page.after) + 1 if page.after else 0
    shown = items[first : first + page.limit]
    answer = ItemList(
        data=shown,
        has_more=len(items) > first + page.limit,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
    )
    await exchange.respond(200, [JSON], _encode(answer))


async def _stored(app: HttpApp, job: Job) -> tuple[ResponsesRequest, Reply | None, int]:
    """Return what was asked, what was answered, and the bytes of both."""
    body = await app.desk.call(lambda: app.desk.queue.body(job.job_id))
    request = RESPONSES_READER.again(_call.decode(body.payload).body)
    reply = None if body.result is None else _reply.decode(body.result)
    return request, reply, len(body.payload) + len(body.result or b"")


def _as_used(app: HttpApp, request: ResponsesRequest) -> ResponsesRequest:
    """Return the request with the sampling that it is answered with, for the response says it."""
    used = next((card.recommended for card in app.serving.models() if card.alias == request.model), {})
    return msgspec.structs.replace(
        request,
        temperature=used.get("temperature") if request.temperature is None else request.temperature,
        top_p=used.get("top_p") if request.top_p is None else request.top_p,
    )


async def _render(app: HttpApp, job: Job) -> bytes:
    """Return a stored response as it stands now."""
    request, reply, _ = await _stored(app, job)
    if job.state == "succeeded" and reply is not None:
        return bytes(reply.body)
    states: dict[str, Status] = {"queued": "queued", "running": "in_progress", "cancelled": "cancelled"}
    status: Status = states.get(job.state, "failed")
    error = ResponseFault(code=job.error_code, message=job.error_message) if status == "failed" else None
    return _encode(
        response_out(
            _as_used(app, request),
            job.job_id,
            created_s=job.created_ms // 1000,
            status=status,
            error=error,
            background=True,
        )
    )


async def _conversation(
    app: HttpApp, request: ResponsesRequest, principal: Principal, *, action: str
) -> Conversation | None:
    """Return the conversation that a request names, None where it names none.

    Raises:
        InvalidRequest: it names a response before it, too.
        NotFound: there is none such for the principal.
    """
    if request.conversation is None:
        return None
    if request.previous_response_id is not None:
        raise InvalidRequest(
            "conversation and previous_response_id both say what came before", hint="send one", param="conversation"
        )
    return await find_conversation(app, request.conversation_id, principal, action=action)


async def _history(
    app: HttpApp, request: ResponsesRequest, principal: Principal, conversation: Conversation | None
) -> list[Message]:
    """Return what was said before: the items of the conversation, or of the responses that lead to the one before.

    Raises:
        NotFound, InvalidRequest: as `_chain` does.
    """
    if conversation is None:
        return await _chain(app, request.previous_response_id, principal)
    _check_length(app, conversation.num_bytes, "conversation")
    return messages_of(await items_in(app, conversation))


def _check_length(app: HttpApp, num_bytes: int, param: str) -> None:
    if num_bytes > app.limits.max_body_bytes:
        raise InvalidRequest(
            f"the conversation before this response has {num_bytes:,} bytes or more; the limit is "
            f"{app.limits.max_body_bytes:,}",
            hint="start a new conversation, and put what matters of the old one into the input",
            param=param,
        )


async def _chain(app: HttpApp, previous: str | None, principal: Principal) -> list[Message]:
    """Return what was said before, from the stored responses that lead to `previous`. Instructions do not carry over.

    Raises:
        NotFound: one of them is not stored, or is none of theirs.
        InvalidRequest: one of them has no answer, or there are too many, or they are longer than a body may be: what
            the model is not shown (ids, summaries) counts too, for it is read.
    """
    turns: list[list[Item]] = []
    length = 0
    while previous is not None:
        if len(turns) >= LONGEST_CHAIN:
            raise InvalidRequest(
                f"the conversation has more than {LONGEST_CHAIN} responses", param="previous_response_id"
            )
        try:
            job = await find_job(app, previous, principal, kinds=KINDS)
        except (NotFound, NotReady) as fault:
            raise NotFound(
                f"there is no stored response {previous[:80]!r}",
                hint="a response is stored only with store: true or background: true, and until it expires",
                param="previous_response_id",
            ) from fault
        request, reply, num_bytes = await _stored(app, job)
        length += num_bytes
        _check_length(app, length, "previous_response_id")
        if job.state != "succeeded" or reply is None:
            raise InvalidRequest(
                f"{previous} is {job.state}; only a completed response can be continued", param="previous_response_id"
            )
        output = _output.decode(reply.body).get("output", [])
        turns.append([*items_of(request), *(item_of(item, "output") for item in output)])
        previous = request.previous_response_id
    return messages_of([item for turn in reversed(turns) for item in turn])
