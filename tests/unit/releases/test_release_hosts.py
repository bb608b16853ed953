"""The supervisor's view of releases, with twins of hosts and state: what cannot be opened, is dropped, or jumps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ashore.core.clock import ManualClock
from ashore.core.errors import AshoreError, Conflict, CorruptBlob, DiskFull, InvalidRequest, Overloaded
from ashore.data.engines import EngineInfo, EngineOptions, ModelPlan
from ashore.data.releases import Course, ReleaseState
from ashore.data.releases.keeper import Wanted
from ashore.machine.deployment.hosting import LOOK_EVERY_S, Hosting
from ashore.machine.deployment.hosts import Replica, Running

INFO = EngineInfo(
    kind="fake", version="1", model="m", precision="none", context_tokens=8, vocab_size=8, kv_tokens=8, max_sequences=1,
    features=(), deterministic_seed=True,
)  # fmt: skip


def plan(release: str) -> ModelPlan:
    return ModelPlan(
        alias=release.rpartition("-")[0], release=release, name="fake:echo", variant="", replicas=1, embedder=False,
        options=EngineOptions(kind="fake"), in_store=True,
    )  # fmt: skip


def running(release: str) -> Running:
    replica = Replica(child=release, socket=Path("/nowhere"))
    return Running(plan=plan(release), files=None, replicas=(replica,), created_s=0, slot=0, content="")  # type: ignore[arg-type]


@dataclass
class State:
    """Twin of the keeper, of the epochs, of the hosts and of the supervisor."""

    stands: dict[str, ReleaseState] = field(default_factory=dict)
    epoch: int = 1
    fallen: dict[str, str] = field(default_factory=dict)
    jumps: list[float] = field(default_factory=list)
    loads: dict[str, float] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    falls: dict[str, int] = field(default_factory=dict)
    busy: bool = False
    """Whether the state cannot be written."""
    loading: bool = False
    until_s: int = 0
    elsewhere_s: int = 0
    """When the time of a release comes that has no hosts here."""
    unstartable: dict[str, Exception] = field(default_factory=dict)
    """What is raised where hosts of a release are started."""
    refusing: dict[str, AshoreError] = field(default_factory=dict)
    """What a host that cannot load says of why."""
    refused: set[str] = field(default_factory=set)
    """Releases of which the state takes no end."""
    given_up: set[str] = field(default_factory=set)
    stop_requested: bool = False
    asked: int = 0
    """How often the state was asked what is to have hosts."""
    on_times: int = 0

    def get(self, kind: str) -> int:
        return self.epoch

    def wanted(self, aliases: Collection[str]) -> tuple[Wanted, ...]:
        self.asked += 1
        found = (
            (plan(name), Course(release=name, state=state, until_s=self.until_s)) for name, state in self.stands.items()
        )
        return tuple(Wanted(plan=p, course=c) for p, c in found if p.alias in aliases)

    def fell(self, name: str, why: str, evidence: Mapping[str, object]) -> None:
        if name in self.refused:
            raise Conflict(f"{name} was changed at the same moment")
        if self.busy:
            raise Overloaded("the state was locked by another process for 5 s")
        self.fallen[name] = why
        self.stands.pop(name, None)
        self.epoch += 1

    def warmed(self, name: str) -> None:
        if self.busy:
            raise Overloaded("the state was locked by another process for 5 s")
        self.stands[name] = "live"

    def next_time(self, *, after_s: int) -> int:
        return min((one for one in (self.until_s, self.elsewhere_s) if one > after_s), default=0)

    def on_time(self) -> None:
        self.on_times += 1

    def loaded(self, name: str, took_s: float) -> None:
        if self.busy:
            raise Overloaded("the state was locked by another process for 5 s")
        self.loads[name] = took_s

    def clock_jumped(self, by_s: float) -> None:
        self.jumps.append(by_s)

    # the hosts

    def start(self, model: ModelPlan, files: object) -> Running:
        if model.release in self.unstartable:
            raise self.unstartable[model.release]
        self.started.append(model.release)
        return running(model.release)

    def greeted(self, one: Running) -> EngineInfo | None:
        if one.plan.release in self.refusing:
            raise self.refusing[one.plan.release]
        return None if self.loading else INFO

    def retire(self, one: Running, *, patience_s: float) -> None:
        self.retired.append(one.plan.release)

    def stop(self, one: Running) -> None:
        self.retired.append(one.plan.release)

    # the supervisor

    def restarts(self, child: str) -> int:
        return self.falls.get(child, 0)

    def state(self, child: str) -> str:
        return "given-up" if child in self.given_up else "running"

    def pid(self, child: str) -> None:
        return None

    def tell_news(self) -> None: ...

    def on_change(self, callback: object) -> None: ...

    def failure_of(self, child: str) -> AshoreError:
        return AshoreError("killed by SIGKILL")


class Stage:
    """A `Hosting` over twins, with `chat-1` live and `other-1` beside it."""

    def __init__(self) -> None:
        self.state = State(stands={"chat-1": "live", "other-1": "live"})
        self.clock = ManualClock()
        self.said: list[str] = []
        self.gone: set[str] = set()
        self.published: list[set[str]] = []
        """Which releases stand beside the primaries in each topology."""
        twin: Any = self.state
        self.hosting = Hosting(
            hosts=twin, supervisor=twin, keeper=twin, epochs=twin, open_files=self.open_files, clock=self.clock,
            say=self.said.append, publish=self.publish, loaded=lambda one, info: None,
        )  # fmt: skip
        self.hosting.take([running("chat-1"), running("other-1")])

    def publish(self) -> None:
        self.published.append({one.plan.release for one in self.hosting.beside})

    def open_files(self, model: ModelPlan) -> Any:
        if model.release in self.gone:
            raise CorruptBlob(f"{model.reference}: sha256:1234 is not in the store", hint="pull it again")

    def look(self, **stands: ReleaseState) -> None:
        if stands:
            self.state.stands = {name.replace("_", "-"): state for name, state in stands.items()}
            self.state.epoch += 1
        self.hosting.look()
        self.hosting.look()


def test_a_release_whose_files_are_gone_from_the_store_fails_and_nothing_else_does() -> None:
    stage = Stage()
    stage.gone.add("chat-2")
    stage.look(chat_1="live", chat_2="warming", other_1="live")
    assert list(stage.state.fallen) == ["chat-2"] and "sha256:1234 is not in the store" in stage.state.fallen["chat-2"]
    assert stage.state.started == [] and stage.state.retired == []
    stage.look()
    assert {one.plan.release for one in stage.hosting.primaries} == {"chat-1", "other-1"}


def test_a_move_that_the_state_refuses_holds_up_no_other_alias() -> None:
    stage = Stage()
    stage.look(chat_1="live", other_1="live")
    stage.state.refused.add("chat-1")
    stage.state.falls["chat-1"] = 1
    stage.look(chat_1="live", other_1="live", other_2="warming")
    assert stage.state.started == ["other-2"] and stage.state.fallen == {}
    stage.state.refused.clear()
    stage.look()
    assert stage.state.fallen == {"chat-1": "a host crashed"}


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (PermissionError(13, "Permission denied", "/proc/1/cwd"), "PermissionError: [Errno 13] Permission denied"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion depth exceeded"),
        (DiskFull("no space left to write host-3.json"), "disk_full: no space left to write host-3.json"),
    ],
)
def test_a_release_that_cannot_be_prepared_fails_with_its_reason_whatever_that_is(fault: Exception, why: str) -> None:
    stage = Stage()
    stage.state.unstartable["chat-2"] = fault
    stage.look(chat_1="live", chat_2="warming", other_1="live", other_2="warming")
    assert list(stage.state.fallen) == ["chat-2"] and stage.state.fallen["chat-2"].startswith(why)
    assert stage.state.started == ["other-2"] and stage.state.stands["other-2"] == "live"


def test_it_fails_once_though_the_state_hears_of_it_later_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """As on a full disk, where neither the host's launch file nor the state can be written."""
    stage = Stage()
    stage.state.unstartable["chat-2"], stage.state.busy = DiskFull("no room"), True
    stage.look(chat_1="live", chat_2="warming", other_1="live")
    for _ in range(50):
        stage.clock.advance(0.1)
        stage.look()
    assert stage.state.fallen == {} and sum("chat-2" in line for line in stage.said) == 2  # loading, and why not
    assert caplog.text.count("they stay as they are for now") == 1
    stage.state.busy = False
    stage.look()
    assert stage.state.fallen == {"chat-2": "disk_full: no room"}


def test_a_release_whose_hosts_cannot_load_fails_with_what_they_said_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = Stage()
    stage.state.refusing["chat-2"] = InvalidRequest("llamacpp has no option 'kv_cash'")
    stage.look(chat_1="live", chat_2="warming", other_1="live")
    for _ in range(30):
        stage.look()
    assert caplog.text.count("kv_cash") == 1
    stage.state.given_up.add("chat-2")
    stage.look()
    assert stage.state.fallen == {"chat-2": "its hosts cannot load: invalid_request: llamacpp has no option 'kv_cash'"}


def test_no_host_is_started_once_a_stop_was_asked_for() -> None:
    stage = Stage()
    stage.state.stop_requested = True
    stage.look(chat_1="live", chat_2="warming", other_1="live")
    assert stage.state.started == []
    stage.state.stop_requested = False
    stage.look()
    assert stage.state.started == ["chat-2"]


def test_releases_of_an_alias_that_is_gone_from_ashore_toml_end() -> None:
    stage = Stage()
    stage.look(chat_1="live", chat_2="standby", other_1="live")
    assert stage.state.started == ["chat-2"]
    stage.hosting.take([running("other-1")])  # the deployment sees to chat-1 itself
    stage.look(other_1="live")
    assert stage.state.retired == ["chat-2"]


def test_how_long_a_release_loaded_is_kept() -> None:
    stage = Stage()
    stage.state.loading = True
    stage.look(chat_1="live", chat_2="warming", other_1="live")
    stage.clock.advance(7.5)
    stage.state.loading = False
    stage.look()
    assert stage.state.loads == {"chat-2": 7.5} and stage.state.stands["chat-2"] == "live"


def test_the_workers_are_told_of_a_release_that_loaded_while_the_state_was_busy() -> None:
    stage = Stage()
    stage.state.busy = True
    stage.look(chat_1="live", chat_2="warming", other_1="live")
    assert stage.published == [{"chat-2"}]
    stage.state.busy = False
    stage.clock.advance(1)
    stage.look()
    assert stage.state.stands["chat-2"] == "live"


def test_what_is_live_gives_way_at_its_first_fall() -> None:
    stage = Stage()
    stage.look(chat_1="live", chat_2="standby", other_1="live")
    stage.state.falls["chat-1"] = 1
    stage.look()
    assert stage.state.fallen == {"chat-1": "a host crashed"}


def test_a_jump_of_the_clock_is_seen_once_and_time_that_passes_is_none() -> None:
    stage = Stage()
    stage.clock.advance(3600)
    stage.look()
    stage.clock.jump(-86_400)
    stage.look()
    stage.clock.jump(1.5)
    stage.look()
    assert stage.state.jumps == [-86_400]


def test_the_state_is_asked_once_for_each_change_and_for_nothing_while_nothing_happens() -> None:
    stage = Stage()
    for _ in range(100):
        stage.look()
        stage.clock.advance(0.2)
    assert (stage.state.asked, stage.state.on_times) == (1, 1)
    stage.look(chat_1="live", chat_2="standby", other_1="live")
    assert stage.state.started == ["chat-2"] and stage.state.asked == 2
    stage.clock.advance(61)
    stage.look()
    assert stage.state.on_times == 2


def looked_when_due(stage: Stage) -> int:
    """Look before and after the time that comes in 30 s; return how often the state was told of times by then."""
    stage.look(chat_1="live", other_1="live")
    before = stage.state.on_times
    stage.clock.advance(29)
    stage.look()
    assert stage.state.on_times == before
    stage.clock.advance(1.0)
    stage.look()
    assert stage.state.on_times == before + 1
    return stage.state.on_times


def test_what_the_time_has_come_for_is_done_within_a_second() -> None:
    stage = Stage()
    stage.state.until_s = int(stage.clock.now_s()) + 30
    looked_when_due(stage)


def test_so_is_what_has_no_hosts_here_and_what_still_waits_then_does_not_wake_it_every_second() -> None:
    """Its machine may be down."""
    stage = Stage()
    stage.state.elsewhere_s = int(stage.clock.now_s()) + 30
    told = looked_when_due(stage)
    for _ in range(20):
        stage.clock.advance(1.0)
        stage.look()
    assert stage.state.on_times == told


def test_the_workers_hear_of_a_move_before_hosts_begin_or_end_for_it_and_of_a_crash_nobody_waits() -> None:
    stage = Stage()
    stage.look()
    stage.state.stands = {"chat-1": "live", "chat-2": "standby", "other-1": "live"}
    stage.state.epoch += 1
    assert stage.hosting.look() == LOOK_EVERY_S and stage.state.started == []
    stage.hosting.look()
    assert stage.state.started == ["chat-2"]
    stage.look()
    stage.state.falls["chat-1"] = 1
    stage.hosting.look()
    assert stage.state.fallen == {"chat-1": "a host crashed"}
