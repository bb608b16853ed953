"""What lies in a home: who may read it, its audit log, its models, its releases, its keys and budgets."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from ashore.control.doctor.readings import Access, Audit, Releases, Signature, Sites, Stored, Waiting
from ashore.kit.decode import UNDECODABLE
from ashore.kit.recordfile import read_record
from ashore.kit.settings import Home

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ashore.data.releases import Book
    from ashore.kit.state import Database
    from ashore.kit.store import ModelStore

VERIFIED_BYTES: Final = 8 << 20
"""A longer audit log is not verified by the doctor: `ashore audit verify` reads it whole."""
WEEK_S: Final = 7 * 86_400
DAY_S: Final = 86_400
FULL_SHARE: Final = 0.95
_SECRET: Final = (
    "state.db", "first-key", "recovery.key", "audit-keys/signing-key.pem", "audit-keys/digest-key", "backup/key",
    "run/internal-token", "edge/*key*",
)  # fmt: skip
_TAIL_BYTES: Final = 256 << 10


def open_paths(home: Home) -> tuple[str, ...]:
    """Return what others may read though it is secret, with its mode: keys; and the state, where the home is open."""
    found = []
    try:
        reachable = home.root.stat().st_mode & 0o011
    except OSError:
        return ()
    for path in (one for name in _SECRET for one in sorted(home.root.glob(name))):
        try:
            mode = path.lstat().st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) and mode & 0o077 and (reachable or path != home.state_db):
            found.append(f"{mode & 0o777:04o} {path}")
    return tuple(found)


def read_sites(home: Home, now_s: float) -> Sites:
    """Return how old the news of a site is, and when the signatures end that a centre published or a site trusts."""
    from ashore.control.sites import Status

    said = read_record(home.sites / "status.json", Status)
    if said is None:
        return Sites(signatures=_signatures(home.sites / "tree" / "metadata", now_s))
    centre = said.centre or "a centre that is reached by sticks"
    return Sites(
        signatures=_signatures(home.sites / "trusted", now_s), centre=centre,
        silent_s=now_s - said.news_s if said.news_s else 0.0, note=said.note,
        serves_s=said.until_s - now_s if said.until_s else 1e9,
    )  # fmt: skip


def _signatures(folder: Path, now_s: float) -> tuple[Signature, ...]:
    ends: dict[str, tuple[int, float]] = {}
    for path in folder.glob("*.json"):
        if (found := read_record(path, _Signed)) is not None:
            role, signed = path.name.removesuffix(".json").rpartition(".")[2], found.signed
            ends[role] = max(ends.get(role, (0, 0.0)), (signed.version, signed.expires.timestamp()))
    return tuple(Signature(role=role, left_s=end - now_s) for role, (_, end) in sorted(ends.items()))


class _Lasting(msgspec.Struct):
    version: int
    expires: datetime


class _Signed(msgspec.Struct):
    signed: _Lasting


def newest_record(audit: Path) -> float:
    """Return the time of the newest audit record, seconds since 1970; 0: none."""
    from ashore.data.audit.canonical import decode
    from ashore.data.audit.segments import chains_in, segment_path, segments_of

    newest_us = 0
    for chain in chains_in(audit):
        numbers = segments_of(audit, chain)
        if not numbers:
            continue
        with open(segment_path(audit, chain, numbers[-1]), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().splitlines()
        for line in lines:
            start = line.find(b"{")
            if start < 0:
                continue
            try:
                record = decode(line[start:])
            except UNDECODABLE:
                continue
            newest_us = max(newest_us, record.at_us)
    return newest_us / 1e6


def read_audit(home: Home, num_anchors: int, missing: dict[str, str]) -> tuple[Audit, float]:
    """Return the audit log, and by how many seconds its newest record lies in the future."""
    from ashore.control.audit import read_anchors, read_feeds, verify_folder
    from ashore.data.audit import read_public_keys

    if not (home.audit / "chains").is_dir():
        missing["audit"] = "this home has no audit log yet"
        return Audit(), 0.0
    # A record is compared with the moment at which it was read: it may be younger than the look.
    ahead_s = max(0.0, newest_record(home.audit) - time.time())
    num_bytes = sum(file.stat().st_size for file in (home.audit / "chains").rglob("*.log"))
    broken = ""
    if num_bytes > VERIFIED_BYTES:
        missing["audit.broken"] = f"the log has {num_bytes >> 20} MiB; `ashore audit verify` reads it whole"
    else:
        report = verify_folder(home.audit, trusted=read_public_keys(home.audit_keys / "public-keys.pem"))
        problem = next(iter(report.problems), None)
        broken = "" if problem is None else f"{problem.file} line {problem.line}: {problem.what}"
    silent = tuple(f"{one.place}: {one.error}" for one in read_anchors(home.audit) if one.failures)
    return (
        Audit(
            broken=broken,
            anchors=num_anchors,
            silent_anchors=silent,
            waiting_feeds=tuple(
                Waiting(name=one.name, silent_s=max(0.0, time.time() - one.silent_us / 1e6), error=one.error)
                for one in read_feeds(home.audit)
                if one.failures
            ),
        ),
        ahead_s,
    )


def read_access(home: Home, state: Database | None, now_s: float, unsealed: Iterable[str]) -> Access:
    """Return keys, offices and budgets. Without a state, only who may read the files."""
    if state is None:
        return Access(open_paths=open_paths(home))
    from ashore.data.authority.offices import missing_offices
    from ashore.data.authority.sql import list_keys

    with state.read() as connection:
        lacking = missing_offices(connection, int(now_s))
        keys = list_keys(connection, limit=10_000)
        channels, directories = _dead_channels(connection, now_s), _lost_directories(connection, now_s)
    first = next((one for one in keys if one.is_first), None)
    ending = tuple(
        f"{one.key_id} of {one.owner} in {max(0, one.expires_s - int(now_s)) // DAY_S} days"
        for one in keys
        if one.expires_s is not None
        and one.is_live(now_s)
        and one.expires_s - now_s < WEEK_S
        and one.last_used_s is not None
        and now_s - one.last_used_s < WEEK_S
    )
    return Access(
        open_paths=open_paths(home),
        first_key_left=home.first_key.is_file() and first is not None and not lacking,
        ending_keys=ending,
        missing_offices=() if first is None or not first.is_live(now_s) else lacking,
        full_budgets=_full_budgets(state, now_s),
        unsealed=tuple(unsealed),
        dead_channels=channels,
        lost_directories=directories,
    )


def _full_budgets(state: Database, now_s: float) -> tuple[str, ...]:
    from ashore.data.authority.budgets import SqlAuthority

    authority = SqlAuthority(state)
    found = []
    for rule in authority.rules():
        for count in authority.counts(rule.rule_id, int(1e3 * now_s), least=FULL_SHARE * rule.cap):
            used = count.settled + count.open
            if rule.cap and used >= FULL_SHARE * rule.cap:
                until = time.strftime(" until %H:%M UTC", time.gmtime(count.ends_ms / 1e3)) if count.ends_ms else ""
                found.append(
                    f"{rule.kind} per {rule.window} of {rule.about_count(count)}: {used / rule.cap:.0%}{until}"
                )
    return tuple(found)


class _ChannelKept(msgspec.Struct, frozen=True):
    failures: int = 0
    since_s: float = 0.0
    error: str = ""


class _BookKept(msgspec.Struct, frozen=True):
    """What the book of a home's alerts says of channels."""

    channels: dict[str, _ChannelKept] = {}


def _dead_channels(connection: Connection, now_s: float) -> tuple[Waiting, ...]:
    from ashore.kit.state import execute

    select = "SELECT body FROM alert_book WHERE looked_s > :since"
    bodies = execute(connection, select, since=now_s - DAY_S).scalars()
    books = (msgspec.json.decode(body, type=_BookKept) for body in bodies)
    found = [item for book in books for item in book.channels.items() if item[1].failures > 1]
    return tuple(Waiting(name=name, silent_s=max(0.0, now_s - one.since_s), error=one.error) for name, one in found)


def _lost_directories(connection: Connection, now_s: float) -> tuple[Waiting, ...]:
    """Return the directories that do not answer."""
    from ashore.kit.state import execute

    rows = execute(connection, "SELECT directory, failed_s, says FROM directory_sync WHERE failed_s > 0")
    return tuple(Waiting(name=one.directory, silent_s=max(0.0, now_s - one.failed_s), error=one.says) for one in rows)


def read_stored(home: Home, store: ModelStore | None, book: Book | None) -> Stored:
    """Return the models on the disk."""
    logs = sum(_size(path) for path in home.logs.glob("*")) if home.logs.is_dir() else 0
    restoring = home.restoring.exists()
    if store is None or not home.store.is_dir():
        return Stored(logs_bytes=logs, restoring=restoring)
    keep = book.manifests if book is not None else ()
    blobs = home.store / "blobs" / "sha256"
    now_s = time.time()
    staging = [path for path in home.store.glob("staging/**/*") if path.is_file()]
    models, broken = store.survey()
    known = {one.reference: one for one in models}
    plans = (
        [] if book is None else [book.releases[name].plan for name, one in book.courses.items() if one.state == "live"]
    )
    missing = {
        f"{plan.reference}: {file.path}"
        for plan in plans
        if plan.in_store and plan.reference in known and not store.is_away(plan.reference)
        for file in known[plan.reference].files
        if _size(store.blob_path(file.digest)) != file.num_bytes
    }
    return Stored(
        garbage_bytes=store.garbage(keep).freed_bytes if blobs.is_dir() and not broken else 0,
        store_bytes=sum(_size(path) for path in blobs.iterdir()) if blobs.is_dir() else 0,
        unfinished_bytes=sum(_size(path) for path in staging if now_s - path.stat().st_mtime > DAY_S),
        logs_bytes=logs,
        restoring=restoring,
        references=tuple(known),
        missing=tuple(sorted(missing)),
        broken=tuple(f"{one.reference}: {one.problem}" for one in broken),
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def failed_of(book: Book) -> tuple[tuple[str, str], ...]:
    """Return the newest release of each alias where that failed, with the reason: nothing has taken its place since."""
    newest = {release.alias: name for name, release in book.releases.items()}  # in the order in which they were made
    return tuple((name, book.courses[name].why) for name in newest.values() if book.courses[name].state == "failed")


class Backend(Protocol):
    """One server of another machine behind a release."""

    @property
    def release(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...


def read_releases(book: Book, now_s: float, backends: Iterable[Backend]) -> Releases:
    """Return the releases. `backends`: servers of other machines behind them."""
    states: dict[str, set[str]] = {}
    servers = tuple(backends)
    for server in servers:
        states.setdefault(server.release, set()).add(server.state)
    without = tuple(release for release, seen in states.items() if seen <= {"out", "draining"})
    cold = []
    for alias in book.aliases.values():
        before = book.courses.get(alias.before)
        if before is not None and before.state in ("retired", "created"):
            cold.append(alias.name)
    stuck = tuple(
        f"{one.release} ({one.state} for {(now_s - one.since_s) / DAY_S:.0f} days)"
        for one in book.courses.values()
        if one.state in ("shadow", "canary") and one.since_s and now_s - one.since_s > DAY_S
    )
    return Releases(
        failed=failed_of(book),
        cold_way_back=tuple(cold),
        stuck=stuck,
        out=tuple(f"{one.url}: {one.reason}" for one in servers if one.state == "out" and one.release not in without),
        without_servers=without,
    )
