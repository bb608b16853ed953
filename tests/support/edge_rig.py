"""Envoy with ashore's configuration, and in place of the API worker a server that shows what reached it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ashore.kit.processes import get_from
from ashore.machine.edge import EdgePlan, edge_child, find_envoy, worker_sockets, write_files


class Worker:
    """Answers with what it was asked, as JSON, on a unix socket. Some paths make it behave otherwise."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.seen: list[str] = []
        """Paths of the requests that came, health checks aside."""
        self.body_bytes: list[int] = []
        self.writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> asyncio.Server:
        return await asyncio.start_unix_server(self._serve, self.path, limit=1 << 20)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                request, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                path = request.split(" ")[1]
                if path not in ("/readyz", "/healthz"):
                    self.seen.append(path)
                if path == "/break-off" or path == f"/break-off/{Path(self.path).name}":
                    return
                if path == "/early":
                    writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n")
                    await self._read_body(reader, headers)
                    continue
                if path == "/stream":
                    await self._stream(writer)
                    continue
                length = await self._read_body(reader, headers)
                self.body_bytes.append(length)
                body = json.dumps({"path": path, "headers": headers, "body_bytes": length}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _read_body(self, reader: asyncio.StreamReader, headers: dict[str, str]) -> int:
        if "content-length" in headers:
            return len(await reader.readexactly(int(headers["content-length"])))
        length = 0
        if headers.get("transfer-encoding") == "chunked":
            while True:
                size = int((await reader.readline()).strip(), 16)
                await reader.readexactly(size + 2)
                length += size
                if size == 0:
                    break
        return length

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(20):
            event = b"data: %d %.6f\n\n" % (number, time.perf_counter())
            writer.write(b"%x\r\n%s\r\n" % (len(event), event))
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write(b"0\r\n\r\n")


class Rig:
    """A running Envoy and the workers behind it."""

    def __init__(self, plan: EdgePlan, workers: list[Worker], log: Path, stop: Callable[[int], None]) -> None:
        self.plan = plan
        self.workers = workers
        self.log = log
        self._stop = stop

    def stop_worker(self, index: int) -> None:
        """Close a worker's socket and its connections, as its death would."""
        self._stop(index)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.plan.port}"

    def apply(self, **changes: object) -> None:
        """Write the configuration again, changed."""
        self.plan = replace(self.plan, **changes)  # type: ignore[arg-type]
        write_files(self.plan)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stat(self, name: str) -> int:
        """Return a counter of Envoy."""
        page = get_from(self.plan.admin_socket, f"/stats?filter=^{name}$") or b""
        return int(page.decode().rpartition(": ")[2] or 0)


@contextmanager
def edge_rig(run: Path, port: int, *, num_workers: int = 1, **changes: object) -> Iterator[Rig]:
    """Run Envoy without TLS in front of `num_workers` showing workers."""
    run.mkdir(parents=True, exist_ok=True)
    sockets = tuple(worker_sockets(run, index) for index in range(num_workers))
    plan = EdgePlan(run=run, host="127.0.0.1", port=port, tls=None, workers=sockets, control=sockets[0].http)
    plan = replace(plan, **changes)  # type: ignore[arg-type]
    workers = [Worker(one.http) for one in sockets]
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    servers = [asyncio.run_coroutine_threadsafe(worker.start(), loop).result(5) for worker in workers]

    async def stop_one(index: int) -> None:
        servers[index].close()
        for writer in list(workers[index].writers):
            writer.close()

    def stop(index: int) -> None:
        Path(workers[index].path).unlink(missing_ok=True)
        asyncio.run_coroutine_threadsafe(stop_one(index), loop).result(5)

    write_files(plan)
    log = run / "edge.log"
    with open(log, "wb") as sink:
        process = subprocess.Popen(edge_child(plan, find_envoy(), log=log).argv, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + 20
        while get_from(plan.admin_socket, "/ready") is None or not listens(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield Rig(plan, workers, log, stop)
    finally:
        process.terminate()
        process.wait(10)

        async def close() -> None:
            for server in servers:
                server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
