"""Who is loaded, who waits, who makes room: models on demand, without processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from residency_sim import clairvoyant_hits, run, session_trace, wanted, zipf_trace

from ashore.core.clock import ManualClock
from ashore.core.errors import Conflict, InvalidSpec
from ashore.data.engines import EngineInfo, OnDemand
from ashore.machine.deployment.demand import HOLD_LOADS, LONGEST_BACKOFF_S, PATIENCE_S, Demand, Phase
from ashore.machine.residency import Resident, plan_room


class House:
    """A `Demand` with hosts that load when told."""

    def __init__(self, *sizes: int, budget: int, keep_alive_s: int = 0, pinned: str = "", most_loaded: int = 0) -> None:
        self.clock = ManualClock()
        self.demand = Demand(clock=self.clock, most_loaded=most_loaded)
        self.names = [chr(ord("a") + number) for number in range(len(sizes))]
        rules = [OnDemand(alias=name, keep_alive_s=keep_alive_s, pin=name in pinned) for name in self.names]
        self.demand.take(rules, budget)
        self.sizes = dict(zip(self.names, sizes, strict=True))
        self.demand.see([wanted(name, size) for name, size in self.sizes.items()])
        self.phases: dict[str, Phase] = {}
        self.busy: set[str] = set()
        self.load_s = 2.0
        self.asleep_bytes = -1
        """What a model keeps while it is asleep; -1: none can sleep."""

    def decide(self) -> list[str]:
        """Let it decide once, and return what is to have hosts."""
        taken = sum(
            self.asleep_bytes if phase == "asleep" else self.sizes[name[0]] for name, phase in self.phases.items()
        )
        self.demand.decide(self.phases, taken_bytes=taken, busy=lambda name: name[0] in self.busy)
        asked = [one.name[0] for one in self.demand.subjects if one.asked]
        for name in asked:
            self.phases.setdefault(f"{name}-1", "loading")
        for name in list(self.phases):
            if self.demand.is_to_sleep(name):
                self.phases[name] = "asleep"
            elif name[0] not in asked:
                self.phases[name] = "ending"
        return asked

    def loaded(self, *names: str) -> None:
        for name in names:
            self.phases[f"{name}-1"] = "ready"
            self.demand.loaded(f"{name}-1", self.load_s, self.info if self.asleep_bytes >= 0 else None)

    def woken(self, name: str) -> None:
        self.phases[f"{name}-1"] = "ready"
        self.demand.awake(f"{name}-1", 0.2)

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(
            kind="fake", version="", model="", precision="", context_tokens=1, vocab_size=1, kv_tokens=1,
            max_sequences=1, features=("sleep",), asleep_bytes=self.asleep_bytes,
        )  # fmt: skip

    def states(self) -> str:
        """Return how all models stand, by name."""
        return " ".join(one.state for one in self.demand.standings(self.phases))

    def ended(self, *names: str) -> None:
        for name in names:
            del self.phases[f"{name}-1"]

    def load(self, *names: str) -> None:
        """Have models loaded one after the other, and time pass so that they may go again."""
        for name in names:
            self.demand.call(name, uses=1)
            assert name in self.decide()
            self.loaded(name)
            self.decide()
            self.clock.advance(HOLD_LOADS * self.load_s + 0.1)


def test_nothing_is_loaded_before_somebody_asks() -> None:
    house = House(1, 1, budget=10)
    assert house.decide() == []
    assert house.demand.call("a", uses=1)
    assert house.decide() == ["a"]


def test_one_is_loaded_at_a_time_and_the_first_who_waits_is_first() -> None:
    house = House(1, 1, 1, budget=10)
    for name in ("b", "a", "c"):
        house.demand.call(name, uses=1)
        house.clock.advance(0.1)
    assert house.decide() == ["b"]
    house.loaded("b")
    assert house.decide() == ["a", "b"]


def test_the_least_worth_makes_room_and_its_memory_is_waited_for() -> None:
    house = House(1, 1, 1, budget=2)
    house.load("a", "b")
    house.demand.used("a-1", 5)
    house.demand.call("c", uses=1)
    assert house.decide() == ["a"]
    assert house.decide() == ["a"], "b has not ended yet"
    house.ended("b")
    assert house.decide() == ["a", "c"]


def test_one_that_answers_makes_no_room_until_others_have_waited_long() -> None:
    house = House(1, 1, budget=1)
    house.load("a")
    house.busy = {"a"}
    house.demand.call("b", uses=1)
    assert house.decide() == ["a"]
    assert house.demand.standings(house.phases)[1].why == "waits for memory"
    house.clock.advance(PATIENCE_S + 0.1)
    assert house.decide() == [], "it takes nothing new, and ends what it has begun"
    assert house.phases["a-1"] == "ending"


def test_one_that_was_loaded_a_moment_ago_stays_a_moment() -> None:
    house = House(1, 1, budget=1)
    house.demand.call("a", uses=1)
    house.decide()
    house.loaded("a")
    house.demand.call("b", uses=1)
    assert house.decide() == ["a"]
    house.clock.advance(HOLD_LOADS * house.load_s + 0.1)
    assert house.decide() == []


def test_a_pinned_one_is_loaded_by_itself_and_never_goes() -> None:
    house = House(1, 1, budget=1, pinned="a", keep_alive_s=10)
    assert house.decide() == ["a"]
    house.loaded("a")
    house.clock.advance(1000)
    house.demand.call("b", uses=1)
    assert house.decide() == ["a"]
    failed = house.demand.served("b-1")
    assert failed is not None and failed.state == "failed"
    assert "1 B are taken by models that stay loaded" in failed.why
    house.demand.pin("a", False)
    house.demand.call("b", now=True)
    house.clock.advance(PATIENCE_S + 1)
    assert house.decide() == []


def test_an_idle_one_goes_after_its_time_and_a_busy_one_does_not() -> None:
    house = House(1, budget=10, keep_alive_s=60)
    house.load("a")
    house.clock.advance(50)
    house.demand.used("a-1", 1)
    house.clock.advance(59)
    assert house.decide() == ["a"]
    house.clock.advance(2)
    house.busy = {"a"}
    assert house.decide() == ["a"]
    house.busy = set()
    house.clock.advance(61)
    assert house.decide() == []


def test_one_whose_engine_can_sleep_makes_room_asleep_and_is_woken() -> None:
    house = House(3, 3, budget=10, most_loaded=1)
    house.asleep_bytes = 1
    house.load("a")
    house.demand.call("b", uses=1)
    assert house.decide() == [] and house.states() == "asleep waiting"
    assert house.decide() == ["b"], "what sleeps takes no place"
    house.loaded("b")
    house.decide()
    [first, _] = house.demand.standings(house.phases)
    assert (first.memory_bytes, first.tier, first.unloads, first.evict_order) == (1, "memory", 0, 0)
    house.clock.advance(HOLD_LOADS * house.load_s + 0.1)
    house.demand.call("a", uses=1)
    assert house.decide() == [] and house.states() == "waiting asleep"
    assert house.decide() == ["a"] and not house.demand.is_to_sleep("a-1")
    house.woken("a")
    assert house.decide() == ["a"] and house.states() == "loaded asleep"
    told = house.demand.served("b-1")
    assert told is not None and (told.state, told.load_s) == ("asleep", house.load_s), "it never woke up yet"
    assert [one.wake_s for one in house.demand.standings(house.phases)] == [0.2, 0.0]
    assert [one.loads for one in house.demand.standings(house.phases)] == [1, 1]


def test_what_sleeps_ends_where_its_memory_is_needed_or_an_operator_cools_it() -> None:
    house = House(3, 3, 4, budget=8, most_loaded=2)
    house.asleep_bytes = 2
    house.load("a")
    house.demand.used("a-1", 9)
    house.load("b")
    house.demand.call("c", uses=1)
    assert house.decide() == ["a"] and house.states() == "loaded leaving waiting", "asleep it would keep too much"
    house.ended("b")
    assert house.decide() == ["a", "c"]
    house.loaded("c")
    house.decide()
    house.demand.cool("c")
    house.decide()
    house.ended("c")
    assert house.states() == "loaded cold cold", "cool means unloaded, whatever can sleep"


def test_what_sleeps_ends_first_where_memory_is_short() -> None:
    house = House(3, 3, 4, budget=9, keep_alive_s=60)
    house.asleep_bytes = 3
    house.load("a")
    house.clock.advance(61)
    assert house.decide() == [] and house.states() == "asleep cold cold"
    house.load("b")
    house.demand.call("c", uses=1)
    assert house.decide() == ["b"] and house.states() == "leaving loaded waiting"
    house.ended("a")
    assert house.decide() == ["b", "c"]


def test_one_that_keeps_more_than_there_is_room_for_does_not_sleep() -> None:
    house = House(3, budget=4, keep_alive_s=60)
    house.asleep_bytes = 5
    house.load("a")
    house.clock.advance(61)
    assert house.decide() == [] and house.states() == "leaving"


def test_an_idle_one_sleeps_and_one_that_cannot_wake_is_loaded_anew() -> None:
    house = House(3, budget=10, keep_alive_s=60)
    house.asleep_bytes = 1
    house.load("a")
    house.clock.advance(61)
    assert house.decide() == [] and house.states() == "asleep"
    house.demand.call("a", uses=1)
    assert house.decide() == ["a"]
    house.demand.cannot_sleep("a-1")
    house.phases["a-1"] = "ending"
    assert house.decide() == [] and house.states() == "waiting"
    house.ended("a")
    assert house.decide() == ["a"], "whoever asked for it still waits"
    house.loaded("a")
    assert house.decide() == ["a"] and house.states() == "loaded"


def test_a_load_that_failed_is_told_and_not_tried_again_at_once() -> None:
    house = House(1, budget=10)
    house.demand.call("a", uses=1)
    house.decide()
    house.demand.failed("a-1", "no such file")
    told = house.demand.served("a-1")
    assert told is not None and (told.state, told.faults, told.why) == ("failed", 1, "no such file")
    house.ended("a")
    house.demand.call("a", uses=1)
    assert house.decide() == []
    house.clock.advance(5.1)
    house.demand.call("a", uses=1)
    assert house.decide() == ["a"]
    house.demand.failed("a-1", "no such file")
    house.ended("a")
    house.clock.advance(5.1)
    house.demand.call("a", uses=1)
    assert house.decide() == [], "twice as long after the second time"
    house.demand.call("a", now=True)
    assert house.decide() == ["a"], "an operator need not wait"


def test_a_model_that_fails_for_days_is_still_tried_every_five_minutes() -> None:
    house = House(1, budget=10)
    for _ in range(1_100):
        house.demand.call("a", uses=1)
        assert house.decide() == ["a"]
        house.demand.failed("a-1", "no such file")
        house.ended("a")
        house.clock.advance(LONGEST_BACKOFF_S)


def test_places_bound_what_memory_does_not() -> None:
    house = House(0, 0, 0, budget=0, most_loaded=1)
    house.load("a")
    house.demand.call("b", uses=1)
    assert house.decide() == []
    house.ended("a")
    assert house.decide() == ["b"]


def test_what_is_pinned_or_has_no_bucket_is_not_cooled() -> None:
    house = House(1, budget=10, pinned="a")
    with pytest.raises(Conflict, match="a is pinned"):
        house.demand.cool("a")
    house.demand.pin("a", False)
    with pytest.raises(InvalidSpec, match="no bucket"):
        house.demand.cool("a", to_bucket=True)


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(1, 10), st.floats(0, 5), st.booleans(), st.booleans()), max_size=8),
    st.integers(-10, 20),
)
def test_room_is_never_made_by_one_that_is_held_or_busy_and_never_more_than_needed(
    needed: int, loaded: list[tuple[int, float, bool, bool]], free: int
) -> None:
    residents = [
        Resident(release=str(at), num_bytes=size, worth=worth, held=held, busy=busy)
        for at, (size, worth, held, busy) in enumerate(loaded)
    ]
    room = plan_room(needed, residents, free_bytes=free)
    goes = [one for one in residents if one.release in room.evict]
    assert not any(one.held or one.busy for one in goes)
    assert room.fits == (needed <= free)
    if goes:
        freed = sum(one.num_bytes for one in goes)
        assert needed <= free + freed
        assert all(needed > free + freed - one.num_bytes for one in goes), "one of them need not have gone"
    elif not room.fits:
        assert needed > free + sum(one.num_bytes for one in residents if not (one.held or one.busy))


@pytest.mark.parametrize("kind", ["zipf", "sessions"])
def test_twenty_models_in_memory_for_six_hit_nearly_as_often_as_the_clairvoyant(kind: str) -> None:
    if kind == "zipf":
        trace = zipf_trace(3000, models=20, alpha=1.2, per_s=0.2, seed=7)
    else:
        trace = session_trace(3000, models=20, alpha=1.0, per_s=0.02, seed=7)
    found = run(trace, models=20, places=6, load_s=5.0)
    assert (found.requests - found.loads) / clairvoyant_hits(trace, places=6) >= 0.9
    assert found.evicted_busy == 0
    assert max(found.waits_s) < 60


def test_a_stampede_loads_once() -> None:
    trace = [(1.0 + number / 1000, "m0") for number in range(50)]
    found = run(trace, models=3, places=1)
    assert found.loads == 1 and len(found.waits_s) == 50
    assert clairvoyant_hits(trace, places=1) == 49


def test_what_stays_loaded_is_told_as_its_hosts_stand_where_nothing_comes_and_goes() -> None:
    house = House(1, budget=3)
    house.demand.take([], 3)
    house.demand.see([wanted("a", 1)])
    states = [house.demand.standings(phases)[0].state for phases in ({}, {"a-1": "ready"}, {"a-1": "ending"})]
    assert states == ["loading", "loaded", "leaving"]
