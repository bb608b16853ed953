"""Administrative calls of the cache: content, statistics, purge."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

import msgspec

from ashore.core.errors import InvalidRequest, NotReady
from ashore.core.names import EVERY_NAME, Names, check_named
from ashore.core.principal import Principal
from ashore.data.cache.model import Pair
from ashore.data.cache.report import COUNTS, REPORT, CacheItem, CacheReport, EntryOut, ShareOut
from ashore.data.cache.sql import purge, remove_pairs, save_pairs
from ashore.kit.call import Actor, Call, Rights
from ashore.kit.recorder import Recorder
from ashore.kit.rights import METRICS_READ, SERVER, check_tenant, sees_tenant
from ashore.kit.rooms import Workers

if TYPE_CHECKING:
    from ashore.data.cache.service import AnswerCache
    from ashore.kit.state import Database

READ: Final = "cache:read"
PURGE: Final = "cache:purge"
PUBLIC: Final = "*"

Name = Annotated[str, msgspec.Meta(max_length=200)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheDesk:
    """The cached answers, who may touch them, and the audit log of who did."""

    rights: Rights
    recorder: Recorder
    database: Database | None
    """Tells every worker of a purge; None where there is no state."""
    names: Names = EVERY_NAME
    """Of tenants and models: nothing is purged, kept or asked for one that does not exist."""
    cache: AnswerCache | None = None
    """That of this process, if it answers requests."""
    workers: Workers | None = None
    """The API workers, where this process is none of them."""

    def state(self) -> Database:
        """Return what tells every worker of a purge.

        Raises:
            NotReady: there is none.
        """
        if self.database is None:
            raise NotReady(
                "this server has no state database, which a purge needs to reach every worker",
                hint="start it with `ashore up`",
            )
        return self.database


class CacheIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which part of the cache to show."""

    tenant: Name = ""
    """Show only this tenant; * for answers of public routes."""
    model: Name = ""
    """Show only this alias."""
    entry: Name = ""
    """Show one entry (owner, age, size, worker), named by its x-ashore-cache-entry header."""


class CacheList(msgspec.Struct, frozen=True, kw_only=True):
    """Contents and counters of the cache."""

    items: list[CacheItem]
    shares: list[ShareOut] = []
    """Empty for callers without a key or without the right `cache:read`."""
    held: list[EntryOut] = []
    """The entry that `entry` named, in each worker that holds it."""


class PurgeIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to purge: everything, or the entries that any of the names selects."""

    tenant: str = ""
    model: str = ""
    entry: str = ""
    all: bool = False

    def named(self) -> dict[str, str | int]:
        """Return what is named, or `all`, as the audit log has it.

        Raises:
            InvalidRequest: neither, or both.
        """
        given = (("tenant", self.tenant), ("model", self.model), ("entry", self.entry))
        found: dict[str, str | int] = {name: value for name, value in given if value}
        if self.all == bool(found):
            raise InvalidRequest(
                "a purge needs all, or at least one of tenant, model and entry",
                hint='send {"model": "chat"}, or give --model chat',
            )
        return found or {"all": 1}

    def resources(self) -> list[str]:
        """Return what a right on this purge names."""
        found = [f"{kind}/{name}" for kind, name in (("tenant", self.tenant), ("model", self.model)) if name]
        return [*found, SERVER] if self.entry or not found else found


class Purged(msgspec.Struct, frozen=True):
    """What was purged."""

    purged: list[str]
    """The selectors that were purged. Takes effect everywhere within 200 ms."""


async def show_cache(desk: CacheDesk, actor: Actor, asked: CacheIn) -> CacheList:
    """Show contents and counters of the cache, by worker and by tenant and model."""
    principal, given = actor.principal, {name: value for name, value in msgspec.structs.asdict(asked).items() if value}
    if given:
        desk.rights.require(principal, READ, SERVER)
        if asked.tenant != PUBLIC:
            check_tenant(desk.rights, principal, READ, asked.tenant)
    await asyncio.to_thread(_check_names, desk, asked.tenant, asked.model)
    parts = []
    if desk.cache is not None:
        parts.append(await desk.cache.report(0, tenant=asked.tenant, model=asked.model, entry=asked.entry))
    if desk.workers is not None:
        bodies = await desk.workers.ask(f"{REPORT}?{urlencode(given)}".rstrip("?"))
        parts += [msgspec.json.decode(body, type=CacheReport) for body in bodies]
    names = desk.rights.decide(principal, READ, SERVER).allowed
    return CacheList(
        items=sorted((item for part in parts for item in part.items), key=lambda item: item.worker),
        shares=_merged(one for part in parts for one in part.shares if names and _sees(desk, principal, one.tenant)),
        held=sorted(
            (one for part in parts for one in part.held if _sees(desk, principal, one.tenant)),
            key=lambda one: one.worker,
        ),
    )


def purge_answers(desk: CacheDesk, actor: Actor, asked: PurgeIn) -> Purged:
    """Purge cached answers on every worker and machine that shares this state. Takes effect within 200 ms."""
    what = asked.named()
    for resource in asked.resources():
        desk.rights.require(actor.principal, PURGE, resource)
    _check_names(desk, asked.tenant, asked.model)
    with desk.state().write() as connection:
        raised = purge(connection, tenant=asked.tenant, alias=asked.model, entry_id=asked.entry)
        actor.record(desk.recorder, PURGE, "cache", detail=what, on=connection)
    return Purged(list(raised))


def remove_curated(desk: CacheDesk, actor: Actor, asked: PurgeIn) -> int:
    """Remove the curated pairs of a tenant, or all, and return how many there were. For the owner of the home."""
    what = asked.named()
    with desk.state().write() as connection:
        removed = remove_pairs(connection, tenant=asked.tenant)
        if not removed:
            _check_names(desk, asked.tenant)
        actor.record(desk.recorder, PURGE, "cache", detail={**what, "curated": removed}, on=connection)
    return removed


def import_pairs(desk: CacheDesk, actor: Actor, pairs: Sequence[Pair], source: str, *, dry_run: bool = False) -> None:
    """Keep curated pairs from a file, or only check that they could be kept. For the owner of the home.

    Raises:
        NotFound: a pair names a tenant or a model that there is not.
    """
    for tenant, model in sorted({(pair.tenant, pair.alias) for pair in pairs}):
        _check_names(desk, tenant, model)
    if dry_run:
        return
    with desk.state().write() as connection:
        save_pairs(connection, pairs)
        detail = {"curated": len(pairs)}
        actor.record(desk.recorder, "cache:import", f"cache/{source}", detail=detail, on=connection)


CALLS: Final = (
    Call("cache", "stats", "GET", "/cache", METRICS_READ, show_cache, on_server=True, operator=True),
    Call("cache", "purge", "POST", "/cache/purge", PURGE, purge_answers),
)


def _check_names(desk: CacheDesk, tenant: str, model: str = "") -> None:
    """Return when there is such a tenant and such a model; `*` and nothing are every one.

    Raises:
        NotFound: there is none.
    """
    check_named(desk.names, "tenant", tenant, every=PUBLIC)
    check_named(desk.names, "model", model, every=PUBLIC)


def _sees(desk: CacheDesk, principal: Principal, tenant: str) -> bool:
    """Return whether somebody who may read the cache sees what a tenant has of it. Public routes are nobody's own."""
    return tenant == PUBLIC or sees_tenant(desk.rights, principal, READ, tenant)


def _merged(shares: Iterable[ShareOut]) -> list[ShareOut]:
    """Return the shares of several workers added up, the largest first."""
    found: dict[tuple[str, str], ShareOut] = {}
    for share in shares:
        key = (share.tenant, share.model)
        other = found.get(key)
        if other is not None:
            counts = {name: getattr(share, name) + getattr(other, name) for name in COUNTS}
            share = msgspec.structs.replace(share, **counts)
        found[key] = share
    return sorted(found.values(), key=lambda share: (-share.num_bytes, -share.lookups, share.tenant, share.model))
