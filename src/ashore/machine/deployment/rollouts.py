"""Decides the next steps for the hosts of this machine from the state of the releases. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from ashore.data.releases import ReleaseState

MOST_FALLS: Final = 3
"""A standby that crashed so often has failed. A live release is replaced after as many crashes, or earlier: when each
of its hosts may have crashed once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A release that has hosts here, as the supervisor sees it."""

    release: str
    alias: str
    phase: Literal["loading", "ready", "ending"]
    """A sleeping one counts as ready."""
    replicas: int = 1
    restarts: int = 0
    """Restarts of all hosts since they were ready; while loading, since they were started."""
    given_up: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A release that should have hosts here, from the state."""

    release: str
    alias: str
    state: ReleaseState
    cold: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step to do now."""

    do: Literal["start", "end", "make-room", "fell", "warmed"]
    release: str
    why: str = ""


def next_steps(asked: Collection[Asked], hosted: Mapping[str, Hosted], *, load_attempts: int) -> tuple[Step, ...]:
    """Return the steps to do now to bring hosts to the requested state.

    Args:
        asked: Releases that should have hosts.
        hosted: Releases that have them, by name, those that end too.
        load_attempts: Crashes while loading after which a release fails.
    """
    steps = []
    wanted = {one.release for one in asked}
    making_room = {one.alias for one in asked if one.state == "warming" and one.cold}
    for name, running in hosted.items():
        if name not in wanted and running.phase != "ending":
            steps.append(Step(do="end", release=name))
    for one in asked:
        here = hosted.get(one.release)
        if here is None:
            before = _in_the_way(one, asked, hosted) if one.state == "warming" and one.cold else []
            if before:
                steps += [Step(do="make-room", release=h.release) for h in before if h.phase != "ending"]
            elif one.state == "warming" or one.alias not in making_room:
                steps.append(Step(do="start", release=one.release))
            continue
        if here.phase == "ending":
            continue
        if why := _fell(one, here, load_attempts):
            steps.append(Step(do="fell", release=one.release, why=why))
        elif here.phase == "ready" and one.state == "warming":
            steps.append(Step(do="warmed", release=one.release))
    return tuple(steps)


def _in_the_way(one: Asked, asked: Collection[Asked], hosted: Mapping[str, Hosted]) -> list[Hosted]:
    """Return the hosts of the live or standby release of the same alias, whose memory a cold start needs."""
    others = {other.release for other in asked if other.alias == one.alias and other.release != one.release}
    return [here for here in hosted.values() if here.release in others]


def _fell(one: Asked, here: Hosted, load_attempts: int) -> str:
    """Return why a release must be rolled back; empty: it works, or its hosts are being restarted."""
    if here.phase == "loading":
        if here.given_up or here.restarts >= load_attempts:
            return "its hosts cannot load"
        return ""
    if here.given_up:
        return "its hosts keep crashing"
    if one.state in ("shadow", "canary", "warming") and here.restarts:
        return "a host crashed"
    most = min(MOST_FALLS, here.replicas) if one.state == "live" else MOST_FALLS
    if here.restarts >= most:
        return "a host crashed" if here.restarts == 1 else f"hosts crashed {here.restarts} times"
    return ""
