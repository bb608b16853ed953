"""What each tenant and model has of the cache, what a purge frees, and that the counts stay bounded."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from typing import Any

import pytest
from memory_tier import MemoryTier
from test_cache_answers import ANSWER, ASK

from ashore.core.clock import ManualClock
from ashore.core.ids import TenantId
from ashore.data.cache import (
    AnswerCache,
    CachePolicy,
    Directive,
    FixedEpochs,
    Ready,
    RoutePolicy,
    SharedTier,
)
from ashore.data.cache.report import ShareOut
from ashore.data.cache.shares import OTHERS, Shares

READY = Ready(
    headers=(), body=b"{}", alias="chat", release="chat-1", label="hit-exact", stored_at_s=1000.0, expires_at_s=9000.0
)


class Bench:
    def __init__(self, shared: SharedTier | None = None, **policy: Any) -> None:
        self.epochs = FixedEpochs()
        self.clock = ManualClock(now_s=1000.0)
        self.cache = AnswerCache(
            CachePolicy(**policy), secret=b"s" * 32, epochs=self.epochs, clock=self.clock, shared=shared
        )

    async def ask(self, **fields: Any) -> str:
        """Look, keep where nothing was found; return the name of the entry."""
        question = self.cache.question(dataclasses.replace(ASK, **fields))
        assert question is not None
        if await self.cache.find(question) is None:
            await self.cache.keep(question, ANSWER)
        return question.entry_id

    def repeat(self, number: int, tenant: str = "bank", **fields: Any) -> None:
        """Keep a finished response, and answer by it once where there was room for it."""
        key = self.cache.ready_key(TenantId(tenant), "ann", "/v1/chat/completions", b"%d" % number, b"1")
        self.cache.keep_ready(key, dataclasses.replace(READY, **fields), TenantId(tenant))
        self.cache.ready(key)

    async def purge(self, kind: str) -> int:
        self.epochs.bump(kind)
        return await self.cache.let_go(kind)

    def share(self, tenant: str, alias: str) -> ShareOut:
        (found,) = self.cache.shares(tenant=tenant, model=alias)
        return found

    def held(self) -> dict[tuple[str, str], int]:
        return {(one.tenant, one.model): one.entries for one in self.cache.shares() if one.entries}


def test_each_tenant_and_model_has_its_own_counts() -> None:
    async def scenario() -> None:
        bench = Bench()
        for _ in range(3):
            await bench.ask()
        await bench.ask(alias="other")
        await bench.ask(tenant=TenantId("rival"))
        bench.repeat(1)
        bench.repeat(2, label="hit-reworded")
        assert bench.cache.question(dataclasses.replace(ASK, temperature=0.9)) is None
        for directive, temperature, storable, out in (
            (Directive(), 0.9, True, True),
            (Directive(no_store=True), 0.0, True, True),
            (Directive(), 0.0, False, True),
            (Directive(), 0.0, True, False),
            (Directive(asked_for=True), 0.9, True, False),
        ):
            asked = dataclasses.replace(ASK, directive=directive, temperature=temperature, storable=storable)
            told = {"temperature": temperature, "storable": storable}
            assert bench.cache.keeps_out(ASK.tenant, "third", directive, **told) == out  # type: ignore[arg-type]
            assert (bench.cache.question(dataclasses.replace(asked, alias="fourth")) is None) == out
        assert bench.share("bank", "third").refused == bench.share("bank", "fourth").refused == 3
        one = bench.share("bank", "chat")
        assert (one.lookups, one.misses, one.hits_exact, one.hits_reworded) == (5, 1, 3, 1)
        assert (one.entries, one.stored, one.refused, one.evictions) == (3, 1, 1, 0)
        assert {x.model for x in bench.cache.shares(tenant="bank")} == {"chat", "other", "third", "fourth"}
        assert {(x.tenant, x.model) for x in bench.cache.shares(model="chat")} == {("bank", "chat"), ("rival", "chat")}
        whole, part = bench.cache.stats(), bench.cache.stats(tenant="bank", model="chat")
        assert (whole.lookups, whole.misses, whole.hits, whole.ready_hits, whole.entries) == (5, 3, {"local": 2}, 2, 5)
        assert (part.lookups, part.misses, part.hits, part.ready_hits, part.entries) == (3, 1, {"local": 2}, 2, 3)
        assert whole.num_bytes == sum(share.num_bytes for share in bench.cache.shares()) > part.num_bytes > 0

    asyncio.run(scenario())


def test_a_look_that_the_client_forbade_is_not_counted() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.ask(directive=Directive(no_cache=True))
        one = bench.share("bank", "chat")
        assert (one.lookups, one.stored) == (0, 1)

    asyncio.run(scenario())


def test_answers_of_a_public_route_belong_to_nobody_and_are_found_by_somebody() -> None:
    async def scenario() -> None:
        bench = Bench(routes=(RoutePolicy(alias="chat", public=True),))
        await bench.ask()
        await bench.ask(tenant=TenantId("rival"))
        assert bench.held() == {("*", "chat"): 1}
        assert (bench.share("bank", "chat").misses, bench.share("rival", "chat").hits_exact) == (1, 1)

    asyncio.run(scenario())


def test_what_came_from_the_shared_tier_is_an_exact_hit_and_held_here() -> None:
    async def scenario() -> None:
        shared = MemoryTier(ManualClock())
        await Bench(shared).ask()
        bench = Bench(shared)
        await bench.ask()
        one = bench.share("bank", "chat")
        assert (one.hits_exact, one.entries, one.stored) == (1, 1, 0)

    asyncio.run(scenario())


def test_counts_and_the_map_agree_while_entries_are_pushed_out_and_expire() -> None:
    async def scenario() -> None:
        bench = Bench(max_bytes=60_000, ttl_s=50.0)
        rng = random.Random(3)
        for step in range(1500):
            tenant, alias = rng.choice(("bank", "rival")), rng.choice(("chat", "other"))
            if rng.random() < 0.3:
                bench.repeat(rng.randrange(40), tenant, alias=alias, body=b"x" * rng.choice((10, 90, 900)))
            else:
                await bench.ask(tenant=TenantId(tenant), alias=alias, question=f"number {rng.randrange(120)}")
            if step % 10 == 0:
                bench.clock.advance(1.0)
            shares, local = bench.cache.shares(), bench.cache.stats()
            assert local.num_bytes == sum(one.num_bytes for one in shares) <= 60_000
            assert min(min(one.entries, one.num_bytes) for one in shares) >= 0
        assert min(one.evictions for one in bench.cache.shares()) > 0
        bench.cache.keep_ready(b"k" * 32, dataclasses.replace(READY, body=b"x" * 60_000), TenantId("bank"))
        assert bench.cache.stats().num_bytes <= 60_000, "what is too large for the whole map is not counted as held"
        assert await bench.purge("cache") == local.entries
        assert (bench.held(), bench.cache.stats().num_bytes) == ({}, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("policy", {}),
        ("cache", {}),
        ("cache/any", {("bank", "chat"): 1, ("bank", "other"): 1, ("rival", "chat"): 1}),
        ("cache/tenant/bank", {("rival", "chat"): 2}),
        ("cache/model/chat", {("bank", "other"): 2}),
        ("cache/entry/ID", {("bank", "chat"): 1, ("bank", "other"): 2, ("rival", "chat"): 2}),
        ("cache/curated", {("bank", "chat"): 2, ("bank", "other"): 2, ("rival", "chat"): 2}),
        ("cache/tenant/nobody", {("bank", "chat"): 2, ("bank", "other"): 2, ("rival", "chat"): 2}),
    ],
)
def test_a_purge_gives_back_the_memory_of_what_it_hides_and_of_nothing_else(
    kind: str, left: dict[tuple[str, str], int]
) -> None:
    async def scenario() -> None:
        bench = Bench()
        name = await bench.ask()
        await bench.ask(alias="other")
        await bench.ask(tenant=TenantId("rival"))
        bench.repeat(1)
        bench.repeat(2, alias="other")
        bench.repeat(3, tenant="rival")
        freed = await bench.purge(kind.replace("ID", name))
        assert bench.held() == left
        assert freed == 6 - sum(left.values())
        assert all(one.evictions == 0 for one in bench.cache.shares())

    asyncio.run(scenario())


def test_an_entry_is_purged_again_under_the_name_that_it_has_after_a_purge() -> None:
    async def scenario() -> None:
        bench = Bench()
        names = []
        for _ in range(4):
            names.append(await bench.ask())
            assert await bench.cache.entry(names[-1]) is not None
            assert await bench.purge(f"cache/entry/{names[-1]}") == 1
            assert await bench.cache.entry(names[-1]) is None
        assert len(set(names)) == 4
        assert bench.share("bank", "chat").misses == 4

    asyncio.run(scenario())


def test_an_entry_tells_whose_it_is_until_it_expires() -> None:
    async def scenario() -> None:
        bench = Bench(ttl_s=50.0)
        name = await bench.ask()
        bench.clock.advance(20.0)
        found = await bench.cache.entry(name)
        assert found is not None
        assert (found.tenant, found.model, found.release, found.age_s, found.expires_at_s) == (
            "bank", "chat", "chat-1", 20, 1050.0
        )  # fmt: skip
        assert found.num_bytes == bench.share("bank", "chat").num_bytes
        assert await bench.cache.entry("0" * 16) is None
        bench.clock.advance(31.0)
        assert await bench.cache.entry(name) is None

    asyncio.run(scenario())


def test_however_many_tenants_there_are_the_counts_stay_bounded_and_none_is_lost() -> None:
    shares = Shares(most=10)
    for number in range(10):
        shares.of(f"t{number}", "chat").misses += 1
    shares.of("t3", "chat").entries = 1
    shares.of("t11", "chat").misses += 1
    kept = {share.tenant: share.misses for share in shares.matching()}
    assert kept == {"t3": 1, "t11": 1, OTHERS: 9}, "those that hold nothing are folded"
    for number in range(100, 1000):
        share = shares.of(f"t{number}", "chat")
        share.misses += 1
        share.entries += 1
    found = list(shares.matching())
    assert len(found) == 11
    assert sum(share.misses for share in found) == 911
    assert sum(share.entries for share in found) == 901
    assert [share.tenant for share in shares.matching(tenant="t3")] == ["t3"]
    assert list(shares.matching(tenant="t999")) == []
