"""Calls of one host take turns, and one that nobody waits for is computed no further."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ashore.data.engines.frames import (
    CancelCall,
    Embed,
    FrameReader,
    Score,
    Scores,
    ToHost,
    ToWorker,
    Vectors,
    decode_to_host,
)
from ashore.data.engines.host.calls import SLICE_SEQUENCES, Calls
from ashore.data.engines.host.link import Link
from ashore.data.engines.hostlink import HostLink
from ashore.data.engines.model import ScoredText, ScoreText, TokenLogprob


class Bench:
    def __init__(self) -> None:
        self.computed: list[int] = []
        self.answers: list[ToWorker] = []
        self.calls = Calls(cast(Any, self), "fake", lambda link, answer: self.answers.append(answer))

    def embed(self, batch: list[list[int]]) -> list[list[float]]:
        self.computed += [ids[0] for ids in batch]
        return [[1.0] for _ in batch]

    def score(self, texts: list[ScoreText], *, top_logprobs: int) -> Iterator[tuple[int, ScoredText]]:
        for at in range(2 * max(len(text.ids) for text in texts)):  # a step behind each other, as packed texts are
            for place, text in enumerate(texts):
                if text.start <= at - place < len(text.ids):
                    self.computed.append(at - place)
                    yield place, [(TokenLogprob(text.ids[at - place], 0.0),)]

    def run(self, slices: int) -> list[int]:
        for _ in range(slices):
            self.calls.run_slice()
        return [answer.call_id for answer in self.answers if isinstance(answer, Vectors)]


ONE, OTHER = (cast(Link, SimpleNamespace(has_backlog=False)) for _ in range(2))


def test_a_small_call_is_answered_between_the_slices_of_a_large_one() -> None:
    bench = Bench()
    bench.calls.add_embed(ONE, 1, [[1]] * SLICE_SEQUENCES * 50)
    bench.calls.add_embed(OTHER, 2, [[2]])
    assert bench.run(2) == [2]
    assert bench.run(60) == [2, 1] and bench.computed.count(1) == SLICE_SEQUENCES * 50
    assert not bench.calls


def test_two_large_calls_take_turns() -> None:
    bench = Bench()
    for call_id in (1, 2):
        bench.calls.add_embed(ONE, call_id, [[call_id]] * SLICE_SEQUENCES * 4)
    bench.run(4)
    assert bench.computed.count(1) == bench.computed.count(2)


def test_tenants_take_turns_however_many_calls_one_has() -> None:
    for texts in (1, 4):  # calls that one slice ends, and longer ones
        bench = Bench()
        for call_id in range(1, 33):
            bench.calls.add_embed(ONE, call_id, [[1]] * SLICE_SEQUENCES * texts, "bank-b")
        bench.run(1)
        bench.calls.add_embed(ONE, 100, [[2]], "bank-a")
        assert 100 in bench.run(1), "the next slice begins with it"


def test_the_scores_of_one_tenant_do_not_wait_for_all_those_of_another() -> None:
    bench = Bench()
    for call_id in range(1, 9):
        bench.calls.add_score(ONE, Score(call_id, [ScoreText([4] * 20)], tenant="bank-b"))
    bench.run(1)
    bench.calls.add_score(OTHER, Score(100, [ScoreText([4, 5])], tenant="bank-a"))
    bench.run(30)
    ended = [one.call_id for one in bench.answers if isinstance(one, Scores) and one.last]
    assert ended[:2] == [1, 100]


def test_a_long_call_of_scores_gives_way_and_goes_on_where_it_was() -> None:
    bench = Bench()
    texts = [ScoreText([100 * text + at for at in range(20)], start=3) for text in range(6)]
    bench.calls.add_score(ONE, Score(1, texts, tenant="bank-b"))
    bench.run(30)
    for call_id in (100, 101):
        bench.calls.add_score(OTHER, Score(call_id, [ScoreText([4, 5])], tenant="bank-a"))
    bench.run(200)
    ended = [one.call_id for one in bench.answers if isinstance(one, Scores) and one.last]
    assert ended == [100, 101, 1] and not bench.calls
    told: list[list[int]] = [[] for _ in texts]
    for one in bench.answers:
        if isinstance(one, Scores) and one.call_id == 1:
            told[one.place] += [row[0].token_id for row in one.rows]
    assert told == [text.ids[3:] for text in texts], "each token once, in order"


def test_a_call_that_is_given_up_is_computed_no_further() -> None:
    bench = Bench()
    bench.calls.add_embed(ONE, 1, [[1]] * SLICE_SEQUENCES * 50)
    bench.calls.add_embed(OTHER, 1, [[2]] * SLICE_SEQUENCES * 2)
    bench.run(1)
    bench.calls.cancel(ONE, 1)
    bench.calls.cancel(ONE, 7)
    assert bench.run(2) == [1] and bench.computed.count(1) == SLICE_SEQUENCES, "that of the other connection goes on"
    assert not bench.calls


def test_a_text_is_scored_in_pieces_between_which_sequences_step() -> None:
    bench = Bench()
    bench.calls.add_score(ONE, Score(1, [ScoreText([4, 5, 6, 7])]))
    for pieces in range(1, 4):
        bench.run(1)
        assert bench.computed == [1, 2, 3][:pieces] and len(bench.answers) == pieces, "each goes out at once"
    bench.run(2)
    *parts, end = (cast(Scores, one) for one in bench.answers)
    assert [[row[0].token_id for row in part.rows] for part in parts] == [[5], [6], [7]]
    assert end.last and not any(part.last for part in parts) and not bench.calls
    bench.calls.add_score(ONE, Score(2, [ScoreText([4, 5, 6, 7])]))
    bench.run(1)
    bench.calls.cancel(ONE, 2)
    assert not bench.calls, "what nobody waits for is scored no further"


def test_no_more_is_computed_for_a_worker_that_has_not_read_its_last_answer() -> None:
    bench = Bench()
    slow = cast(Link, SimpleNamespace(has_backlog=True))
    bench.calls.add_embed(slow, 1, [[1]])
    assert not bench.calls.can_go_on
    bench.calls.add_embed(ONE, 2, [[2]])
    assert bench.calls.can_go_on and bench.run(2) == [2] and bench.computed == [2]


def test_a_worker_tells_the_host_that_it_waits_for_a_call_no_more() -> None:
    class Wire(asyncio.Transport):
        sent = b""

        def write(self, data: bytes | bytearray | memoryview) -> None:
            self.sent += bytes(data)

    async def scenario() -> list[ToHost]:
        link, wire = HostLink(Path("host.sock")), Wire()
        link.connection_made(wire)
        link.open = True
        waiting = asyncio.ensure_future(link.call(lambda call_id: Embed(call_id, [[1]])))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return [decode_to_host(body) for body in FrameReader().feed(wire.sent)]

    assert asyncio.run(scenario()) == [Embed(1, [[1]]), CancelCall(1)]
