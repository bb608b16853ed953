"""What `ashore up` runs: the processes of a plan, and the change from one plan to the next."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from ashore.core.clock import Clock
from ashore.core.errors import AshoreError, Draining, NotFound, NotReady, UnsupportedModel
from ashore.data.engines import Change, EngineInfo, ModelPlan, Plan
from ashore.data.path import Topology
from ashore.data.releases.keeper import ReleaseKeeper
from ashore.data.residency import Standings
from ashore.kit.processes.shares import open_shares
from ashore.kit.processes.supervisor import Supervisor
from ashore.kit.recorder import MemoryRecorder, Recorder
from ashore.kit.settings import Home, Settings
from ashore.machine.config import Listening
from ashore.machine.deployment.acts import loaded_act, reload_act, why_of
from ashore.machine.deployment.demand import Demand, Mover
from ashore.machine.deployment.front import SWITCHED_S, Front
from ashore.machine.deployment.hosting import LOOK_EVERY_S, Epochs, Hosting
from ashore.machine.deployment.hosts import Hosts, Running
from ashore.machine.deployment.sharing import SharesTold, Sharing
from ashore.machine.deployment.standing import with_standing
from ashore.machine.deployment.topology import topology_of
from ashore.machine.planning import compare, describe

if TYPE_CHECKING:
    from ashore.data.engines import ModelFiles

RETIRE_LOOK_S: Final = 0.3
REST_S: Final = 3600.0
"""Between two looks for changes that wait, while none does."""

RESTARTS_S: Final = 600.0
"""Period over which restarts are reported."""

log = logging.getLogger("ashore.deployment")


class Deployment:
    """What `ashore up` runs. All methods are called from the supervisor's thread."""

    def __init__(
        self,
        *,
        home: Home,
        settings: Settings,
        listening: Listening,
        config: str = "",
        supervisor: Supervisor,
        open_files: Callable[[ModelPlan], ModelFiles],
        clock: Clock,
        say: Callable[[str], None],
        recorder: Recorder | None = None,
        releases: tuple[ReleaseKeeper, Epochs] | None = None,
        open_texts: Callable[[ModelPlan], ModelFiles] | None = None,
        mover: Mover | None = None,
    ) -> None:
        """Create it; starts nothing.

        Args:
            home: Sockets, launch files and logs go there.
            settings: Timeouts.
            listening: All of ashore.toml but the models.
            config: Absolute path of that file; empty: there is none.
            supervisor: Owns the processes.
            open_files: Returns the verified files of a planned model.
            clock: Names and deadlines.
            say: Called with each message.
            recorder: Writes audit records; default: none are written.
            releases: The releases in the state and their change counter; default: only the plan decides what answers,
                and nothing is loaded on demand.
            open_texts: Returns the files of a model whose weights may be in the bucket; default: as `open_files`.
            mover: Moves weights to the bucket and back; None: there is none.
        """
        self._home = home
        self._settings = settings
        self._said_in = "ashore.toml" if config else "ashore up"
        self._supervisor = supervisor
        self._open_files = open_files
        self._open_texts = open_texts or open_files
        self._clock = clock
        self._say = say
        self._recorder = recorder or MemoryRecorder()
        self._running: dict[str, Running] = {}
        self._plan: Plan | None = None
        self._is_changing = False
        """Whether the start, or a change, is waiting for hosts. The supervisor handles requests meanwhile."""
        self._waiting: list[Callable[[], None]] = []
        """Work queued until no change is in progress."""
        self._failed: dict[str, str] = {}
        """Releases of the state that could not be opened or loaded at the start, with reasons."""
        self._sharing = Sharing(open_shares)
        self._hosts = Hosts(
            home=home,
            settings=settings,
            supervisor=supervisor,
            clock=clock,
            started=self._sharing.enter,
            prefix_bytes=listening.tiers.prefix_bytes,
        )
        self._demand = Demand(
            clock=clock, most_loaded=listening.tiers.most_loaded, mover=mover, news=supervisor.tell_news
        )
        self._front = Front(
            home=home,
            settings=settings,
            listening=listening,
            config=config,
            supervisor=supervisor,
            clock=clock,
            say=say,
            topology=self._topology,
        )
        self._keeper, self._hosting = None if releases is None else releases[0], None
        if releases is not None:
            self._hosting = Hosting(
                hosts=self._hosts,
                supervisor=supervisor,
                keeper=releases[0],
                epochs=releases[1],
                open_files=open_files,
                clock=clock,
                say=say,
                publish=self._front.publish,
                loaded=lambda running, info: self._recorder.record(loaded_act(running, info)),
                demand=self._demand,
                entered=self._sharing,
                open_texts=self._open_texts,
            )
        supervisor.call_every("hosts that end", RETIRE_LOOK_S, self._hosts.look_after_retiring)
        supervisor.call_every("changes that wait", REST_S, self._do_waiting, at_news=True)

    @property
    def plan(self) -> Plan:
        """The plan that is served."""
        if self._plan is None:
            raise NotReady("nothing is served yet")
        return self._plan

    @property
    def listening(self) -> Listening:
        return self._front.listening

    def start(self, plan: Plan) -> None:
        """Start every host and the API worker. Returns at once; `wait_ready` waits.

        Raises:
            AshoreError: what ashore.toml names cannot be opened or started. The supervisor ends what was started by
                then.
        """
        self._clear_run_folder()
        self._take_plan(plan)
        proposed = plan if self._keeper is None else self._keeper.propose(plan)
        self._say_what_gives_way(plan, proposed)
        for asked, model in zip(plan.models, proposed.models, strict=True):
            try:
                self._running[asked.alias] = self._begin(model)
            except Exception as fault:  # noqa: BLE001 - of a release, whose place another one takes; else it goes on
                self._running[asked.alias] = self._instead(asked, model, fault)
        if self._hosting is not None:
            self._hosting.take(self._running.values())
        self._front.start()

    def _instead(self, asked: ModelPlan, model: ModelPlan, fault: Exception) -> Running:
        """Start the model of ashore.toml in place of a release of the state that cannot be opened or loaded.

        Raises:
            Exception: the `fault`, if the release is the one of ashore.toml: nothing else could answer.
        """
        if self._keeper is None or dataclasses.replace(model, release=asked.release) == asked:
            raise fault
        why = self._failed[model.release] = why_of(fault)
        if not isinstance(fault, AshoreError):
            log.error("release %s", model.release, exc_info=fault)
        self._say(
            f"release {model.release} failed to start, so {asked.reference} of {self._said_in} answers instead: {why}"
        )
        alone = dataclasses.replace(self.plan, models=(asked,))
        instead = self._keeper.propose(alone, replaced=(asked.alias,)).models[0]
        return self._begin(instead)

    def _take_plan(self, plan: Plan) -> None:
        self._plan = plan
        self._sharing.take(plan.shares)
        if self._keeper is not None:
            self._demand.take(plan.demand, plan.memory_bytes)

    def _begin(self, model: ModelPlan, *, on_demand: bool | None = None) -> Running:
        """Start the hosts of a model; none yet if it is loaded on demand."""
        if self._demand.rules(model.alias) if on_demand is None else on_demand:
            return self._hosts.cold(model, self._open_texts(model))
        return self._hosts.start(model, self._open_files(model))

    def standing(self) -> Mapping[str, ModelPlan]:
        """Return the plan of each alias where a promoted release overrides ashore.toml."""
        return {} if self._keeper is None else self._keeper.standing()

    def restarts(self) -> Mapping[str, int]:
        """Return how often each child ended unexpectedly in the last ten minutes."""
        return self._supervisor.restarted(RESTARTS_S)

    def endings(self) -> Mapping[str, str]:
        """Return how each child that ended unexpectedly did so the last time."""
        return self._supervisor.endings()

    def _say_what_gives_way(self, plan: Plan, proposed: Plan) -> None:
        """Log which promoted releases end with this start, because ashore.toml changed while the server was down."""
        standing = self.standing()
        for asked, model in zip(plan.models, proposed.models, strict=True):
            stands = standing.get(asked.alias)
            if stands is not None and stands.release != model.release:
                self._say(
                    f"{asked.alias}: {self._said_in} changed, so {describe(asked)} replaces the promoted release "
                    f"{stands.release}, {describe(stands)}"
                )

    def _adopt(self, plan: Plan, models: Iterable[ModelPlan]) -> None:
        """Write what is served to the state, and log aliases that are no longer in ashore.toml."""
        assert self._keeper is not None
        served = dataclasses.replace(plan, models=tuple(models))
        for name in self._keeper.adopt(served, asked=plan, said_in=self._said_in, failed=self._failed):
            self._say(f"alias {name} was removed: it is not among the models of {self._said_in}")

    def in_turn(self, work: Callable[[], None]) -> None:
        """Run a change of what is served: now, or after the start and earlier changes have finished.

        The supervisor takes questions while a change waits for hosts. A second change in the middle would leave the
        first with a stale plan.
        """
        self._waiting.append(work)
        self._do_waiting()
        self._supervisor.tell_news()  # to look again soon, where it has to wait

    def steps(self) -> int | None:
        """Return the steps of all engines, which every token raises; None if one does not report."""
        made = [self._hosts.steps(running) for running in self._running.values()]
        return None if None in made else sum(one or 0 for one in made)

    def _do_waiting(self) -> float:
        while self._waiting and not self._is_changing:
            self._waiting.pop(0)()
        return LOOK_EVERY_S if self._waiting else REST_S

    @contextmanager
    def _changing(self) -> Iterator[None]:
        assert not self._is_changing, "changes come in turn"
        self._is_changing = True
        try:
            yield
        finally:
            self._is_changing = False

    def wait_ready(self, *, told: Callable[[str, EngineInfo, float], None] = lambda alias, info, took_s: None) -> None:
        """Return when every host has loaded its model and the API answers, or when a stop is requested.

        The state is updated once all hosts have loaded: a start that fails earlier does not change it.

        Args:
            told: Called once for each alias when its first host is ready.

        Raises:
            AshoreError: a host could not load its model (the host's own error), or a child fell too often.
            NotReady: it took longer than `start_timeout_s`.
        """
        with self._changing():
            self._wait_ready(told)

    def _wait_ready(self, told: Callable[[str, EngineInfo, float], None]) -> None:
        started_s = self._clock.monotonic_s()
        loaded = []
        deadline_s = started_s + self._settings.start_timeout_s
        for asked in self.plan.models:
            if not self._running[asked.alias].replicas:
                continue
            info = self._wait_loaded(asked, deadline_s)
            if info is not None:
                loaded.append((self._running[asked.alias], info, self._clock.monotonic_s() - started_s))
                told(asked.alias, info, loaded[-1][2])
        if self._keeper is not None and len(loaded) == sum(bool(one.replicas) for one in self._running.values()):
            models = tuple(one.plan for one in self._running.values())
            proposed = dataclasses.replace(self.plan, models=models)
            self._keeper.adopt(proposed, said_in=self._said_in, new_names_alone=True)
        if self._failed:  # their replacements had their own deadline
            deadline_s = self._clock.monotonic_s() + self._settings.start_timeout_s
        self._front.wait_ready(deadline_s)
        for asked in self.plan.models:
            self._wait_answered(asked)
        if self._supervisor.stop_requested:
            return
        if self._keeper is not None:  # not earlier: a failed start must roll nothing back
            self._adopt(self.plan, (one.plan for one in self._running.values()))
        for running, info, took_s in loaded:
            self._note_loaded(running, info, took_s)
        if self._hosting is not None:
            self._supervisor.call_every("releases", LOOK_EVERY_S, self._hosting.look, at_news=True)

    def _wait_loaded(self, asked: ModelPlan, deadline_s: float) -> EngineInfo | None:
        """Wait until the release that will answer for an alias has loaded; None if a stop was requested."""
        running = self._running[asked.alias]
        try:
            return self._hosts.wait(running, deadline_s)
        except AshoreError as fault:
            return self._replace(asked, fault)

    def _replace(self, asked: ModelPlan, fault: AshoreError) -> EngineInfo | None:
        """Replace a release of the state by the model of ashore.toml; return once it has loaded.

        Raises:
            AshoreError: the `fault`, where nothing else could answer; or why what ashore.toml names cannot load.
        """
        running = self._running[asked.alias]
        self._hosts.stop(running)
        instead = self._running[asked.alias] = self._instead(asked, running.plan, fault)
        if self._hosting is not None:
            self._hosting.take(self._running.values())
        self._front.publish()
        return self._hosts.wait(instead, self._clock.monotonic_s() + self._settings.start_timeout_s)

    def _wait_answered(self, asked: ModelPlan) -> None:
        """Wait until every worker answers for an alias: a worker that cannot read the tokenizer or template omits the
        model, and the one of ashore.toml replaces it.
        """
        fault = UnsupportedModel(
            f"{asked.alias} is not available: an API worker cannot read the tokenizer or the template of "
            f"{self._running[asked.alias].plan.reference}",
            hint=f"see {self._home.logs / 'api.log'} for the reason; pull the model again",
        )
        if self._front.is_answered(asked.alias) or self._replace(asked, fault) is None:
            return
        deadline_s = self._clock.monotonic_s() + SWITCHED_S
        while not self._supervisor.stop_requested and not self._front.is_answered(asked.alias):
            if self._clock.monotonic_s() > deadline_s:
                raise fault
            self._supervisor.tick(0.05)

    def apply(self, plan: Plan, listening: Listening, *, taken: Collection[str] = ()) -> tuple[Change, ...]:
        """Change over to another plan without dropping a stream, and return what changed. To be called `in_turn`.

        New hosts load first; when all are ready the topology is published; then the old ones drain. A host that cannot
        load ends the change: everything new is stopped, and the old plan goes on.

        Keys of `listening` that a running server keeps are unchanged. A promoted release stays live despite the plan,
        unless its alias is in `taken`.

        Raises:
            AshoreError: why the new plan could not be served; `Draining`: a stop was asked for.
        """
        with self._changing():
            return self._apply(plan, listening, taken)

    def _apply(self, plan: Plan, listening: Listening, taken: Collection[str]) -> tuple[Change, ...]:
        changes = with_standing(compare(self.plan, plan), plan, self.standing(), taken)
        if self._keeper is not None:
            self._keeper.check_reload(plan)
        fresh: dict[str, Running] = {}
        replaced = [change.alias for change in changes if change.kind in ("add", "replace")]
        proposed = plan if self._keeper is None else self._keeper.propose(plan, replaced=replaced)
        models = {model.alias: model for model in proposed.models}
        try:
            self._check_goes_on()
            for change in changes:
                if change.kind in ("add", "replace"):
                    on_demand = change.alias in plan.on_demand and self._keeper is not None
                    fresh[change.alias] = self._begin(models[change.alias], on_demand=on_demand)
            began_s = self._clock.monotonic_s()
            took_s = {}
            for running in (one for one in fresh.values() if one.replicas):
                info = self._hosts.wait(running, began_s + self._settings.start_timeout_s)
                self._check_goes_on()
                if info is not None:
                    self._recorder.record(loaded_act(running, info))
                    took_s[running.plan.release] = self._clock.monotonic_s() - began_s
            self._front.apply_edge(listening)
            before = self._running
            if self._hosting is not None:
                before = {running.plan.alias: running for running in self._hosting.primaries}
            gone = [before[c.alias] for c in changes if c.kind in ("remove", "replace")]
            kept = {c.alias: before[c.alias] for c in changes if c.kind == "keep"}
            after = {model.alias: (fresh | kept)[model.alias] for model in plan.models}
            if self._keeper is not None:
                self._adopt(plan, (one.plan for one in after.values()))
        except Exception as fault:
            for running in fresh.values():
                self._hosts.stop(running)
            self._recorder.record(reload_act(changes, fault))
            raise
        self._running = after
        self._take_plan(plan)
        self._recorder.record(reload_act(changes, None))
        if self._keeper is not None:
            for release, seconds in took_s.items():
                self._keeper.loaded(release, seconds)
        if self._hosting is not None:
            self._hosting.take(self._running.values())
        self._front.take(listening)
        self._front.wait_switched(fresh.values(), gone)
        for running in gone:
            self._hosts.retire(running)
        return changes

    def _check_goes_on(self) -> None:
        if self._supervisor.stop_requested:
            raise Draining(
                "ashore is stopping and accepts no more changes", hint="make the change after the next start"
            )

    def _note_loaded(self, running: Running, info: EngineInfo, took_s: float) -> None:
        self._recorder.record(loaded_act(running, info))
        if self._keeper is not None:
            self._keeper.loaded(running.plan.release, took_s)

    @property
    def shares(self) -> SharesTold:
        """How the shares of models are kept."""
        return self._sharing.told()

    def close(self) -> None:
        """Release system resources, once all children have ended."""
        self._sharing.close()

    def residents(self, question: Mapping[str, object]) -> Standings:
        """Apply a request of an operator or an API worker to a model on demand, and return the state of all.

        Raises:
            NotFound: there is no such model on demand.
            Conflict, InvalidSpec: not possible now.
        """
        do, alias = str(question.get("do")), str(question.get("alias", ""))
        if do != "list" and not self._demand.rules(alias):
            raise NotFound(
                f"{alias!r} is not a model on demand",
                hint='models with load = "demand" in their [[model]] come and go; see `ashore model ps`',
            )
        release, uses = str(question.get("release", "")), int(str(question.get("uses", 0)))
        match do:
            case "call":
                self._demand.call(alias, release=release, uses=uses)
            case "used":
                self._demand.used(release, uses)
            case "warm":
                self._demand.call(alias, now=True)
            case "cool":
                self._demand.cool(alias, to_bucket=question.get("to") == "s3")
            case "pin" | "unpin":
                self._demand.pin(alias, do == "pin")
        held = {} if self._hosting is None else self._hosting.resident_bytes()
        items = [
            msgspec.structs.replace(one, resident_bytes=held.get(one.release, 0))
            for one in self._demand.standings({} if self._hosting is None else self._hosting.phases)
        ]
        return Standings(
            items=items,
            memory_bytes=max(0, self._demand.budget_bytes),
            taken_bytes=sum(one.memory_bytes for one in items if one.state in ("loaded", "loading", "leaving")),
        )

    def _topology(self, listening: Listening) -> Topology:
        hosting = self._hosting
        return topology_of(
            self._running.values() if hosting is None else hosting.primaries,
            () if hosting is None else hosting.beside,
            listening=listening,
            home=self._home,
            settings=self._settings,
            on_demand=self._demand.served,
        )

    def _clear_run_folder(self) -> None:
        """Remove the files of a killed supervisor. The lock on the home guarantees that it is unused."""
        for pattern in ("host-*", ".host-*", "valkey.sock", "api-*.sock", "grpc-*.sock"):
            for path in self._home.run.glob(pattern):
                path.unlink(missing_ok=True)
