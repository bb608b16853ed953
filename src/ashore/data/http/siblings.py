"""Questions to the other processes of this machine that answer HTTP, over their sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

log = logging.getLogger("ashore.http")

TIMEOUT_S: Final = 1.0
MAX_BYTES: Final = 16 << 20
"""Limit of an answer with its head; reading stops there."""
PIECE_BYTES: Final = 1 << 16


class Siblings:
    """Sends the same question to several processes."""

    def __init__(self, sockets: Sequence[str]) -> None:
        """`sockets`: where they listen for HTTP."""
        self._sockets = tuple(sockets)

    async def ask(self, path: str, *, timeout_s: float = TIMEOUT_S) -> list[bytes]:
        """Return the bodies of answers with status 200 in time. Others are left out, and logged unless they start."""
        found = await asyncio.gather(*(self._ask(socket, path, timeout_s) for socket in self._sockets))
        return [body for body in found if body is not None]

    async def _ask(self, socket: str, path: str, timeout_s: float) -> bytes | None:
        request = f"GET {path} HTTP/1.1\r\nhost: ashore\r\nconnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(socket)
                try:
                    writer.write(request.encode())
                    answer = bytearray()
                    while len(answer) <= MAX_BYTES and (piece := await reader.read(PIECE_BYTES)):
                        answer += piece
                finally:
                    writer.close()
        except FileNotFoundError:  # it starts
            return None
        except (OSError, TimeoutError) as fault:
            log.warning("the process on %s did not answer %s: %s", socket, path, fault or "too slow")
            return None
        if len(answer) > MAX_BYTES:
            log.warning("the process on %s answered %s with more than %d bytes", socket, path, MAX_BYTES)
            return None
        head, _, body = bytes(answer).partition(b"\r\n\r\n")
        return body if head.startswith(b"HTTP/1.1 200 ") else None
