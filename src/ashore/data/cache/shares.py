"""Counts of each tenant and model in the cache of one process: entries, hits, evictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ashore.data.cache.model import Tier
from ashore.data.cache.report import ShareOut
from ashore.kit.copied import copied

MAX_SHARES: Final = 1000
"""Pairs of tenant and model with counts of their own; about 600 bytes each."""
OTHERS: Final = "(others)"
"""Tenant and model under which all pairs beyond that are counted. No tenant can be called so."""


@dataclass(slots=True, kw_only=True, eq=False)
class Share:
    """Counts of one tenant and model since the process began, and its current entries."""

    tenant: str
    alias: str
    entries: int = 0
    num_bytes: int = 0
    misses: int = 0
    stored: int = 0
    refused: int = 0
    ready_exact: int = 0
    ready_reworded: int = 0
    """Answered by the bytes of the request, from an answer that was found for another wording."""
    evictions: int = 0
    hits: dict[Tier, int] = field(default_factory=dict)

    def hit(self, tier: Tier) -> None:
        """Count a hit."""
        self.hits[tier] = self.hits.get(tier, 0) + 1

    def take(self, other: Share) -> None:
        """Add the counts of a removed share."""
        for name in ("misses", "stored", "refused", "ready_exact", "ready_reworded", "evictions"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for tier, count in other.hits.items():
            self.hits[tier] = self.hits.get(tier, 0) + count

    def stats(self) -> ShareOut:
        """Return the current statistics."""
        reworded = self.hits.get("reworded", 0)
        exact = sum(self.hits.values()) - reworded + self.ready_exact
        reworded += self.ready_reworded
        return copied(
            ShareOut,
            self,
            model=self.alias,
            lookups=self.misses + exact + reworded,
            hits_exact=exact,
            hits_reworded=reworded,
        )


class Shares:
    """The shares of one process, bounded in number."""

    def __init__(self, most: int = MAX_SHARES) -> None:
        self._most = most
        self._shares: dict[tuple[str, str], Share] = {}
        self._others = Share(tenant=OTHERS, alias=OTHERS)

    def of(self, tenant: str, alias: str) -> Share:
        """Return the share of a tenant and model. Count at once: an empty share may be folded later.

        Above the limit, empty shares are folded into the one for all others; if there are none, the new one is counted
        there too.
        """
        key = (tenant, alias)
        share = self._shares.get(key)
        if share is not None:
            return share
        if len(self._shares) >= self._most:
            for one in [one for one, share in self._shares.items() if not share.entries]:
                self._others.take(self._shares.pop(one))
            if len(self._shares) >= self._most:
                return self._others
        share = self._shares[key] = Share(tenant=tenant, alias=alias)
        return share

    def matching(self, tenant: str = "", alias: str = "") -> Iterator[Share]:
        """Yield the shares of a tenant, of a model, of both, or all."""
        others = (self._others,) if self._others.stats() != _NOTHING else ()
        for share in (*self._shares.values(), *others):
            if tenant in ("", share.tenant) and alias in ("", share.alias):
                yield share


_NOTHING: Final = Share(tenant=OTHERS, alias=OTHERS).stats()
