"""Keeps the hosts of every release on this machine in the state that the releases require."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError
from ashore.data.engines import EngineInfo, ModelPlan
from ashore.data.releases import ALIASES_EPOCH
from ashore.data.releases.keeper import ReleaseKeeper, Wanted
from ashore.kit.processes import resident_bytes_of
from ashore.kit.processes.priority import set_idle
from ashore.kit.processes.shares import NoShares
from ashore.kit.processes.supervisor import Supervisor
from ashore.machine.deployment.acts import MOST_WHY_CHARS, why_of
from ashore.machine.deployment.children import START_ATTEMPTS
from ashore.machine.deployment.demand import Demand, Phase
from ashore.machine.deployment.hosts import Hosts, Running
from ashore.machine.deployment.rollouts import Asked, Hosted, Step, next_steps
from ashore.machine.deployment.sharing import Sharing

if TYPE_CHECKING:
    from ashore.data.engines import ModelFiles

LOOK_EVERY_S: Final = 0.1
"""Between two looks at hosts that load or end; also the delay from a change of an alias until its hosts end, so that
the workers know of it and send no more requests.
"""
TIME_EVERY_S: Final = 1.0
"""Between two checks for due times: the end of a standby, the next step of a canary."""
SWEEP_EVERY_S: Final = 60.0
"""Between two checks of the state for expired pairs and overdue moves."""
JUMP_S: Final = 2.0
"""A clock that advanced by so much more than elapsed time between two looks has jumped: it was set, or the machine
slept.
"""
STREAM_PATIENCE_S: Final = 3600.0
"""Longest that running answers of a replaced release may continue; as long as a deadline may be."""
MOST_LOG_CHARS: Final = 1500

log = logging.getLogger("ashore.deployment")


class Epochs(Protocol):
    """Counts changes by kind."""

    def get(self, kind: str) -> int:
        """Return the epoch as last seen. No I/O."""
        ...

    def on_change(self, callback: Callable[[str, int], None]) -> None:
        """Call `callback` after each change, on a thread of the watch."""
        ...


@dataclass(slots=True, kw_only=True)
class _Hosting:
    running: Running
    phase: Phase
    restarts: int
    """Restarts of all its hosts when it entered its state."""
    began_s: float = 0.0
    """Start time of loading hosts."""
    fault: str = ""
    """A host's last reason why it cannot load."""
    state: str = ""
    asleep_bytes: int = 0
    """Memory that they keep while asleep."""
    idle_looks: int = 0
    """Consecutive looks at which dozing hosts had no requests."""
    resting: Future[None] | None = None
    """A transition into or out of sleep."""
    idle: frozenset[int] = frozenset()
    """Processes that run at idle priority."""


class Hosting:
    """Manages which releases have hosts here. Called from the supervisor's thread."""

    def __init__(
        self,
        *,
        hosts: Hosts,
        supervisor: Supervisor,
        keeper: ReleaseKeeper,
        epochs: Epochs,
        open_files: Callable[[ModelPlan], ModelFiles],
        clock: Clock,
        say: Callable[[str], None],
        publish: Callable[[], None],
        loaded: Callable[[Running, EngineInfo], None],
        demand: Demand | None = None,
        entered: Sharing | None = None,
        open_texts: Callable[[ModelPlan], ModelFiles] | None = None,
    ) -> None:
        """Create it.

        Args:
            hosts: Starts and ends them.
            supervisor: Knows how they do.
            keeper: The releases in the state.
            epochs: Count changes of those.
            open_files: Returns the verified files of a planned model.
            clock: For deadlines.
            say: Called with each message.
            publish: Publishes to the API workers which releases have hosts.
            loaded: Called with each release that has loaded.
            demand: Decides which models on demand have hosts; default: there are none.
            entered: Moves restarted hosts into the share of their model; default: no shares.
            open_texts: Returns the files of a model without its weights; default: all of them.
        """
        self._hosts = hosts
        self._supervisor = supervisor
        self._keeper = keeper
        self._epochs = epochs
        self._open_files = open_files
        self._clock = clock
        self._say = say
        self._publish = publish
        self._loaded = loaded
        self._demand = demand or Demand(clock=clock)
        self._open_texts = open_texts or open_files
        self._sharing = entered or Sharing(NoShares)
        self._cold: dict[str, Running] = {}
        """Releases on demand without hosts, as the API workers know them."""
        self._told: dict[str, object] = {}
        """The last published state of releases on demand."""
        self._needed: dict[str, int] = {}
        """Bytes that the hosts of each release take."""
        self._hosting: dict[str, _Hosting] = {}
        self._primary: dict[str, Running] = {}
        self._wanted: tuple[Wanted, ...] = ()
        self._failed: dict[str, tuple[str, str]] = {}
        """Releases that could not be opened, with reason and hint, not yet recorded in the state."""
        self._next_s = 0
        """The next due time of any release, on any machine; 0: none."""
        self._seen = -1
        self._heard = -1
        """The epoch at the last look."""
        self._children: tuple[object, ...] = ()
        """State of the hosts at the last look."""
        self._said = ""
        """Why the last look failed."""
        self._time_due_s = self._sweep_due_s = 0.0
        self._ahead_s = clock.now_s() - clock.monotonic_s()
        epochs.on_change(lambda kind, value: supervisor.tell_news())

    def take(self, primaries: Iterable[Running]) -> None:
        """Take over the hosts that were started for a plan; the caller has handled those of earlier plans."""
        for name, one in self._hosting.items():
            if one.phase in ("dozing", "asleep", "waking"):  # the plan has no sleeping hosts
                self._leave_asleep(name, "the plan changed")
        for running in self._primary.values():
            if (here := self._hosting.get(running.plan.release)) is not None and here.phase == "ending":
                continue
            self._hosting.pop(running.plan.release, None)
        self._primary = {running.plan.alias: running for running in primaries}
        for running in self._primary.values():
            if not running.replicas:
                self._cold[running.plan.release] = running
                continue
            hosting = _Hosting(running=running, phase="ready", restarts=self._restarts(running))
            self._hosting[running.plan.release] = hosting
        self._seen = -1
        self._supervisor.tell_news()

    @property
    def phases(self) -> dict[str, Phase]:
        """The phase of each release that has hosts."""
        return {name: one.phase for name, one in self._hosting.items()}

    def resident_bytes(self) -> dict[str, int]:
        """Return the resident memory of each release's processes, in bytes."""
        found = {}
        for name, one in self._hosting.items():
            pids = (self._supervisor.pid(replica.child) for replica in one.running.replicas)
            found[name] = sum(resident_bytes_of(pid) for pid in pids if pid is not None)
        return found

    @property
    def primaries(self) -> tuple[Running, ...]:
        """The release that answers for each alias unless the state overrides it."""
        return tuple(self._primary.values())

    @property
    def beside(self) -> tuple[Running, ...]:
        """The other releases that have loaded."""
        first = {running.plan.release for running in self._primary.values()}
        ready = [one.running for name, one in self._hosting.items() if one.phase == "ready"]
        return tuple(one for one in (*ready, *self._cold.values()) if one.plan.release not in first)

    def look(self) -> float:
        """Do one round of work; return the seconds until the next, unless a child ends or the epoch of aliases changes
        before. Starts nothing once a stop is requested.
        """
        if self._supervisor.stop_requested:
            return TIME_EVERY_S
        try:
            self._tell_failed()
            self._look_at_clock()
            is_due = self._clock.monotonic_s() >= self._time_due_s
            epoch, children = self._epochs.get(ALIASES_EPOCH), self._as_children()
            quiet = epoch == self._seen and children == self._children and not self._demand.is_restless
            if quiet and not is_due and not self._is_moving:
                return TIME_EVERY_S
            is_news, self._heard = epoch != self._heard, epoch
            if is_news and children == self._children:
                return LOOK_EVERY_S
            if is_due:
                self._look_at_time()
            if epoch != self._seen:
                self._wanted = self._keeper.wanted(self._primary)
                self._next_s = self._keeper.next_time(after_s=int(self._clock.now_s()))
                self._seen = epoch
                self._note_states()
                self._note_demand()
            self._look_at_loading()
            self._look_at_demand()
            self._look_at_sleep()
            asked = [
                Asked(release=one.plan.release, alias=one.plan.alias, state=one.course.state, cold=one.course.cold)
                for one in self._wanted
                if self._demand.is_asked(one.plan.release)
            ]
            faults = []
            for step in next_steps(asked, self._as_seen(), load_attempts=START_ATTEMPTS):
                try:
                    self._do(step)
                except AshoreError as fault:  # the others have their own aliases and need not wait
                    faults.append(fault)
            self._forget_ended()
            self._tell_demand()
            self._set_classes()
            if faults:
                raise faults[0]
            self._children = children
        except AshoreError as fault:
            if fault.message != self._said:
                log.error(
                    "cannot update releases, so they stay as they are for now: %s (%s)", fault.message, fault.hint
                )
            self._said = fault.message
            return LOOK_EVERY_S
        self._said = ""
        return LOOK_EVERY_S if self._is_moving else TIME_EVERY_S

    # --- observe

    @property
    def _is_moving(self) -> bool:
        """Whether hosts load or end, or weights are being moved."""
        return self._demand.is_moving or any(one.phase not in ("ready", "asleep") for one in self._hosting.values())

    def _as_children(self) -> tuple[object, ...]:
        """Return the state of all host processes, to compare with an earlier one."""
        at = self._supervisor
        names = [replica.child for one in self._hosting.values() for replica in one.running.replicas]
        return tuple((name, at.state(name), at.restarts(name), at.pid(name)) for name in names)

    def _as_seen(self) -> dict[str, Hosted]:
        seen = {}
        for name, one in self._hosting.items():
            children = [replica.child for replica in one.running.replicas]
            seen[name] = Hosted(
                release=name,
                alias=one.running.plan.alias,
                phase=one.phase if one.phase in ("loading", "ending") else "ready",
                replicas=len(children),
                restarts=self._restarts(one.running) - one.restarts,
                given_up=any(self._supervisor.state(child) == "given-up" for child in children),
            )
        return seen

    def _restarts(self, running: Running) -> int:
        return sum(self._supervisor.restarts(replica.child) for replica in running.replicas)

    def _note_states(self) -> None:
        """Count restarts from when a release entered its state: those as a candidate no longer count."""
        for one in self._wanted:
            here = self._hosting.get(one.plan.release)
            if here is not None and here.state != one.course.state:
                here.state = one.course.state
                if here.phase == "ready":
                    here.restarts = self._restarts(here.running)

    def _note_demand(self) -> None:
        """Apply the state to models on demand; hosts that run already count as loaded."""
        self._needed |= {one.plan.release: one.needed_bytes for one in self._wanted}
        known = {one.name for one in self._demand.subjects}
        self._demand.see(self._wanted)
        for one in self._demand.subjects:
            here = self._hosting.get(one.name)
            if one.name not in known and here is not None and here.phase != "ending":
                if here.phase == "ready":
                    self._demand.loaded(one.name, 0.0)
                else:
                    one.asked = True
        self._cold = {name: one for name, one in self._cold.items() if self._demand.has(name)}
        for one in self._demand.subjects:
            if one.name not in self._hosting and one.name not in self._cold:
                self._become_cold(one.plan)

    def _look_at_demand(self) -> None:
        if self._demand.subjects:
            self._demand.decide(
                self.phases,
                taken_bytes=sum(
                    one.asleep_bytes if one.phase == "asleep" else self._needed.get(name, 0)
                    for name, one in self._hosting.items()
                ),
                busy=lambda name: self._hosts.busy(self._hosting[name].running),
            )

    def _look_at_sleep(self) -> None:
        """Put hosts to sleep once their last answers have ended, and wake those that are requested."""
        for name, one in self._hosting.items():
            if one.phase in ("dozing", "asleep", "waking") and self._restarts(one.running) != one.restarts:
                self._leave_asleep(name, "its host crashed")  # its replacement is not asleep
            elif one.phase == "ready" and self._demand.is_to_sleep(name):
                self._say(f"release {name} goes to sleep when its running answers have ended")
                self._become_cold(one.running.plan)
                one.phase, one.idle_looks, one.restarts = "dozing", 0, self._restarts(one.running)
                self._publish()
            elif one.phase == "dozing" and one.resting is None:
                one.idle_looks = 0 if self._hosts.busy(one.running) else one.idle_looks + 1
                if one.idle_looks >= 2:
                    one.resting = self._hosts.rest(one.running, asleep=True)
            elif one.phase == "asleep" and self._demand.is_asked(name) and not self._demand.is_to_sleep(name):
                self._say(f"waking up release {name}")
                one.phase, one.began_s = "waking", self._clock.monotonic_s()
                one.resting = self._hosts.rest(one.running, asleep=False)
            elif one.resting is not None and one.resting.done():
                self._rested(name, one, one.resting)

    def _rested(self, name: str, one: _Hosting, resting: Future[None]) -> None:
        one.resting = None
        try:
            resting.result()
        except AshoreError as fault:
            self._leave_asleep(name, why_of(fault))
            return
        if one.phase == "dozing":
            one.phase = "asleep"
            self._say(f"release {name} is asleep")
            return
        one.phase, took_s = "ready", self._clock.monotonic_s() - one.began_s
        self._say(f"release {name} is awake after {took_s:.1f} s")
        self._demand.awake(name, took_s)
        self._stand_with_hosts(name, one.running)
        self._publish()

    def _leave_asleep(self, name: str, why: str) -> None:
        """End hosts that sleep or failed to; the next request loads the release again."""
        one = self._hosting[name]
        self._say(f"release {name} is unloaded instead of sleeping on: {why}")
        self._demand.cannot_sleep(name)
        one.phase = "ending"
        self._hosts.stop(one.running)

    def _become_cold(self, plan: ModelPlan) -> None:
        """Publish a release on demand without hosts: requests for it have it loaded."""
        try:
            self._cold[plan.release] = self._hosts.cold(plan, self._open_texts(plan))
        except Exception as fault:  # outermost handler of a release: any error fails this release only
            log.exception("release %s cannot be opened", plan.release)
            self._demand.failed(plan.release, why_of(fault))
            return
        here = self._primary.get(plan.alias)
        if here is not None and (here.plan.release == plan.release or here.plan.release not in self._hosting):
            self._primary[plan.alias] = self._cold[plan.release]

    def _tell_demand(self) -> None:
        """Publish the state of releases on demand to the API workers, if it changed."""
        self._demand.note(self.phases)
        told = {one.name: self._demand.served(one.name) for one in self._demand.subjects}
        if told != self._told:
            self._told = dict(told)
            self._publish()

    def _look_at_clock(self) -> None:
        ahead_s = self._clock.now_s() - self._clock.monotonic_s()
        jump_s = ahead_s - self._ahead_s
        if abs(jump_s) > JUMP_S:
            log.warning("the clock jumped by %.0f s; the times of releases are adjusted", jump_s)
            self._keeper.clock_jumped(jump_s)
        self._ahead_s = ahead_s

    def _look_at_time(self) -> None:
        now_s = self._clock.monotonic_s()
        self._time_due_s = now_s + TIME_EVERY_S
        at_s = self._clock.now_s()
        over = any(0 < one.course.until_s <= at_s for one in self._wanted) or 0 < self._next_s <= at_s
        if over or now_s >= self._sweep_due_s:
            self._sweep_due_s = now_s + SWEEP_EVERY_S
            self._keeper.on_time()
            self._next_s = self._keeper.next_time(after_s=int(at_s))

    def _look_at_loading(self) -> None:
        for name, one in self._hosting.items():
            if one.phase != "loading":
                continue
            try:
                info = self._hosts.greeted(one.running)
            except AshoreError as fault:  # the host ends, and the supervisor sees that
                told = why_of(fault)
                if told != one.fault:
                    log.warning("release %s cannot load: %s", name, fault.message)
                one.fault = told
                if self._demand.has(name):
                    self._give_up(name, told)
                continue
            if info is not None:
                one.phase, one.restarts, one.fault = "ready", self._restarts(one.running), ""
                self._say(f"release {name} is loaded: {info.version}, {info.precision}")
                took_s = self._clock.monotonic_s() - one.began_s
                one.asleep_bytes = info.asleep_bytes * len(one.running.replicas)
                self._demand.loaded(name, took_s, info)
                self._stand_with_hosts(name, one.running)
                self._publish()  # before any write, which may fail: this happens once
                self._loaded(one.running, info)
                self._keeper.loaded(name, took_s)

    def _stand_with_hosts(self, name: str, running: Running) -> None:
        """Publish a release on demand with its hosts."""
        self._cold.pop(name, None)
        if (here := self._primary.get(running.plan.alias)) is not None and here.plan.release == name:
            self._primary[running.plan.alias] = running

    def _give_up(self, name: str, why: str) -> None:
        """End the hosts of a release on demand that cannot load, and fail the requests that wait for it."""
        one = self._hosting[name]
        self._say(f"release {name} cannot be loaded: {why}")
        self._demand.failed(name, why)
        one.phase = "ending"
        self._hosts.stop(one.running)
        if name not in self._cold:
            self._become_cold(one.running.plan)

    def _forget_ended(self) -> None:
        """Forget ended hosts. If one was in the topology, another release of its alias replaces it."""
        for name, one in list(self._hosting.items()):
            states = [self._supervisor.state(replica.child) for replica in one.running.replicas]
            if one.phase == "ending" and all(state in ("stopped", "given-up") for state in states):
                del self._hosting[name]
        for alias, running in list(self._primary.items()):
            here = running.plan.release in self._hosting or running.plan.release in self._cold
            heir = None if here else self._heir(alias)
            if heir is not None:
                self._primary[alias] = heir
                self._publish()

    # --- act

    def _do(self, step: Step) -> None:
        match step.do:
            case "start":
                self._start(next(one.plan for one in self._wanted if one.plan.release == step.release))
            case "end":
                self._end(step.release)
            case "make-room":
                self._say(f"release {step.release} ends to make room; requests wait")
                self._hosting[step.release].phase = "ending"
                self._hosts.stop(self._hosting[step.release].running)
            case "fell":
                self._fell(step.release, step.why)
            case "warmed":
                self._keeper.warmed(step.release)

    def _start(self, plan: ModelPlan) -> None:
        self._say(f"loading release {plan.release}: {plan.reference}")
        try:
            running = self._hosts.start(plan, self._open_files(plan))
        except AshoreError as fault:
            self._cannot_open(plan, why_of(fault), fault.hint)
            return
        except Exception as fault:  # outermost handler of a release: any error fails this release only
            log.exception("release %s cannot be opened", plan.release)
            self._cannot_open(plan, why_of(fault), "what `ashore up` printed")
            return
        self._hosting[plan.release] = _Hosting(
            running=running, phase="loading", restarts=0, began_s=self._clock.monotonic_s()
        )

    def _cannot_open(self, plan: ModelPlan, why: str, hint: str) -> None:
        self._say(f"release {plan.release} cannot be opened: {why}")
        if self._demand.has(plan.release):
            self._demand.failed(plan.release, why)
            return
        self._wanted = tuple(one for one in self._wanted if one.plan.release != plan.release)
        self._failed[plan.release] = why, hint
        self._tell_failed()

    def _tell_failed(self) -> None:
        """Record in the state which releases could not be opened. On a full disk this may be delayed."""
        for release, (why, hint) in list(self._failed.items()):
            self._keeper.fell(release, why, {"hint": hint})
            del self._failed[release]

    def _end(self, release: str) -> None:
        """End hosts that are no longer needed; their running answers may finish."""
        one = self._hosting[release]
        alias = one.running.plan.alias
        if self._demand.has(release):
            self._become_cold(one.running.plan)
        elif alias in self._primary and self._primary[alias].plan.release == release:
            heir = self._heir(alias)
            if heir is None:
                return  # nothing else could answer yet
            self._primary[alias] = heir
        self._say(f"release {release} ends when its running answers have ended")
        one.phase = "ending"
        self._publish()
        self._hosts.retire(one.running, patience_s=STREAM_PATIENCE_S)

    def _heir(self, alias: str) -> Running | None:
        """Return a release that may take over an alias in the topology."""
        for state in ("live", "canary", "standby"):
            for one in self._wanted:
                here = self._hosting.get(one.plan.release)
                if one.plan.alias == alias and one.course.state == state and one.plan.release in self._cold:
                    return self._cold[one.plan.release]
                if one.plan.alias == alias and one.course.state == state and here and here.phase == "ready":
                    return here.running
        return None

    def _fell(self, release: str, why: str) -> None:
        one = self._hosting[release]
        states = [self._supervisor.state(replica.child) for replica in one.running.replicas]
        if self._demand.has(release) and (one.phase == "loading" or "given-up" in states):
            self._give_up(release, str(self._supervisor.failure_of(one.running.replicas[0].child).message))
            return
        evidence: dict[str, str | int | float] = {"restarts": self._restarts(one.running) - one.restarts}
        for replica in one.running.replicas:
            how, _, last = str(self._supervisor.failure_of(replica.child).message).partition("\n")
            evidence[replica.child] = f"{how}\n{last[len(how) - MOST_LOG_CHARS :]}"
        if one.phase == "loading" and one.fault:
            why = f"{why}: {one.fault}"[:MOST_WHY_CHARS]
        self._say(f"release {release}: {why}")
        self._keeper.fell(release, why, evidence)
        one.restarts = self._restarts(one.running)  # if it has to stay, the count restarts

    def _set_classes(self) -> None:
        """Run shadow hosts at idle priority, and each host in the share of its model."""
        living: set[int] = set()
        for one in self._hosting.values():
            pids = {self._supervisor.pid(replica.child) for replica in one.running.replicas}
            found = frozenset(pid for pid in pids if pid is not None)
            living |= found
            for pid in found:
                self._sharing.enter(one.running.plan.alias, pid)
            wanted = found if one.state == "shadow" and one.phase == "ready" else frozenset[int]()
            for pid in (one.idle - wanted) & found:
                set_idle(pid, False)
            for pid in wanted - one.idle:
                set_idle(pid, True)
            one.idle = wanted
        self._sharing.left(living)
