"""The connection to one server: requests, size limits, and the meaning of errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import httpx

from ashore.core.errors import (
    AshoreError,
    EngineFailed,
    InvalidRequest,
    PermissionDenied,
    RemoteRefused,
    SourceUnreachable,
)
from ashore.core.serversent import ServerSent
from ashore.data.engines.affinity import Turn
from ashore.data.engines.model import Order
from ashore.data.engines.vllm import wire
from ashore.data.engines.vllm.dialects import MOST_WORDS_CHARS, Piece
from ashore.kit.decode import UNDECODABLE

MOST_ERROR_BYTES: Final = 64 << 10
"""Limit of an error body; the rest is cut."""
MOST_ANSWER_BYTES: Final = 256 << 20
"""Limit of a whole answer: scores of a long text, or vectors of many."""
MOST_PROBE_BYTES: Final = 4 << 20
MOST_PAUSE_S: Final = 600.0
"""A server that asks for a longer pause is believed so far."""
PROBE_TIMEOUT_S: Final = 2.0
"""The longest that one probe may take."""


class Who(NamedTuple):
    """A server in messages."""

    title: str
    url: str
    takes_text: bool = False
    """Whether it is sent prompts in words: what it says of an order may repeat them, so no log and no list gets it."""

    def __str__(self) -> str:
        return f"{self.title} at {self.url}"


@dataclass(slots=True, kw_only=True, eq=False)
class Live:
    """A running order at a server. Touched by the network thread only, except `task`, which the host's thread
    cancels."""

    order: Order
    turn: Turn
    task: asyncio.Task[None] | None = None
    ids: list[int] = field(default_factory=list)
    """The tokens that were made, on whichever server."""
    said: int = 0
    """Tokens of an answer in text, by the server's own count."""
    where: str = ""
    """The server that it was sent to."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    gave_up: str = ""
    """Why it was taken from a silent server."""

    @property
    def made(self) -> int:
        return len(self.ids) or self.said


class Elsewhere(Exception):
    """A server failed on an order without tokens; another one may succeed."""

    def __init__(self, error: AshoreError, *, refused: bool = False, taken: bool = True, busy: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.refused = refused
        """Nobody listens there."""
        self.taken = taken
        """The server had the order, and may have broken on it."""
        self.busy = busy
        """It lives, and has no room."""


@dataclass(slots=True, kw_only=True)
class Talk:
    """The connection to one server, and its known state."""

    who: Who
    client: httpx.AsyncClient
    heard_s: float = 0.0
    """When it last sent anything, or had nothing to send."""
    probing: asyncio.Task[None] | None = None
    entry: wire.ModelEntry | None = None
    adapters: set[str] = field(default_factory=set)
    orders: set[Live] = field(default_factory=set)
    fault: AshoreError | None = None
    """Why retrying is pointless until a configuration changes."""

    @property
    def resumes(self) -> bool:
        """Whether it goes on behind an answer that began elsewhere, as a node of ashore does."""
        entry = self.entry
        return entry is not None and entry.owned_by == "ashore" and "resume" in (entry.features or ())

    async def get(self, path: str) -> bytes:
        """GET a path within `PROBE_TIMEOUT_S` and return the answer.

        Raises:
            Elsewhere, AshoreError: it does not answer, or refuses.
        """
        async with translated(self.who), self.client.stream("GET", path, timeout=PROBE_TIMEOUT_S) as answer:
            await check(self.who, answer)
            return await _read(self.who, answer, MOST_PROBE_BYTES)

    async def post(self, path: str, body: dict[str, Any]) -> bytes:
        """POST and return the answer.

        Raises:
            Elsewhere, AshoreError: it does not answer, or refuses.
        """
        async with translated(self.who), self.client.stream("POST", path, json=body) as answer:
            await check(self.who, answer)
            return await _read(self.who, answer, MOST_ANSWER_BYTES)


async def check(who: Who, answer: httpx.Response) -> None:
    """Check that a server accepted a request.

    Raises:
        Elsewhere, AshoreError: it did not.
    """
    if answer.status_code == 200:
        return
    words = bytearray()
    async with contextlib.aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            words += piece
            if len(words) >= MOST_ERROR_BYTES:
                break
    raise _verdict(who, answer, words[:MOST_ERROR_BYTES].decode("utf-8", "replace"))


async def _read(who: Who, answer: httpx.Response, most: int) -> bytes:
    """Return a whole answer."""
    found = bytearray()
    async with contextlib.aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            found += piece
            if len(found) > most:
                raise EngineFailed(f"{who} sent an answer of more than {most:,} bytes")
    return bytes(found)


async def _pieces(answer: httpx.Response) -> AsyncGenerator[bytes]:
    async for piece in answer.aiter_raw():  # as it is: nothing that was sent small becomes large here
        yield piece


async def events(who: Who, answer: httpx.Response) -> AsyncGenerator[bytes]:
    """Yield the data of the events of a stream.

    Raises:
        EngineFailed: a line of it is too long.
    """
    reader = ServerSent(str(who))
    async with contextlib.aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            for data in reader.take(piece):
                yield data


def _verdict(who: Who, answer: httpx.Response, words: str) -> Exception:
    """Return the meaning of an error answer: the order's own fault, or the server's."""
    status, told = answer.status_code, answer.headers.get("retry-after", "")
    pause_s = min(float(told), MOST_PAUSE_S) if told.isascii() and told.isdigit() else 1.0
    is_quiet = who.takes_text and answer.request.method == "POST"
    error = wire.error_for(who.title, who.url, status, "" if is_quiet else words, retry_after_s=pause_s)
    if is_quiet and not isinstance(error, RemoteRefused):
        error.hint = _said(words, answer)
    if status in (429, 503):
        return Elsewhere(error, taken=False, busy=status == 429)
    return Elsewhere(error) if status >= 500 or status == 408 else error


def failed_by(who: Who, piece: Piece, answer: httpx.Response) -> Exception:
    """Return the meaning of an event that ends a stream: the order's own fault, or the server's."""
    what = f"{who} ended the stream"
    if piece.is_refusal:
        return InvalidRequest(f"{who.title} refused the request", hint=_said(piece.error, answer))
    if who.takes_text:
        return Elsewhere(EngineFailed(what, hint=_said(piece.error, answer)))
    return Elsewhere(EngineFailed(f"{what}: {piece.error[:MOST_WORDS_CHARS]}"))


def _said(words: str, answer: httpx.Response) -> str:
    """Return a server's words for the caller of an order alone, without the key that it was called with."""
    key = answer.request.headers.get("authorization", "").removeprefix("Bearer ")
    return f"it says: {(words.replace(key, '[key]') if key else words)[:MOST_WORDS_CHARS]}"


@contextlib.asynccontextmanager
async def translated(who: Who) -> AsyncIterator[None]:
    """Turn the HTTP library's errors into verdicts."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        told = SourceUnreachable(f"{who.title} cannot be reached at {who.url}: {_named(error)}")
        raise Elsewhere(told, refused=True, taken=False) from error
    except httpx.TimeoutException as error:
        told = SourceUnreachable(f"{who} did not answer in time ({type(error).__name__})")
        raise Elsewhere(told) from error
    except httpx.HTTPError as error:
        told = SourceUnreachable(f"the connection to {who} broke: {_named(error)}")
        raise Elsewhere(told) from error
    except UNDECODABLE as error:
        raise EngineFailed(f"{who} sent an invalid response: {error}") from error
    except PermissionDenied as error:
        raise Elsewhere(error, refused=True, taken=False) from error


def _named(error: httpx.HTTPError) -> str:
    """Return an error of the HTTP library; some repeat what the server sent."""
    return f"{type(error).__name__} {error}"[:MOST_WORDS_CHARS]
