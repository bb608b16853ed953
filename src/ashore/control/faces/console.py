"""The console over HTTP: converts an exchange to a `console` request, and back. The only place that handles cookies."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Iterator
from contextlib import aclosing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl, quote

import msgspec

from ashore.control.console import Answer, Asked, Console, words_of
from ashore.control.faces import feedback
from ashore.control.faces.eventstream import last_seen, send_events
from ashore.control.faces.visiting import session_of, visit_of
from ashore.control.server import Feed
from ashore.core.errors import AshoreError, InvalidRequest, NotReady, PayloadTooLarge, Unauthenticated, UnknownRoute
from ashore.data.authority import Principal
from ashore.data.http import Exchange
from ashore.data.path import Limits
from ashore.kit.call import Download

if TYPE_CHECKING:
    from ashore.data.http import Face

CONSOLE: Final = "/console"
KEPT: Final = re.compile(r"conversations(/conv_[0-9a-z]{1,64}(/items(/[0-9A-Za-z_]{1,80})?)?)?")
"""What the page Chat may ask a worker for beside answers."""
CHUNK_BYTES: Final = 1 << 20
MOST_FIELDS: Final = 2_000
MOST_PARAMETERS: Final = 200
"""Limit of a query, which everybody may send: each parameter takes the loop some microseconds."""
FORM_BYTES: Final = 65_536
"""Limit of a form, which is read before authentication. The edge accepts no more without a key either."""


async def page(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET` and `POST /console/…`."""
    console = console_of(app)
    form: list[tuple[str, str]] = []
    if exchange.method == "POST":
        form = await _form(app, exchange)
    asked = asked_of(app, exchange, form)
    await _send(exchange, await console.answer(asked))


async def static(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /console/static/…`."""
    gzip = b"gzip" in exchange.headers.get(b"accept-encoding", b"")
    answer = console_of(app).static(exchange.argument, gzip=gzip)
    if answer is None:
        raise UnknownRoute(f"the console has no file {exchange.argument[:100]!r}")
    await _send(exchange, answer)


async def ask(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /console/ask`: `/v1/chat/completions` for the principal of a session."""
    with in_words_of_the_reader(app, exchange):
        await door_of(app).chat(app, exchange, principal)


async def keep(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`/console/ask/conversations…`: `/v1/conversations…` for the principal of a session."""
    if (below := KEPT.fullmatch(exchange.argument)) is None:
        raise UnknownRoute(f"the page Chat keeps nothing at {exchange.argument[:100]!r}")
    query = exchange.scope.get("query_string", b"").decode("latin-1")
    with in_words_of_the_reader(app, exchange):
        await door_of(app).chat(app, exchange, principal, f"/v1/{below[0]}" + (f"?{query}" if query else ""))


async def vote(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`POST /console/vote`: `/v1/feedback` for the principal of a session."""
    with in_words_of_the_reader(app, exchange):
        await feedback.create(app, exchange, principal)


@contextmanager
def in_words_of_the_reader(app: Face, exchange: Exchange) -> Iterator[None]:
    """Translate errors of requests by a page's script into the language of the page."""
    try:
        yield
    except AshoreError as fault:
        visit = visit_of(exchange, app.origin_of(exchange), behind_tls=app.is_behind_tls(exchange))
        raise words_of(visit).fault(fault) from fault


async def events(app: Face, exchange: Exchange, principal: Principal) -> None:
    """`GET /console/events`: live events for pages. Does not extend a session."""
    sessions, feed = console_of(app).sessions, app.rooms.find(Feed)
    if sessions is None or feed is None:
        raise NotReady("this server has no state to keep events in", hint="start the server with `ashore up`")
    visit = visit_of(exchange, app.origin_of(exchange), behind_tls=app.is_behind_tls(exchange))
    session = await sessions.session_of(visit, active=False)
    if session is None:
        raise Unauthenticated("the session has ended", hint="log in again")
    exchange.principal_id = session.principal.id

    async def may_still() -> bool:
        now = await sessions.session_of(visit, active=False)
        return now is not None and now.principal.id == session.principal.id

    content = await feed.follow(session.principal, last_seen(exchange))
    await send_events(app, exchange, _with_health(app, content), may_still)


async def _with_health(app: Face, content: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield a stream of events, with an unnumbered event when a worker or one of its models goes up or down."""
    told = _health(app)
    async with aclosing(content):
        async for piece in content:
            yield piece
            if (now := _health(app)) != told:
                told = now
                yield b"data: {}\n\n"


def _health(app: Face) -> object:
    return app.path.state, [(one.alias, one.release, one.state) for one in app.path.models()]


class Chat(Protocol):
    """Answers a request as a path of the API does; without one, as `/v1/chat/completions`."""

    def __call__(self, app: Face, exchange: Exchange, principal: Principal, path: str = ..., /) -> Awaitable[None]: ...


class ConsoleDoor:
    """The console of an application, and who is logged in to it."""

    def __init__(self, console: Console, chat: Chat) -> None:
        self.console: Final = console
        self.chat: Final = chat

    async def principal_of(self, exchange: Exchange, origin: str, *, behind_tls: bool) -> Principal:
        """Return who sent a request from a page; see `SessionDoor`."""
        visit = visit_of(exchange, origin, behind_tls=behind_tls)
        token = exchange.headers.get(b"x-csrf-token", b"").decode("latin-1")
        return (await session_of(self.console, visit, token)).principal


def door_of(app: Face) -> ConsoleDoor:
    """Return the door to the console of this server.

    Raises:
        NotReady: this server has no console.
    """
    if not isinstance(app.console, ConsoleDoor):
        raise NotReady("this server has no console", hint="start the server with `ashore up`")
    return app.console


def console_of(app: Face) -> Console:
    """Return the console of this server.

    Raises:
        NotReady: this server has no console.
    """
    return door_of(app).console


def asked_of(app: Face, exchange: Exchange, form: list[tuple[str, str]]) -> Asked:
    """Return the console request of an exchange."""
    below = exchange.path.removeprefix(CONSOLE)
    raw: bytes = exchange.scope.get("raw_path") or quote(exchange.path).encode()
    part = exchange.headers.get(b"x-console-part", b"page")
    query = exchange.scope.get("query_string", b"").decode("latin-1")
    return Asked(
        method="GET" if exchange.method == "HEAD" else exchange.method,
        path=below.strip("/"),
        depth=raw.count(b"/") - CONSOLE.count("/") - 1,
        query=_pairs(query, MOST_PARAMETERS),
        form=form,
        visit=visit_of(exchange, app.origin_of(exchange), behind_tls=app.is_behind_tls(exchange)),
        part="main" if part == b"main" else "command" if part == b"command" else "page",
        polls=b"x-console-poll" in exchange.headers,
        etag=exchange.headers.get(b"if-none-match", b"").decode("latin-1"),
        token=exchange.headers.get(b"x-csrf-token", b"").decode("latin-1"),
    )


async def _form(app: Face, exchange: Exchange) -> list[tuple[str, str]]:
    kind = exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    exchange.hold = app.hold_of_stranger(exchange)
    try:
        body = await exchange.body(_short(app.limits))
    except PayloadTooLarge as fault:
        raise PayloadTooLarge(
            f"the form has more than {FORM_BYTES:,} bytes", hint="use the command that the page shows"
        ) from fault
    if body and kind != b"application/x-www-form-urlencoded":
        raise InvalidRequest("the console takes forms only", hint="send application/x-www-form-urlencoded")
    try:
        return _pairs(body.decode("utf-8"), MOST_FIELDS)
    except UnicodeDecodeError as fault:
        raise InvalidRequest("the form is not UTF-8") from fault


@lru_cache(maxsize=8)
def _short(limits: Limits) -> Limits:
    return msgspec.structs.replace(limits, max_body_bytes=min(FORM_BYTES, limits.max_body_bytes))


def _pairs(text: str, most: int) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=most)
    except ValueError as fault:
        raise InvalidRequest(f"more than {most} fields") from fault


async def _send(exchange: Exchange, answer: Answer) -> None:
    if not isinstance(answer.file, Download):
        await exchange.respond(answer.status, answer.headers, answer.body)
        return
    file = answer.file
    headers = [
        *((name, value) for name, value in answer.headers if name != b"content-type"),
        (b"content-type", file.content_type.encode()),
        (b"content-disposition", f'attachment; filename="{file.file_name}"'.encode()),
    ]
    if isinstance(file.content, bytes):
        await exchange.respond(200, headers, file.content)
        return
    with file.content as content:
        await exchange.start_download(headers)
        while chunk := content.read(CHUNK_BYTES):
            await exchange.write(chunk)
        await exchange.end_stream()
