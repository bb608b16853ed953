"""A server's direct way, for tests that call an application with two functions: each part of an answer is a message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any


class Direct:
    """Hands an answer to `send`, which must not wait."""

    def __init__(self, send: Callable[[Any], Awaitable[None]] | None = None) -> None:
        self._send = send

    def whole_body(self) -> bytes | None:
        return None

    def drop_body(self) -> None:
        return

    def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bool:
        self.start(status, headers)
        self._now({"type": "http.response.body", "body": body, "more_body": False})
        return True

    def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._now({"type": "http.response.start", "status": status, "headers": headers})

    def write(self, piece: bytes) -> bool:
        self._now({"type": "http.response.body", "body": piece, "more_body": True})
        return True

    async def drain(self) -> None:
        return

    def on_gone(self, tell: Callable[[], None]) -> None:
        return

    def _now(self, message: dict[str, Any]) -> None:
        assert self._send is not None, "nothing is answered"
        sending = self._send(message).__await__()
        assert next(sending, None) is None, "send waits"
