"""`/v1/responses`: answer directly, streamed or in the background; store responses and return them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from ashore.core.chat import Message
from ashore.core.errors import Bug, InvalidRequest, NotFound, NotReady, UnknownField, UnknownModel
from ashore.core.nearest import did_you_mean
from ashore.core.wholenumber import whole_number
from ashore.data.authority import INFER, STORED_REMOVE, STORED_SHOW, Principal
from ashore.data.http.desk import RESPONSE_KIND, new_call
from ashore.data.http.exchange import JSON, Exchange
from ashore.data.http.openai.common import deadline_of
from ashore.data.http.openai.conversations import append, find_conversation, kept_items, kept_output, messages_in
from ashore.data.http.openai.dialects import RESPONSES_READER
from ashore.data.http.openai.paging import ends_of, page_of
from ashore.data.http.openai.responses_follow import FIRST, EventKeeper, follow, keeper_of
from ashore.data.http.openai.responses_mcp import McpTurns, mcp_tools
from ashore.data.http.openai.responses_parse import items_of, listed, messages_of, stored_item, to_generation
from ashore.data.http.openai.responses_render import ResponseWriter, event_of, response_out
from ashore.data.http.openai.responses_types import (
    InputTokens,
    Item,
    ItemList,
    MessageItem,
    ResponseDeleted,
    ResponseFault,
    ResponseOut,
    ResponsesRequest,
    Status,
)
from ashore.data.http.stored import find_job, read_out
from ashore.data.http.streaming import Answering, answer_headers, standing_headers, stream_answer
from ashore.data.jobs import PAGE_BYTES, Call, Conversation, Job, NewJob, Reply, new_id
from ashore.data.path import ChoiceEnded, Delta, GenerationRequest, Hear, ServingEvent, Started, Usage
from ashore.data.underway import Hold, made_whole

if TYPE_CHECKING:
    from ashore.data.http.app import HttpApp

T = TypeVar("T")

KINDS: Final = (RESPONSE_KIND,)
LONGEST_CHAIN: Final = 100
"""Responses that one may follow from, over `previous_response_id`."""
MOST_ITEMS: Final = 100
RETRIEVED_WITH: Final = ("include", "include[]", "include_obfuscation", "starting_after", "stream")
"""Parameters of `GET /v1/responses/{id}`. A stored response includes what its own request asked for, whatever is given
here.
"""


class _Asked(msgspec.Struct):
    """The input of a stored request."""

    input: str | list[msgspec.Raw]
    previous_response_id: str | None = None


class _Answered(msgspec.Struct):
    output: list[msgspec.Raw] = []


_call = msgspec.json.Decoder(Call)
_reply = msgspec.json.Decoder(Reply)
_asked = msgspec.json.Decoder(_Asked)
_answered = msgspec.json.Decoder(_Answered)
_encode = msgspec.json.Encoder().encode


async def create(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/responses`."""
    request = await RESPONSES_READER.body_of(app, exchange, principal)
    exchange.model = request.model[:64]
    if request.background and not exchange.job_id:
        app.authority.require(principal, INFER, f"model/{request.model}")
        await _background(app, exchange, principal, request)
        return
    conversation = await _conversation(app, exchange, request, principal, action=STORED_REMOVE)
    history = await _history(app, exchange, request, principal, conversation)
    is_job = exchange.job_id.startswith("resp_")
    response_id = exchange.job_id if is_job else new_id("resp_")
    tools = await mcp_tools(app, exchange, principal, request)
    offers = None if tools is None else tools.request
    generation = await _generation(app, exchange, offers or request, history, principal)
    generation = msgspec.structs.replace(generation, answer_id=response_id)
    keeper, first = None, 0
    if is_job and request.stream:
        keeper, first = await keeper_of(app.desk, exchange)
    writer = ResponseWriter(
        _as_used(request, _recommended(app, request.model)),
        response_id,
        background=bool(request.background),
        with_logprobs=generation.top_logprobs is not None,
        first_number=first,
        says_created=keeper is None or first > FIRST,
        offers=offers,
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
            body=await _to_keep(app, request, principal),
            job_id=response_id,
        )
        await app.desk.check(keep)  # before anything is generated
    mirror = writer.twin()

    async def keep_it(usage: Usage) -> None:  # before the last event reports that it is whole
        whole = mirror.whole(usage)
        if conversation is not None:
            length = len(exchange.body_at_hand(app.limits) or b"")
            read = await app.serving.at_length(length, lambda: kept_items(items_of(request)), principal)
            said = [*read, *kept_output(whole.output)]
            await append(app, conversation, said, source=response_id, model=request.model)
        if keep is not None:
            await _keep(app, generation, keep, whole)

    def answer(hear: Hear) -> Awaitable[None]:
        def both(event: ServingEvent) -> None:
            _follow(mirror, event)
            hear(event)

        told = hear if keep is None and conversation is None else both
        if tools is not None:
            turns = McpTurns(app=app, exchange=exchange, principal=principal, tools=tools, generation=generation)
            return turns.answer(told, before_end=keep_it)
        return app.serving.answer(generation, principal, told, before_end=keep_it)

    if request.stream and not exchange.job_id:
        await stream_answer(exchange, answer, writer, loads=partial(app.serving.loads, generation.model))
        return
    exchange.watch()
    if keeper is None:
        started, response = await _whole(answer, writer, exchange.hold)
    else:
        started, response = await _whole_kept(answer, writer, keeper, exchange.hold)
    exchange.tokens = response.usage.output_tokens if response.usage else 0
    await exchange.respond(200, [JSON, *answer_headers(started)], _encode(response))


async def _whole_kept(
    answer: Answering, writer: ResponseWriter, keeper: EventKeeper, hold: Hold
) -> tuple[Started, ResponseOut]:
    """Return the answer once it is whole, and store its events, except the last one, while it is made."""
    keeping = asyncio.get_running_loop().create_task(keeper.run(), name="keep the events of a response")
    try:
        found = await _whole(answer, writer, hold, lambda events: keeper.put(events, writer.last_number))
        await keeper.flush()
        return found
    finally:
        keeping.cancel()


async def _whole(
    answer: Answering, writer: ResponseWriter, hold: Hold, tell: Callable[[bytes], None] = lambda events: None
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

    await made_whole(answer, hear, hold)
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


async def _background(app: HttpApp, exchange: Exchange, principal: Principal, request: ResponsesRequest) -> None:
    """Store the request as a job and answer directly, or with its events; the job has the id of the response."""
    if request.store is False:
        raise InvalidRequest("a background response is always stored; store is false", hint="omit store", param="store")
    aliases = {card.alias for card in app.serving.models()}
    if request.model not in aliases:
        hint = did_you_mean(request.model[:100], aliases)
        raise UnknownModel(f"no model is called {request.model[:100]!r} here", hint=hint, param="model")
    conversation = await _conversation(app, exchange, request, principal, action=STORED_REMOVE)
    history = await _history(app, exchange, request, principal, conversation)
    tools = await mcp_tools(app, exchange, principal, request)
    told = request if tools is None else tools.request
    await app.serving.check_fits(await _generation(app, exchange, told, history, principal), principal)
    kept_body = await _to_keep(app, request, principal)
    job = new_call(
        app.desk,
        exchange,
        principal,
        kind=RESPONSE_KIND,
        path="/v1/responses",
        model=request.model,
        body=kept_body,
        job_id=new_id("resp_"),
        deadline_s=deadline_of(exchange),
    )
    kept = await app.desk.submit(job)
    if request.stream:
        first = partial(_first_events, request, _recommended(app, request.model), kept)
        events = await app.serving.at_length(len(kept_body), first, principal)
        await follow(app, exchange, principal, kept, events, partial(_render, app, exchange, principal), after=-1)
        return
    await exchange.respond(200, [JSON], await _render(app, exchange, principal, kept))


async def _generation(
    app: HttpApp, exchange: Exchange, request: ResponsesRequest, history: Sequence[Message], principal: Principal
) -> GenerationRequest:
    """Return the generation request; the items of a long one are read on a thread. Raises as `to_generation` does."""
    length = len(exchange.body_at_hand(app.limits) or b"")
    return await app.serving.at_length(length, partial(to_generation, request, exchange, history), principal)


async def _to_keep(app: HttpApp, request: ResponsesRequest, principal: Principal) -> bytes:
    """Return a request in stored form: only the fields that were understood, so that reading it back gives the same."""
    said = {name: value for name in request.__struct_fields__ if (value := getattr(request, name)) is not None}
    return await app.serving.read_aside(principal, partial(_encode, said))


def _first_events(request: ResponsesRequest, used: Mapping[str, float], job: Job) -> tuple[bytes, bytes]:
    """Return the events of a background response that precede those of its job."""
    created_s = job.created_ms // 1000
    queued = response_out(_as_used(request, used), job.job_id, created_s=created_s, status="queued", background=True)
    return event_of("response.created", 0, response=queued), event_of("response.queued", 1, response=queued)


async def _keep(app: HttpApp, generation: GenerationRequest, call: NewJob, response: ResponseOut) -> None:
    """Store a response that was answered directly, as its request asked."""
    reply = Reply(status=200, request_id=generation.request_id, body=msgspec.Raw(_encode(response)))
    await app.desk.submit(replace(call, result=_encode(reply), idempotency_key="", webhook=""))


async def input_tokens(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /v1/responses/input_tokens`: the tokens that the model would read, history included."""
    request = await RESPONSES_READER.body_of(app, exchange, principal)
    exchange.model = request.model[:64]
    conversation = await _conversation(app, exchange, request, principal, action=STORED_SHOW)
    history = await _history(app, exchange, request, principal, conversation)
    tools = await mcp_tools(app, exchange, principal, request)
    generation = await _generation(app, exchange, request if tools is None else tools.request, history, principal)
    tokens = await app.serving.tokens.count(generation, principal)
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
    job = await find_job(app, exchange, exchange.argument, principal, kinds=KINDS)
    if stream:
        used = _recommended(app, job.models)

        def first(stored: _Stored) -> tuple[bytes, bytes]:
            request = RESPONSES_READER.again(stored.body)
            if not (request.background and request.stream):
                raise InvalidRequest(
                    "only a response that was created with background: true and stream: true can be streamed",
                    hint="omit stream, and poll while the status is queued or in_progress",
                    param="stream",
                )
            return _first_events(request, used, job)

        events = await _read_stored(app, exchange, principal, job, first)
        await follow(app, exchange, principal, job, events, partial(_render, app, exchange, principal), after)
        return
    await exchange.respond(200, [JSON], await _render(app, exchange, principal, job))


def _streamed(query: Mapping[str, str]) -> tuple[bool, int]:
    """Return whether a stored response is requested as a stream, and the number of the last event that the client
    has."""
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
    job = await find_job(app, exchange, exchange.argument, principal, kinds=KINDS, action=STORED_REMOVE)
    changed = await app.desk.call(lambda: app.desk.queue.cancel(job.job_id))
    await exchange.respond(200, [JSON], await _render(app, exchange, principal, changed or job))


async def delete(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /v1/responses/{id}`; one that has not ended is cancelled first."""
    job = await find_job(app, exchange, exchange.argument, principal, kinds=KINDS, action=STORED_REMOVE)
    await app.desk.call(lambda: app.desk.queue.delete(job.job_id))
    await exchange.respond_json(ResponseDeleted(id=job.job_id))


async def input_items(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /v1/responses/{id}/input_items`."""
    page = page_of(exchange, default=20, most=MOST_ITEMS, extra=("include", "include[]"))
    job = await find_job(app, exchange, exchange.argument, principal, kinds=KINDS)
    suffix = job.job_id.removeprefix("resp_")

    def work(stored: _Stored) -> bytes:
        items = [(item.id or f"in_{suffix}_{at}", item) for at, item in enumerate(stored.said()[0])]
        if not page.oldest_first:
            items.reverse()
        ids = [item_id for item_id, _ in items]
        if page.after and page.after not in ids:
            raise NotFound(f"there is no item {page.after[:80]!r} in {job.job_id}", param="after")
        first = ids.index(page.after) + 1 if page.after else 0
        shown: list[msgspec.Raw] = []
        num_bytes = 0
        for item_id, item in items[first : first + page.limit]:
            written = msgspec.Raw(_encode({**listed(item), "id": item_id}))
            num_bytes += len(bytes(written))
            if shown and num_bytes > PAGE_BYTES:
                break
            shown.append(written)
        ends = ends_of(ids[first : first + len(shown)])
        return _encode(ItemList(data=shown, has_more=len(items) > first + len(shown), **ends))

    await exchange.respond(200, [JSON], await _read_stored(app, exchange, principal, job, work))


@dataclass(frozen=True, slots=True)
class _Stored:
    """A stored response: its request, and its answer if there is one."""

    body: bytes
    reply: Reply | None

    def said(self) -> tuple[list[Item], str | None]:
        """Return the items of the input, and the previous response. Nothing else of the request is read."""
        try:
            asked = _asked.decode(self.body)
            if isinstance(asked.input, str):
                return [MessageItem(role="user", content=asked.input)], asked.previous_response_id
            return [stored_item(item, "input") for item in asked.input], asked.previous_response_id
        except (InvalidRequest, UnknownField):  # stored form of earlier versions: verbatim
            request = RESPONSES_READER.again(self.body)
            return items_of(request), request.previous_response_id


async def _read_stored(
    app: HttpApp, exchange: Exchange, principal: Principal, job: Job, work: Callable[[_Stored], T]
) -> T:
    """Return the result of `work` on a stored response, run as in `read_out`."""
    queue = app.desk.queue
    length = await app.desk.call(lambda: queue.store.body_length(job.job_id))

    def read() -> T:
        kept = queue.body(job.job_id)
        reply = None if kept.result is None else _reply.decode(kept.result)
        return work(_Stored(bytes(_call.decode(kept.payload).body), reply))

    return await read_out(app, exchange, principal, length, read)


def _recommended(app: HttpApp, model: str) -> Mapping[str, float]:
    return next((card.recommended for card in app.serving.models() if card.alias == model), {})


def _as_used(request: ResponsesRequest, used: Mapping[str, float]) -> ResponsesRequest:
    """Return the request with the sampling that was used, which the response reports."""
    return msgspec.structs.replace(
        request,
        temperature=used.get("temperature") if request.temperature is None else request.temperature,
        top_p=used.get("top_p") if request.top_p is None else request.top_p,
    )


async def _render(app: HttpApp, exchange: Exchange, principal: Principal, job: Job) -> bytes:
    """Return a stored response in its current state."""
    used = _recommended(app, job.models)

    def work(stored: _Stored) -> bytes:
        if job.state == "succeeded" and stored.reply is not None:
            return bytes(stored.reply.body)
        states: dict[str, Status] = {"queued": "queued", "running": "in_progress", "cancelled": "cancelled"}
        status: Status = states.get(job.state, "failed")
        error = ResponseFault(code=job.error_code, message=job.error_message) if status == "failed" else None
        response = response_out(
            _as_used(RESPONSES_READER.again(stored.body), used),
            job.job_id,
            created_s=job.created_ms // 1000,
            status=status,
            error=error,
            background=True,
        )
        return _encode(response)

    return await _read_stored(app, exchange, principal, job, work)


async def _conversation(
    app: HttpApp, exchange: Exchange, request: ResponsesRequest, principal: Principal, *, action: str
) -> Conversation | None:
    """Return the conversation that a request names, None if it names none.

    Raises:
        InvalidRequest: it names a previous response, too.
        NotFound: the principal has no such conversation.
    """
    if request.conversation is None:
        return None
    if request.previous_response_id is not None:
        raise InvalidRequest(
            "conversation and previous_response_id both say what came before", hint="send one", param="conversation"
        )
    return await find_conversation(app, exchange, request.conversation_id, principal, action=action)


async def _history(
    app: HttpApp,
    exchange: Exchange,
    request: ResponsesRequest,
    principal: Principal,
    conversation: Conversation | None,
) -> list[Message]:
    """Return the history: the items of the conversation, or of the chain of previous responses.

    Raises:
        NotFound, InvalidRequest: as `_chain` does.
    """
    if conversation is None:
        return await _chain(app, exchange, request.previous_response_id, principal)
    _check_length(app, exchange, conversation.num_bytes, "conversation")
    return await messages_in(app, exchange, conversation, principal)


def _check_length(app: HttpApp, exchange: Exchange, num_bytes: int, param: str) -> None:
    """Check that history and request together are not longer than a body may be: both are held at once."""
    most = app.limits.max_body_bytes - len(exchange.body_at_hand(app.limits) or b"")
    if num_bytes > most:
        raise InvalidRequest(
            f"the conversation before this response has {num_bytes:,} bytes or more; beside this request, the limit is "
            f"{most:,}",
            hint="start a new conversation, and put what matters of the old one into the input",
            param=param,
        )


async def _chain(app: HttpApp, exchange: Exchange, previous: str | None, principal: Principal) -> list[Message]:
    """Return the history from the stored responses that lead to `previous`. Instructions do not carry over."""
    turns: list[list[Item]] = []
    length = 0
    while previous is not None:
        if len(turns) >= LONGEST_CHAIN:
            raise InvalidRequest(
                f"the conversation has more than {LONGEST_CHAIN} responses", param="previous_response_id"
            )
        try:
            job = await find_job(app, exchange, previous, principal, kinds=KINDS)
        except (NotFound, NotReady) as fault:
            raise NotFound(
                f"there is no stored response {previous[:80]!r}",
                hint="a response is stored only with store: true or background: true, and until it expires",
                param="previous_response_id",
            ) from fault
        length += await app.desk.call(partial(app.desk.queue.store.body_length, job.job_id))
        _check_length(app, exchange, length, "previous_response_id")
        turn, previous = await _read_stored(app, exchange, principal, job, partial(_turn, job))
        turns.append(turn)
    work = partial(messages_of, [item for turn in reversed(turns) for item in turn])
    return await app.serving.at_length(length, work, principal)


def _turn(job: Job, stored: _Stored) -> tuple[list[Item], str | None]:
    """Return the messages of a stored response, and the response that it follows."""
    if job.state != "succeeded" or stored.reply is None:
        raise InvalidRequest(
            f"{job.job_id} is {job.state}; only a completed response can be continued", param="previous_response_id"
        )
    items, previous = stored.said()
    output = _answered.decode(stored.reply.body).output
    return [*items, *(stored_item(item, "output") for item in output)], previous
