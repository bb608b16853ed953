"""Queries to the other workers: what one answers is read up to a bound, and no further."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from ashore.data.http.app import MAX_BYTES, Siblings


async def ask(head: bytes, body_bytes: int, timeout_s: float = 1.0) -> tuple[list[bytes], int]:
    """Return what is heard from a worker that wants to send so many bytes, and how many of them it could send."""
    sent = 0
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            while sent < body_bytes:
                piece = min(1 << 20, body_bytes - sent)
                writer.write(b"x" * piece)
                await writer.drain()
                sent += piece
        except ConnectionError:
            pass  # the one that asks hung up: what this test is about
        finally:
            writer.close()
            ended.set()

    with TemporaryDirectory() as folder:
        path = str(Path(folder) / "worker.sock")
        async with await asyncio.start_unix_server(answer, path):
            heard = await Siblings([path]).ask("/metrics", timeout_s=timeout_s)
            await ended.wait()
    return heard, sent


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"


def test_an_answer_comes_without_its_head() -> None:
    assert asyncio.run(ask(OK, 3)) == ([b"xxx"], 3)


def test_an_error_is_left_out() -> None:
    assert asyncio.run(ask(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 3)) == ([], 3)


def test_an_endless_answer_is_read_up_to_the_bound() -> None:
    heard, sent = asyncio.run(ask(OK, 20 * MAX_BYTES, 60.0))  # the bound of bytes ends it, not the clock
    assert heard == []
    assert sent < 2 * MAX_BYTES
