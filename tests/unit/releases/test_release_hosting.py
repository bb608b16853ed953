"""What follows for the hosts of a machine from the releases as they stand."""

from __future__ import annotations

from typing import Literal

from ashore.data.releases import ReleaseState
from ashore.machine.deployment.rollouts import Asked, Hosted, next_steps


def asked(release: str, state: ReleaseState, *, cold: bool = False, alias: str = "chat") -> Asked:
    return Asked(release=release, alias=alias, state=state, cold=cold)


def hosted(
    release: str,
    phase: Literal["loading", "ready", "ending"] = "ready",
    *,
    restarts: int = 0,
    replicas: int = 1,
    given_up: bool = False,
    alias: str = "chat",
) -> Hosted:
    return Hosted(release=release, alias=alias, phase=phase, replicas=replicas, restarts=restarts, given_up=given_up)


def steps(wanted: list[Asked], here: list[Hosted]) -> list[tuple[str, str]]:
    found = next_steps(wanted, {one.release: one for one in here}, load_attempts=3)
    return [(step.do, step.release) for step in found]


def test_hosts_come_and_go_with_the_state() -> None:
    live = asked("chat-1", "live")
    assert steps([live], [hosted("chat-1")]) == []
    assert steps([live, asked("chat-2", "warming")], [hosted("chat-1")]) == [("start", "chat-2")]
    assert steps([live, asked("chat-2", "warming")], [hosted("chat-1"), hosted("chat-2", "loading")]) == []
    assert steps([live, asked("chat-2", "warming")], [hosted("chat-1"), hosted("chat-2")]) == [("warmed", "chat-2")]
    assert steps([live], [hosted("chat-1"), hosted("chat-2")]) == [("end", "chat-2")]
    assert steps([live], [hosted("chat-1"), hosted("chat-2", "ending")]) == []


def test_after_a_restart_everything_that_is_to_be_warm_is_started() -> None:
    wanted = [asked("chat-1", "standby"), asked("chat-2", "live"), asked("chat-3", "shadow")]
    assert steps(wanted, [hosted("chat-2")]) == [("start", "chat-1"), ("start", "chat-3")]


def test_a_release_of_which_no_host_may_be_left_is_taken_back() -> None:
    live, canary = asked("chat-1", "live"), asked("chat-2", "canary")
    assert steps([live, canary], [hosted("chat-1"), hosted("chat-2", restarts=1)]) == [("fell", "chat-2")]
    assert steps([live], [hosted("chat-1", restarts=1)]) == [("fell", "chat-1")]
    assert steps([live], [hosted("chat-1", restarts=1, replicas=2)]) == []
    assert steps([live], [hosted("chat-1", restarts=2, replicas=2)]) == [("fell", "chat-1")]
    assert steps([live], [hosted("chat-1", restarts=3, replicas=8)]) == [("fell", "chat-1")]
    assert steps([asked("chat-1", "standby")], [hosted("chat-1", restarts=3)]) == [("fell", "chat-1")]
    assert steps([asked("chat-1", "standby")], [hosted("chat-1", restarts=2)]) == []
    assert steps([asked("chat-1", "standby")], [hosted("chat-1", given_up=True)]) == [("fell", "chat-1")]


def test_hosts_that_do_not_load_have_three_attempts() -> None:
    live, new = asked("chat-1", "live"), asked("chat-2", "warming")
    assert steps([live, new], [hosted("chat-1"), hosted("chat-2", "loading", restarts=2)]) == []
    assert steps([live, new], [hosted("chat-1"), hosted("chat-2", "loading", restarts=3)]) == [("fell", "chat-2")]
    assert steps([live, new], [hosted("chat-1"), hosted("chat-2", "loading", given_up=True)]) == [("fell", "chat-2")]


def test_a_cold_start_waits_for_the_memory_of_what_was_live() -> None:
    wanted = [asked("chat-1", "live"), asked("chat-2", "warming", cold=True), asked("other-1", "live", alias="other")]
    other = hosted("other-1", alias="other")
    assert steps(wanted, [hosted("chat-1"), other]) == [("make-room", "chat-1")]
    assert steps(wanted, [hosted("chat-1", "ending"), other]) == []
    assert steps(wanted, [other]) == [("start", "chat-2")], "and chat-1 is not started again meanwhile"
    back = [asked("chat-1", "live"), asked("other-1", "live", alias="other")]
    assert steps(back, [other]) == [("start", "chat-1")], "the way back of a cold start that failed loads again"
