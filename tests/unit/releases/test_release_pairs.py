"""The most different pairs of a shadow: which ones, how different, and that nobody in them can be told."""

from __future__ import annotations

import asyncio
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_replica import ECHO_INFO, MemoryReplica
from test_release_serving import Bench, ask, run

from ashore.core.chat import Message
from ashore.core.errors import InvalidSpec
from ashore.data.cache import Directive
from ashore.data.engines import CancelOrder, GenerateOrder, OrderHearer
from ashore.data.path import GenerationRequest, Guards, PrivacyMasker
from ashore.data.privacy import Privacy, PrivacyPolicy
from ashore.data.releases import AliasRoute, Pair, ReleasePolicy, Shadowing, Widest, wording_distance
from ashore.kit.metrics import Metrics
from ashore.machine.config import parse_spec

ID = "11010519491231002X"
PHONE = "13800138000"
SHADOWED = {"chat": AliasRoute(weights=(("chat-1", 1000),), shadow=Shadowing(release="chat-2", share=1000))}
ALLOWS = PrivacyPolicy(prompts={"*": "allow"})


def masked(policy: PrivacyPolicy = ALLOWS) -> Guards:
    return Guards(masker=PrivacyMasker(Privacy(policy, secret=b"s" * 32), Metrics()))


class Says(MemoryReplica):
    """Says what it is told to; without that, what it was asked."""

    def __init__(self, say: bytes = b"") -> None:
        super().__init__()
        self.say = say

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        told = msgspec.structs.replace(order, prompt_ids=list(self.say)) if self.say else order
        return super().start(told, hearer)


async def pairs_of(bench: Bench, *requests: GenerationRequest) -> list[Pair]:
    """Ask, wait until each copy was compared, and return what was kept."""
    bench.service.take_routes(SHADOWED)
    seen = 0
    for request in requests:
        await bench.answer(request)
        await bench.observed("shadow")
        seen += 1
    await asyncio.sleep(0.05)
    assert seen == len(requests)
    return [pair for pairs in bench.service.trials.take_pairs().values() for pair in pairs]


def test_a_chinese_identity_card_is_in_no_pair_although_the_policy_lets_it_through() -> None:
    async def scenario(bench: Bench) -> None:
        text = f"我的身份证号码是{ID}，电话{PHONE}"
        (pair,) = await pairs_of(bench, ask(text))
        seen = bytes(bench.orders("1")[0].prompt_ids).decode()
        assert ID in seen, "the policy lets it through to the model"
        assert ID not in str(pair) and PHONE not in str(pair)
        assert "[ID_CARD_1]" in pair.prompt and "[ID_CARD_1]" in pair.live, "the same value has the same stand-in"
        assert pair.candidate_failed and pair.distance == 1.0 and pair.tenant == "acme"

    run(scenario, Bench(second=MemoryReplica(die_after=3), guards=masked()))


def test_equal_answers_are_no_pair() -> None:
    async def scenario(bench: Bench) -> None:
        assert await pairs_of(bench, ask("the same"), ask("once more")) == []

    run(scenario, Bench(guards=masked()))


@pytest.mark.parametrize("why", ["no_store", "ids", "off", "too long"])
def test_what_may_not_be_kept_is_not(why: str) -> None:
    async def scenario(bench: Bench) -> None:
        request = ask("hello")
        if why == "no_store":
            request = msgspec.structs.replace(request, cache=Directive(no_store=True))
        elif why == "ids":
            request = msgspec.structs.replace(request, messages=(), prompt=(104, 105, 106))
        elif why == "too long":
            request = msgspec.structs.replace(request, messages=(Message(role="user", content="a" * 70_000),))
        else:
            bench.service.trials.take_policy(ReleasePolicy(pairs=0))
        assert await pairs_of(bench, request) == []
        assert why == "off" or await pairs_of(bench, ask("hello")), "any other request becomes one"

    roomy = msgspec.structs.replace(ECHO_INFO, context_tokens=100_000)
    run(scenario, Bench(first=MemoryReplica(roomy), second=MemoryReplica(roomy, die_after=1), guards=masked()))


def test_blackening_leaves_nothing_that_is_found_whatever_holds() -> None:
    privacy = Privacy(ALLOWS, secret=b"s" * 32)
    one, other, third = privacy.blacken((f"{ID} and a@example.com", f"again {ID}", "[ID_CARD_1] was written by hand"))
    assert ID not in one + other and "a@example.com" not in one
    assert one.split(" ")[0] == other.removeprefix("again "), "one value, one stand-in"
    assert "[ID_CARD_1]" not in one, "a placeholder of somebody else's is not taken"
    assert third == "[ID_CARD_1] was written by hand"


@given(st.text(max_size=40), st.text(max_size=40))
def test_wording_distance_is_one(a: str, b: str) -> None:
    distance = wording_distance(a, b)
    assert 0.0 <= distance <= 1.0 and distance == wording_distance(b, a)
    assert (wording_distance(a, a) == 0.0) and (a == b or distance > 0 or sorted(a) == sorted(b))


def test_wording_distance_grows_with_what_is_different() -> None:
    live = "北京是中华人民共和国的首都。"
    near, far = wording_distance(live, "北京是中国的首都。"), wording_distance(live, "I cannot answer that.")
    assert 0 < near < far == 1.0


def test_only_as_many_are_masked_as_can_be_among_the_most_different() -> None:
    rng = random.Random(1)
    widest, distances = Widest(10), [rng.random() for _ in range(2000)]
    taken = [distance for distance in distances if widest.takes(distance)]
    assert set(sorted(distances)[-10:]) <= set(taken) and len(taken) < 200
    assert not Widest(0).takes(1.0) and not Widest(3).takes(0.0)


def test_the_part_of_ashore_toml() -> None:
    assert parse_spec("[release]\npairs = 5\n").release == ReleasePolicy(pairs=5)
    assert parse_spec('[release]\ngate = "required"\n').release == ReleasePolicy(gate="required")
    with pytest.raises(InvalidSpec, match="expected if_evaluated or required"):
        parse_spec('[release]\ngate = "always"\n')
    assert parse_spec("").release.pairs == 20
    for text in ("[release]\npairs = 500\n", '[release]\npairs = "5"\n', "[release]\npears = 5\n"):
        with pytest.raises(InvalidSpec, match=r"\[release\]"):
            parse_spec(text)
