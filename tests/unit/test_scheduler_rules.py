"""The scheduler over blocks: what every step must keep true, and the cases that the rules were made for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.core.ids import OrderId
from ashore.data.engines.openvino.blocks import BlockPool
from ashore.data.engines.openvino.scheduler import Scheduler, Sequence, StepPlan, share_budget

SIZE = 4


def sequence(
    name: str, prompt: list[int], *, priority: int = 0, tenant: str = "", root: tuple[str, str] = ("", "")
) -> Sequence:
    return Sequence(
        order_id=OrderId(name),
        ids=list(prompt),
        num_prompt=len(prompt),
        priority=priority,
        tenant=tenant,
        root=root,
        parent=root,
    )


def scheduler(num_blocks: int = 64, *, max_sequences: int = 16, prefix_cache: bool = True) -> Scheduler:
    return Scheduler(BlockPool(num_blocks, SIZE), max_sequences=max_sequences, prefix_cache=prefix_cache)


def advance(s: Scheduler, budget: int = 64) -> StepPlan:
    """Do one step with a model whose next token is the sum of what it has read."""
    plan = s.plan(prompt_budget=budget)
    s.commit(plan)
    for chunk in plan.chunks:
        if chunk.samples:
            chunk.sequence.ids.append(sum(chunk.sequence.ids) % 50)
    return plan


def names(plan: StepPlan) -> list[str]:
    return [str(c.sequence.order_id) for c in plan.chunks]


def test_a_new_prompt_starts_in_the_next_step_beside_those_that_generate() -> None:
    s = scheduler()
    s.add(sequence("old", [1, 2, 3]))
    advance(s)
    s.add(sequence("new", [4, 5, 6]))
    plan = advance(s)
    assert names(plan) == ["old", "new"]
    assert [c.end - c.start for c in plan.chunks] == [1, 3]


def test_a_long_prompt_is_cut_and_a_short_one_does_not_wait_for_it() -> None:
    s = scheduler()
    s.add(sequence("long", list(range(100))))
    advance(s, budget=16)
    s.add(sequence("short", [1, 2, 3]))
    plan = advance(s, budget=16)
    tokens = {str(c.sequence.order_id): c.end - c.start for c in plan.chunks}
    assert tokens == {"long": 13, "short": 3}
    assert [c.samples for c in plan.chunks] == [False, True]


def test_the_most_important_prompt_keeps_half_of_the_budget() -> None:
    first, *rest = (sequence(str(i), [0] * 40) for i in range(5))
    for arrival, one in enumerate([first, *rest]):
        one.arrival = arrival
    shares = {str(one.order_id): tokens for one, tokens in share_budget([*rest, first], 20)}
    assert shares["0"] >= 10
    assert sum(shares.values()) == 20


def sizes(plan: StepPlan) -> dict[str, int]:
    return {str(one.sequence.order_id): one.end - one.start for one in plan.chunks}


def test_a_first_token_waits_for_one_part_of_a_long_prompt_of_another_tenant_and_the_long_one_goes_on() -> None:
    s = scheduler(num_blocks=400)
    s.add(sequence("long", list(range(1000)), tenant="a"))
    assert sizes(advance(s, budget=16)) == {"long": 16}
    for at in range(20):  # one after the other, without a pause
        short = sequence(f"short {at}", [at, 1, 2], tenant="b")
        s.add(short)
        assert sizes(advance(s, budget=16)) == {f"short {at}": 3}
        s.remove(short)
        late = sequence(f"late {at}", [at, 1, 3], tenant="b")
        s.add(late)
        assert sizes(advance(s, budget=16)) == {"long": 13, f"late {at}": 3}
        s.remove(late)


@pytest.mark.parametrize(
    ("tenant", "priority", "num_long", "rests"),
    [("b", 0, 100, True), ("a", 0, 100, False), ("b", -1, 100, False), ("b", 1, 100, True), ("b", 0, 30, False)],
)
def test_only_a_long_prompt_rests_and_only_for_another_tenant_of_its_priority(
    tenant: str, priority: int, num_long: int, *, rests: bool
) -> None:
    s = scheduler()
    s.add(sequence("first", [0] * num_long, tenant="a"))
    s.add(sequence("other", [1, 2, 3], tenant=tenant, priority=priority))
    assert ("first" in names(advance(s, budget=16))) is not rests


def test_a_step_with_a_part_of_a_long_prompt_takes_the_smaller_budget() -> None:
    s = scheduler()
    s.add(sequence("long", [0] * 40, tenant="a"))
    assert sizes(s.plan(prompt_budget=16, long_budget=8)) == {"long": 8}
    s = scheduler()
    s.add(sequence("short", [0] * 30, tenant="a"))
    assert sizes(s.plan(prompt_budget=16, long_budget=8)) == {"short": 16}


def test_long_contexts_of_one_tenant_take_turns_beside_another() -> None:
    s = scheduler(num_blocks=100)
    heavy = [sequence(f"a{at}", [at] * 20, tenant="a") for at in range(5)]
    for one in (*heavy, sequence("b", [9] * 20, tenant="b")):
        s.add(one)
    for _ in range(2):
        advance(s, budget=200)
    made = {str(one.order_id): 0 for one in s.running}
    for _ in range(10):
        plan = s.plan(prompt_budget=8, context_budget=70)
        assert len([name for name in names(plan) if name != "b"]) <= 3
        s.commit(plan)
        for chunk in plan.chunks:
            made[str(chunk.sequence.order_id)] += 1
            chunk.sequence.ids.append(0)
    assert made.pop("b") == 10
    assert set(made.values()) <= {4, 5, 6} and sum(made.values()) >= 20
    plan = s.plan(prompt_budget=8, context_budget=5)
    assert len(plan.chunks) == 2, "one of each tenant, however long"
    s.commit(plan)
    assert len(s.plan(prompt_budget=8).chunks) == 6 - 2


def test_tenants_have_equal_shares_however_many_prompts_one_sends() -> None:
    many = [sequence(f"a{at}", [0] * 4, tenant="a") for at in range(20)]
    one = sequence("b", [0] * 9, tenant="b")
    for arrival, each in enumerate([*many, one]):
        each.arrival = arrival
    shares = {str(s.order_id): tokens for s, tokens in share_budget([*many, one], 20)}
    assert shares == {"a0": 4, "a1": 4, "a2": 3, "b": 9}


def test_higher_priority_goes_first_and_may_displace() -> None:
    s = scheduler(max_sequences=1)
    low = sequence("low", [1, 2, 3])
    s.add(low)
    advance(s)
    s.add(sequence("high", [4, 5, 6], priority=5))
    assert names(advance(s)) == ["high"]
    assert s.waiting == [low]
    assert s.preemptions == 1


def test_a_free_place_goes_to_the_tenant_with_the_fewest_sequences() -> None:
    s = scheduler(max_sequences=2)
    for number in range(4):
        s.add(sequence(f"a{number}", [number, 2, 3], tenant="a"))
    advance(s)
    s.add(sequence("b", [4, 5, 6], tenant="b"))
    s.remove(s.running[0])
    assert names(advance(s)) == ["a1", "b"]
    s.remove(s.running[0])
    assert names(advance(s)) == ["b", "a2"]


def test_equal_priority_never_displaces() -> None:
    s = scheduler(max_sequences=1)
    s.add(sequence("first", [1, 2, 3]))
    advance(s)
    s.add(sequence("second", [4, 5, 6]))
    assert names(advance(s)) == ["first"]


def test_without_blocks_the_newest_steps_back_and_ends_later_with_the_same_tokens() -> None:
    alone = scheduler(prefix_cache=False)
    wanted = sequence("b", [7, 8, 9])
    alone.add(wanted)
    for _ in range(9):
        advance(alone)
    s = scheduler(num_blocks=4, prefix_cache=False)
    a, b = sequence("a", [1, 2, 3]), sequence("b", [7, 8, 9])
    s.add(a)
    s.add(b)
    for _ in range(40):
        advance(s)
        if len(a.ids) >= 12 and a in s.running:
            s.remove(a)
        if len(b.ids) >= 12:
            break
    assert s.preemptions >= 1
    assert b.ids == wanted.ids[: len(b.ids)]
    assert len(b.ids) == 12


def test_a_sequence_that_needs_more_than_every_block_is_told_so() -> None:
    s = scheduler(num_blocks=2, prefix_cache=False)
    one = sequence("one", [1, 2, 3, 4, 5])
    s.add(one)
    plans = [advance(s) for _ in range(6)]
    assert [p.exhausted for p in plans if p.exhausted] == [(one,)]
    assert s.pool.num_available == 2
    assert not s.running


def test_prompts_that_hold_every_block_half_computed_do_not_wait_for_each_other() -> None:
    s = scheduler(num_blocks=6, prefix_cache=False)
    for name in "ab":
        s.add(sequence(name, list(range(18))))
    seen = [advance(s, budget=8) for _ in range(6)]
    assert all(p.chunks for p in seen)


def test_a_shared_beginning_is_computed_once() -> None:
    s = scheduler()
    system = list(range(21))
    s.add(sequence("a", [*system, 90, 91]))
    while not advance(s).chunks[-1].samples:
        pass
    b = sequence("b", [*system, 80, 81, 82])
    s.add(b)
    plan = advance(s)
    # Five whole blocks are shared. The 21st token alone is not worth a copy.
    assert b.cached == 20
    assert plan.copies == ()
    assert b.blocks[:5] == s.running[0].blocks[:5]


def test_the_rest_of_a_shared_beginning_is_copied_when_it_is_worth_it() -> None:
    s = Scheduler(BlockPool(64, 16), max_sequences=4, prefix_cache=True)
    system = list(range(26))
    a, b = sequence("a", [*system, 90, 91]), sequence("b", [*system, 80, 81, 82])
    s.add(a)
    advance(s)
    s.add(b)
    plan = advance(s)
    assert b.cached == 26
    assert plan.copies == ((a.blocks[1], b.blocks[1]),)
    assert a.blocks[0] == b.blocks[0]
    assert [(c.start, c.end) for c in plan.chunks if c.sequence is b] == [(26, 29)]


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    s = scheduler()
    copies = [sequence(str(i), list(range(17))) for i in range(4)]
    for one in copies:
        s.add(one)
    assert names(advance(s)) == ["0"]
    assert sorted(names(advance(s))) == ["0", "1", "2", "3"]
    assert [one.cached for one in copies] == [0, 16, 16, 16]


def test_nothing_is_shared_between_partitions_or_adapters() -> None:
    s = scheduler()
    prompt = list(range(17))
    roots = [("bank", ""), ("clinic", ""), ("bank", "lora"), ("", "bank")]
    for root in roots:
        one = sequence("-".join(root), prompt, root=root)
        s.add(one)
        advance(s)
        s.remove(one)
        assert one.cached == 0
    again = sequence("again", prompt, root=("bank", "lora"))
    s.add(again)
    advance(s)
    assert again.cached == 16


def test_no_prefix_cache_means_no_hit() -> None:
    s = scheduler(prefix_cache=False)
    for name in "ab":
        one = sequence(name, list(range(17)))
        s.add(one)
        advance(s)
        s.remove(one)
        assert one.cached == 0


class _Oracle:
    """Keeps what each block would hold, and finds any read of a token that is not there."""

    def __init__(self, s: Scheduler) -> None:
        self.scheduler = s
        self.content: dict[int, list[tuple[tuple[str, str], tuple[int, ...]]]] = {}

    def run(self, plan: StepPlan) -> None:
        for source, target in plan.copies:
            self.content[target] = list(self.content[source])
        written: set[tuple[int, int]] = set()
        for chunk in plan.chunks:
            one = chunk.sequence
            assert chunk.start < chunk.end <= len(one.ids)
            assert len(one.blocks) * SIZE >= chunk.end
            assert list(one.table[: len(one.blocks)]) == one.blocks
            for place in range(chunk.start):
                held = self.content[one.blocks[place // SIZE]][place % SIZE]
                assert held == (one.root, tuple(one.ids[: place + 1]))
            for place in range(chunk.start, chunk.end):
                block = one.blocks[place // SIZE]
                assert (block, place % SIZE) not in written
                written.add((block, place % SIZE))
                rows = self.content.setdefault(block, [])
                del rows[place % SIZE :]
                rows.append((one.root, tuple(one.ids[: place + 1])))


@st.composite
def _stories(draw: st.DrawFn) -> tuple[int, int, bool, list[tuple[int, list[int], int, str, int]]]:
    shared = draw(st.lists(st.integers(0, 3), max_size=14))
    orders = draw(
        st.lists(
            st.tuples(
                st.integers(0, 6),
                st.lists(st.integers(0, 3), min_size=1, max_size=10).map(lambda tail: shared + tail),
                st.integers(0, 2),
                st.sampled_from(["x", "y"]),
                st.integers(1, 12),
            ),
            min_size=1,
            max_size=8,
        )
    )
    return draw(st.integers(3, 14)), draw(st.integers(1, 20)), draw(st.booleans()), orders


@settings(max_examples=250, deadline=None)
@given(_stories())
def test_every_story_ends_with_all_blocks_back_and_no_token_read_that_was_not_computed(
    story: tuple[int, int, bool, list[tuple[int, list[int], int, str, int]]],
) -> None:
    num_blocks, budget, prefix_cache, orders = story
    s = scheduler(num_blocks, max_sequences=4, prefix_cache=prefix_cache)
    oracle = _Oracle(s)
    todo = [
        (at, sequence(str(i), ids, priority=priority, tenant=tenant, root=(tenant, "")), wanted)
        for i, (at, ids, priority, tenant, wanted) in enumerate(orders)
        if s.fits(len(ids) + 1)
    ]
    goal = {id(one): one.num_prompt + wanted for _, one, wanted in todo}
    left = {id(one) for _, one, _ in todo}
    for turn in range(600):
        for at, one, _ in todo:
            if at == turn:
                s.add(one)
        plan = s.plan(prompt_budget=budget, long_budget=max(1, budget // 2), context_budget=20 if turn % 3 else None)
        oracle.run(plan)
        assert len(s.running) <= 4
        held = {b for one in s.running for b in one.blocks}
        assert len(held) == s.pool.num_held
        if not prefix_cache:
            assert len(held) == sum(len(one.blocks) for one in s.running)
        assert plan.chunks or plan.exhausted or not (s.running or s.waiting) or turn % 3, "it goes on"
        s.commit(plan)
        left -= {id(one) for one in plan.exhausted}
        for chunk in plan.chunks:
            one = chunk.sequence
            if not chunk.samples:
                continue
            if len(one.ids) + 1 >= goal[id(one)]:
                s.remove(one)
                left.discard(id(one))
            else:
                one.ids.append((sum(one.ids) + turn) % 4)
        if not left:
            break
    assert not left
    assert s.pool.num_available == num_blocks
