"""The cache of one process: looks through the tiers, stores answers, and keeps finished responses."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from ashore.core.behind import Behind, nothing_behind
from ashore.core.clock import Clock
from ashore.core.ids import TenantId
from ashore.data.cache.curated import CuratedAnswers, plain
from ashore.data.cache.model import (
    EVERYBODY,
    Ask,
    Directive,
    Found,
    KeptAnswer,
    Pair,
    Question,
    Ready,
    Tier,
)
from ashore.data.cache.ports import Epochs, SharedTier
from ashore.data.cache.report import CacheItem, CacheReport, EntryOut, ShareOut
from ashore.data.cache.rules import ANY_PURGE_EPOCH, POLICY_EPOCH, hidden_by, is_kept_out, purges_of, question_of
from ashore.data.cache.sealed import Record, decode, encode, seal, unseal
from ashore.data.cache.section import CachePolicy, RoutePolicy
from ashore.data.cache.shares import Share, Shares
from ashore.data.cache.tinylfu import TinyLfu

ENTRY_OVERHEAD_BYTES: Final = 500
"""What Python adds to an entry: key, containers, numbers, its part of the maps and of the sketch. Traced at 506 on
CPython 3.13 over 100,000 entries."""
MOST_BEGUN: Final = 1_024
"""Principals and routes whose part of the address of a finished response is remembered."""
WALK_STEP: Final = 100
"""Entries that are looked at in one turn of the loop, 0.3 ms for all of them."""


class Held(msgspec.Struct, gc=False):
    """An entry with its tenant and model."""

    value: bytes | Ready
    share: Share


class AnswerCache:
    """The answer cache. For one event loop; only a shared tier is ever awaited."""

    def __init__(
        self,
        policy: CachePolicy,
        *,
        secret: bytes,
        epochs: Epochs,
        clock: Clock,
        shared: SharedTier | None = None,
        curated: CuratedAnswers | None = None,
        behind: Behind = nothing_behind,
    ) -> None:
        """Create it.

        Args:
            policy: The operator's policy.
            secret: Key of every hash, 32 bytes; the same in all processes that share a tier.
            epochs: Report policy changes and purges.
            clock: Ages and expiry.
            shared: A tier that processes share.
            curated: Pairs that the operator imported.
            behind: The models behind an alias, whose routes apply if it has none of its own.
        """
        self._behind = behind
        self._policy = policy
        self._secret = secret
        self._begun: dict[tuple[object, ...], hashlib.blake2b] = {}
        self._num_pairs_taken = 0
        """Hashes that know already of whom and of which epochs a finished response is."""
        self._epochs = epochs
        self._clock = clock
        self._shared = shared
        self._curated = CuratedAnswers() if curated is None else curated
        self._local: TinyLfu[Held] = TinyLfu(policy.max_bytes, left=self._left)
        self._shares = Shares()

    @property
    def policy(self) -> CachePolicy:
        return self._policy

    def _route(self, alias: str) -> RoutePolicy:
        return self._policy.route(alias, self._behind(alias))

    def apply(self, policy: CachePolicy) -> None:
        """Apply another policy. The limit in bytes stays as it was."""
        self._policy = msgspec.structs.replace(policy, max_bytes=self._policy.max_bytes)

    def keeps_out(
        self, tenant: TenantId, alias: str, directive: Directive, *, temperature: float, storable: bool
    ) -> bool:
        """Return whether the policy excludes a request from the cache, so that its texts need not be read."""
        out = is_kept_out(self._policy, self._route(alias), directive, temperature=temperature, storable=storable)
        if out:
            self._shares.of(tenant, alias).refused += 1
        return out

    def question(self, ask: Ask) -> Question | None:
        """Return the address of a request, or None if the policy excludes it."""
        question = question_of(ask, self._policy, self._route(ask.alias), self._epochs, self._secret)
        if question is None:
            self._shares.of(ask.tenant, ask.alias).refused += 1
        return question

    def purges_of(self, tenant: str) -> str:
        """Return what counts the purges of a tenant's prefixes; "" for those that all tenants share."""
        return purges_of(self._epochs, tenant)

    async def find(self, question: Question) -> Found | None:
        """Return a cached answer: curated, from this process, or from the shared tier."""
        directive = question.ask.directive
        if directive.no_cache:
            return None
        curated = self._find_curated(question)
        found: Found | None
        if curated is not None and curated.pinned:
            found = self._curated_found(question, curated)
        else:
            found = self._local_found(question)
        if found is None and self._shared is not None:
            found = await self._find_shared(question)
        if found is None and curated is not None:
            found = self._curated_found(question, curated)
        if found is not None and directive.max_age_s is not None and found.age_s > directive.max_age_s:
            found = None
        share = self._shares.of(question.ask.tenant, question.ask.alias)
        if found is None:
            share.misses += 1
            return None
        share.hit(found.tier)
        return found

    async def keep(self, question: Question, answer: KeptAnswer) -> None:
        """Store a whole answer."""
        now_s = self._clock.now_s()
        record = Record(now_s, now_s + question.policy.ttl_s, answer, question.asked)
        self._keep_local(question, record)
        self._shares.of(question.ask.tenant, question.ask.alias).stored += 1
        if self._shared is not None:
            self._shared.put(question.key, seal(question.key, record, self._secret), question.policy.ttl_s)

    async def take_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the curated pairs. Responses that were finished with the old ones are not found any more."""
        self._curated.replace(pairs)
        self._num_pairs_taken += 1

    # --- finished responses

    def ready_key(self, tenant: TenantId, principal_id: str, path: str, body: bytes, stamp: bytes) -> bytes:
        """Return the address of a finished response.

        Args:
            tenant: Tenant of the principal.
            principal_id: The caller; responses are not shared between principals.
            path: Route.
            body: Request body as received.
            stamp: Other dependencies of the response: the topology's generation.
        """
        policy, purges = self._epochs.get(POLICY_EPOCH), self._epochs.get(ANY_PURGE_EPOCH)
        taken = self._num_pairs_taken
        whose = (tenant, principal_id, path, stamp, policy, purges, taken)
        begun = self._begun.get(whose)
        if begun is None:
            if len(self._begun) >= MOST_BEGUN:
                self._begun.clear()
            epochs = b"%d %d %d" % (policy, purges, taken)
            begun = self._begun[whose] = self._begin(tenant, principal_id, path, stamp, epochs)
        hasher = begun.copy()
        hasher.update(body)
        return hasher.digest()

    def _begin(self, tenant: TenantId, principal_id: str, path: str, stamp: bytes, epochs: bytes) -> hashlib.blake2b:
        hasher = hashlib.blake2b(b"ready", key=self._secret, digest_size=32)
        who, whose, where = tenant.encode(), principal_id.encode(), path.encode()
        # The lengths first: names may contain any separator, so joined names would be ambiguous.
        lengths = b"%d %d %d %d %d:" % (len(who), len(whose), len(where), len(stamp), len(epochs))
        hasher.update(b"".join((lengths, who, whose, where, stamp, epochs)))
        return hasher

    def ready(self, key: bytes) -> Ready | None:
        """Return a finished response that is still valid."""
        held = self._local.get(key)
        if held is None:
            return None
        ready = held.value
        if not isinstance(ready, Ready):
            return None
        if ready.expires_at_s <= self._clock.now_s():
            self._local.remove(key)
            return None
        if ready.label == "hit-reworded":
            held.share.ready_reworded += 1
        else:
            held.share.ready_exact += 1
        return ready

    def keep_ready(self, key: bytes, ready: Ready, tenant: TenantId) -> None:
        """Store a finished response for repeats by `tenant`."""
        head = sum(len(name) + len(value) + 100 for name, value in ready.headers)
        self._hold(key, ready, len(ready.body) + head + ENTRY_OVERHEAD_BYTES, self._shares.of(tenant, ready.alias))

    # --- entries and purges

    async def let_go(self, kind: str) -> int:
        """Free the entries that raising an epoch of this kind has made unreachable; return how many.

        A purge is effective without it, and it may be called twice. It yields to the loop after every `WALK_STEP`
        entries.
        """
        hidden = hidden_by(kind)
        if hidden is None:
            return 0
        num_freed = 0
        async for key, held in self._walk():
            share, is_ready = held.share, isinstance(held.value, Ready)
            if hidden.holds(key, share.tenant, share.alias, is_ready=is_ready):
                self._local.remove(key)
                num_freed += 1
        return num_freed

    async def report(self, worker: int, *, tenant: str, model: str, entry: str) -> CacheReport:
        """Return the report of a worker, or the part of it that tenant, model and entry select."""
        held = await self.entry(entry, worker=worker) if entry else None
        return CacheReport(
            items=[self.stats(tenant=tenant, model=model, worker=worker)],
            shares=list(self.shares(tenant=tenant, model=model)),
            held=[] if held is None else [held],
        )

    async def entry(self, entry_id: str, *, worker: int = 0) -> EntryOut | None:
        """Return this process's entry of this name; None if it has no valid one."""
        async for key, held in self._walk():
            if isinstance(held.value, Ready) or key[:8].hex() != entry_id:
                continue
            record, now_s = decode(held.value), self._clock.now_s()
            if record.expires_at_s <= now_s:
                return None
            return EntryOut(
                worker=worker,
                entry=entry_id,
                tenant=held.share.tenant,
                model=held.share.alias,
                release=record.answer.release,
                num_bytes=self._local.weight(key),
                age_s=max(0, int(now_s - record.stored_at_s)),
                expires_at_s=record.expires_at_s,
            )
        return None

    def shares(self, *, tenant: str = "", model: str = "") -> tuple[ShareOut, ...]:
        """Return the statistics of each tenant and model; empty names stand for all."""
        return tuple(share.stats() for share in self._shares.matching(tenant, model))

    def stats(self, *, tenant: str = "", model: str = "", worker: int = 0) -> CacheItem:
        """Return counts and content: in total, or for a tenant, a model or both."""
        found = list(self._shares.matching(tenant, model))
        hits: dict[str, int] = {}
        for share in found:
            for tier, count in share.hits.items():
                hits[tier] = hits.get(tier, 0) + count
        misses = sum(share.misses for share in found)
        return CacheItem(
            worker=worker,
            lookups=misses + sum(hits.values()),
            misses=misses,
            stored=sum(share.stored for share in found),
            refused=sum(share.refused for share in found),
            ready_hits=sum(share.ready_exact + share.ready_reworded for share in found),
            hits=hits,
            entries=sum(share.entries for share in found),
            num_bytes=sum(share.num_bytes for share in found),
            max_bytes=self._local.max_bytes,
            evictions=sum(share.evictions for share in found),
            shared="none" if self._shared is None else "up" if self._shared.up else "down",
        )

    async def close(self) -> None:
        """Close the shared tier. May be called twice."""
        if self._shared is not None:
            await self._shared.close()

    def _find_curated(self, question: Question) -> Pair | None:
        return self._curated.find(question, self._clock.now_s())

    def _curated_found(self, question: Question, pair: Pair) -> Found:
        now_s = self._clock.now_s()
        return Found(
            answer=pair.answer(question.ask.release),
            tier="curated" if plain(pair.question) == plain(question.ask.question) else "reworded",
            entry_id=question.entry_id,
            age_s=max(0, int(now_s - pair.created_s)),
            expires_at_s=pair.expires_at_s or now_s + question.policy.ttl_s,
        )

    def _local_found(self, question: Question) -> Found | None:
        held = self._local.get(question.key)
        if held is None or isinstance(held.value, Ready):
            return None
        return self._good(question, decode(held.value), "local")

    async def _find_shared(self, question: Question) -> Found | None:
        assert self._shared is not None
        sealed = await self._shared.get(question.key)
        record = None if sealed is None else unseal(question.key, sealed, self._secret)
        if record is None:
            return None
        found = self._good(question, record, "shared")
        if found is not None:
            self._keep_local(question, record)
        return found

    def _good(self, question: Question, record: Record, tier: Tier) -> Found | None:
        now_s = self._clock.now_s()
        if record.expires_at_s <= now_s:
            self._local.remove(question.key)
            return None
        return Found(
            answer=record.answer,
            tier=tier if record.asked == question.asked else "reworded",
            entry_id=question.entry_id,
            age_s=max(0, int(now_s - record.stored_at_s)),
            expires_at_s=record.expires_at_s,
        )

    def _keep_local(self, question: Question, record: Record) -> None:
        payload = encode(record)
        owner = EVERYBODY if question.policy.public else question.ask.tenant
        weight = len(payload) + ENTRY_OVERHEAD_BYTES
        self._hold(question.key, payload, weight, self._shares.of(owner, question.ask.alias))

    def _hold(self, key: bytes, value: bytes | Ready, weight: int, share: Share) -> None:
        share.entries += 1
        share.num_bytes += weight
        self._local.put(key, Held(value, share), weight)

    def _left(self, key: bytes, held: Held, weight: int, for_room: bool) -> None:
        share = held.share
        share.entries -= 1
        share.num_bytes -= weight
        if not for_room:
            return
        share.evictions += 1

    async def _walk(self) -> AsyncIterator[tuple[bytes, Held]]:
        """Yield the entries held now that are still held when their turn comes, a few in each turn of the loop."""
        keys = tuple(self._local)
        for start in range(0, len(keys), WALK_STEP):
            for key in keys[start : start + WALK_STEP]:
                held = self._local.peek(key)
                if held is not None:
                    yield key, held
            await asyncio.sleep(0)
