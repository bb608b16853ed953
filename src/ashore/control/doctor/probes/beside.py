"""What stands beside the workers: the shared cache, the state, the edge, GPUs, and names of other machines."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from ashore.control.doctor.look import Between
from ashore.control.doctor.patience import Watch
from ashore.control.doctor.readings import Cache, Edge, Lookup, State, ToolServer
from ashore.core.addresses import split_url
from ashore.kit.processes import get_from

if TYPE_CHECKING:
    from redis import Redis

    from ashore.kit.state import Database

WAIT_S: Final = 1.0
PINGS: Final = 4
"""The quickest counts: the others may have waited for a processor, here or there."""
LONG_MS: Final = 100.0
"""What took longer is measured again: a state that is slow or locked is so the second time."""
_LEAST: Final = "SELECT 1"
_CACHE_NUMBERS: Final = ("evicted_keys", "rejected_connections", "used_memory", "maxmemory")


def count_cache(url: str) -> Iterator[tuple[str, float]]:
    """Yield what the shared cache counts; nothing where it does not answer."""
    for name, value in _cache_information(url).items():
        if name in _CACHE_NUMBERS or name == "ping_ms":
            yield f"cache.{name}", value


def _cache_information(url: str) -> dict[str, float]:
    if not url or url.startswith("redis+sentinel"):
        return {}
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with closing(Redis.from_url(url, socket_timeout=WAIT_S, socket_connect_timeout=WAIT_S)) as client:
            client.ping()
            took_ms = min(_ping_ms(client) for _ in range(PINGS))
            told = client.info()
    except (RedisError, OSError, ValueError):
        return {}
    numbers = {name: float(value) for name, value in told.items() if isinstance(value, int | float)}
    return {**numbers, "ping_ms": took_ms}


def asking_tools(
    servers: Sequence[Any], allowed: Sequence[str], database: Database
) -> Callable[[], tuple[ToolServer, ...]]:
    """Return what asks each `[[mcp.server]]` how its approved tools stand; servers without any are not asked. Modules
    are loaded and the state is read here, as no other thread may do at the same time."""
    import ashore.kit.lines  # noqa: F401
    from ashore.data.mcp import McpServer, load_pins, standing_of
    from ashore.kit.egress import LOOPBACK, parse_allow

    with database.read() as connection:
        pins = load_pins(connection)
    allow = parse_allow([*LOOPBACK, *allowed])
    asked = [one for one in msgspec.convert(servers, tuple[McpServer, ...]) if one.name in pins]

    async def ask() -> tuple[ToolServer, ...]:
        found = await asyncio.gather(*(standing_of(one, allow, pins[one.name]) for one in asked))
        return tuple(
            ToolServer(name=one.server, withheld=tuple(map(" ".join, one.withheld.items())), fault=one.fault)
            for one in found
        )

    return lambda: asyncio.run(ask())


def _ping_ms(client: Redis) -> float:
    watch = Watch()
    client.ping()
    return watch.took_ms


def read_cache(url: str, up: float | None, between: Between, missing: dict[str, str]) -> Cache:
    """Return the shared cache. `up`: what the server's metrics say of it; None: it has none."""
    if not url:
        return Cache(used=False)
    if "cache.ping_ms" not in between.after.numbers:
        missing["cache.memory_most_bytes"] = "the shared cache does not answer"
        return Cache(used=True, up=False, address=_address(url))
    return Cache(
        used=True,
        up=up != 0,
        address=_address(url),
        ping_ms=between.now("cache.ping_ms"),
        memory_bytes=int(between.now("cache.used_memory")),
        memory_most_bytes=int(between.now("cache.maxmemory")),
        evicted=int(between.grew("cache.evicted_keys")),
        rejected=int(between.grew("cache.rejected_connections")),
    )


def _address(url: str) -> str:
    parts = split_url(url)
    return parts.netloc.rpartition("@")[2] or parts.path


def read_sqlite(path: Path) -> State:
    """Return the state of a home that keeps it in a file. Takes the write lock for a moment, and changes nothing."""
    wal = path.with_name(path.name + "-wal")
    wal_bytes = wal.stat().st_size if wal.exists() else 0
    watch = Watch()
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=WAIT_S, isolation_level=None)
        ) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            answer_ms = watch.took_ms
            if answer_ms > LONG_MS:
                answer_ms = min(answer_ms, _answer_ms(lambda query: connection.execute(query).fetchall()))
            lock_ms = _lock_ms(connection)
            if lock_ms > LONG_MS:
                lock_ms = min(lock_ms, _lock_ms(connection))
    except sqlite3.Error as fault:
        return State(kind="sqlite", path=str(path), error=str(fault), wal_bytes=wal_bytes)
    return State(kind="sqlite", path=str(path), answer_ms=answer_ms, lock_ms=lock_ms, wal_bytes=wal_bytes)


def _lock_ms(connection: sqlite3.Connection) -> float:
    watch = Watch()
    with suppress(sqlite3.OperationalError):  # locked for longer than we wait
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    return watch.took_ms


def read_postgres(ask: Callable[[str], Sequence[Sequence[object]]]) -> State:
    """Return the state behind a Postgres URL. `ask` runs one query and returns its rows."""
    answer_ms = _answer_ms(ask)
    if answer_ms > LONG_MS:
        answer_ms = min(answer_ms, _answer_ms(ask))

    return State(kind="postgres", answer_ms=answer_ms)


def _answer_ms(ask: Callable[[str], Sequence[Sequence[object]]]) -> float:
    watch = Watch()
    ask(_LEAST)
    return watch.took_ms


def count_edge(admin: Path) -> Iterator[tuple[str, float]]:
    """Yield whether the edge answers; nothing where it does not."""
    if get_from(admin, "/ready") is not None:
        yield "edge.answers", 1.0


def read_edge(used: bool, certificates: Path, between: Between) -> Edge:
    """Return the edge. `certificates`: folder of those that ashore made."""
    if not used:
        return Edge(used=False)
    file, ends_s = _soonest(certificates, between.after.at_s)
    return Edge(
        used=True,
        answers="edge.answers" in between.after.numbers,
        certificate=str(file) if file else "",
        certificate_ends_s=ends_s,
    )


def _soonest(folder: Path, now_s: float) -> tuple[Path | None, float]:
    """Return the certificate that ends first, and in how many seconds."""
    found = [(ends_in(path, now_s), path) for path in sorted(folder.glob("*.pem")) if "key" not in path.name]
    known = [(ends_s, path) for ends_s, path in found if ends_s is not None]
    if not known:
        return None, 90 * 86_400.0
    ends_s, path = min(known)
    return path, ends_s


def ends_in(path: Path, now_s: float) -> float | None:
    """Return in how many seconds the first certificate of a file ends; None where there is none."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return (certificate.not_valid_after_utc - datetime.fromtimestamp(now_s, UTC)).total_seconds()


def _look_up_once(name: str) -> tuple[float, str]:
    """Return the seconds that it took, and what went wrong."""
    watch, error = Watch(), ""
    try:
        socket.getaddrinfo(name, None)
    except OSError as fault:
        error = fault.strerror or str(fault)
    return watch.took_s, error


def look_up(names: Mapping[str, str]) -> tuple[Lookup, ...]:
    """Look each name up, all at once, and wait two seconds at most. `names`: where each stands, by name."""
    found: dict[str, Lookup] = {}

    def one(name: str) -> None:
        took_s, error = _look_up_once(name)
        if 1e3 * took_s > LONG_MS and not error:
            took_s = min(took_s, _look_up_once(name)[0])
        found[name] = Lookup(name=name, used_by=names[name], took_s=took_s, error=error)

    threads = [threading.Thread(target=one, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + 2 * WAIT_S
    for thread in threads:
        thread.join(max(0.0, end_s - time.monotonic()))
    return tuple(
        found.get(name) or Lookup(name=name, used_by=where, took_s=2 * WAIT_S, error="no answer in 2 s")
        for name, where in sorted(names.items())
    )
