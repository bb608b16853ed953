"""One suite for every tier that processes share: the real Valkey, and the twin in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from memory_tier import MemoryTier
from valkey_server import ValkeyServer, binary, free_port

from ashore.core.clock import SystemClock
from ashore.core.errors import InvalidSpec
from ashore.data.cache import SharedTier, valkey
from ashore.data.cache.valkey import ValkeyTier, connect, parse_sentinels
from ashore.machine.edge import keep_certificate

Scenario = Callable[[SharedTier], Awaitable[None]]
KEY, OTHER = b"k" * 32, b"o" * 32


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ValkeyServer]:
    made = ValkeyServer(tmp_path).start()
    yield made
    made.kill()


@asynccontextmanager
async def tier_on(url: str, *, timeout_s: float = 1.0) -> AsyncIterator[ValkeyTier]:
    tier = ValkeyTier(connect(url), timeout_s=timeout_s, clock=SystemClock())
    try:
        yield tier
    finally:
        await tier.close()


async def kept(tier: SharedTier, key: bytes, *, tries: int = 200) -> bytes | None:
    """Look until the value is there; writes are queued."""
    for _ in range(tries):
        found = await tier.get(key)
        if found is not None:
            return found
        await asyncio.sleep(0.005)
    return None


@pytest.fixture(params=["memory", "valkey"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    if request.param == "memory":

        def in_memory(scenario: Scenario) -> None:
            asyncio.run(scenario(MemoryTier(SystemClock())))

        return in_memory
    server: ValkeyServer = request.getfixturevalue("server")

    def on_valkey(scenario: Scenario) -> None:
        async def whole() -> None:
            async with tier_on(server.url) as tier:
                await scenario(tier)

        asyncio.run(whole())

    return on_valkey


def test_a_value_is_found_under_its_key_alone(run: Callable[[Scenario], None]) -> None:
    async def scenario(tier: SharedTier) -> None:
        assert await tier.get(KEY) is None
        tier.put(KEY, b"answer \x00\xff", 60)
        assert await kept(tier, KEY) == b"answer \x00\xff"
        assert await tier.get(OTHER) is None
        tier.put(KEY, b"newer", 60)
        for _ in range(200):
            if await tier.get(KEY) == b"newer":
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the newer value never came")

    run(scenario)


def test_a_value_is_gone_when_its_time_is_over(run: Callable[[Scenario], None]) -> None:
    async def scenario(tier: SharedTier) -> None:
        tier.put(KEY, b"short", 0.2)
        assert await kept(tier, KEY) == b"short"
        await asyncio.sleep(0.3)
        assert await tier.get(KEY) is None

    run(scenario)


def test_many_ask_at_once(run: Callable[[Scenario], None]) -> None:
    async def scenario(tier: SharedTier) -> None:
        keys = [bytes([n % 256, n // 256]) * 16 for n in range(500)]
        for key in keys:
            tier.put(key, key[:4], 60)
        assert await kept(tier, keys[-1]) is not None
        assert await asyncio.gather(*(tier.get(key) for key in keys)) == [key[:4] for key in keys]

    run(scenario)


def test_a_closed_tier_misses(run: Callable[[Scenario], None]) -> None:
    async def scenario(tier: SharedTier) -> None:
        tier.put(KEY, b"x", 60)
        await tier.close()
        await tier.close()
        tier.put(KEY, b"y", 60)
        assert await tier.get(KEY) is None

    run(scenario)


def test_what_was_queued_is_written_before_closing(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with tier_on(server.url) as first:
            first.put(KEY, b"x", 60)
        async with tier_on(server.url) as second:
            assert await second.get(KEY) == b"x"

    asyncio.run(scenario())


def test_a_worker_that_is_late_itself_takes_the_answer_and_does_not_call_the_server_slow(server: ValkeyServer) -> None:
    told: list[str] = []

    async def scenario() -> None:
        tier = ValkeyTier(connect(server.url), timeout_s=0.005, clock=SystemClock(), told=told.append)
        try:
            tier.put(KEY, b"x", 60)
            assert await kept(tier, KEY) == b"x"
            for _ in range(3 * valkey.SLOW_IN_A_ROW):
                looked = asyncio.create_task(tier.get(KEY))
                await asyncio.sleep(0)  # it is asked
                await asyncio.sleep(0)  # it is sent
                time.sleep(0.02)  # the loop is held up by something else, as a busy one is all the time
                assert await looked == b"x"
            assert tier.up
        finally:
            await tier.close()

    asyncio.run(scenario())
    assert told == []


class Slow:
    """A client, and its pipeline, of a server that takes its time."""

    def __init__(self) -> None:
        self.begun, self.written = asyncio.Event(), list[bytes]()
        self.connection_pool = None

    def pipeline(self, *, transaction: bool) -> Slow:
        return self

    async def __aenter__(self) -> Slow:
        return self

    async def __aexit__(self, *fault: object) -> None: ...

    def set(self, key: bytes, value: bytes, *, px: int) -> None:
        self._value = value

    async def execute(self, *, raise_on_error: bool) -> list[object]:
        self.begun.set()
        await asyncio.sleep(0.1)
        self.written.append(self._value)
        return [True]

    async def ping(self) -> None: ...

    async def aclose(self) -> None: ...


def test_a_write_that_is_on_its_way_arrives_before_closing() -> None:
    async def scenario() -> None:
        slow = Slow()
        tier = ValkeyTier(slow, timeout_s=1.0, clock=SystemClock())  # type: ignore[arg-type]
        tier.put(KEY, b"x", 60)
        await slow.begun.wait()
        await tier.close()
        assert slow.written == [b"x"]

    asyncio.run(scenario())


@contextmanager
def answering(serve: Callable[[socket.socket], None], listener: socket.socket) -> Iterator[None]:
    """Have a server of one's own, in a thread for each connection, for as long as the block takes and no longer."""
    over, threads = threading.Event(), []

    def one(sock: socket.socket) -> None:
        with sock:
            serve(sock)
            over.wait(10)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threads.append(threading.Thread(target=one, args=(listener.accept()[0],)))
                threads[-1].start()

    listener.listen()
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        for thread in threads:
            thread.join()


def answer_commands(sock: socket.socket) -> None:
    """Answer what a client says first; return where it says more than that."""
    while len(asked := sock.recv(65_536)) in range(1, 2000):
        sock.sendall(b"+OK\r\n" * asked.count(b"*"))


def test_nothing_is_left_of_a_connection_on_which_a_write_was_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "CLOSE_WAIT_S", 0.1)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))

    async def scenario() -> None:
        async with tier_on(f"unix://{tmp_path}/s") as tier:
            for n in range(4):
                tier.put(bytes([n]) * 32, b"z" * 1_000_000, 60)
            await asyncio.sleep(0.1)  # the server has stopped reading by now, and the rest is waiting here

    with answering(answer_commands, listener), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(scenario())
        gc.collect()
    assert [str(one.message) for one in told] == []


@pytest.mark.parametrize(
    "reply",
    [
        b":5\r\n",
        b"+OK\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"*1\r\n:7\r\n",
        b"*1\r\n-ERR x\r\n",
        b"*1\r\n*1\r\n$1\r\na\r\n",
        b"\x00\xffjunk",
    ],
)
def test_a_server_that_answers_rubbish_is_a_miss_and_is_believed_again_once_it_does_not(reply: bytes) -> None:
    sane = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while asked := await reader.read(65_536):
                told = b"*1\r\n$4\r\nkept\r\n" if sane.is_set() else reply
                writer.write(told if b"MGET" in asked else b"+OK\r\n" * asked.count(b"*"))

    async def scenario() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, tier_on(f"redis://127.0.0.1:{port}") as tier:
            for _ in range(3):
                assert await tier.get(KEY) is None
            sane.set()
            assert await kept(tier, KEY) == b"kept"

    asyncio.run(scenario())


def test_a_killed_server_is_a_miss_at_once_and_comes_back_by_itself(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, port=free_port()).start()

    async def scenario() -> None:
        async with tier_on(server.url, timeout_s=0.005) as tier:
            tier.put(KEY, b"x", 60)
            assert await kept(tier, KEY) == b"x"
            server.kill()
            began_s = time.perf_counter()
            assert await tier.get(KEY) is None
            assert time.perf_counter() - began_s < 1
            await asyncio.sleep(0.02)
            assert not tier.up
            for n in range(10_000):
                tier.put(n.to_bytes(32, "big"), b"z" * 1000, 60)
            assert tier.dropped >= 10_000
            server.start()
            for _ in range(300):
                if tier.up:
                    break
                await asyncio.sleep(0.02)
            assert tier.up
            tier.put(KEY, b"again", 60)
            assert await kept(tier, KEY) == b"again"

    try:
        asyncio.run(scenario())
    finally:
        server.kill()


def test_a_stopped_server_holds_nobody_up(server: ValkeyServer) -> None:
    async def scenario() -> None:
        async with tier_on(server.url, timeout_s=0.005) as tier:
            tier.put(KEY, b"x", 60)
            assert await kept(tier, KEY) == b"x"
            server.signal(signal.SIGSTOP)
            try:
                waits = []
                for _ in range(20):
                    began_s = time.perf_counter()
                    assert await tier.get(OTHER) is None
                    waits.append(time.perf_counter() - began_s)
                assert not tier.up
                assert sorted(waits)[len(waits) // 2] < 0.005
            finally:
                server.signal(signal.SIGCONT)
            for _ in range(500):
                if tier.up and await tier.get(KEY) == b"x":
                    return
                await asyncio.sleep(0.02)
            raise AssertionError("it did not come back")

    asyncio.run(scenario())


def test_a_full_server_refuses_writes_and_still_answers(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction").start()

    async def scenario() -> None:
        async with tier_on(server.url) as tier:
            tier.put(KEY, b"first", 60)
            assert await kept(tier, KEY) == b"first"
            for n in range(60):
                tier.put(n.to_bytes(32, "big"), os.urandom(100_000), 60)
            for _ in range(200):
                if tier.dropped:
                    break
                await asyncio.sleep(0.01)
            assert tier.dropped
            assert tier.up
            assert await tier.get(KEY) == b"first"

    try:
        asyncio.run(scenario())
    finally:
        server.kill()


def test_a_user_with_an_access_list_is_let_in(tmp_path: Path) -> None:
    rights = "on >s3cret ~ashore:* +get +mget +set +ping +hello +client|setinfo +client|setname"
    users = ["--user", "ashore", *rights.split(), "--user", "default", "off"]
    server = ValkeyServer(tmp_path, *users, port=free_port()).start()

    async def scenario() -> None:
        async with tier_on(f"redis://ashore:s3cret@127.0.0.1:{server.port}") as tier:
            tier.put(KEY, b"x", 60)
            assert await kept(tier, KEY) == b"x"
        async with tier_on(f"redis://ashore:wrong@127.0.0.1:{server.port}") as tier:
            assert await tier.get(KEY) is None
            assert not tier.up

    try:
        asyncio.run(scenario())
    finally:
        server.kill()


@contextmanager
def sentinel(folder: Path, master: ValkeyServer) -> Iterator[int]:
    """Run a Sentinel that watches one master, and yield its port."""
    port, rules = free_port(), folder / "sentinel.conf"
    lines = ("down-after-milliseconds main 300", "failover-timeout main 1000")
    watched = f"sentinel monitor main 127.0.0.1 {master.port} 1"
    rules.write_text("\n".join([f"port {port}", "bind 127.0.0.1", watched, *(f"sentinel {line}" for line in lines)]))
    with subprocess.Popen([str(binary()), str(rules), "--sentinel"], cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.kill()


def test_a_sentinel_leads_to_the_master_and_to_the_next_one(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    first = ValkeyServer(folders[0], "--repl-diskless-sync-delay", "0", port=free_port()).start()
    second = ValkeyServer(folders[1], "--replicaof", "127.0.0.1", str(first.port), port=free_port()).start()

    async def scenario(port: int) -> None:
        async with tier_on(f"redis+sentinel://127.0.0.1:{port}/main") as tier:
            tier.put(KEY, b"x", 60)
            assert await kept(tier, KEY) == b"x"
            await asyncio.sleep(2.0)  # the Sentinel learns of the replica, and the replica of the value
            first.kill()
            assert await tier.get(KEY) is None
            assert await kept(tier, KEY, tries=2000) == b"x", "what the first one had, the next one has"
            tier.put(OTHER, b"y", 60)  # refused by a replica, taken by a master
            assert await kept(tier, OTHER) == b"y"

    try:
        with sentinel(tmp_path, first) as port:
            asyncio.run(scenario(port))
    finally:
        first.kill()
        second.kill()


def test_tls_is_spoken_and_the_certificate_checked(
    server: ValkeyServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, other = (keep_certificate(tmp_path / name, ("127.0.0.1",), datetime.now(UTC)) for name in ("own", "other"))
    assert own.chain_pem != other.chain_pem
    (tmp_path / "chain.pem").write_text(own.chain_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", own.key_file)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while piece := await reader.read(65_536):
                writer.write(piece)

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(str(server.socket))
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))

    async def scenario() -> None:
        proxy = await asyncio.start_server(pass_on, "127.0.0.1", 0, ssl=context)
        url = f"rediss://127.0.0.1:{proxy.sockets[0].getsockname()[1]}?ssl_ca_certs={tmp_path}"
        async with proxy:
            async with tier_on(f"{url}/own/ca.pem") as tier:
                tier.put(KEY, b"x", 60)
                assert await kept(tier, KEY) == b"x"
            async with tier_on(f"{url}/other/ca.pem") as tier:
                assert await tier.get(KEY) is None
                await asyncio.sleep(0.05)
                assert not tier.up, "somebody else's authority signed what it shows"
        assert "certificate verify failed" in caplog.text

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("is_asked", "then_s"),
    [(False, 0.2), (True, 0.0), (True, 0.6)],
    ids=["idle", "ends a connection", "has ended one"],
)
def test_a_server_that_does_not_take_leave_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_asked: bool, then_s: float
) -> None:
    monkeypatch.setattr(valkey, "CONNECT_TIMEOUT_S", 0.3)  # for leaving, too
    made = keep_certificate(tmp_path, ("127.0.0.1",), datetime.now(UTC))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "edge.pem", made.key_file)
    listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)

    async def scenario() -> None:
        port = listener.getsockname()[1]
        async with tier_on(f"rediss://127.0.0.1:{port}?ssl_ca_certs={made.authority_file}") as tier:
            if is_asked:  # and answers what is no answer, so that its connection is ended by us
                assert await tier.get(KEY) is None
            await asyncio.sleep(then_s)

    with answering(answer_commands, listener), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asyncio.run(scenario())
        gc.collect()
    assert [str(one.message) for one in told] == []


def test_sentinels_are_read_from_the_url() -> None:
    found = parse_sentinels("redis+sentinel://ann:p%40ss@a:1,b/main?db=2&tls=1")
    assert found.hosts == (("a", 1), ("b", 26379))
    assert (found.master, found.username, found.password, found.db, found.tls) == ("main", "ann", "p@ss", 2, True)
    with pytest.raises(InvalidSpec, match="no master"):
        parse_sentinels("redis+sentinel://a:1")
