"""State, shared cache and edge: what stands beside the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import human_bytes
from ashore.doctor.model import Change, Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

SLOW_PING_MS: Final = 20.0
WAL_BYTES: Final = 64 << 20
SLOW_LOCK_MS: Final = 500.0
SLOW_STATE_MS: Final = 200.0
SOON_S: Final = 14 * 86_400.0
VERY_SOON_S: Final = 2 * 86_400.0


@rule("D801", "cache", "Does the shared cache not answer?", needs=("cache",))
def cache_down(seen: Readings) -> Iterator[Finding]:
    if seen.cache.used and not seen.cache.up:
        yield Finding(
            severity="warning",
            what=f"the shared cache at {seen.cache.address or '[redis] url'} does not answer; each worker uses its own",
            cause="the server that [redis] url names is down, stopped, or cannot be reached",
            evidence=(evidence("ashore_shared_cache_up", 0, 1),),
            sure="certain",
            remedy="start the server that [redis] url names; it is used again within seconds",
            commands=("ashore status", "ashore cache stats"),
        )
    elif seen.cache.used and seen.cache.ping_ms > SLOW_PING_MS:
        yield Finding(
            severity="warning",
            what=f"the shared cache takes {seen.cache.ping_ms:.0f} ms to answer",
            cause="it swaps, saves, or lies behind a slow link; every look-up waits for it up to [redis] timeout_ms",
            evidence=(evidence("PING", f"{seen.cache.ping_ms:.1f} ms", f"{SLOW_PING_MS:g} ms"),),
            sure="likely",
            remedy="see what it does",
            commands=("valkey-cli latency doctor", "valkey-cli info commandstats"),
        )


@rule(
    "D802",
    "cache",
    "Is the shared cache too small, or without a limit?",
    needs=("cache.memory_most_bytes",),
    source="Valkey: maxmemory 0 grows until the kernel kills it",
)
def cache_size(seen: Readings) -> Iterator[Finding]:
    if not seen.cache.used or not seen.cache.up:
        return
    if not seen.cache.memory_most_bytes:
        yield Finding(
            severity="warning",
            what="the shared cache has no limit of memory",
            cause="it grows until the kernel kills it, or an engine host",
            evidence=(evidence("maxmemory", 0, "above 0"),),
            sure="certain",
            remedy="set a limit, with a policy that evicts",
            commands=("valkey-cli config set maxmemory 1gb", "valkey-cli config set maxmemory-policy allkeys-lfu"),
        )
    elif seen.cache.evicted > 100 and seen.cache.evicted > 0.5 * seen.cache.written:
        yield Finding(
            severity="advice",
            what=f"the shared cache evicted {seen.cache.evicted} answers to keep {seen.cache.written}",
            cause="it is smaller than what is asked for again",
            evidence=(
                evidence("evicted", seen.cache.evicted, f"half of {seen.cache.written}"),
                evidence("memory", human_bytes(seen.cache.memory_bytes), human_bytes(seen.cache.memory_most_bytes)),
            ),
            sure="possible",
            remedy="give it more memory ([redis] max_bytes)",
            commands=("# in ashore.toml, [redis] max_bytes", "ashore reload --dry-run"),
        )


@rule("D803", "cache", "Does the shared cache refuse what it is given?", needs=("cache.rejected",))
def cache_rejects(seen: Readings) -> Iterator[Finding]:
    if seen.cache.used and seen.cache.rejected:
        yield Finding(
            severity="warning",
            what=f"the shared cache refused {seen.cache.rejected} connections",
            cause="it has as many clients as maxclients allows",
            evidence=(evidence("refused", seen.cache.rejected, 0),),
            sure="certain",
            remedy="raise maxclients, or find who keeps connections",
            commands=("valkey-cli client list", "valkey-cli config set maxclients 10000"),
        )


@rule(
    "D804",
    "state",
    "Does the state wait for a writer, or drag a long log?",
    needs=("state",),
    source="sqlite.org/wal.html",
)
def slow_state(seen: Readings) -> Iterator[Finding]:
    if seen.state.kind == "sqlite" and seen.state.lock_ms > SLOW_LOCK_MS:
        yield Finding(
            severity="warning",
            what=f"the state was locked for {seen.state.lock_ms:.0f} ms",
            cause="another process holds the write lock of state.db: a shell, a backup of another maker, a slow disk",
            evidence=(evidence("wait for the lock", f"{seen.state.lock_ms:.0f} ms", f"{SLOW_LOCK_MS:.0f} ms"),),
            sure="certain",
            remedy="find who has the file open",
            commands=(f"fuser -v {seen.state.path}",),
        )
    if seen.state.kind == "sqlite" and seen.state.wal_bytes > WAL_BYTES:
        yield Finding(
            severity="warning",
            what=f"the write-ahead log of the state is {human_bytes(seen.state.wal_bytes)} long",
            cause="a reader that never ends keeps it from being folded in; every read searches it",
            evidence=(evidence("state.db-wal", human_bytes(seen.state.wal_bytes), human_bytes(WAL_BYTES)),),
            sure="certain",
            remedy="fold it in; find the reader if it grows again",
            commands=(f"fuser -v {seen.state.path}",),
            change=Change(kind="wal", target=seen.state.path),
        )
    if not seen.state.error and seen.state.answer_ms > SLOW_STATE_MS:
        yield Finding(
            severity="warning",
            what=f"the state takes {seen.state.answer_ms:.0f} ms to answer",
            cause="the disk, or the link to the database, is slow",
            evidence=(evidence("SELECT 1", f"{seen.state.answer_ms:.0f} ms", f"{SLOW_STATE_MS:.0f} ms"),),
            sure="likely",
            remedy="look at the disk, or at the database server and the link to it",
        )


@rule("D806", "state", "Can the state not be read?", needs=("state.error",), explains=("D600", "D923"), down=True)
def state_gone(seen: Readings) -> Iterator[Finding]:
    if seen.state.error:
        yield Finding(
            severity="critical",
            what=f"the state cannot be read: {seen.state.error}",
            cause="its server is down, its disk fails, or its file is damaged; nobody can be let in anew, nothing "
            "changes",
            evidence=(evidence("SELECT 1", seen.state.error, "an answer"),),
            sure="certain",
            remedy="start the database; if a file is damaged, restore the snapshot or the backup",
            commands=("ashore backup list", "ashore status"),
        )


@rule("D407", "edge", "Does a certificate end soon?", needs=("edge.certificate_ends_s",), down=True)
def certificate_ends(seen: Readings) -> Iterator[Finding]:
    left = seen.edge.certificate_ends_s
    if seen.edge.used and left < SOON_S:
        days = left / 86_400
        yield Finding(
            severity="critical" if left < VERY_SOON_S else "warning",
            what=f"the certificate {seen.edge.certificate} "
            + (f"ended {-days:.1f} days ago" if left <= 0 else f"ends in {days:.1f} days"),
            cause="ashore renews what it made; it did not" if seen.edge.generated else "its file was given by you",
            evidence=(evidence("valid for", f"{days:.1f} days", f"{SOON_S / 86_400:.0f} days"),),
            sure="certain",
            remedy="start the server again: it makes a new one"
            if seen.edge.generated
            else "replace the file; the edge takes it without a restart",
            commands=("ashore stop && ashore up",) if seen.edge.generated else (f"cp NEW.pem {seen.edge.certificate}",),
        )


@rule("D811", "edge", "Does the edge not answer?", needs=("edge",))
def edge_down(seen: Readings) -> Iterator[Finding]:
    if seen.edge.used and not seen.edge.answers:
        yield Finding(
            severity="critical",
            what="the edge does not answer its administration",
            cause="Envoy is stopped, hangs, or is being started again",
            evidence=(evidence("/ready", "no answer", "an answer"),),
            sure="certain",
            remedy="see its log; ending it lets the supervisor start it again",
            commands=("ashore logs", "ashore status"),
        )
