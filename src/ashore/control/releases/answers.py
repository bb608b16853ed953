"""What the calls of releases answer, and how it is made of what the office says. Shares are percent; times are seconds,
or seconds since the Unix epoch."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ashore.control.releases.office import Standing
from ashore.control.releases.words import verdict_words
from ashore.data.releases import Finding, Pair
from ashore.data.releases.burn import Burning
from ashore.data.releases.model import WHOLE, Alias, Event
from ashore.data.releases.ports import GateVerdict
from ashore.kit.copied import copied


class ReleaseOut(msgspec.Struct, frozen=True, kw_only=True):
    """A release and where it stands."""

    name: str
    alias: str
    model: str
    engine: str
    replicas: int
    state: str
    goal: str | None
    share_percent: float
    """The share that it was sent out with, of a canary or a shadow; what it answers now is in `weights_percent`."""
    steps_percent: list[float]
    until: int | None
    """When its time is over or its next step is due."""
    since: int
    why: str
    automatic: bool
    weights_percent: dict[str, float]
    """By alias: how much of it this release answers."""
    needed_bytes: int
    """Planned: weights and full KV cache of every replica; its processes themselves come on top."""
    gate: str
    content: str
    parts: dict[str, str]
    options: dict[str, str | int | float | bool]
    adapters: dict[str, str]
    created_at: int
    created_by: str
    load_s: float | None
    """How long its hosts took to load, the last time."""
    gate_verdict: str | None = None
    """How the evaluation of its model stands now: `passed`, `failed: WHY` or `none`; null in lists and after
    moves."""


class AliasOut(msgspec.Struct, frozen=True, kw_only=True):
    """An alias."""

    name: str
    weights_percent: dict[str, float]
    sticky: str
    before: str
    """The release that answered before, and that one goes back to; empty: there was none."""
    version: int
    changed_at: int
    changed_by: str


class AliasStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An alias with its releases."""

    alias: AliasOut
    releases: list[ReleaseOut]
    """Those that have hosts, or are getting them."""


class AliasRemoved(msgspec.Struct, frozen=True, kw_only=True):
    """The alias that is gone."""

    name: str
    removed: bool = True


class FindingOut(msgspec.Struct, frozen=True, kw_only=True):
    """What the comparison with the live release says by now."""

    stage: str
    verdict: str
    """`no worse`, `worse` or `go on`."""
    e_value: float
    """Evidence that it is worse; 20 is enough."""
    requests: int
    measure: str
    """What speaks loudest against it, and in which slice."""
    slice: str
    details: dict[str, str | int | float]
    needed: int
    """About how many requests it takes until it is no worse, as they were so far; 0: that cannot be said."""
    summary: str
    """All of it in one sentence."""


class BurnOut(msgspec.Struct, frozen=True, kw_only=True):
    """How fast an objective of `[release.slo]` is used up: 1 uses up just what it allows."""

    objective: str
    """`errors` or `ttft`."""
    allowed_percent: float
    taken_back_from: float
    """A canary is rolled back when the rate reaches this in both windows."""
    long_window_s: int
    long_rate: float
    short_window_s: int
    short_rate: float
    requests: int
    """In the long window."""
    bad: int
    alone: bool
    """Whether only what the release alone is to blame for counts. A live release is rolled back by that."""


class PairOut(msgspec.Struct, frozen=True, kw_only=True):
    """The answers of a shadow and of the live release to one request. Personal data found in them is masked."""

    at: int
    distance: float
    """From 0, the same answer, to 1."""
    tenant: str
    route: str
    turns: int
    """Messages of the conversation; the last one is shown."""
    prompt: str
    live: str
    candidate: str
    candidate_failed: bool


class EventOut(msgspec.Struct, frozen=True, kw_only=True):
    """One step in the history of an alias."""

    at: float
    alias: str
    release: str
    verb: str
    state: str
    actor: str
    why: str
    evidence: dict[str, str | int | float]


def thousandths(percent: float) -> int:
    """Return a share in thousandths; less than one counts as one."""
    return max(1, round(percent * WHOLE / 100))


def _percents(weights: Mapping[str, int]) -> dict[str, float]:
    return {name: weight * 100 / WHOLE for name, weight in weights.items()}


def release_out(one: Standing) -> ReleaseOut:
    """Return a release and where it stands."""
    release, course = one.release, one.course
    return copied(
        ReleaseOut,
        release,
        model=release.plan.reference,
        engine=release.plan.options.kind,
        replicas=release.plan.replicas,
        state=course.state,
        goal=course.goal,
        share_percent=course.share * 100 / WHOLE,
        steps_percent=[step * 100 / WHOLE for step in course.steps],
        until=course.until_s or None,
        since=course.since_s,
        why=course.why,
        automatic=course.automatic,
        weights_percent=_percents(one.weights),
        parts=dict(release.parts),
        options=dict(release.plan.options.extra),
        adapters=dict(release.plan.adapters),
        created_at=release.created_s,
        load_s=course.load_s or None,
        gate_verdict=None if one.gate is None else _gate_words(one.gate),
    )


def _gate_words(verdict: GateVerdict) -> str:
    if verdict.outcome == "failed":
        return f"failed: {verdict.why}" if verdict.why else "failed"
    return verdict.outcome or "none"


def alias_out(alias: Alias) -> AliasOut:
    """Return an alias."""
    return copied(AliasOut, alias, weights_percent=_percents(dict(alias.weights)), changed_at=alias.changed_s)


def event_out(event: Event) -> EventOut:
    """Return one step of a history."""
    return copied(EventOut, event, at=event.at_ms / 1000, evidence=dict(event.evidence))


def finding_out(stage: str, one: Finding) -> FindingOut:
    """Return what the comparison in one stage says."""
    return copied(
        FindingOut, one, stage=stage, requests=one.count, details=dict(one.details), summary=verdict_words(one)
    )


def burn_out(one: Burning, *, alone: bool) -> BurnOut:
    """Return how fast one objective is used up."""
    return copied(
        BurnOut, one, allowed_percent=round(one.allowed * 100, 4), taken_back_from=one.most, requests=one.total,
        long_window_s=one.long_s, long_rate=round(one.long_rate, 2), short_window_s=one.short_s,
        short_rate=round(one.short_rate, 2), alone=alone,
    )  # fmt: skip


def pair_out(one: Pair) -> PairOut:
    """Return a pair of answers."""
    return copied(PairOut, one, at=one.at_s, distance=round(one.distance, 4))
