"""A network in miniature: forwards bytes between a twin server and its neighbours; slow, lossy or cut on request.

A separate process that uses only the standard library: `python -I -S link.py CONFIG`. CONFIG is a file of JSON:
`{"lines": {NAME: [LISTEN_PORT, HOST, PORT]}, "weather": FILE, "seen": FILE}`. `weather` is read again every 20 ms. It
has the conditions of each impaired line; an empty object means normal:

- `delay_ms`, `jitter_ms`: each way, for every piece; the order stays.
- `stall_share`, `stall_ms`: of the pieces, those that are lost. What TCP makes of a lost packet is what a program feels
  of it: the piece and all behind it wait for the retransmission, twice as long where that is lost too.
- `reset_share`: of the pieces, those at which the connection is reset (RST).
- `cut`: nothing passes. What was sent waits, and arrives when the line is whole. A new connection is not answered: its
  SYN is dropped, because the queue of the listener is full, and is sent again by the kernel of the caller.

This is a model of TCP over such a line, one step above packets: windows, reordering and MTU have no part in it.

`seen` is written after each change: how many connections, pieces, and troubles of each kind a line had.
"""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import sys
from pathlib import Path
from typing import Any

PIECE = 65_536
AHEAD = 64
"""Pieces that may be under way on one line in one direction."""
LOOK_S = 0.02
QUEUE = 256
GONE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST."""

Weather = dict[str, float]


class Line:
    """One line to one neighbour, and its current conditions."""

    def __init__(self, port: int, host: str, to_port: int) -> None:
        self.host, self.to_port = host, to_port
        self.weather: Weather = {}
        self.seen = {"connections": 0, "pieces": 0, "delayed": 0, "stalled": 0, "reset": 0, "held": 0}
        self._whole = asyncio.Event()
        self._whole.set()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen(QUEUE)
        self._listener.setblocking(False)
        self._fillers: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def go(self) -> None:
        """Accept connections while the line is up."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._listener, self._accept)

    def turn(self, weather: Weather) -> None:
        """Change the conditions."""
        was, now = bool(self.weather.get("cut")), bool(weather.get("cut"))
        self.weather = weather
        if now and not was:
            self._close_gate()
        elif was and not now:
            self._open_gate()

    def _close_gate(self) -> None:
        self._whole.clear()
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.listen(0)
        for _ in range(3):  # a queue of length 0 holds one connection; a full one drops every SYN
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())
            self._fillers.append(filler)

    def _open_gate(self) -> None:
        ours = {filler.getsockname()[1] for filler in self._fillers}
        self._listener.listen(QUEUE)
        while self._accept(but=ours):
            pass
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self._whole.set()
        self.go()

    def _accept(self, but: frozenset[int] | set[int] = frozenset()) -> bool:
        """Accept one waiting connection, and return whether there was one; connections from the ports `but` are
        closed.
        """
        try:
            client, (_, port) = self._listener.accept()
        except OSError:
            return False
        if port in but:
            client.close()
            return True
        task = asyncio.get_running_loop().create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _serve(self, client: socket.socket) -> None:
        """Forward both directions of one connection until both have ended, or one breaks."""
        loop = asyncio.get_running_loop()
        server = socket.socket()
        self.seen["connections"] += 1
        try:
            for one in (client, server):
                one.setblocking(False)
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(server, (self.host, self.to_port))
            async with asyncio.TaskGroup() as both:
                for source, target in ((client, server), (server, client)):
                    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)
                    both.create_task(self._take(source, under_way))
                    both.create_task(self._give(under_way, target))
        except* OSError:
            for one in (client, server):  # whatever broke one side breaks the other
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, GONE)
        finally:
            client.close()
            server.close()

    async def _take(self, source: socket.socket, under_way: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Read one direction to its end, and set when each piece may arrive."""
        loop = asyncio.get_running_loop()
        due, data = 0.0, b"."
        while data:
            data = await loop.sock_recv(source, PIECE)
            delay_ms = self.weather.get("delay_ms", 0.0)
            if delay_ms:
                delay_ms += random.uniform(0.0, self.weather.get("jitter_ms", 0.0))
                self.seen["delayed"] += 1
            due = max(due, loop.time() + delay_ms / 1e3)
            await under_way.put((due, data))

    async def _give(self, under_way: asyncio.Queue[tuple[float, bytes]], target: socket.socket) -> None:
        """Forward one direction, each piece when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            due, data = await under_way.get()
            if (wait_s := due - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            if not self._whole.is_set():
                self.seen["held"] += 1
                await self._whole.wait()
            if random.random() < self.weather.get("reset_share", 0.0):
                self.seen["reset"] += 1
                raise ConnectionResetError
            again_s = self.weather.get("stall_ms", 200.0) / 1e3
            while random.random() < self.weather.get("stall_share", 0.0):
                self.seen["stalled"] += 1
                await asyncio.sleep(again_s)
                again_s *= 2
            self.seen["pieces"] += 1
            if not data:
                target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(target, data)


class Files:
    """Files with the conditions of the lines, and with their counts."""

    def __init__(self, weather: Path, seen: Path) -> None:
        self._weather, self._seen = weather, seen
        self._last_weather, self._last_seen = b"", ""

    def news(self) -> dict[str, Weather] | None:
        """Return the changed conditions of each line."""
        with contextlib.suppress(OSError, ValueError):
            text = self._weather.read_bytes()
            if text != self._last_weather:
                told: dict[str, Weather] = json.loads(text)
                self._last_weather = text
                return told
        return None

    def tell(self, seen: dict[str, dict[str, int]]) -> None:
        """Write the counts of the lines, if changed."""
        text = json.dumps(seen)
        if text == self._last_seen:
            return
        with contextlib.suppress(OSError):
            scratch = self._seen.with_name(f".{self._seen.name}")
            scratch.write_text(text)
            os.replace(scratch, self._seen)
            self._last_seen = text


async def main(told: dict[str, Any]) -> None:
    """Open every line, and follow the conditions until this process is ended."""
    files = Files(Path(told["weather"]), Path(told["seen"]))
    lines = {name: Line(*where) for name, where in told["lines"].items()}
    for line in lines.values():
        line.go()
    while True:
        news = files.news()
        if news is not None:
            for name, line in lines.items():
                line.turn(news.get(name, {}))
        files.tell({name: line.seen for name, line in lines.items()})
        await asyncio.sleep(LOOK_S)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_bytes())))
