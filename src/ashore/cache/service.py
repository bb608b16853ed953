"""The cache of one process: look through the tiers, keep what was made, remember finished responses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from ashore.cache.curated import CuratedAnswers
from ashore.cache.model import Ask, CachePolicy, CacheStats, Counters, Found, KeptAnswer, Pair, Question, Ready, Tier
from ashore.cache.ports import Epochs, SemanticTier, SharedTier
from ashore.cache.rules import ANY_PURGE_EPOCH, POLICY_EPOCH, question_of
from ashore.cache.sealed import Record, decode, encode, seal, unseal
from ashore.cache.tinylfu import TinyLfu
from ashore.core import Clock, TenantId

ENTRY_OVERHEAD_BYTES: Final = 400
"""What Python adds to an entry: key, containers, numbers. Traced at 298 on CPython 3.13 over 100,000 entries."""


class AnswerCache:
    """Answers worth keeping. For one event loop; nothing here waits but a shared or a semantic tier."""

    def __init__(
        self,
        policy: CachePolicy,
        *,
        secret: bytes,
        epochs: Epochs,
        clock: Clock,
        shared: SharedTier | None = None,
        semantic: SemanticTier | None = None,
        curated: CuratedAnswers | None = None,
    ) -> None:
        """Make it.

        Args:
            policy: What the operator allows.
            secret: Key of every hash, 32 bytes; the same in all processes that share a tier.
            epochs: Say when policies changed and what was purged.
            clock: Ages and expiry.
            shared: A tier that processes share.
            semantic: Matching by meaning, for routes in that mode.
            curated: Pairs that the operator imported.
        """
        self._policy = policy
        self._secret = secret
        self._epochs = epochs
        self._clock = clock
        self._shared = shared
        self._semantic = semantic
        self._curated = CuratedAnswers() if curated is None else curated
        self._local: TinyLfu[bytes | Ready] = TinyLfu(policy.max_bytes, dropped=self._forget)
        self._counters = Counters()

    @property
    def policy(self) -> CachePolicy:
        return self._policy

    def apply(self, policy: CachePolicy) -> None:
        """Go by another policy from now on. The bound in bytes stays as it was."""
        self._policy = replace(policy, max_bytes=self._policy.max_bytes)

    def question(self, ask: Ask) -> Question | None:
        """Return the address of a request, or None when the policy keeps it out."""
        question = question_of(ask, self._policy, self._epochs, self._secret)
        if question is None:
            self._counters.refused += 1
        return question

    async def find(self, question: Question) -> Found | None:
        """Return a kept answer: curated, from this process, from the shared tier, or by meaning."""
        directive = question.ask.directive
        if directive.no_cache:
            return None
        self._counters.lookups += 1
        curated = self._find_curated(question)
        found: Found | None
        if curated is not None and curated.pinned:
            found = self._curated_found(question, curated)
        else:
            found = self._local_found(question.key, "local")
        if found is None and self._shared is not None:
            found = await self._find_shared(question.key, "shared")
        if found is None and self._semantic is not None and _by_meaning(question):
            found = await self._find_by_meaning(question)
        if found is None and curated is not None:
            found = self._curated_found(question, curated)
        if found is not None and directive.max_age_s is not None and found.age_s > directive.max_age_s:
            found = None
        if found is None:
            self._counters.misses += 1
            return None
        self._counters.hits[found.tier] = self._counters.hits.get(found.tier, 0) + 1
        return found

    async def keep(self, question: Question, answer: KeptAnswer) -> None:
        """Keep a whole answer."""
        now_s = self._clock.now_s()
        record = Record(now_s, now_s + question.policy.ttl_s, answer)
        self._keep_local(question.key, record)
        self._counters.stored += 1
        if self._shared is not None:
            self._shared.put(question.key, seal(question.key, record, self._secret), question.policy.ttl_s)
        if self._semantic is not None and _by_meaning(question):
            await self._semantic.add(question, answer.choices[0].text)

    @property
    def matches_by_meaning(self) -> bool:
        """Whether there is a semantic tier."""
        return self._semantic is not None

    async def match_by_meaning(self, semantic: SemanticTier) -> None:
        """Take a semantic tier, and seed it with the curated pairs."""
        self._semantic = semantic
        await semantic.seed(self._curated.pairs())

    async def take_pairs(self, pairs: Sequence[Pair]) -> None:
        """Hold these curated pairs from now on."""
        self._curated.replace(pairs)
        if self._semantic is not None:
            await self._semantic.seed(pairs)

    def text_of(self, key: bytes) -> str | None:
        """Return the first choice of an answer that this process keeps; the semantic tier compares by it."""
        kept = self._local.peek(key)
        return decode(kept).answer.choices[0].text if isinstance(kept, bytes) else None

    # --- responses in their last form

    def ready_key(self, tenant: TenantId, principal_id: str, path: str, body: bytes, stamp: bytes) -> bytes:
        """Return the address of a finished response.

        Args:
            tenant: Of the principal.
            principal_id: Whoever asks; what another may do is never taken for granted.
            path: Route.
            body: As it came.
            stamp: Whatever else the response depends on and the body does not say: the topology's generation.
        """
        hasher = hashlib.blake2b(b"ready", key=self._secret, digest_size=32)
        epochs = b"%d %d" % (self._epochs.get(POLICY_EPOCH), self._epochs.get(ANY_PURGE_EPOCH))
        who, whose, where = tenant.encode(), principal_id.encode(), path.encode()
        # The lengths first: a name may hold any separator, and names that are only joined could be cut elsewhere.
        lengths = b"%d %d %d %d %d:" % (len(who), len(whose), len(where), len(stamp), len(epochs))
        hasher.update(b"".join((lengths, who, whose, where, stamp, epochs)))
        hasher.update(body)
        return hasher.digest()

    def ready(self, key: bytes) -> Ready | None:
        """Return a finished response that is still good."""
        kept = self._local.get(key)
        if not isinstance(kept, Ready):
            return None
        if kept.expires_at_s <= self._clock.now_s():
            self._local.remove(key)
            return None
        self._counters.ready_hits += 1
        return kept

    def keep_ready(self, key: bytes, ready: Ready) -> None:
        """Remember a finished response."""
        head = sum(len(name) + len(value) + 100 for name, value in ready.headers)
        self._local.put(key, ready, len(ready.body) + head + ENTRY_OVERHEAD_BYTES)

    # ---

    def stats(self) -> CacheStats:
        """Return what happened so far and what is held."""
        counters, semantic = self._counters, self._semantic
        return CacheStats(
            lookups=counters.lookups,
            misses=counters.misses,
            stored=counters.stored,
            refused=counters.refused,
            ready_hits=counters.ready_hits,
            hits=dict(counters.hits),
            entries=len(self._local),
            num_bytes=self._local.num_bytes,
            max_bytes=self._local.max_bytes,
            evictions=self._local.evictions,
            shared="none" if self._shared is None else "up" if self._shared.up else "down",
            semantic_entries=0 if semantic is None else semantic.num_entries,
            semantic_bytes=0 if semantic is None else semantic.num_bytes,
        )

    async def close(self) -> None:
        """Let the shared tier go. May be called twice."""
        if self._shared is not None:
            await self._shared.close()
        if self._semantic is not None:
            self._semantic.close()

    def _find_curated(self, question: Question) -> Pair | None:
        return self._curated.find(question, self._clock.now_s())

    def _curated_found(self, question: Question, pair: Pair) -> Found:
        now_s = self._clock.now_s()
        return Found(
            answer=pair.answer(question.ask.release),
            tier="curated",
            entry_id=question.entry_id,
            age_s=max(0, int(now_s - pair.created_s)),
            expires_at_s=pair.expires_at_s or now_s + question.policy.ttl_s,
        )

    def _local_found(self, key: bytes, tier: Tier) -> Found | None:
        kept = self._local.get(key)
        if not isinstance(kept, bytes):
            return None
        return self._good(key, decode(kept), tier)

    async def _find_shared(self, key: bytes, tier: Tier) -> Found | None:
        assert self._shared is not None
        sealed = await self._shared.get(key)
        record = None if sealed is None else unseal(key, sealed, self._secret)
        if record is None:
            return None
        found = self._good(key, record, tier)
        if found is not None:
            self._keep_local(key, record)
        return found

    async def _find_by_meaning(self, question: Question) -> Found | None:
        assert self._semantic is not None
        pair = await self._semantic.find_curated(question)
        if pair is not None:
            return replace(self._curated_found(question, pair), tier="semantic")
        key = await self._semantic.find(question)
        if key is None:
            return None
        found = self._local_found(key, "semantic")
        if found is None and self._shared is not None:
            found = await self._find_shared(key, "semantic")
        if found is None:
            self._semantic.remove(key)
        return found

    def _good(self, key: bytes, record: Record, tier: Tier) -> Found | None:
        now_s = self._clock.now_s()
        if record.expires_at_s <= now_s:
            self._local.remove(key)
            return None
        return Found(
            answer=record.answer,
            tier=tier,
            entry_id=key[:8].hex(),
            age_s=max(0, int(now_s - record.stored_at_s)),
            expires_at_s=record.expires_at_s,
        )

    def _keep_local(self, key: bytes, record: Record) -> None:
        payload = encode(record)
        self._local.put(key, payload, len(payload) + ENTRY_OVERHEAD_BYTES)

    def _forget(self, key: bytes, value: bytes | Ready) -> None:
        if self._semantic is not None and self._shared is None and isinstance(value, bytes):
            self._semantic.remove(key)


def _by_meaning(question: Question) -> bool:
    return question.policy.mode == "exact_then_semantic" and question.ask.embeddable
