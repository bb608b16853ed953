"""Models on demand: decides which are loaded, which wait for memory and which make room. `Hosting` starts and ends
hosts.

Kept in memory only: a restarted supervisor has nothing loaded. Called from the supervisor's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol

from ashore.core.bytesize import human_bytes
from ashore.core.clock import Clock
from ashore.core.errors import Conflict, InvalidSpec
from ashore.data.engines import EngineInfo, ModelPlan, OnDemand
from ashore.data.releases.keeper import Wanted
from ashore.data.residency import Residence, ResidenceState, Served
from ashore.machine.residency import RATE_SPAN_S, Resident, plan_room, rate_after, worth

HOLD_LOADS: Final = 1.0
"""A loaded model stays for this many times its load time, so that two models do not evict each other…"""
MOST_HOLD_S: Final = 30.0
"""…but no longer than this."""
PATIENCE_S: Final = 5.0
"""After this wait without an idle model, the least valuable busy one accepts no new requests, finishes its answers and
makes room.
"""
FIRST_BACKOFF_S: Final = 5.0
LONGEST_BACKOFF_S: Final = 300.0
"""Between a load that failed and the next try; twice as long each time."""
LOOK_EVERY_S: Final = 1.0

Phase = Literal["loading", "ready", "dozing", "asleep", "waking", "ending"]
"""dozing: its last answers end, and then it is put to sleep."""


class Mover(Protocol):
    """Moves weights between the store and the bucket, off the supervisor's thread."""

    def check(self, plan: ModelPlan) -> None:
        """Check that the weights of a model may move to the bucket.

        Raises:
            Conflict: they may not.
        """
        ...

    def is_away(self, plan: ModelPlan) -> bool:
        """Return whether some of a model's weights are only in the bucket. Cheap."""
        ...

    def fetch(self, plan: ModelPlan) -> None:
        """Start to fetch the weights of a model. May be called again; `outcome` returns the result."""
        ...

    def send(self, plan: ModelPlan) -> None:
        """Start to move the weights of a model to the bucket. May be called again; `outcome` returns the result."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether a move is in progress."""
        ...

    def is_moving(self, plan: ModelPlan) -> bool:
        """Return whether its weights are being moved, in either direction."""
        ...

    def outcome(self, plan: ModelPlan) -> str | None:
        """Return the result of the last move, once: empty for success, else the reason; None: nothing has ended."""
        ...


@dataclass(slots=True, kw_only=True)
class Subject:
    """A release on demand."""

    plan: ModelPlan
    rule: OnDemand
    num_bytes: int
    load_s: float
    asked: bool = False
    """Whether it should have hosts."""
    wanted_s: float | None = None
    """Time since requests have been waiting for it."""
    ready_s: float | None = None
    can_sleep: bool = False
    """Whether its engine can release its working memory and keep `asleep_bytes`."""
    asleep_bytes: int = 0
    sleeps: bool = False
    """Whether its hosts should stay, asleep, while it is not requested."""
    wake_s: float = 0.0
    """How long its last wake-up took; 0: unknown."""
    used_s: float = 0.0
    rate: float = 0.0
    rated_s: float = 0.0
    loads: int = 0
    unloads: int = 0
    faults: int = 0
    backoffs: int = 0
    """Failed loads in a row."""
    again_s: float = 0.0
    fault: str = ""
    """Why its last load failed."""
    why: str = ""
    """Why it waits, or why its weights stay."""
    goes: bool = False
    """Whether its weights move to the bucket once its hosts have ended."""

    @property
    def name(self) -> str:
        return self.plan.release

    @property
    def back_s(self) -> float:
        """How long it takes to have it back once it has made room."""
        return self.wake_s if self.can_sleep and self.wake_s else self.load_s


class Demand:
    """Every release on demand of this machine."""

    def __init__(
        self, *, clock: Clock, most_loaded: int = 0, mover: Mover | None = None, news: Callable[[], None] = lambda: None
    ) -> None:
        """Create it.

        Args:
            clock: For waits and rates.
            most_loaded: Most models loaded at once; 0: no limit.
            mover: Moves weights to the bucket and back; None: there is none.
            news: Called when there is something to decide.
        """
        self._clock = clock
        self._most_loaded = most_loaded
        self._mover = mover
        self._news = news
        self._rules: Mapping[str, OnDemand] = {}
        self._pins: dict[str, bool] = {}
        """Pins set by operators for aliases, since the start."""
        self._subjects: dict[str, Subject] = {}
        self._others: tuple[Wanted, ...] = ()
        self._phases: Mapping[str, Phase] = {}
        self._due_s = 0.0
        self._taken_bytes = 0
        self.budget_bytes = 0
        """Memory that all models together may take."""

    # --- inputs

    def take(self, rules: Iterable[OnDemand], budget_bytes: int) -> None:
        """Apply a plan."""
        self._rules = {rule.alias: rule for rule in rules}
        self.budget_bytes = budget_bytes
        self._due_s = 0.0

    def rules(self, alias: str) -> bool:
        """Return whether a model is loaded on demand."""
        return alias in self._rules

    def see(self, wanted: Collection[Wanted]) -> None:
        """Take the releases that should have hosts, from the state. Releases live for an alias on demand are loaded and
        unloaded; candidates and standbys stay loaded.
        """
        found: dict[str, Subject] = {}
        others = []
        for one in wanted:
            rule = self._rules.get(one.plan.alias)
            if rule is None or one.course.state != "live":
                others.append(one)
                continue
            old = self._subjects.get(one.plan.release)
            now_s = self._clock.monotonic_s()
            found[one.plan.release] = (
                replace(old, plan=one.plan, rule=rule, num_bytes=one.needed_bytes)
                if old is not None
                else Subject(
                    plan=one.plan,
                    rule=rule,
                    num_bytes=one.needed_bytes,
                    load_s=one.course.load_s,
                    used_s=now_s,
                    rated_s=now_s,
                )
            )
        self._subjects, self._others = found, tuple(others)
        self._due_s = 0.0

    def has(self, release: str) -> bool:
        """Return whether a release is loaded on demand."""
        return release in self._subjects

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return tuple(self._subjects.values())

    def is_asked(self, release: str) -> bool:
        """Return whether a release should have hosts now, asleep or not; always true unless it is on demand."""
        one = self._subjects.get(release)
        return one is None or one.asked or one.sleeps

    def is_to_sleep(self, release: str) -> bool:
        """Return whether the hosts of a release should be asleep."""
        one = self._subjects.get(release)
        return one is not None and one.sleeps and not one.asked

    def loaded(self, release: str, took_s: float, info: EngineInfo | None = None) -> None:
        """Record that the hosts of a release have loaded; 0 s: they ran already.

        Args:
            release: Which.
            took_s: How long that took.
            info: Properties of its engine; None: unknown, and it does not sleep.
        """
        if (one := self._subjects.get(release)) is not None:
            self._is_there(one)
            one.load_s = took_s or one.load_s
            one.loads += 1
            if info is not None:
                one.can_sleep = "sleep" in info.features
                one.asleep_bytes = info.asleep_bytes * one.plan.replicas

    def awake(self, release: str, took_s: float) -> None:
        """Record that the hosts of a release have woken up."""
        if (one := self._subjects.get(release)) is not None:
            self._is_there(one)
            one.wake_s, one.sleeps = took_s, False

    def _is_there(self, one: Subject) -> None:
        one.ready_s = one.used_s = self._clock.monotonic_s()
        one.asked, one.wanted_s, one.fault, one.why, one.backoffs = True, None, "", "", 0

    def cannot_sleep(self, release: str) -> None:
        """Record that the hosts of a release failed to sleep or to wake up: they end, and the next request loads it
        again.
        """
        if (one := self._subjects.get(release)) is not None:
            was_asked = one.asked
            one.asked = one.sleeps = one.can_sleep = False
            one.ready_s = None
            if was_asked:
                one.wanted_s = self._clock.monotonic_s()
            self._tell()

    def failed(self, release: str, why: str) -> None:
        """Record that a release cannot be loaded. Waiting requests fail; a later request tries again."""
        one = self._subjects.get(release)
        if one is None or (not one.asked and one.wanted_s is None):
            return
        one.asked, one.wanted_s, one.ready_s, one.fault, one.why = False, None, None, why, ""
        one.sleeps = False
        one.faults += 1
        one.again_s = self._clock.monotonic_s() + min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(one.backoffs, 16))
        one.backoffs += 1
        self._due_s = 0.0

    def call(self, alias: str, *, release: str = "", uses: int = 0, now: bool = False) -> bool:
        """Load a model. Returns whether a model of this name is on demand.

        Args:
            alias: The alias it is for.
            release: Only this release of it.
            uses: How many requests asked for it since the last call.
            now: Try at once, despite earlier failures.
        """
        at_s = self._clock.monotonic_s()
        found = [s for s in self._subjects.values() if s.plan.alias == alias and release in ("", s.name)]
        for one in found:
            self._use(one, uses, at_s)
            if now:
                one.again_s = 0.0
            if (one.asked and one.ready_s is not None) or one.again_s > at_s or one.wanted_s is not None:
                continue
            one.wanted_s, one.goes = at_s, False
            self._tell()
        return bool(found)

    def used(self, release: str, num: int) -> None:
        """Count requests for a loaded release."""
        if (one := self._subjects.get(release)) is not None:
            self._use(one, num, self._clock.monotonic_s())

    def _use(self, one: Subject, num: int, now_s: float) -> None:
        if num:
            one.rate, one.rated_s = rate_after(one.rate, now_s - one.rated_s, num=num), now_s
            one.used_s = now_s

    def cool(self, alias: str, *, to_bucket: bool = False) -> None:
        """Unload a model once its answers have ended; then move its weights to the bucket if requested.

        Raises:
            InvalidSpec: there is no bucket.
            Conflict: its weights are pinned, used under another name, or not in the store.
        """
        if self._pins.get(alias, self._rules[alias].pin):
            raise Conflict(f"{alias} is pinned", hint=f"first run `ashore model unpin {alias}`")
        for one in self._of(alias):
            if to_bucket:
                self._check_goes(one)
            self._let_go(one, may_sleep=False)
            one.wanted_s, one.goes = None, to_bucket
        self._tell()

    def _check_goes(self, one: Subject) -> None:
        if self._mover is None:
            raise InvalidSpec("there is no bucket for weights", hint='set [tiers] cold = "s3://BUCKET/PATH"')
        users = [s.plan for s in self._subjects.values() if s is not one and (s.asked or s.wanted_s is not None)]
        for other in (*users, *(wanted.plan for wanted in self._others)):
            if other.reference == one.plan.reference:
                raise Conflict(
                    f"{other.release} uses {other.reference}, so the weights of {one.plan.reference} stay on disk",
                    hint=f"first run `ashore model cool {other.alias}`, or retire that release",
                )
        self._mover.check(one.plan)

    def pin(self, alias: str, pin: bool) -> None:
        """Pin a model in memory, or unpin it, until the next start."""
        self._pins[alias] = pin
        if pin:
            self.call(alias, now=True)
        self._tell()

    def _tell(self) -> None:
        self._due_s = 0.0
        self._news()

    def _of(self, alias: str) -> list[Subject]:
        return [one for one in self._subjects.values() if one.plan.alias == alias]

    def _pinned(self, one: Subject) -> bool:
        return self._pins.get(one.plan.alias, one.rule.pin)

    # --- decisions

    @property
    def is_restless(self) -> bool:
        """Whether another decision is due before the next look."""
        return bool(self._subjects) and (self._clock.monotonic_s() >= self._due_s or self.is_moving)

    @property
    def is_moving(self) -> bool:
        """Whether weights are being moved, so that the next look should come soon."""
        return self._mover is not None and self._mover.is_busy

    def decide(self, phases: Mapping[str, Phase], *, taken_bytes: int, busy: Callable[[str], bool]) -> None:
        """Decide which releases have hosts, from the phases of all hosts.

        Args:
            phases: Phase of each release that has hosts.
            taken_bytes: Memory of all hosts, including those that are ending.
            busy: Returns whether a release is answering. Called only for releases that may make room.
        """
        now_s = self._clock.monotonic_s()
        self._due_s, self._phases, self._taken_bytes = now_s + LOOK_EVERY_S, phases, taken_bytes
        for one in self._subjects.values():
            if one.sleeps and one.name not in phases:  # its hosts ended, for whatever reason
                one.sleeps = False
            if one.ready_s is not None and phases.get(one.name) != "ready":  # its hosts ended, for whatever reason
                one.asked, one.ready_s = False, None
        self._look_at_moves()
        self._let_idle_go(now_s, busy)
        for one in self._subjects.values():
            if self._pinned(one) and not one.asked and one.wanted_s is None and one.again_s <= now_s:
                one.wanted_s = now_s
        self._make_room(now_s, taken_bytes, busy)

    def _look_at_moves(self) -> None:
        if self._mover is None:
            return
        for one in self._subjects.values():
            ended = self._mover.outcome(one.plan)
            if ended and one.wanted_s is not None:
                self.failed(one.name, ended)
            elif ended is not None:
                one.why, one.goes = ended, False
            if one.goes and one.name not in self._phases and not self._mover.is_moving(one.plan):
                self._mover.send(one.plan)

    def _let_idle_go(self, now_s: float, busy: Callable[[str], bool]) -> None:
        for one in self._subjects.values():
            keep_s = one.rule.keep_alive_s
            if not keep_s or one.ready_s is None or self._pinned(one) or now_s - one.used_s < keep_s:
                continue
            if busy(one.name):
                one.used_s = now_s
            else:
                self._let_go(one)

    def _make_room(self, now_s: float, taken_bytes: int, busy: Callable[[str], bool]) -> None:
        """Load the first waiting model, or make room for it. Models load one at a time: two at once would both be late.
        Weights are fetched from the bucket meanwhile.
        """
        waiting = [one for one in self._subjects.values() if one.wanted_s is not None and not one.asked]
        waiting.sort(key=lambda one: one.wanted_s or 0.0)
        here = []
        for one in waiting:
            if self._mover is None or not one.plan.in_store or not self._mover.is_away(one.plan):
                here.append(one)
            elif not self._mover.is_moving(one.plan):
                self._mover.fetch(one.plan)
        if not here or any(one.asked and one.ready_s is None for one in self._subjects.values()):
            return
        first = here[0]
        if self._phases.get(first.name) == "ending":
            return  # it is loaded again once its last answers have ended
        ending = sum(s.num_bytes for s in self._subjects.values() if self._phases.get(s.name) == "ending")
        waited_s = now_s - (first.wanted_s or now_s)
        free, places = self.budget_bytes - taken_bytes, self._free_places()
        if first.sleeps:
            if self._phases.get(first.name) != "asleep":
                return  # it is woken once it sleeps
            free += first.asleep_bytes
        if plan_room(first.num_bytes, (), free_bytes=free, free_places=places).fits:
            first.asked, first.why = True, ""
            return
        if ending and waited_s < PATIENCE_S:
            return
        if free < first.num_bytes and self._drop_sleeper(now_s, first):
            return  # and decides again with the memory that was freed
        room = plan_room(first.num_bytes, self._residents(now_s, busy), free_bytes=free, free_places=places)
        if not room.evict:
            everybody = self._residents(now_s, None)
            room = plan_room(first.num_bytes, everybody, free_bytes=free + ending, free_places=places)
            if not room.evict and not room.fits:
                self.failed(first.name, self._too_large(first))
                return
            first.why = "waits for memory"
            if waited_s < PATIENCE_S or room.fits:
                return
        for name in room.evict:  # where memory is short, rather than slots, a sleeping model would keep some of it
            self._let_go(self._subjects[name], may_sleep=free >= first.num_bytes)

    def _drop_sleeper(self, now_s: float, first: Subject) -> bool:
        """End the hosts of the least valuable sleeping model. Return whether there was one."""
        asleep = [
            one for one in self._subjects.values()
            if one.sleeps and not one.asked and one.wanted_s is None and one.asleep_bytes and one is not first
        ]  # fmt: skip
        if not asleep:
            return False
        self._let_go(min(asleep, key=lambda one: (self._worth(one, now_s), one.name)), may_sleep=False)
        return True

    def _residents(self, now_s: float, busy: Callable[[str], bool] | None) -> list[Resident]:
        """Return the loaded models on demand; without `busy`, as if all were idle and loaded long ago."""
        found = []
        for one in self._subjects.values():
            if one.ready_s is None:
                continue
            pinned = self._pinned(one)
            fresh = busy is not None and now_s - one.ready_s < min(MOST_HOLD_S, HOLD_LOADS * one.load_s)
            held = pinned or fresh
            found.append(
                Resident(
                    release=one.name,
                    num_bytes=one.num_bytes,
                    worth=self._worth(one, now_s),
                    held=held,
                    busy=busy is not None and not held and busy(one.name),
                )
            )
        return found

    def _free_places(self) -> int | None:
        if not self._most_loaded:
            return None
        return self._most_loaded - sum(
            one.asked or self._phases.get(one.name, "asleep") != "asleep" for one in self._subjects.values()
        )

    def _too_large(self, one: Subject) -> str:
        kept = sum(s.num_bytes for s in self._subjects.values() if s.ready_s is not None and self._pinned(s))
        kept += sum(other.needed_bytes for other in self._others if other.plan.release in self._phases)
        return (
            f"it needs {human_bytes(one.num_bytes)}; of the {human_bytes(self.budget_bytes)} for all models, "
            f"{human_bytes(kept)} are taken by models that stay loaded"
        )

    def _may_sleep(self, one: Subject) -> bool:
        """Return whether a loaded model can sleep and there is memory for what it keeps."""
        left = self.budget_bytes - self._taken_bytes + one.num_bytes
        return one.can_sleep and one.asleep_bytes <= max(left, one.num_bytes)

    def _let_go(self, one: Subject, *, may_sleep: bool = True) -> None:
        """Make a model give up its memory: asleep if possible, else ended."""
        sleeps = may_sleep and one.ready_s is not None and self._may_sleep(one)
        if not sleeps and (one.sleeps or one.ready_s is not None):
            one.unloads += 1
        one.asked, one.ready_s, one.sleeps = False, None, sleeps

    # --- outputs

    def note(self, phases: Mapping[str, Phase]) -> None:
        """Store the phases of all releases for the reports that follow."""
        self._phases = phases

    def state(self, one: Subject) -> ResidenceState:
        """Return the state of a release."""
        phase = self._phases.get(one.name)
        if one.asked:
            return "loaded" if one.ready_s is not None else "loading"
        if one.sleeps and one.wanted_s is None:
            return "asleep" if phase == "asleep" else "leaving"
        if one.wanted_s is not None:
            return "fetching" if self._mover is not None and self._mover.is_moving(one.plan) else "waiting"
        if one.again_s > self._clock.monotonic_s():
            return "failed"
        return "leaving" if phase == "ending" or one.goes else "cold"

    def served(self, release: str) -> Served | None:
        """Return what API workers need to know about a release; None unless it is on demand."""
        one = self._subjects.get(release)
        if one is None:
            return None
        left_s = one.again_s - self._clock.monotonic_s()
        again_s = int(self._clock.now_s() + left_s) if left_s > 0 else 0
        state = self.state(one)
        return Served(
            state=state,
            load_s=round(one.back_s if one.sleeps else one.load_s, 1),
            faults=one.faults,
            why=one.fault,
            again_s=again_s,
            loads=one.loads,
            unloads=one.unloads,
        )

    def standings(self, phases: Mapping[str, Phase]) -> list[Residence]:
        """Return the state of every model of this machine, loaded or not, by alias.

        Args:
            phases: By release, of those that have hosts now. Without models on demand this is the only source.
        """
        self._phases = phases
        now_s = self._clock.monotonic_s()
        order = sorted(
            (one for one in self._subjects.values() if one.ready_s is not None and not self._pinned(one)),
            key=lambda one: (self._worth(one, now_s), one.name),
        )
        found = [self._standing(one, now_s, order) for one in self._subjects.values()]
        for other in self._others:
            phase = self._phases.get(other.plan.release)
            found.append(
                Residence(
                    alias=other.plan.alias,
                    release=other.plan.release,
                    model=other.plan.reference,
                    state={"ready": "loaded", "ending": "leaving"}.get(phase or "", "loading"),  # type: ignore[arg-type]
                    load="start",
                    pin=True,
                    memory_bytes=other.needed_bytes,
                    load_s=other.course.load_s,
                    tier="memory" if phase == "ready" else "disk",
                )
            )
        return sorted(found, key=lambda one: (one.alias, one.release))

    def _standing(self, one: Subject, now_s: float, order: list[Subject]) -> Residence:
        away = self._mover is not None and one.plan.in_store and self._mover.is_away(one.plan)
        return Residence(
            alias=one.plan.alias,
            release=one.name,
            model=one.plan.reference,
            state=self.state(one),
            pin=self._pinned(one),
            memory_bytes=one.asleep_bytes if one.sleeps else one.num_bytes,
            load_s=round(one.load_s, 1),
            wake_s=round(one.wake_s, 1),
            keep_alive_s=one.rule.keep_alive_s,
            idle_s=round(now_s - one.used_s, 1) if one.ready_s is not None else 0.0,
            rate_per_min=round(self._rate(one, now_s) * 60 / RATE_SPAN_S, 2),
            evict_order=order.index(one) + 1 if one in order else 0,
            tier="memory" if one.ready_s is not None or one.sleeps else "bucket" if away else "disk",
            loads=one.loads,
            unloads=one.unloads,
            why=one.why or one.fault,
        )

    @staticmethod
    def _rate(one: Subject, now_s: float) -> float:
        return rate_after(one.rate, now_s - one.rated_s)

    def _worth(self, one: Subject, now_s: float) -> float:
        return worth(self._rate(one, now_s), one.back_s, one.num_bytes)
