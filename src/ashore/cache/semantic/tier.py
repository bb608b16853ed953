"""The semantic tier of one process: questions embedded on a thread, matched in the index; fresh answers teach it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ashore.cache.curated import plain
from ashore.cache.model import EVERYBODY, Pair, Question
from ashore.cache.semantic.index import SemanticIndex
from ashore.cache.semantic.model import EntryKey, Match
from ashore.cache.semantic.ports import Embedder, Vector
from ashore.cache.semantic.reading import same_facts
from ashore.core import TenantId

V = TypeVar("V")

MOST_PENDING: Final = 1024
"""Questions whose vector waits for their answer."""
SAME_ANSWER: Final = 0.97
"""Similarity from which two answers in other words count as one. Facts in them must agree in any case."""
SEED_BATCH: Final = 32


class MeaningTier:
    """Adapts a `SemanticIndex` to the answer cache. All methods run on one event loop."""

    def __init__(
        self, index: SemanticIndex, embedder: Embedder, answer_of: Callable[[bytes], str | None] = lambda key: None
    ) -> None:
        """Make it.

        Args:
            index: Where questions are.
            embedder: Blocks while it computes, so it gets a thread of its own.
            answer_of: Returns the kept answer of an entry; what a doubtful match is judged by.
        """
        self._index = index
        self._embedder = embedder
        self.answer_of = answer_of
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedding")
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._doubted: OrderedDict[bytes, Match] = OrderedDict()
        self._seeds: dict[EntryKey, Pair] = {}

    @property
    def num_entries(self) -> int:
        return self._index.stats().entries

    @property
    def num_bytes(self) -> int:
        return self._index.stats().held_bytes

    async def find(self, question: Question) -> bytes | None:
        tenant = _tenant(question)
        match = await self._match(question, question.partition, tenant)
        return None if match is None else bytes.fromhex(match.key)

    async def find_curated(self, question: Question) -> Pair | None:
        """Return the imported pair whose question means the same."""
        if not self._seeds or not question.ask.single_turn:
            return None
        for tenant in (question.ask.tenant, EVERYBODY):
            for alias in (question.ask.alias, "*"):
                match = await self._match(question, seed_partition(alias), seed_shelf(tenant))
                if match is not None and match.key in self._seeds:
                    return self._seeds[match.key]
        return None

    async def add(self, question: Question, answer_text: str) -> None:
        doubted = self._doubted.pop(question.key, None)
        vector = self._vectors.pop(question.key, None)
        if vector is None:
            (vector,) = await self._embed([question.ask.question])
        if doubted is not None:
            known = self.answer_of(bytes.fromhex(doubted.key))
            if known is not None:
                self._index.judge(doubted, was_right=await self._same(known, answer_text))
        self._index.add(
            question.partition, _tenant(question), EntryKey(question.key.hex()), question.ask.question, vector
        )

    def remove(self, key: bytes) -> None:
        self._index.remove(EntryKey(key.hex()))

    async def seed(self, pairs: Iterable[Pair]) -> None:
        """Hold these pairs from now on, in place of the earlier ones; embeds them a few at a time."""
        seeds = {EntryKey(f"seed {pair.tenant} {pair.alias} {plain(pair.question)}"): pair for pair in pairs}
        for gone in self._seeds.keys() - seeds.keys():
            self._index.remove(gone)
        fresh = [(key, pair) for key, pair in seeds.items() if self._seeds.get(key) != pair]
        self._seeds = {key: pair for key, pair in self._seeds.items() if key in seeds}
        for at in range(0, len(fresh), SEED_BATCH):
            batch = fresh[at : at + SEED_BATCH]
            vectors = await self._embed([pair.question for _, pair in batch])
            for (key, pair), vector in zip(batch, vectors, strict=True):
                shelf = seed_shelf(TenantId(pair.tenant))
                if self._index.add(seed_partition(pair.alias), shelf, key, pair.question, vector):
                    self._seeds[key] = pair

    def close(self) -> None:
        """Let the thread go. May be called twice."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _match(self, question: Question, partition: bytes, tenant: TenantId) -> Match | None:
        text = question.ask.question
        if not self._index.worth_embedding(partition, tenant, text):
            return None
        vector = self._vectors.get(question.key)
        if vector is None:
            (vector,) = await self._embed([text])
            _remember(self._vectors, question.key, vector)
        match = self._index.lookup(partition, tenant, text, vector, error_bound=question.policy.error_bound)
        if match is not None:
            self._vectors.pop(question.key, None)
            return match
        doubted = self._index.propose(partition, tenant, text, vector)
        if doubted is not None and doubted.key not in self._seeds:
            _remember(self._doubted, question.key, doubted)
        return None

    async def _same(self, one: str, other: str) -> bool:
        """Return whether two answers say the same."""
        if plain(one) == plain(other):
            return True
        a, b = await self._embed([one, other])
        return float(a @ b) >= SAME_ANSWER and same_facts(one, other)

    async def _embed(self, texts: list[str]) -> list[Vector]:
        loop = asyncio.get_running_loop()
        return list(await loop.run_in_executor(self._thread, self._embedder.embed, texts))


def seed_partition(alias: str) -> bytes:
    """Return the partition of imported pairs, which no hash of a request can equal: those have 32 bytes."""
    return f"curated {alias}".encode()


def seed_shelf(tenant: TenantId) -> TenantId:
    """Return the shelf of a tenant's imported pairs; they are not evicted for its answers."""
    return TenantId(f"{tenant}\0curated")


def _tenant(question: Question) -> TenantId:
    return EVERYBODY if question.policy.public else question.ask.tenant


def _remember(where: OrderedDict[bytes, V], key: bytes, value: V) -> None:
    where[key] = value
    while len(where) > MOST_PENDING:
        where.popitem(last=False)
