"""`/admin/v1/cache`: what the cache of answers holds and did, by tenant and model, and purging it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec

from ashore.access import Principal
from ashore.api.decode import decode
from ashore.api.http.exchange import Exchange
from ashore.api.http.siblings import OWN_ONLY
from ashore.api.http.streaming import JSON
from ashore.core import SERVER, sees_tenant
from ashore.errors import InvalidRequest, NotReady

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp
    from ashore.cache import EntryStats, ShareStats

PATH: Final = "/admin/v1/cache"
READ: Final = "cache:read"
PURGE: Final = "cache:purge"
FILTERS: Final = ("tenant", "model", "entry")
PUBLIC: Final = "*"
MAX_NAME_CHARS: Final = 200

_encode = msgspec.json.Encoder().encode


class CacheItem(msgspec.Struct, frozen=True):
    """The cache of one API worker; with `tenant` or `model`, what those have of it."""

    worker: int
    lookups: int
    """Without repeated bytes."""
    misses: int
    stored: int
    refused: int
    ready_hits: int
    """Answered by repeated bytes."""
    hits: dict[str, int]
    """All others, by tier."""
    entries: int
    num_bytes: int
    max_bytes: int
    evictions: int
    shared: str
    semantic_entries: int
    semantic_bytes: int


class ShareOut(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant and model has of the caches of all API workers."""

    tenant: str
    """`*`: answers of public routes. `(others)`: pairs beyond the first 1,000 of a worker."""
    model: str
    entries: int
    num_bytes: int
    lookups: int
    """Misses and hits, repeated bytes among them."""
    misses: int
    hits_exact: int
    hits_semantic: int
    stored: int
    refused: int
    evictions: int


class EntryOut(msgspec.Struct, frozen=True, kw_only=True):
    """A kept answer in one API worker, without what it says."""

    worker: int
    entry: str
    tenant: str
    model: str
    release: str
    num_bytes: int
    age_s: int
    expires_at_s: float
    """Seconds since 1970."""


class CacheList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /admin/v1/cache`."""

    items: list[CacheItem]
    shares: list[ShareOut] = []
    """Who may not do `cache:read` sees none, nor does who comes without a key."""
    held: list[EntryOut] = []
    """Where `entry` was asked for."""


class PurgeRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to purge: everything, or what any of the names says."""

    tenant: str = ""
    model: str = ""
    entry: str = ""
    everything: bool = msgspec.field(default=False, name="all")


class Purged(msgspec.Struct, frozen=True):
    """Answer of `POST /admin/v1/cache/purge`."""

    purged: list[str]
    """What was raised; it is in force everywhere within 200 ms."""


_decode_list = msgspec.json.Decoder(CacheList).decode
_purge_decoder = msgspec.json.Decoder(PurgeRequest)


async def show(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/cache?tenant=acme&model=chat&entry=0a1b2c3d4e5f6071`."""
    asked = exchange.query()
    for name, value in asked.items():
        if name not in FILTERS or len(value) > MAX_NAME_CHARS:
            raise InvalidRequest(
                f"the cache is not filtered by {name[:40]}={value[:40]!r}", hint=", ".join(FILTERS), param=name[:40]
            )
    if any(asked.values()):
        app.authority.require(principal, READ, SERVER)
        if asked.get("tenant") and not _sees(app, principal, asked["tenant"]):
            app.authority.require(principal, READ, f"tenant/{asked['tenant']}")
    parts = [await _own(app, asked)]
    if OWN_ONLY not in exchange.headers:
        path = f"{PATH}?{urlencode(asked)}" if asked else PATH
        parts += [_decode_list(body) for body in await app.siblings.ask(path)]
    sees = app.authority.decide(principal, READ, SERVER).allowed
    told = CacheList(
        items=sorted((item for part in parts for item in part.items), key=lambda item: item.worker),
        shares=merged(one for part in parts for one in part.shares if sees and _sees(app, principal, one.tenant)),
        held=sorted(
            (one for part in parts for one in part.held if _sees(app, principal, one.tenant)),
            key=lambda one: one.worker,
        ),
    )
    await exchange.respond(200, [JSON], _encode(told))


async def purge(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/cache/purge`."""
    asked = decode(await exchange.body(app.limits), _purge_decoder)
    if asked.everything == bool(asked.tenant or asked.model or asked.entry):
        raise InvalidRequest(
            'a purge wants "all": true, or at least one of tenant, model and entry', hint='{"model": "chat"}'
        )
    for resource in _resources(asked):
        app.authority.require(principal, PURGE, resource)
    office = app.purges
    if office is None:
        raise NotReady(
            "this server has no state that would tell its workers of a purge", hint="start it with `ashore up`"
        )
    origin = app.origin_of(exchange)
    raised = await asyncio.to_thread(
        lambda: office.purge(
            tenant=asked.tenant,
            alias=asked.model,
            entry_id=asked.entry,
            actor=principal.id,
            actor_tenant=principal.tenant,
            origin=origin,
            request_id=exchange.request_id,
        )
    )
    await exchange.respond(200, [JSON], _encode(Purged(list(raised))))


def _sees(app: HttpApp, principal: Principal, tenant: str) -> bool:
    """Return whether somebody who may read the cache sees what a tenant has of it. Nobody's own are public routes."""
    return tenant == PUBLIC or sees_tenant(app.authority, principal, READ, tenant)


def merged(shares: Iterable[ShareOut]) -> list[ShareOut]:
    """Return the shares of several workers added up, the largest first."""
    found: dict[tuple[str, str], ShareOut] = {}
    for share in shares:
        key = (share.tenant, share.model)
        other = found.get(key)
        if other is not None:
            counts = {name: getattr(share, name) + getattr(other, name) for name in _COUNTS}
            share = msgspec.structs.replace(share, **counts)
        found[key] = share
    return sorted(found.values(), key=lambda share: (-share.num_bytes, -share.lookups, share.tenant, share.model))


_COUNTS: Final = tuple(name for name in ShareOut.__struct_fields__ if name not in ("tenant", "model"))


async def _own(app: HttpApp, asked: dict[str, str]) -> CacheList:
    """Return what this worker says."""
    cache = app.serving.cache
    tenant, model, entry = (asked.get(name, "") for name in FILTERS)
    held = await cache.entry(entry) if entry else None
    return CacheList(
        items=[CacheItem(worker=app.number, **asdict(cache.stats(tenant=tenant, alias=model)))],
        shares=[_share(one) for one in cache.shares(tenant=tenant, alias=model)],
        held=[] if held is None else [_entry(app.number, held)],
    )


def _resources(asked: PurgeRequest) -> list[str]:
    named = [("tenant", asked.tenant), ("model", asked.model)]
    found = [f"{kind}/{name}" for kind, name in named if name]
    return [*found, SERVER] if asked.entry or not found else found


def _share(one: ShareStats) -> ShareOut:
    return ShareOut(model=one.alias, **{name: getattr(one, name) for name in ("tenant", *_COUNTS)})


def _entry(worker: int, one: EntryStats) -> EntryOut:
    return EntryOut(
        worker=worker,
        entry=one.entry_id,
        tenant=one.tenant,
        model=one.alias,
        release=one.release,
        num_bytes=one.num_bytes,
        age_s=one.age_s,
        expires_at_s=one.expires_at_s,
    )
