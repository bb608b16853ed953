"""Where an order goes by what its conversation begins with: one for all processes, bounded, and what is learned."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack

import pytest

from ashore.core.chat import Message, ToolSpec
from ashore.core.ids import RequestId
from ashore.data.engines import Turn
from ashore.data.engines.affinity import BOUND, FIRST_SHARES, LEAST_BOUND
from ashore.data.engines.vllm.pool import Backend, Pool
from ashore.data.path import GenerationRequest
from ashore.data.path.opening import USER_CHARS, opening_of


def pool_of(number: int, *, reverse: bool = False) -> Pool:
    urls = [f"http://10.0.0.{one}:8000" for one in range(number)]
    pool = Pool(urls[::-1] if reverse else urls)
    for one in pool.backends:
        pool.probed(one, 0.0)
    return pool


def openings(number: int) -> list[bytes]:
    return [bytes([one % 256, one // 256]) * 8 for one in range(number)]


def place(pool: Pool, opening: bytes, tokens: int = 1000, tried: Sequence[str] = ()) -> Backend:
    found = pool.pick(0.0, tried, Turn(opening=opening, prompt_tokens=tokens))
    assert found is not None
    return found


def test_pools_that_share_nothing_agree_and_one_that_leaves_moves_only_its_own() -> None:
    one, other = pool_of(8), pool_of(8, reverse=True)
    where = {key: place(one, key).url for key in openings(2000)}
    assert where == {key: place(other, key).url for key in openings(2000)}
    share = Counter(where.values())
    assert max(share.values()) < 1.3 * 250
    gone = one.backends[3].url
    one.set({backend.url: False for backend in one.backends if backend.url != gone})
    moved = {key for key, url in where.items() if place(one, key).url != url}
    assert moved == {key for key, url in where.items() if url == gone}


def test_one_opening_sent_on_purpose_fills_no_server() -> None:
    pool = pool_of(4)
    with ExitStack() as running:
        turns = []
        for _ in range(200):
            turn = Turn(opening=b"hot", prompt_tokens=1000)
            one = pool.pick(0.0, (), turn)
            assert one is not None
            running.enter_context(pool.running(one, turn))
            turns.append((one, turn))
            mean = sum(backend.running for backend in pool.backends) / 4
            assert one.running <= max(LEAST_BOUND, BOUND * mean + 1)
        assert all(backend.waiting_tokens > 0 for backend in pool.backends)
        for one, turn in turns:
            turn.begin_at(one)
            turn.begin_at(one)
        assert all(backend.waiting_tokens == pytest.approx(0) for backend in pool.backends)
    assert all(backend.running == 0 for backend in pool.backends)


def test_an_order_avoids_where_it_failed_and_comes_back_to_its_own_server() -> None:
    pool = pool_of(4)
    first = place(pool, b"a")
    second = place(pool, b"a", tried=[first.url])
    assert second is not first and place(pool, b"a") is first
    first.drains = True
    assert place(pool, b"a") is second


def test_openings_that_never_return_go_to_the_least_loaded_and_those_that_do_stay() -> None:
    draw = random.Random(1)

    def loaded(share_first: float, share_other: float) -> tuple[Pool, int]:
        """Return a pool that has learned these shares, and how many of its orders go to their first server when that
        has the prompts of three others waiting."""
        pool, stay = pool_of(4), 0
        for rank, share in ((0, share_first), (1, share_other), (2, share_other)):
            for _ in range(300):
                turn = Turn(opening=b"x", prompt_tokens=1000, rank=rank)
                pool.affinity.learn(turn, int(share * 1000))
        for _ in range(100):
            key = draw.randbytes(8)
            turn = Turn(opening=key, prompt_tokens=1000)
            first = place(pool_of(4), key)
            for one in pool.backends:
                one.waiting_tokens = 900.0 if one.url == first.url else 0.0
            stay += pool.pick(0.0, (), turn) is next(one for one in pool.backends if one.url == first.url)
        return pool, stay

    assert loaded(0.9, 0.1)[1] == 100, "to compute a prompt again is dearer than to wait for those before it"
    assert loaded(0.5, 0.5)[1] == 0, "every server has as much of it"


def test_a_server_that_reports_no_hits_teaches_nothing() -> None:
    pool = pool_of(2)
    turn = Turn(opening=b"x", prompt_tokens=100)
    one = pool.pick(0.0, (), turn)
    assert one is not None and turn.rank == 0
    with pool.running(one, turn):
        pass
    assert tuple(pool.affinity.shares) == FIRST_SHARES and (one.prompt_tokens, one.cached_tokens) == (0, 0)
    pool.ended(one, turn, 50)
    assert (one.prompt_tokens, one.cached_tokens) == (100, 50) and pool.affinity.placed == [1, 0]


def asked(*turns: tuple[str, str], **more: object) -> GenerationRequest:
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    return GenerationRequest(request_id=RequestId("r"), model="m", messages=messages, **more)  # type: ignore[arg-type]


def test_an_opening_stays_as_a_conversation_grows_and_parts_what_shares_no_prefix() -> None:
    first = asked(("system", "Be kind."), ("user", "Who?"))
    key = opening_of(first, "acme", "")
    grown = asked(("system", "Be kind."), ("user", "Who?"), ("assistant", "I."), ("user", "And when?"))
    assert opening_of(grown, "acme", "") == key
    others = [
        opening_of(first, "globex", ""),
        opening_of(first, "acme", "adapter"),
        opening_of(asked(("system", "Be curt."), ("user", "Who?")), "acme", ""),
        opening_of(asked(("system", "Be kind."), ("user", "Whom?")), "acme", ""),
        opening_of(asked(("system", "Be kind."), ("user", "Who?"), tools=(ToolSpec(name="pay"),)), "acme", ""),
    ]
    assert len({key, *others}) == 6
    document = "word " * USER_CHARS
    one, other = (opening_of(asked(("user", document + question)), "acme", "") for question in ("Why?", "When?"))
    assert one == other, "questions on one document go where it lies"
    assert opening_of(asked(prompt="abc"), "a", "") != opening_of(asked(prompt=(97, 98, 99)), "a", "")
    assert opening_of(asked(("user", "\ud800")), "a", "") != opening_of(asked(("user", "")), "a", "")
