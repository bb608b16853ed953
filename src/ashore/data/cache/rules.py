"""The decisions of the cache, pure: what may be cached, and under which address."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ashore.core.wholenumber import whole_number
from ashore.data.cache.model import EVERYBODY, Ask, Directive, Question
from ashore.data.cache.ports import Epochs
from ashore.data.cache.reworded import reworded_key
from ashore.data.cache.section import CachePolicy, RoutePolicy

VERSION: Final = b"ashore answers 3"

POLICY_EPOCH: Final = "policy"
PURGE_EPOCH: Final = "cache"
CURATED_EPOCH: Final = "cache/curated"
ANY_PURGE_EPOCH: Final = "cache/any"
"""Raised with every purge, whatever it purges: finished responses depend on it."""


def tenant_epoch(tenant: str) -> str:
    """Return the epoch kind of a tenant's purge."""
    return f"cache/tenant/{tenant}"


def alias_epoch(alias: str) -> str:
    """Return the epoch kind of a model's purge."""
    return f"cache/model/{alias}"


def entry_epoch(entry_id: str) -> str:
    """Return the epoch kind of an entry's purge."""
    return f"cache/entry/{entry_id}"


def purges_of(epochs: Epochs, tenant: str) -> str:
    """Return a text that changes with every purge of a tenant's prefixes; empty before the first. No tenant: those that
    all share, which any purge concerns."""
    kinds = (PURGE_EPOCH, tenant_epoch(tenant)) if tenant else (ANY_PURGE_EPOCH,)
    counts = [epochs.get(kind) for kind in kinds]
    return ".".join(str(count) for count in counts) if any(counts) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """Entries at addresses that no request reaches any more."""

    everything: bool = False
    ready: bool = False
    """Every finished response."""
    tenant: str = ""
    alias: str = ""
    entry_id: str = ""

    def holds(self, key: bytes, tenant: str, alias: str, *, is_ready: bool) -> bool:
        """Return whether an entry is among them."""
        if self.everything or (self.ready and is_ready):
            return True
        if self.entry_id:
            return not is_ready and key[:8].hex() == self.entry_id
        return bool(self.tenant or self.alias) and self.tenant in ("", tenant) and self.alias in ("", alias)


def is_kept_out(
    policy: CachePolicy, route: RoutePolicy, directive: Directive, *, temperature: float, storable: bool
) -> bool:
    """Return whether a request bypasses the cache entirely, whatever it requests."""
    if route.mode == "off" or directive.no_store or not storable:
        return True
    return temperature > policy.max_temperature and not directive.asked_for


def question_of(ask: Ask, policy: CachePolicy, route: RoutePolicy, epochs: Epochs, secret: bytes) -> Question | None:
    """Return the address of a request, or None if it bypasses the cache.

    Tenant, release and epochs are part of the address, so another tenant, a new release and a purge all lead to another
    address: no entry has to be found and removed. So is the masking policy of the request: its epoch is known some
    milliseconds before it is in force, and an answer checked under the old policy must not be found under the new one.
    """
    if is_kept_out(policy, route, ask.directive, temperature=ask.temperature, storable=ask.storable):
        return None
    tenant = EVERYBODY if route.public else ask.tenant
    hasher = hashlib.blake2b(VERSION, key=secret, digest_size=32)
    for part in (
        tenant.encode(),
        ask.release.encode(),
        ask.alias.encode(),
        ask.masking,
        stamp_of(ask, epochs),
        ask.frame,
    ):
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    question, asked = ask.question.encode("utf-8", "surrogatepass"), b""
    if route.mode == "exact_then_reworded" and ask.rewordable and (common := reworded_key(ask.question)) is not None:
        asked = hashlib.blake2b(question, digest_size=8).digest()
        question = b"reworded " + common.encode()
    hasher.update(question)
    key = hasher.digest()
    while purged := epochs.get(entry_epoch(key[:8].hex())):  # the entry after a purge has another name, purged in turn
        key = hashlib.blake2b(purged.to_bytes(8, "little"), key=key, digest_size=32).digest()
    return Question(ask=ask, key=key, asked=asked, policy=route)


def hidden_by(kind: str) -> Hidden | None:
    """Return the entries that raising an epoch of this kind hides; None if it hides nothing."""
    match kind.split("/", 2):
        case ["policy"] | ["cache"]:
            return Hidden(everything=True)
        case ["cache", "any"]:
            return Hidden(ready=True)
        case ["cache", "tenant", tenant]:
            return Hidden(tenant=tenant)
        case ["cache", "model", alias]:
            return Hidden(alias=alias)
        case ["cache", "entry", entry_id]:
            return Hidden(entry_id=entry_id)
    return None


def stamp_of(ask: Ask, epochs: Epochs) -> bytes:
    """Return the epochs that every entry of this tenant and model depends on."""
    kinds = (POLICY_EPOCH, PURGE_EPOCH, tenant_epoch(ask.tenant), alias_epoch(ask.alias))
    return b"".join(epochs.get(kind).to_bytes(8, "little") for kind in kinds)


@lru_cache(maxsize=64)
def directive_of(cache_control: str, ashore_cache: str) -> Directive:
    """Return the directives of the two request headers. Other values are ignored, as RFC 9111 requires.

    Memoised: clients send one of a few values, and they are read twice: before the body, and with it.
    """
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
