"""The decisions of the cache, pure: what may be kept, and under which address."""

from __future__ import annotations

import hashlib
from typing import Final

from ashore.cache.model import EVERYBODY, Ask, CachePolicy, Directive, Question
from ashore.cache.ports import Epochs
from ashore.core import whole_number

VERSION: Final = b"ashore answers 1"

POLICY_EPOCH: Final = "policy"
PURGE_EPOCH: Final = "cache"
CURATED_EPOCH: Final = "cache/curated"
ANY_PURGE_EPOCH: Final = "cache/any"
"""Raised with every purge, whatever it purges: finished responses depend on it."""


def tenant_epoch(tenant: str) -> str:
    """Return the kind of epoch that a purge of one tenant raises."""
    return f"cache/tenant/{tenant}"


def alias_epoch(alias: str) -> str:
    """Return the kind of epoch that a purge of one model raises."""
    return f"cache/model/{alias}"


def entry_epoch(entry_id: str) -> str:
    """Return the kind of epoch that a purge of one entry raises."""
    return f"cache/entry/{entry_id}"


def question_of(ask: Ask, policy: CachePolicy, epochs: Epochs, secret: bytes) -> Question | None:
    """Return the address of a request, or None when nothing about it may be looked up or kept.

    The tenant, the release and the epochs are part of the address, so another tenant, a new release and a purge all
    lead elsewhere: nothing has to be chased.
    """
    route = policy.route(ask.alias)
    directive = ask.directive
    if route.mode == "off" or directive.no_store or not ask.storable:
        return None
    if ask.temperature > policy.max_temperature and not directive.asked_for:
        return None
    tenant = EVERYBODY if route.public else ask.tenant
    hasher = hashlib.blake2b(VERSION, key=secret, digest_size=32)
    for part in (
        tenant.encode(),
        ask.release.encode(),
        ask.alias.encode(),
        stamp_of(ask, epochs),
        ask.frame,
    ):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    partition = hasher.digest()
    hasher.update(ask.question.encode("utf-8", "surrogatepass"))
    key = hasher.digest()
    purged = epochs.get(entry_epoch(key[:8].hex()))
    if purged:
        key = hashlib.blake2b(purged.to_bytes(8, "little"), key=key, digest_size=32).digest()
    return Question(ask=ask, key=key, partition=partition, policy=route)


def stamp_of(ask: Ask, epochs: Epochs) -> bytes:
    """Return the epochs that every entry of this tenant and model depends on."""
    kinds = (POLICY_EPOCH, PURGE_EPOCH, tenant_epoch(ask.tenant), alias_epoch(ask.alias))
    return b"".join(epochs.get(kind).to_bytes(8, "little") for kind in kinds)


def directive_of(cache_control: str, ashore_cache: str) -> Directive:
    """Return what the two request headers ask for. What they say beyond that is ignored, as RFC 9111 has it."""
    no_store = no_cache = False
    max_age_s: float | None = None
    for part in cache_control.split(","):
        name, _, value = part.strip().lower().partition("=")
        match name:
            case "no-store":
                no_store = True
            case "no-cache":
                no_cache = True
            case "max-age" if (seconds := whole_number(value.strip('"'))) is not None:
                max_age_s = float(seconds)
                no_cache = no_cache or seconds == 0
    return Directive(
        no_store=no_store or ashore_cache == "off",
        no_cache=no_cache,
        max_age_s=max_age_s,
        asked_for=ashore_cache == "use",
    )
