"""What one streamed token costs an API worker: from the frame that brings it to the bytes that its client gets.

    python -m benchmarks.token_cost [--streams N] [--tokens N] [--rounds N] [--way plain|shared|stop|whole]

One process: a host that sends frames made beforehand, the whole request path behind the HTTP server, and clients in
another process that only read. Microseconds of this thread's processor time, user and system together; the end of the
answers is counted with their tokens, what comes before the first frame is not. Compare two versions in alternation.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import selectors
import socket
import statistics
import tempfile
import time
from pathlib import Path

from tests.support.memory_replica import ECHO_INFO

from ashore.control.faces.table import ROUTES
from ashore.core.clock import SystemClock
from ashore.core.ids import OrderId
from ashore.data.authority import OpenDoor
from ashore.data.cache import AnswerCache, CachePolicy, FixedEpochs
from ashore.data.engines import EngineEvent, Finished, HostClient, Token
from ashore.data.engines import frames as wire
from ashore.data.http import HttpApp, HttpServer, listen
from ashore.data.path import BytesText, HttpListen, Limits, ServedModel, ServingService, Topology
from ashore.kit.metrics import Metrics

WAYS = {
    "plain": {"stream": True, "temperature": 1},
    "shared": {"stream": True, "temperature": 0},
    "stop": {"stream": True, "temperature": 1, "stop": ["\x00"]},
    "whole": {"stream": False, "temperature": 1},
}
"""Fields of the request: nobody else may read the answer, others may, a stop string is looked for, not streamed."""


class Host:
    """Greets, and gathers the orders that it gets."""

    def __init__(self) -> None:
        self.orders: list[OrderId] = []
        self.writer: asyncio.StreamWriter | None = None

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writer = writer
        writer.write(wire.encode(wire.Hello(wire.PROTOCOL_VERSION, ECHO_INFO)))
        frames = wire.FrameReader()
        while data := await reader.read(1 << 16):
            for body in frames.feed(data):
                message = wire.decode_to_host(body)
                if isinstance(message, wire.Generate):
                    self.orders.append(message.order.order_id)


def read_all(port: int, requests: list[bytes]) -> None:
    """Send each request on a connection of its own, and read until the server closes it."""
    selector = selectors.DefaultSelector()
    for request in requests:
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(request)
        selector.register(one, selectors.EVENT_READ)
    left = len(requests)
    while left:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            if not key.fileobj.recv(1 << 18):
                selector.unregister(key.fileobj)
                key.fileobj.close()
                left -= 1


def request_of(way: str, number: int, tokens: int) -> bytes:
    """Return the bytes of one request."""
    said = {"model": "m", "messages": [{"role": "user", "content": f"{number:06d}"}], "max_tokens": tokens}
    body = json.dumps({**said, **WAYS[way]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def measure(way: str, *, streams: int, tokens: int, rounds: int) -> list[float]:
    """Return the microseconds of a token, in each round."""
    folder, host, clock = Path(tempfile.mkdtemp(prefix="token.")), Host(), SystemClock()
    listening = await asyncio.start_unix_server(host.meet, str(folder / "h.sock"))
    model = ServedModel(alias="m", release="m-1", kind="fake", sockets=(str(folder / "h.sock"),))
    serving = ServingService(
        Topology(models=(model,)),
        make_replica=HostClient,
        load_text=lambda served: BytesText(),
        check_grammar=lambda grammar: None,
        clock=clock,
        metrics=Metrics(),
        cache=AnswerCache(CachePolicy(mode="exact"), secret=b"s" * 32, epochs=FixedEpochs(), clock=clock),
    )
    await serving.start()
    await serving.connected(10)
    app = HttpApp(serving, OpenDoor(), Metrics(), ROUTES, limits=Limits())
    sock = listen(HttpListen(host="127.0.0.1", port=0))
    server = HttpServer(app, sock, Limits())
    server.start()
    app.start()
    seen = []
    for turn in range(rounds):
        host.orders.clear()
        asked = [request_of(way, turn * streams + at, tokens) for at in range(streams)]
        reader = multiprocessing.get_context("fork").Process(target=read_all, args=(sock.getsockname()[1], asked))
        reader.start()
        while len(host.orders) < streams:
            await asyncio.sleep(0.001)
        frames = [
            wire.encode(wire.Events([Token(order, 97 + (step + at) % 26) for at, order in enumerate(host.orders)]))
            for step in range(tokens)
        ]
        ends: list[EngineEvent] = [Finished(order, "length", 6, 0, tokens) for order in host.orders]
        frames.append(wire.encode(wire.Events(ends)))
        assert host.writer is not None
        began_s = time.thread_time()
        for frame in frames:
            host.writer.write(frame)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        while serving.in_flight:
            await asyncio.sleep(0.001)
        seen.append((time.thread_time() - began_s) / (streams * tokens) * 1e6)
        await asyncio.to_thread(reader.join)
        assert reader.exitcode == 0
    await server.stop()
    await app.close()
    await serving.close()
    listening.close()
    return seen


def main() -> None:
    """Measure, and print one line for each way."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    words.add_argument("--streams", type=int, default=16)
    words.add_argument("--tokens", type=int, default=128)
    words.add_argument("--rounds", type=int, default=8)
    words.add_argument("--way", choices=sorted(WAYS), action="append")
    asked = words.parse_args()
    for way in asked.way or WAYS:
        seen = asyncio.run(measure(way, streams=asked.streams, tokens=asked.tokens, rounds=asked.rounds))
        print(
            f"{way}: {statistics.median(seen):.1f} µs a token, median of {len(seen)} "
            f"({min(seen):.1f} to {max(seen):.1f}); {asked.streams} streams of {asked.tokens} tokens",
            flush=True,
        )


if __name__ == "__main__":
    main()
