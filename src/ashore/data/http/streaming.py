"""Sends an answer, whichever protocol renders it: as an event stream, or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import msgspec

from ashore.core.errors import AshoreError, Bug
from ashore.data.authority.budgets import UNBOUND, Standing, rate_headers
from ashore.data.http.exchange import EVENT_STREAM, JSON, Exchange, Headers
from ashore.data.path import ChoiceEnded, Delta, Hear, ServingEvent, Started, TokenText, ToolCallDelta, Usage
from ashore.data.underway import Hold, made_whole

Answering = Callable[[Hear], Awaitable[None]]
"""Makes an answer, emitting events as it grows."""
COMMENT_EVERY_S: Final = 5.0
"""Interval of comments in a stream whose model loads; until the first one, errors get an HTTP status of their own."""
LOADING: Final = b": loading\n\n"
LOGPROB_CHARS: Final = 16
"""Cost of writing a token's log-probability, in characters of a prompt to read."""
MISS: Final[Headers] = [(b"x-ashore-cache", b"miss")]


class Renderer(Protocol):
    """Turns serving events into bytes of an event stream."""

    def opened(self, started: Started) -> bytes:
        """Return the first bytes."""
        ...

    def delta(self, delta: Delta) -> bytes:
        """Return a piece of an answer."""
        ...

    def ended(self, ended: ChoiceEnded) -> bytes:
        """Return the end of one choice."""
        ...

    def closed(self, usage: Usage) -> bytes:
        """Return the last bytes of a whole answer."""
        ...

    def failed(self, error: AshoreError) -> bytes:
        """Return the last bytes of a failed answer; they must not look like the end of a whole one."""
        ...


@dataclass(slots=True)
class Choice:
    """One choice of a whole answer."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, ToolCallDelta] = field(default_factory=dict)
    logprobs: list[TokenText] = field(default_factory=list)
    ended: ChoiceEnded | None = None

    def add(self, delta: Delta) -> None:
        """Append a piece."""
        if delta.text:
            self.text.append(delta.text)
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
        self.logprobs.extend(delta.logprobs)
        for piece in delta.tool_calls:
            so_far = self.calls.get(piece.index)
            self.calls[piece.index] = (
                piece
                if so_far is None
                else ToolCallDelta(
                    index=piece.index,
                    id=so_far.id or piece.id,
                    name=so_far.name or piece.name,
                    arguments=so_far.arguments + piece.arguments,
                )
            )


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """A complete answer."""

    started: Started
    choices: list[Choice]
    usage: Usage


def answer_headers(started: Started) -> Headers:
    """Return the headers that name what answered."""
    return [
        (b"x-ashore-release", started.release.encode()),
        (b"x-ashore-precision", started.precision.encode()),
        *cache_headers(started.cache, started.age_s),
        *standing_headers(started.standing),
        *([(b"x-ashore-answered-by", started.answered_by.encode())] if started.answered_by else []),
        *([(b"x-ashore-fallback", started.fallback.encode())] if started.fallback else []),
        *([(b"x-ashore-clamped", b"max_tokens=%d" % started.clamped_to)] if started.clamped_to else []),
        *([(b"x-ashore-cache-entry", started.entry_id.encode())] if started.entry_id else []),
        *([(b"x-ashore-masked", masked_header(started))] if started.masked else []),
        *([(b"x-ashore-aigc", aigc_label(started))] if started.labelled else []),
    ]


def masked_header(started: Started) -> bytes:
    """Return how many values were masked, by kind: `email=1,phone=2`."""
    return ",".join(f"{kind}={count}" for kind, count in sorted(started.masked.items())).encode()


def standing_headers(standing: Standing | None) -> Headers:
    """Return OpenAI's `x-ratelimit-*`, none without limits."""
    if standing is None or standing == UNBOUND:
        return ()
    return [(name.encode(), value.encode()) for name, value in rate_headers(standing)]


def aigc_label(started: Started) -> bytes:
    """Return the implicit label of generated content, with the names that GB 45438 gives its fields."""
    return msgspec.json.encode({"AIGC": {"Label": "1", "ContentProducer": started.release}})


def cache_headers(label: str, age_s: int) -> Headers:
    """Return the headers that report whether the answer was cached, and its age."""
    if label == "miss":
        return MISS
    return [(b"x-ashore-cache", label.encode()), (b"age", b"%d" % age_s)]


class _Page:
    """An event stream while it is written."""

    def __init__(self, exchange: Exchange, renderer: Renderer, head: Headers) -> None:
        self.held = b""
        """Sent with the next piece: no piece is sent alone that is useless to the client."""
        self.begun = False
        """Whether a piece of the answer was sent."""
        self.opened = False
        """Whether the head went out."""
        self._exchange, self._renderer, self._head = exchange, renderer, head
        self._put, self._render = exchange.put, renderer.delta  # what a token is
        self._started: Started | None = None

    def hear(self, event: ServingEvent) -> None:
        """Take the next event of the answer."""
        if not self.begun:
            self._begin(event)
        if isinstance(event, Delta):
            piece = self._render(event)
            if self.held:
                piece, self.held = self.held + piece, b""
            self._put(piece)
            return
        match event:
            case ChoiceEnded():
                self.held += self._renderer.ended(event)
            case Usage():
                self._exchange.tokens = event.completion_tokens
                self.held += self._renderer.closed(event)

    def _begin(self, event: ServingEvent) -> None:
        if isinstance(event, Started):
            self._started = event
            return
        if self._started is None:
            raise Bug(f"an answer began with {type(event).__name__}")
        self.begun = True
        if not self.opened:
            if self._started.good_until_s:
                self._exchange.take_down(self._started)
            self._exchange.start_stream([*self._head, *answer_headers(self._started)])
        self.opened = True
        self.held = self._renderer.opened(self._started)

    def keep_alive(self) -> None:
        """Send a comment, which clients skip, so that no proxy takes the connection for dead."""
        if not self.opened:
            self.opened = True
            self._exchange.start_stream(self._head)
        self._put(LOADING)


def _keep_alive(page: _Page, loads: Callable[[], bool]) -> Callable[[], None]:
    """Send comments while a model loads and the answer has not begun; return a function that stops them."""
    loop = asyncio.get_running_loop()

    timers: list[asyncio.TimerHandle] = []

    def again() -> None:
        timers[:] = [loop.call_later(COMMENT_EVERY_S, comment)]

    def comment() -> None:
        if not page.begun and (page.opened or loads()):
            page.keep_alive()
            again()

    again()
    return lambda: timers[0].cancel()


async def stream_answer(
    exchange: Exchange,
    answer: Answering,
    renderer: Renderer,
    head: Headers = EVENT_STREAM,
    loads: Callable[[], bool] = lambda: False,
) -> None:
    """Send an answer while it is made. An error before its first piece is raised and gets an HTTP status of its own.

    Args:
        exchange: Destination.
        answer: Makes the answer.
        renderer: Turns it into bytes.
        head: Headers of the stream's type.
        loads: Returns whether the model has to load first. The head of the answer then goes out after some seconds,
            followed by comments; later errors are sent in the stream.

    Raises:
        AshoreError: before anything was sent.
    """
    page = _Page(exchange, renderer, head)
    exchange.watch()
    still = _keep_alive(page, loads) if loads() else None
    try:
        await answer(page.hear)
    except AshoreError as fault:
        if not page.opened:
            raise
        exchange.error_code = fault.code
        page.held += renderer.failed(fault)
    finally:
        if still is not None:
            still()
    await exchange.end_stream(page.held)


async def send_answer(exchange: Exchange, answer: WholeAnswer, body: bytes) -> None:
    """Send a whole answer, rendered as `body`."""
    if answer.started.good_until_s:
        exchange.take_down(answer.started)
    exchange.tokens = answer.usage.completion_tokens
    if answer.usage.precision:
        answer = replace(answer, started=msgspec.structs.replace(answer.started, precision=answer.usage.precision))
    moved = [(b"x-ashore-moved", answer.usage.moved_in_public.encode())] if answer.usage.moved else []
    await exchange.respond(200, [JSON, *answer_headers(answer.started), *cut_headers(answer.choices), *moved], body)


def cut_headers(choices: Sequence[Choice]) -> Headers:
    """Return the header that reports why a whole answer was cut, none if it was not."""
    cut = next((one.ended.cut_by for one in choices if one.ended is not None and one.ended.cut_by), "")
    return [(b"x-ashore-cut-by", cut.encode())] if cut else []


def num_chars(answers: Sequence[WholeAnswer]) -> int:
    """Return the approximate output beside the texts, in characters of a prompt: log-probabilities of ten thousand
    tokens are expensive."""
    tokens = (token for answer in answers for choice in answer.choices for token in choice.logprobs)
    return sum(LOGPROB_CHARS * (1 + len(token.top)) for token in tokens)


async def whole_answer(answer: Answering, num_choices: int, hold: Hold) -> WholeAnswer:
    """Return the complete answer of `answer`, whose log-probabilities count in `hold`.

    Raises:
        AshoreError: it failed, before or after it began.
    """
    choices = [Choice() for _ in range(num_choices)]
    started: Started | None = None
    usage: Usage | None = None

    def hear(event: ServingEvent) -> None:
        nonlocal started, usage
        match event:
            case Delta():
                choices[event.choice].add(event)
            case ChoiceEnded():
                choices[event.choice].ended = event
            case Started():
                started = event
            case Usage():
                usage = event

    await made_whole(answer, hear, hold)
    if started is None or usage is None:
        raise Bug("an answer ended without its first or last event")
    return WholeAnswer(started, choices, usage)
