"""The tier that workers and machines share, on Valkey or Redis. Holds cached answers and nothing else.

Concurrent look-ups are sent as one MGET, and writes are pipelined, so that a busy worker pays for one round trip. A
server that is dead or slow is left alone: the breaker opens, every look-up is a miss at once, and a probe closes it
again when the server answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.exceptions import RedisError

from ashore.core.clock import Clock
from ashore.core.errors import InvalidSpec

log = logging.getLogger("ashore.cache")

MAX_QUEUED_BYTES: Final = 8 << 20
"""Writes that wait for the server; more are dropped."""
MAX_VALUE_BYTES: Final = 4 << 20
BATCH: Final = 128
SLOW_IN_A_ROW: Final = 3
"""Look-ups that ran out of time, one after the other, after which the server counts as down."""
TURNS_TO_HEAR: Final = 3
"""Of the loop, in which an answer that lies in the socket comes to whoever asked."""
FIRST_RETRY_S: Final = 0.1
LONGEST_RETRY_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 1.0
COMMAND_TIMEOUT_S: Final = 2.0
CLOSE_WAIT_S: Final = 1.0
PREFIX: Final = b"ashore:a:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentinels:
    """Addresses of Sentinels that know the master, from
    `redis+sentinel://user:password@host:port,host:port/master?db=0&tls=1`."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    username: str | None
    password: str | None
    db: int
    tls: bool


def parse_sentinels(url: str) -> Sentinels:
    """Parse a Sentinel URL.

    Raises:
        InvalidSpec: it names no host or no master.
    """
    parts = urlsplit(url)
    credentials, _, places = parts.netloc.rpartition("@")
    hosts = []
    for place in places.split(","):
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit():
            host, port = place, "26379"
        hosts.append((host.strip("[]"), int(port)))
    master = parts.path.strip("/")
    if not master or not all(host for host, _ in hosts):
        raise InvalidSpec(
            "the Sentinel URL names no master", hint="write redis+sentinel://host:26379,host:26379/mymaster"
        )
    username, _, password = credentials.partition(":")
    options = parse_qs(parts.query)
    return Sentinels(
        hosts=tuple(hosts),
        master=master,
        username=unquote(username) or None,
        password=unquote(password) or None,
        db=int(options.get("db", ["0"])[0]),
        tls=options.get("tls", ["0"])[0] in ("1", "true"),
    )


class _EndsAtOnce(AbstractConnection):
    """A connection that is closed abruptly and completely.

    An orderly close keeps the connection, with its unsent data, while a stuck server does not read, or a TLS server
    does not answer the shutdown. Meanwhile the pool hands it to another task, which reconnects it, and then the new
    socket is lost.
    """

    async def disconnect(self, nowait: bool = False, *rest: Any, **options: Any) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        await super().disconnect(True, *rest, **options)


def _ending_at_once(client: Redis) -> Redis:
    pool = client.connection_pool
    pool.connection_class = type("Connection", (_EndsAtOnce, pool.connection_class), {})
    return client


def connect(url: str) -> Redis:
    """Return a client, not connected yet. TLS with `rediss://`, ACL users in the URL, Sentinel as above."""
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": COMMAND_TIMEOUT_S,
        "protocol": 2,
        "retry": None,
    }
    if not url.startswith("redis+sentinel://"):
        return _ending_at_once(Redis.from_url(url, **options))
    where = parse_sentinels(url)
    options |= {"username": where.username, "password": where.password, "db": where.db, "ssl": where.tls}
    make_sentinel: Any = Sentinel  # untyped
    sentinel = make_sentinel(list(where.hosts), sentinel_kwargs={"socket_timeout": CONNECT_TIMEOUT_S})
    for one in sentinel.sentinels:
        _ending_at_once(one)
    return _ending_at_once(sentinel.master_for(where.master, **options))


class ValkeyTier:
    """One connection to the shared cache. Create it inside the event loop that uses it."""

    def __init__(
        self, client: Redis, *, timeout_s: float, clock: Clock, told: Callable[[str], None] = lambda state: None
    ) -> None:
        """Create it, and start connecting.

        Args:
            client: Client from `connect`.
            timeout_s: Time-out of one look-up.
            clock: For the breaker.
            told: Called with `up` and `down` when the state changes.
        """
        self._client = client
        self._timeout_s = timeout_s
        self._clock = clock
        self._told = told
        self._up = True
        self._slow = 0
        self._heard = 0
        """Number of look-ups that the server has answered."""
        self._wanted: dict[bytes, asyncio.Future[bytes | None]] = {}
        self._queue: dict[bytes, tuple[bytes, int]] = {}
        self._queued_bytes = 0
        self._asked = asyncio.Event()
        self._work = asyncio.Event()
        self._closed = False
        self._talks = 0
        """Commands that are on their way."""
        self.dropped = 0
        """Writes that were given up."""
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._read(), name="look-ups in the shared cache"),
            loop.create_task(self._write(), name="writes to the shared cache"),
        ]

    @property
    def up(self) -> bool:
        return self._up

    async def get(self, key: bytes) -> bytes | None:
        if not self._up or self._closed:
            return None
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
            self._asked.set()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await asyncio.shield(future)
        except TimeoutError:
            return await self._hear(future)

    async def _hear(self, future: asyncio.Future[bytes | None]) -> bytes | None:
        """Read answers that have arrived after the time-out; if there are none, the server was slow again.

        A busy loop is itself late, for longer than a look-up may take. Then the answer is already in the socket.
        """
        heard = self._heard
        for _ in range(TURNS_TO_HEAR):
            await asyncio.sleep(0)
            if future.done():
                return future.result()
        if self._heard == heard and self._up:
            self._slow += 1
            if self._slow >= SLOW_IN_A_ROW:
                self._fail(f"no answer within {self._timeout_s * 1000:g} ms, {self._slow} times in a row")
        return None

    def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        if not self._up or self._closed or len(value) > MAX_VALUE_BYTES:
            self.dropped += 1
            return
        if self._queued_bytes + len(value) > MAX_QUEUED_BYTES:
            self.dropped += 1
            return
        before = self._queue.pop(key, None)
        self._queued_bytes += len(value) - (len(before[0]) if before else 0)
        self._queue[key] = (value, max(1, int(ttl_s * 1000)))
        self._work.set()

    async def close(self) -> None:
        if self._closed:
            return
        deadline_s = self._clock.monotonic_s() + CLOSE_WAIT_S
        while (self._queue or self._talks) and self._up and self._clock.monotonic_s() < deadline_s:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)  # dequeued writes are not written yet, and a connection may be half open
        self._closed = True
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._give_up()
        await self._client.aclose()
        pool = self._client.connection_pool
        if isinstance(pool, SentinelConnectionPool):  # it leaves the connections to the Sentinels open
            for one in pool.sentinel_manager.sentinels:
                await one.aclose()

    async def _read(self) -> None:
        """Send the queued look-ups as one command, repeatedly."""
        try:
            with self._talking():
                await self._client.ping()  # connected before the first look-up, which has little time
        except (OSError, ValueError, RedisError) as fault:
            self._fail(str(fault) or type(fault).__name__)
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._wanted:
                keys = list(self._wanted)[:BATCH]
                try:
                    with self._talking():
                        values: Any = await self._client.mget([PREFIX + key for key in keys])
                except asyncio.CancelledError:
                    raise
                except (OSError, ValueError, RedisError) as fault:
                    self._fail(str(fault) or type(fault).__name__)
                    break
                if not isinstance(values, list) or len(values) != len(keys):
                    self._fail("the server sent a reply that does not fit the request")
                    await self._client.connection_pool.disconnect()  # the next answer there may belong to this one
                    break
                self._slow = 0
                self._heard += 1
                for key, value in zip(keys, values, strict=True):
                    self._settle(key, value if isinstance(value, bytes) else None)

    async def _write(self) -> None:
        """Send the queued writes, pipelined; probe a server that is down."""
        while True:
            if not self._up:
                await self._probe()
            await self._work.wait()
            self._work.clear()
            while self._queue and self._up:
                batch = list(self._queue.items())[:BATCH]
                for key, (value, _) in batch:
                    del self._queue[key]
                    self._queued_bytes -= len(value)
                try:
                    with self._talking():
                        async with self._client.pipeline(transaction=False) as pipeline:
                            for key, (value, ttl_ms) in batch:
                                pipeline.set(PREFIX + key, value, px=ttl_ms)
                            results = await pipeline.execute(raise_on_error=False)
                except (OSError, ValueError, RedisError) as fault:
                    self.dropped += len(batch)
                    self._fail(str(fault) or type(fault).__name__)
                    break
                refused = [one for one in results if isinstance(one, Exception)]
                self.dropped += len(refused)
                if refused:
                    log.warning("the shared cache refused %d of %d writes: %s", len(refused), len(batch), refused[0])

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Make `close` wait for the work inside the block."""
        self._talks += 1
        try:
            yield
        finally:
            self._talks -= 1

    async def _probe(self) -> None:
        """Wait until the server answers again."""
        wait_s = FIRST_RETRY_S
        while not self._up:
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_RETRY_S, 2 * wait_s)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S + COMMAND_TIMEOUT_S):
                    await self._client.ping()
            except (OSError, ValueError, TimeoutError, RedisError):
                continue
            self._up = True
            self._slow = 0
            log.info("the shared cache responds again and is used")
            self._told("up")

    def _fail(self, why: str) -> None:
        """Open the breaker: all waiting look-ups miss, and nothing is sent until a probe succeeds."""
        self._give_up()
        if self._up:
            self._up = False
            log.warning("the shared cache does not respond and is bypassed for now: %s", why)
            self._told("down")
        self._work.set()

    def _give_up(self) -> None:
        self.dropped += len(self._queue)
        self._queue.clear()
        self._queued_bytes = 0
        for key in list(self._wanted):
            self._settle(key, None)

    def _settle(self, key: bytes, value: bytes | None) -> None:
        future = self._wanted.pop(key, None)
        if future is not None and not future.done():
            future.set_result(value)
