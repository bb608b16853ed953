"""What is kept, for whom, how long, and what leads elsewhere."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from memory_tier import MemoryTier

from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest
from ashore.core.ids import TenantId
from ashore.data.cache import (
    AnswerCache,
    Ask,
    CachePolicy,
    CuratedAnswers,
    Directive,
    FixedEpochs,
    KeptAnswer,
    KeptChoice,
    Pair,
    Question,
    Ready,
    RoutePolicy,
    SharedTier,
    directive_of,
    read_pairs,
)
from ashore.data.cache.sealed import Record, seal, unseal

ASK = Ask(
    tenant=TenantId("bank"),
    alias="chat",
    release="chat-1",
    frame=b"frame",
    question="what is a bond?",
    temperature=0.0,
    single_turn=True,
    rewordable=True,
)
ANSWER = KeptAnswer("chat-1", "int8", 1, 9, 4, 0, (KeptChoice("A loan.", "", "stop"),))
SECRET = b"s" * 32


def ask(**fields: Any) -> Ask:
    return dataclasses.replace(ASK, **fields)


class Bench:
    def __init__(self, *, shared: SharedTier | None = None, pairs: list[Pair] | None = None, **policy: Any) -> None:
        self.clock = ManualClock(now_s=1000.0)
        self.epochs = FixedEpochs()
        self.cache = AnswerCache(
            CachePolicy(**policy),
            secret=SECRET,
            epochs=self.epochs,
            clock=self.clock,
            shared=shared,
            curated=CuratedAnswers(pairs or []),
        )

    def question(self, asked: Ask = ASK) -> Question:
        question = self.cache.question(asked)
        assert question is not None
        return question

    async def keep(self, asked: Ask = ASK) -> None:
        await self.cache.keep(self.question(asked), ANSWER)

    async def label(self, asked: Ask = ASK) -> str:
        question = self.cache.question(asked)
        found = None if question is None else await self.cache.find(question)
        return "none" if found is None else found.tier


def test_a_kept_answer_is_found_by_the_same_question_alone() -> None:
    async def scenario() -> None:
        bench = Bench()
        assert await bench.label() == "none"
        await bench.keep()
        assert await bench.label() == "local"
        for other in (
            ask(tenant=TenantId("rival")),
            ask(release="chat-2"),
            ask(alias="other"),
            ask(frame=b"another frame"),
            ask(question="what is a bond"),
            ask(frame=b"framewhat", question=" is a bond?"),
        ):
            assert await bench.label(other) == "none"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "kind", ["policy", "cache", "cache/tenant/bank", "cache/model/chat", "cache/entry/ID"]
)  # fmt: skip
def test_every_epoch_that_concerns_an_entry_hides_it(kind: str) -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.keep()
        bench.epochs.bump(kind.replace("ID", bench.question().entry_id))
        assert await bench.label() == "none"
        await bench.keep()
        assert await bench.label() == "local"

    asyncio.run(scenario())


def test_epochs_of_others_hide_nothing() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.keep()
        for kind in ("cache/tenant/rival", "cache/model/other", "cache/entry/0000000000000000", "keys"):
            bench.epochs.bump(kind)
        assert await bench.label() == "local"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("asked", "policy", "kept_out"),
    [
        (ask(temperature=0.1), {}, True),
        (ask(temperature=0.1, directive=Directive(asked_for=True)), {}, False),
        (ask(temperature=0.7), {"max_temperature": 1.0}, False),
        (ask(directive=Directive(no_store=True)), {}, True),
        (ask(storable=False), {}, True),
        (ASK, {"mode": "off"}, True),
        (ASK, {"routes": (RoutePolicy(alias="chat", mode="off"),)}, True),
        (ASK, {"routes": (RoutePolicy(alias="other", mode="off"),)}, False),
    ],
)
def test_what_the_policy_keeps_out(asked: Ask, policy: dict[str, Any], kept_out: bool) -> None:
    bench = Bench(**policy)
    assert (bench.cache.question(asked) is None) == kept_out
    assert bench.cache.stats().refused == int(kept_out)


def test_an_answer_lives_as_long_as_its_route_says_and_no_older_than_the_client_takes() -> None:
    async def scenario() -> None:
        bench = Bench(ttl_s=100.0)
        await bench.keep()
        bench.clock.advance(60)
        question = bench.question()
        found = await bench.cache.find(question)
        assert found is not None
        assert (found.age_s, found.expires_at_s, found.label) == (60, 1100.0, "hit-exact")
        assert await bench.label(ask(directive=Directive(max_age_s=59))) == "none"
        assert await bench.label(ask(directive=Directive(max_age_s=60))) == "local"
        assert await bench.label(ask(directive=Directive(no_cache=True))) == "none"
        bench.clock.advance(40)
        assert await bench.label() == "none"
        assert bench.cache.stats().entries == 0

    asyncio.run(scenario())


def test_tenants_share_a_public_route_and_nothing_else() -> None:
    async def scenario() -> None:
        bench = Bench(routes=(RoutePolicy(alias="chat", public=True),))
        await bench.keep()
        assert await bench.label(ask(tenant=TenantId("rival"))) == "local"
        assert await bench.label(ask(tenant=TenantId("rival"), alias="other")) == "none"
        assert await Bench().label(ask(tenant=TenantId("*"))) == "none"

    asyncio.run(scenario())


def test_two_processes_share_answers_through_the_tier_and_forged_ones_are_not_believed() -> None:
    async def scenario() -> None:
        tier = MemoryTier(ManualClock())
        here, there = Bench(shared=tier), Bench(shared=tier)
        await here.keep()
        assert await there.label() == "shared"
        assert await there.label() == "local"
        key = here.question(ask(question="forged?")).key
        forged = seal(key, Record(1000.0, 9000.0, ANSWER), b"x" * 32)
        tier.put(key, forged, 60)
        assert await there.label(ask(question="forged?")) == "none"
        moved = seal(here.question().key, Record(1000.0, 9000.0, ANSWER), SECRET)
        tier.put(key, moved, 60)
        assert await there.label(ask(question="forged?")) == "none"
        tier.reachable = False
        assert await there.label() == "local"
        assert await Bench(shared=tier).label() == "none"
        assert there.cache.stats().shared == "down"

    asyncio.run(scenario())


def test_every_flipped_bit_of_a_shared_record_is_noticed() -> None:
    key = b"k" * 32
    sealed = seal(key, Record(1.0, 2.0, ANSWER), SECRET)
    assert unseal(key, sealed, SECRET) is not None
    for at in range(len(sealed)):
        assert unseal(key, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], SECRET) is None
    assert unseal(key, b"", SECRET) is None
    assert unseal(key, sealed[:10], SECRET) is None


def test_the_cache_never_holds_more_than_its_bytes() -> None:
    async def scenario() -> None:
        bench = Bench(max_bytes=200_000)
        for number in range(2_000):
            await bench.keep(ask(question=f"question {number}"))
            assert bench.cache.stats().num_bytes <= 200_000
        assert bench.cache.stats().evictions > 1_000

    asyncio.run(scenario())


def test_a_finished_response_is_found_by_the_same_bytes_of_the_same_principal() -> None:
    bench = Bench()
    key = bench.cache.ready_key(TenantId("bank"), "ann", "/v1/chat/completions", b"{}", b"1")
    ready = Ready(
        headers=((b"content-type", b"application/json"),),
        body=b"hello",
        alias="chat",
        release="chat-1",
        label="hit-exact",
        stored_at_s=1000.0,
        expires_at_s=1100.0,
    )
    bench.cache.keep_ready(key, ready, TenantId("bank"))
    assert bench.cache.ready(key) == ready
    others = {
        bench.cache.ready_key(TenantId("bank"), "bob", "/v1/chat/completions", b"{}", b"1"),
        bench.cache.ready_key(TenantId("rival"), "ann", "/v1/chat/completions", b"{}", b"1"),
        bench.cache.ready_key(TenantId("bank"), "ann", "/v1/messages", b"{}", b"1"),
        bench.cache.ready_key(TenantId("bank"), "ann", "/v1/chat/completions", b"{ }", b"1"),
        bench.cache.ready_key(TenantId("bank"), "ann", "/v1/chat/completions", b"{}", b"2"),
    }
    bench.epochs.bump("cache/any")
    others.add(bench.cache.ready_key(TenantId("bank"), "ann", "/v1/chat/completions", b"{}", b"1"))
    asyncio.run(bench.cache.take_pairs(()))  # which may be taken long after the state has them
    others.add(bench.cache.ready_key(TenantId("bank"), "ann", "/v1/chat/completions", b"{}", b"1"))
    assert len(others) == 7
    assert all(bench.cache.ready(other) is None for other in others)
    bench.clock.advance(100)
    assert bench.cache.ready(key) is None


@pytest.mark.parametrize("separator", ["", "\0", "/", ":", " "])
def test_names_cut_at_another_place_lead_to_another_finished_response(separator: str) -> None:
    bench = Bench()
    whole = separator.join(("acme", "b", "c", "1"))
    names = [(whole[:cut], whole[cut:].removeprefix(separator)) for cut in range(1, len(whole))]
    names = list(dict.fromkeys(names))
    keys = {bench.cache.ready_key(TenantId(a), b, "/v1/chat/completions", b"{}", b"1") for a, b in names}
    assert len(keys) == len(names)


def test_no_tenant_ever_gets_the_answer_of_another() -> None:
    async def scenario() -> None:
        bench = Bench(max_bytes=64 << 20)
        tenants = [f"tenant-{n}" for n in range(100)]
        for number in range(3_000):
            tenant = tenants[number % len(tenants)]
            question = bench.question(ask(tenant=TenantId(tenant), question=f"q{number // len(tenants)}"))
            await bench.cache.keep(question, KeptAnswer("chat-1", tenant, 1, 1, 1, 0, ANSWER.choices))
        for number in range(10_000):
            tenant = tenants[number * 7 % len(tenants)]
            found = await bench.cache.find(bench.question(ask(tenant=TenantId(tenant), question=f"q{number % 30}")))
            assert found is not None and found.answer.precision == tenant

    asyncio.run(scenario())


def pair(**fields: Any) -> Pair:
    told = {
        "tenant": "*",
        "alias": "*",
        "question": "What is a bond?",
        "text": "A loan.",
        "pinned": True,
        "created_s": 1,
    }
    return Pair(**{**told, **fields})


def test_a_curated_answer_is_given_for_its_question_however_it_is_cased_or_spaced() -> None:
    async def scenario() -> None:
        bench = Bench(pairs=[pair()])
        for text in ("what is a bond", "  What IS a  bond ? ", "Ｗｈａｔ is a bond？"):
            assert await bench.label(ask(question=text)) == "curated"
        assert await bench.label(ask(question="what is a bond fund")) == "none"
        assert await bench.label(ask(single_turn=False)) == "none"
        found = await bench.cache.find(bench.question(ask(question="what is a bond")))
        assert found is not None
        assert (found.answer.choices[0].text, found.answer.release, found.answer.precision) == (
            "A loan.", "chat-1", "curated",
        )  # fmt: skip

    asyncio.run(scenario())


def test_the_more_particular_pair_wins_and_one_that_is_not_pinned_gives_way_to_an_answer() -> None:
    async def scenario() -> None:
        bench = Bench(
            pairs=[
                pair(text="for all"),
                pair(tenant="bank", text="for the bank"),
                pair(tenant="bank", alias="chat", text="for the bank's chat", pinned=False),
            ]
        )
        found = await bench.cache.find(bench.question())
        assert found is not None and found.answer.choices[0].text == "for the bank's chat"
        await bench.keep()
        assert await bench.label() == "local"
        other = await bench.cache.find(bench.question(ask(tenant=TenantId("rival"))))
        assert other is not None and other.answer.choices[0].text == "for all"

    asyncio.run(scenario())


def test_a_pair_ends_at_its_time() -> None:
    async def scenario() -> None:
        bench = Bench(pairs=[pair(expires_at_s=1010.0)])
        assert await bench.label() == "curated"
        bench.clock.advance(10)
        assert await bench.label() == "none"

    asyncio.run(scenario())


def test_pairs_are_read_from_lines() -> None:
    lines = [
        b'{"question": "Q?", "answer": "A", "tenant": "bank", "model": "chat", "pinned": false,'
        b' "expires": "1970-01-02"}',
        b"",
        '{"question": "营业时间？", "answer": "九点"}'.encode(),
    ]
    first, second = read_pairs(lines, now_s=5)
    assert first == pair(
        tenant="bank", alias="chat", question="Q?", text="A", pinned=False, created_s=5, expires_at_s=172_799.0
    )
    assert (second.tenant, second.alias, second.pinned, second.expires_at_s) == ("*", "*", True, None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"nonsense", "line 2: "),
        (b'{"question": "?", "answer": "A"}', "line 2: the question is empty"),
        (b'{"question": "Q", "answer": " "}', "line 2: the answer is empty"),
        (b'{"question": "Q", "answer": "A", "expires": "soon"}', "line 2: expires is 'soon'"),
        (b'{"question": "Q", "answer": "A", "tenent": "x"}', "tenent"),
        (b'{"question": "' + b"q" * 5000 + b'", "answer": "A"}', "the question has 5000 characters"),
    ],
)
def test_a_wrong_line_is_named(line: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message.replace("(", r"\(")):
        read_pairs([b'{"question": "Q", "answer": "A"}', line], now_s=0)


@pytest.mark.parametrize(
    ("cache_control", "ashore", "expected"),
    [
        ("", "", Directive()),
        ("No-Store", "", Directive(no_store=True)),
        ("private, no-cache", "", Directive(no_cache=True)),
        ("max-age=60", "use", Directive(max_age_s=60.0, asked_for=True)),
        ("max-age=0", "", Directive(max_age_s=0.0, no_cache=True)),
        ("max-age=x, must-understand", "off", Directive(no_store=True)),
        ("max-age=\xb2", "", Directive()),
        ("max-age=" + "9" * 5000, "", Directive()),
    ],
)
def test_what_the_headers_ask_for(cache_control: str, ashore: str, expected: Directive) -> None:
    assert directive_of(cache_control, ashore) == expected
