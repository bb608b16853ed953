"""Tokens looked up: what is proposed, how many, and that an answer stays what single steps would have given."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from ashore.core.ids import OrderId
from ashore.core.sampling import Sampling
from ashore.data.engines import GenerateOrder, Token
from ashore.data.engines.openvino.blocks import BlockPool
from ashore.data.engines.openvino.scheduler import Scheduler, Sequence
from ashore.data.engines.sampling import Constraint, Continuation
from ashore.data.engines.sampling.lookup import EarlierAnswers, Lookup, StepCost, widths

VOCAB = 12


@cache
def liking(last: tuple[int, ...]) -> NDArray[np.float32]:
    return np.random.default_rng([7, *last]).normal(size=VOCAB).astype(np.float32)


def logits_after(ids: list[int]) -> NDArray[np.float32]:
    """A model over a few tokens that likes to repeat what followed its last token before."""
    row = liking(tuple(ids[-3:])).copy()
    for place in range(len(ids) - 1):
        if ids[place] == ids[-1]:
            row[ids[place + 1]] += 1.5
    return row


PROMPT = [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 7, 8, 1, 2]


def order(**fields: Any) -> GenerateOrder:
    return GenerateOrder(order_id=OrderId("o"), prompt_ids=list(PROMPT), **{"max_new_tokens": 24, **fields})


def answered(one: GenerateOrder, *, looks_up: bool) -> tuple[list[Token], int]:
    """Return the tokens of an answer and the steps that it took."""
    answer = Continuation(one, Lookup(one.prompt_ids) if looks_up else None)
    events: list[Any] = []
    steps = 0
    while not answer.ended:
        ahead, _ = answer.propose(4)
        rows = [logits_after([*answer.ids, *ahead[:count]]) for count in range(len(ahead) + 1)]
        events += answer.take_all(rows, ahead)
        steps += 1
    return [event for event in events if isinstance(event, Token)], steps


def test_the_longest_match_is_proposed_and_the_latest_of_equal_ones() -> None:
    assert Lookup([1, 2, 3, 9, 2, 3, 8, 7, 1, 2, 3]).propose(2)[0] == [9, 2]
    assert Lookup([1, 2, 5, 1, 2, 6, 1, 2]).propose(1)[0] == [6]
    assert Lookup([1, 2, 3, 4]).propose(3)[0] == []
    assert Lookup([1, 9, 8, 1]).propose(3)[0] == []  # one token alone is no match


def test_a_match_is_followed_and_its_chances_follow_what_was_right() -> None:
    lookup = Lookup([*range(40), 0, 1, 2])
    before = lookup.propose(1)[1][0]
    for token in range(3, 20):
        assert lookup.propose(1)[0] == [token]
        lookup.follow(token)
    assert lookup.propose(1)[1][0] > before
    wrong = Lookup([5, 6, 7, 5, 6])
    first = wrong.propose(1)[1][0]
    for token in range(100, 120):
        for one in (token, 5, 6):
            wrong.follow(one)
    assert wrong.propose(1)[1][0] < first / 3


def test_earlier_answers_serve_their_own_partition_alone() -> None:
    earlier = EarlierAnswers()
    earlier.add(("", "a", ""), [10, 11, 12, 13, 14])
    earlier.add(("", "a", ""), [20, 21, 22, 23])
    assert Lookup([3, 10, 11], earlier.of(("", "a", ""))).propose(9)[0] == [12, 13, 14]
    assert Lookup([3, 20, 21], earlier.of(("", "a", ""))).propose(9)[0] == [22, 23]
    assert earlier.of(("", "b", "")) is None
    assert earlier.of(("", "a", "adapter")) is None


def test_earlier_answers_are_bounded_in_bytes() -> None:
    earlier = EarlierAnswers(max_bytes=8_000, partition_bytes=2_000)
    for number in range(50):
        earlier.add(("", str(number % 7), ""), [*range(number, number + 400)])
    kept = [text for number in range(7) if (text := earlier.of(("", str(number), ""))) is not None]
    assert len(kept) == 4
    assert all(text.ids.nbytes <= 2_000 for text in kept)
    newest = earlier.of(("", str(49 % 7), ""))
    assert newest is not None
    assert newest.ids[-2] == 448


@pytest.mark.parametrize(
    ("chances", "token_cost", "num_tokens", "taken"),
    [
        ([[0.9, 0.81, 0.73]], 0.05, 1, [3]),
        ([[0.9, 0.3, 0.01]], 0.05, 1, [2]),
        ([[0.04]], 0.001, 1, [0]),  # not worth its sampling, however cheap
        ([[0.5], []], 0.1, 2, [1, 0]),
        ([[0.9, 0.81], [0.2]], 0.2, 2, [2, 0]),
        ([[0.6]] * 32, 0.1, 32, [0] * 32),  # a full batch computes as much as it can
        ([[0.9, 0.8]], 1.0, 1, [0]),
        ([], 0.05, 0, []),
    ],
)
def test_as_many_are_computed_as_make_the_most_tokens_per_second(
    chances: list[list[float]], token_cost: float, num_tokens: int, taken: list[int]
) -> None:
    assert widths(chances, token_cost=token_cost, num_tokens=num_tokens) == taken


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0},
        {"temperature": 1, "seed": 3},
        {"temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 4},
        {"temperature": 1, "min_p": 0.1, "seed": 5, "logit_bias": {3: 2.0}},
        {"temperature": 0, "repetition_penalty": 1.3},
        {"temperature": 1, "presence_penalty": 0.5, "frequency_penalty": 0.5, "seed": 6},
        {"temperature": 1, "seed": 7, "min_tokens": 6},
    ],
)
def test_an_answer_has_the_tokens_of_single_steps_under_every_kind_of_sampling(sampling: dict[str, Any]) -> None:
    saved = 0
    for stops in ((), (8, 9)):
        one = order(sampling=Sampling(**sampling), stop_token_ids=stops, top_logprobs=2)
        plain, most = answered(one, looks_up=False)
        looked_up, steps = answered(one, looks_up=True)
        assert [(t.token_id, t.logprob, t.top) for t in looked_up] == [(t.token_id, t.logprob, t.top) for t in plain]
        assert sum(t.accepted for t in looked_up) <= most - steps + 1
        saved += most - steps
    assert saved > 0


def test_sampled_answers_have_the_distribution_of_single_steps() -> None:
    """Two samples with other seeds, by the chi-square test: 99.9 % of samples of one distribution stay below."""
    tokens = 4
    counts: list[Counter[tuple[int, int]]] = []
    accepted = 0
    for looks_up, first in ((False, 0), (True, 100_000)):
        seen: Counter[tuple[int, int]] = Counter()
        for seed in range(first, first + 1_500):
            one = order(sampling=Sampling(temperature=1, seed=seed), max_new_tokens=tokens)
            made, _ = answered(one, looks_up=looks_up)
            accepted += sum(t.accepted for t in made)
            seen.update((place, token.token_id) for place, token in enumerate(made))
        counts.append(seen)
    plain, looked_up = counts
    statistic, freedom = 0.0, -tokens
    for key in plain.keys() | looked_up.keys():
        a, b = plain[key], looked_up[key]
        statistic += (a - b) ** 2 / (a + b)
        freedom += 1
    assert accepted > 500
    assert statistic < freedom + 3.1 * (2 * freedom) ** 0.5 + 6, (statistic, freedom)


class Alternating:
    """A grammar of even and odd tokens in turn, which answers at once, or only after a while."""

    def __init__(self, *, prompt: bool) -> None:
        self.parity = 1
        self.waits = False
        self.is_complete = False
        self.is_answered = self.answers = prompt
        self.waited = 0

    def allowed(self) -> NDArray[np.bool_]:
        assert not self.waits
        return np.arange(VOCAB) % 2 == self.parity

    def accept(self, token_id: int) -> None:
        assert token_id % 2 == self.parity
        self.parity = 1 - self.parity
        self.waits, self.is_answered = True, self.answers

    def look(self) -> None:
        self.waits = False

    def wait_until(self, until_s: float) -> None:
        self.waited += 1

    def close(self) -> None:
        pass


def test_a_grammar_cuts_what_is_proposed_and_a_late_one_ends_the_step() -> None:
    made: list[tuple[list[int], int, int]] = []
    for looks_up, prompt in ((False, True), (True, True), (True, False)):
        one = order(sampling=Sampling(temperature=0))
        answer = Continuation(one, Lookup(one.prompt_ids) if looks_up else None)
        grammar = Alternating(prompt=prompt)
        answer.constrain(cast(Constraint, grammar))
        steps = accepted = 0
        while not answer.ended:
            ahead, _ = answer.propose(4)
            assert not ahead or ahead[0] % 2 == grammar.parity
            rows = [logits_after([*answer.ids, *ahead[:count]]) for count in range(len(ahead) + 1)]
            tokens = [event for event in answer.take_all(rows, ahead) if isinstance(event, Token)]
            accepted += sum(token.accepted for token in tokens)
            assert prompt or len(tokens) == 1
            grammar.is_answered = True
            answer.follow()
            steps += 1
        made.append((answer.ids, steps, accepted))
    (plain, most, _), (ids, steps, accepted), (late_ids, late_steps, late) = made
    assert ids == plain == late_ids
    assert steps < most == late_steps
    assert accepted >= most - steps > 0
    assert late > 0


def test_the_last_tokens_of_a_limit_are_not_proposed() -> None:
    answer = Continuation(order(max_new_tokens=3, sampling=Sampling(temperature=0)), Lookup(PROMPT))
    assert len(answer.propose(9)[0]) == 2
    answer.take(np.eye(VOCAB, dtype=np.float32)[3])
    assert len(answer.propose(9)[0]) == 1


def test_proposed_tokens_take_blocks_that_are_free_and_leave_nothing_behind() -> None:
    pool = BlockPool(4, 4)
    scheduler = Scheduler(pool, max_sequences=2, prefix_cache=True)
    one = Sequence(order_id=OrderId("one"), ids=[1, 2, 3], num_prompt=3)
    scheduler.add(one)
    scheduler.commit(scheduler.plan(prompt_budget=16))
    one.ids.append(4)
    one.proposed = (5, 6, 7, 8, 9)
    plan = scheduler.plan(prompt_budget=16)
    assert [(c.start, c.end, c.proposed, c.num_tokens) for c in plan.chunks] == [(3, 4, (5, 6, 7, 8, 9), 6)]
    scheduler.commit(plan)
    assert one.done == 4  # what was proposed counts for nothing until it was sampled
    one.ids += [5, 99]
    one.done += 1
    one.proposed = ()
    assert [(c.start, c.end) for c in scheduler.plan(prompt_budget=16).chunks] == [(5, 6)]
    scheduler.remove(one)
    assert pool.match(("", ""), [1, 2, 3, 4, 5, 6, 7, 8, 9], 8).blocks == (0,)
    other = Sequence(order_id=OrderId("other"), ids=[1, 2, 3, 4, 5, 6, 7, 8, 9], num_prompt=9)
    scheduler.add(other)
    scheduler.plan(prompt_budget=16)
    assert other.cached == 4


def test_proposed_tokens_preempt_no_sequence() -> None:
    scheduler = Scheduler(BlockPool(2, 4), max_sequences=2, prefix_cache=False)
    both = [Sequence(order_id=OrderId(name), ids=[1, 2, 3], num_prompt=3) for name in "ab"]
    for one in both:
        scheduler.add(one)
    scheduler.commit(scheduler.plan(prompt_budget=16))
    for one in both:
        one.ids.append(4)
        one.proposed = (5, 6, 7, 8, 9)
    plan = scheduler.plan(prompt_budget=16)
    assert [c.proposed for c in plan.chunks] == [(), ()]
    assert scheduler.preemptions == 0


def test_the_cost_of_a_wider_step_is_learned_from_steps() -> None:
    cost = StepCost()
    for slope, slower in ((0.06, 1), (0.3, 5), (0.05, 1)):
        for step in range(300):
            tokens = (1, 4, 8, 2)[step % 4]
            cost.note(tokens, slower * 0.01 * (1 + slope * (tokens - 1)))
        assert cost.share == pytest.approx(slope, rel=0.15)
    known = cost.share
    cost.note(1, 30.0)  # the machine was busy with something else
    assert cost.share == pytest.approx(known, rel=0.3)
    for _ in range(100):
        cost.note(1, 0.02)  # all alike: nothing is learned about wider ones
    assert cost.share == pytest.approx(known, rel=0.5)
