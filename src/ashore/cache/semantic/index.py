"""The entries of every tenant, and the search for one whose answer may be given."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ashore.cache.semantic.agree import agree, search_keys
from ashore.cache.semantic.judge import shipped_judge
from ashore.cache.semantic.model import EntryKey, IndexStats, Match, Reading
from ashore.cache.semantic.ports import Vector
from ashore.cache.semantic.prior import JUDGED, NUM_LEVELS, Prior, level_of, shipped_prior
from ashore.cache.semantic.reading import read
from ashore.cache.semantic.threshold import EntryModel, Judgement, logit
from ashore.core import TenantId

_FIXED_ENTRY_BYTES = 1400
"""The reading, the places in the search tables and the Python objects of one entry, measured."""
_MOST_CANDIDATES = 256
_MOST_JUDGED = 48
_MOST_POSTED = 4096
"""Entries of one word that are counted; a word that more entries hold tells little."""
_READINGS_KEPT = 1024
_NO_KEYS: set[EntryKey] = set()


@dataclass(slots=True, kw_only=True)
class _Entry:
    key: EntryKey
    partition: bytes
    tenant: TenantId
    reading: Reading
    vector: NDArray[np.float16]
    held_bytes: int
    model: EntryModel = field(default_factory=EntryModel)


@dataclass(slots=True)
class _Shelf:
    """What one tenant holds, least recently useful first."""

    entries: OrderedDict[EntryKey, _Entry] = field(default_factory=OrderedDict)
    by_word: dict[tuple[bytes, str], set[EntryKey]] = field(default_factory=dict)
    held_bytes: int = 0
    wrong: list[int] = field(default_factory=lambda: [0] * NUM_LEVELS)
    judged: list[int] = field(default_factory=lambda: [0] * NUM_LEVELS)


class SemanticIndex:
    """Finds the entry that asks the same in other words. In process, one thread at a time, nothing awaited.

    Tenants never meet: each has its own shelf, and within it only entries of the same partition are looked at. The
    partition stands for all but the last user message (release, system prompt, tools, history, parameters, epochs).
    """

    def __init__(
        self, *, error_bound: float, bytes_per_tenant: int, most_tenants: int = 4096, prior: Prior | None = None
    ) -> None:
        """Make an empty index.

        Args:
            error_bound: Largest share of wrong answers the operator accepts, above 0 and below 1.
            bytes_per_tenant: Memory one tenant's entries may take; the least recently useful give way.
            most_tenants: Tenants held at once; the one that looked longest ago gives way.
            prior: How far a new entry is trusted; the shipped one if left out.
        """
        if not 0 < error_bound < 1:
            raise ValueError(f"error_bound is {error_bound}; expected between 0 and 1")
        self._error_bound = error_bound
        self._bytes_per_tenant = bytes_per_tenant
        self._most_tenants = most_tenants
        self._prior = prior or shipped_prior()
        self._shelves: OrderedDict[TenantId, _Shelf] = OrderedDict()
        self._tenant_of: dict[EntryKey, TenantId] = {}
        self._readings: OrderedDict[str, Reading] = OrderedDict()
        self._lookups = self._hits = self._evicted = self._right = self._wrong = 0

    def worth_embedding(self, partition: bytes, tenant: TenantId, question: str) -> bool:
        """Tell whether any entry agrees in words, so that a vector is worth computing. No vector is read."""
        return bool(self._agreeing(partition, tenant, question))

    def lookup(
        self,
        partition: bytes,
        tenant: TenantId,
        question: str,
        vector: Vector | None,
        *,
        error_bound: float | None = None,
    ) -> Match | None:
        """Return the entry whose answer may be given, or None. `error_bound` stands for that of the index.

        A question without a vector is never answered: agreement of words alone is not enough. The best match counts as
        used, which keeps it from being evicted.
        """
        self._lookups += 1
        best = self.propose(partition, tenant, question, vector)
        if best is None or best.confidence < 1 - (self._error_bound if error_bound is None else error_bound):
            return None
        self._hits += 1
        self._shelves[tenant].entries.move_to_end(best.key)
        self._shelves.move_to_end(tenant)
        return best

    def propose(self, partition: bytes, tenant: TenantId, question: str, vector: Vector | None) -> Match | None:
        """Return the best entry that agrees, whether or not it is trusted enough to answer.

        The caller that generates an answer anyway may compare it with this entry's and `judge`: that is how an entry
        learns without a user being given a doubtful answer.
        """
        if vector is None:
            return None
        best: Match | None = None
        for entry, level in self._agreeing(partition, tenant, question):
            similarity = float(np.dot(entry.vector.astype(np.float32), vector))
            if similarity < self._prior.levels[level].lowest_similarity:
                continue
            confidence = entry.model.probability(similarity, self._prior_logit(tenant, level))
            if best is None or (confidence, similarity) > (best.confidence, best.similarity):
                best = Match(key=entry.key, similarity=similarity, confidence=confidence, level=level)
        return best

    def add(self, partition: bytes, tenant: TenantId, key: EntryKey, question: str, vector: Vector) -> bool:
        """Hold an entry; one of the same key is replaced. False if the question may never be matched by meaning."""
        self.remove(key)
        reading = self._read(question)
        held_bytes = _FIXED_ENTRY_BYTES + 2 * vector.size + 4 * len(question) + len(partition)
        if reading.unfit or not reading.words or held_bytes > self._bytes_per_tenant:
            return False
        shelf = self._shelves.setdefault(tenant, _Shelf())
        self._shelves.move_to_end(tenant)
        entry = _Entry(
            key=key,
            partition=partition,
            tenant=tenant,
            reading=reading,
            vector=vector.astype(np.float16),
            held_bytes=held_bytes,
        )
        shelf.entries[key] = entry
        shelf.held_bytes += held_bytes
        self._tenant_of[key] = tenant
        for word in reading.words:
            for name in search_keys(word):
                shelf.by_word.setdefault((partition, name), set()).add(key)
        while shelf.held_bytes > self._bytes_per_tenant:
            self._evict(next(iter(shelf.entries)))
        while len(self._shelves) > self._most_tenants:
            self._drop_tenant(next(iter(self._shelves)))
        return True

    def remove(self, key: EntryKey) -> None:
        """Forget an entry. An unknown key does nothing."""
        tenant = self._tenant_of.pop(key, None)
        if tenant is None:
            return
        shelf = self._shelves[tenant]
        entry = shelf.entries.pop(key)
        shelf.held_bytes -= entry.held_bytes
        for word in entry.reading.words:
            for name in search_keys(word):
                keys = shelf.by_word.get((entry.partition, name))
                if keys is not None:
                    keys.discard(key)
                    if not keys:
                        del shelf.by_word[entry.partition, name]

    def purge(self, tenant: TenantId | None = None) -> int:
        """Forget everything of a tenant, or of all; return how many entries went."""
        names = [tenant] if tenant is not None else list(self._shelves)
        return sum(self._drop_tenant(name) for name in names if name in self._shelves)

    def judge(self, match: Match, *, was_right: bool) -> None:
        """Learn whether the entry's answer was right for the question it matched.

        Teaches the entry, and the tenant's trust in matches this loose. Nothing happens if the entry is gone.
        """
        tenant = self._tenant_of.get(match.key)
        if tenant is None:
            return
        shelf = self._shelves[tenant]
        entry = shelf.entries[match.key]
        judgement = Judgement(
            similarity=match.similarity, prior_logit=self._prior_logit(tenant, match.level), was_right=was_right
        )
        entry.model = entry.model.judged(judgement)
        for level in range(match.level, NUM_LEVELS):
            shelf.judged[level] += 1
            shelf.wrong[level] += not was_right
        self._right += was_right
        self._wrong += not was_right

    def stats(self) -> IndexStats:
        """Return counts since start, and what is held now."""
        return IndexStats(
            entries=len(self._tenant_of),
            tenants=len(self._shelves),
            held_bytes=sum(s.held_bytes for s in self._shelves.values()),
            lookups=self._lookups,
            hits=self._hits,
            evicted=self._evicted,
            judged_right=self._right,
            judged_wrong=self._wrong,
        )

    def _agreeing(self, partition: bytes, tenant: TenantId, question: str) -> list[tuple[_Entry, int]]:
        shelf = self._shelves.get(tenant)
        if shelf is None:
            return []
        reading = self._read(question)
        if reading.unfit or not reading.words:
            return []
        found = []
        for key in self._candidates(shelf, partition, reading):
            entry = shelf.entries[key]
            if entry.reading.facts != reading.facts:
                continue
            agreement = agree(reading, entry.reading)
            if not agreement.veto:
                found.append((entry, level_of(agreement)))
        return found or self._judged(shelf, partition, reading)

    def _judged(self, shelf: _Shelf, partition: bytes, reading: Reading) -> list[tuple[_Entry, int]]:
        """Return the entries that the judge takes for the same, out of those that share the most words."""
        shared: dict[EntryKey, int] = {}
        for word in reading.words:
            sets = [shelf.by_word.get((partition, name), _NO_KEYS) for name in search_keys(word)]
            if 0 < sum(map(len, sets)) <= _MOST_POSTED:
                for key in set().union(*sets):
                    shared[key] = shared.get(key, 0) + 1
        alike = [
            (count, entry)
            for key, count in shared.items()
            if (entry := shelf.entries[key]).reading.facts == reading.facts
        ]
        alike.sort(key=lambda pair: (-pair[0], pair[1].key))
        judge = shipped_judge()
        return [(entry, JUDGED) for _, entry in alike[:_MOST_JUDGED] if judge.same(reading, entry.reading)]

    def _candidates(self, shelf: _Shelf, partition: bytes, reading: Reading) -> list[EntryKey]:
        """Return the entries that hold the rarest word of the question that every match must hold."""
        postings = [[shelf.by_word.get((partition, name), _NO_KEYS) for name in search_keys(w)] for w in reading.words]
        rarest = min(postings, key=lambda sets: sum(map(len, sets)))
        found = set().union(*rarest)
        if len(found) > _MOST_CANDIDATES:
            for sets in sorted(postings, key=lambda sets: sum(map(len, sets)))[1:]:
                found = {key for key in found if any(key in keys for keys in sets)}
        return sorted(found)[:_MOST_CANDIDATES]

    def _read(self, question: str) -> Reading:
        reading = self._readings.get(question)
        if reading is None:
            reading = self._readings[question] = read(question)
            if len(self._readings) > _READINGS_KEPT:
                self._readings.popitem(last=False)
        return reading

    def _prior_logit(self, tenant: TenantId, level: int) -> float:
        shelf = self._shelves[tenant]
        return logit(1 - self._prior.error_bound(level, shelf.wrong[level], shelf.judged[level]))

    def _evict(self, key: EntryKey) -> None:
        self.remove(key)
        self._evicted += 1

    def _drop_tenant(self, tenant: TenantId) -> int:
        keys = list(self._shelves[tenant].entries)
        for key in keys:
            self._evict(key)
        del self._shelves[tenant]
        return len(keys)
