"""What one repeated cached answer costs an API worker: from the bytes that Envoy forwards to the bytes of the answer.

    python -m benchmarks.request_cost [--rounds N] [--calls]

One process: a whole worker as `ashore up` starts it, with keys, policy, budgets, audit log and access log in a home of
its own, behind a transport that swallows what is written. Prints the microseconds of processor time that a request
takes in the thread that answers, the least of many rounds, and in the process's other threads (the audit log has one);
and how many Python functions one request calls, which is the same number each time. `--calls` prints only that number
and each function with how often it is called. Compare two versions in alternation.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.memory_replica import MemoryReplica

from ashore.core.clock import SystemClock
from ashore.data.audit import AuditLink
from ashore.data.authority import keep_first_key, make_first_key
from ashore.data.path import HttpListen, ServedModel, StateLink, Topology, write_topology
from ashore.data.worker import serve
from ashore.kit.state import open_database

BODY = (
    b'{"model": "fake:echo", "messages": [{"role": "system", "content": "You are helpful."}, '
    b'{"role": "user", "content": "What is the capital of France, and why is it so?"}], "temperature": 0}'
)
WARM_UP = 50
"""Requests after which the answer is at hand and everything that is remembered is."""
AT_ONCE = 100
"""Requests between two turns of the loop, in which the access log is written."""


def request(key: str, number: int) -> bytes:
    """Return a request as Envoy forwards it, with an id of its own, and the first from another address."""
    head = (
        "POST /v1/chat/completions HTTP/1.1",
        "host: bench",
        "content-type: application/json",
        f"content-length: {len(BODY)}",
        f"authorization: Bearer {key}",
        f"x-forwarded-for: 192.0.2.{2 if number else 1}",
        "x-forwarded-proto: http",
        "x-envoy-external-address: 127.0.0.1",
        f"x-request-id: 3304d2b4-f9b5-4f3b-aae8-{number:012x}",
    )
    return "\r\n".join(head).encode() + b"\r\n\r\n" + BODY


class Swallow(asyncio.Transport):
    """A connection to a unix socket whose peer reads everything at once; keeps the last answer."""

    def __init__(self) -> None:
        super().__init__({"peername": ""})
        self.last: bytes | bytearray | memoryview = b""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.last = data

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    close = abort


class LentLoop(asyncio.SelectorEventLoop):
    """Gives away how the server makes its connections."""

    def __init__(self) -> None:
        super().__init__()
        self.lent: asyncio.Future[Callable[[], asyncio.BufferedProtocol]] = self.create_future()

    async def connect_accepted_socket(self, protocol_factory: Any, sock: socket.socket, **options: Any) -> Any:
        """Lend the factory, and close the connection."""
        sock.close()
        if not self.lent.done():
            self.lent.set_result(protocol_factory)


def make_home(home: Path) -> tuple[Path, str]:
    """Write what a worker is started with; return the topology and the first key."""
    key = make_first_key(home / "first-key")
    link = StateLink(path=str(home / "state.db"), snapshots=str(home / "snapshots"))
    state = open_database(Path(link.path), snapshots=Path(link.snapshots), clock=SystemClock())
    with state.write() as connection:
        keep_first_key(connection, key, created_s=1)
    state.close()
    topology = Topology(
        models=(ServedModel(alias="fake:echo", release="fake:echo-1", kind="fake", sockets=("/memory",), created_s=1),),
        http=HttpListen(uds=str(home / "api.sock")),
        state=link,
        audit=AuditLink(path=str(home / "audit"), keys=str(home / "audit-keys")),
        budgets=str(home / "budgets"),
        first_key_file=str(home / "first-key"),
        access_log=True,
    )
    path = home / "topology.json"
    write_topology(topology, path)
    return path, key


class Asker:
    """Sends requests on one connection, whose answers are there when `ask` returns."""

    def __init__(self, protocol: asyncio.BufferedProtocol, key: str) -> None:
        self._protocol = protocol
        self._transport = Swallow()
        protocol.connection_made(self._transport)
        self._requests = [request(key, number) for number in range(256)]

    def ask(self, number: int) -> bytes:
        """Return the answer to one request."""
        self._protocol.buffer_updated(self._sent(number))
        return bytes(self._transport.last)

    def calls(self, number: int) -> Counter[str]:
        """Return the Python functions that one request calls."""
        seen: Counter[str] = Counter()

        def note(frame: FrameType, event: str, arg: object) -> None:
            if event == "call":
                seen[f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_qualname}"] += 1

        updated, num_bytes = self._protocol.buffer_updated, self._sent(number)
        sys.setprofile(note)
        try:
            updated(num_bytes)
        finally:
            sys.setprofile(None)
        del seen[f"{__name__}.Swallow.write"]
        return seen

    def _sent(self, number: int) -> int:
        """Put the bytes of a request where the loop puts what it reads; return how many they are."""
        data = self._requests[number % len(self._requests)]
        self._protocol.get_buffer(-1)[: len(data)] = data
        return len(data)

    def leave(self) -> None:
        """Close the connection."""
        self._protocol.connection_lost(None)


@contextmanager
def quiet() -> Iterator[None]:
    """Throw away what goes to stderr, where the access log is."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


async def with_worker(home: Path, work: Callable[[Asker], Any]) -> Any:
    """Run a worker in this loop, have `work` done with a connection to it, and stop it."""
    path, key = make_home(home)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LentLoop)
    serving = asyncio.create_task(serve(path, make_replica=lambda socket: MemoryReplica()))
    while not (home / "api.sock").exists():
        await asyncio.sleep(0.01)
        assert not serving.done(), serving.result()
    await asyncio.sleep(0.1)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(str(home / "api.sock"))
        make = await loop.lent
    asker = Asker(make(), key)
    try:
        while b"x-ashore-cache: hit-exact" not in asker.ask(0):
            await asyncio.sleep(0.01)
        for number in range(1, WARM_UP):
            asker.ask(number)
        return await work(asker)
    finally:
        asker.leave()
        signal.raise_signal(signal.SIGTERM)
        await serving


def run(work: Callable[[Asker], Any]) -> Any:
    """Do `work` with a connection to a worker in a home that is thrown away."""
    with (
        tempfile.TemporaryDirectory(prefix="request.") as home,
        quiet(),
        asyncio.Runner(loop_factory=LentLoop) as runner,
    ):
        return runner.run(with_worker(Path(home), work))


async def count_calls(asker: Asker) -> Counter[str]:
    """Return the functions that a repeated request calls, as most of a few requests do."""
    seen = [asker.calls(number) for number in range(1, 22)]
    middle = statistics.median(one.total() for one in seen)
    return next(one for one in seen if one.total() == middle)


async def measure(asker: Asker, *, rounds: int) -> tuple[float, float]:
    """Return the microseconds of a request: of this thread, the least of all rounds; and of the process's others."""
    least_s, all_s, process_began_s = float("inf"), 0.0, time.process_time()
    for _ in range(rounds):
        began_s = time.thread_time()
        for number in range(1, AT_ONCE + 1):
            asker.ask(number)
        took_s = time.thread_time() - began_s
        least_s, all_s = min(least_s, took_s), all_s + took_s
        await asyncio.sleep(0)
    others_s = time.process_time() - process_began_s - all_s
    return least_s / AT_ONCE * 1e6, others_s / AT_ONCE / rounds * 1e6


def main() -> None:
    """Measure, and print a line for each figure."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    words.add_argument("--rounds", type=int, default=1000, help=f"of {AT_ONCE} requests")
    words.add_argument("--calls", action="store_true", help="count the calls, and name them")
    asked = words.parse_args()
    if asked.calls:
        calls = run(count_calls)
        print(f"{calls.total()} calls a request")
        for name, count in calls.most_common():
            print(f"{count:4} {name}")
        return

    async def both(asker: Asker) -> tuple[Counter[str], tuple[float, float]]:
        return await count_calls(asker), await measure(asker, rounds=asked.rounds)

    calls, (own_us, others_us) = run(both)
    print(
        f"{own_us:.1f} µs a request in the thread that answers, least of {asked.rounds:,} rounds of {AT_ONCE}, and "
        f"{others_us:.1f} in others; {calls.total()} Python calls"
    )


if __name__ == "__main__":
    main()
