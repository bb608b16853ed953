"""The calls of releases and aliases, once for HTTP and gRPC: who may make each, what it takes and gives, what it does.

Each use case asks the authority on what, and decides on the state. An answer to a change comes when every worker of
this machine goes by it; a release that has to load first is `warming` then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from ashore.access import Actor
from ashore.api import releasetypes as t
from ashore.errors import NotReady
from ashore.releases import (
    HOSTED,
    WHOLE,
    Alias,
    Event,
    GateVerdict,
    ReleaseWish,
    Standing,
    Way,
    verdict_words,
)

if TYPE_CHECKING:
    from ashore.api.releasing import ReleaseDesk

READ: Final = "release:read"
WRITE: Final = "release:write"
PAIRS: Final = "release:pairs"
WATCH_LOOK_S: Final = 2.0
"""Between two looks of a watch without news: whoever may not look any more is sent away, and weights come to an end."""

Subject = Literal["", "release", "alias"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseCall:
    """One call, whichever protocol brings it."""

    name: str
    """Of the method over gRPC, and, written as HTTP does it, of the operation there."""
    action: str
    """Somebody who may do this on nothing is turned away; the use case asks on what."""
    summary: str
    do: Callable[[ReleaseDesk, Actor, str, Any], Awaitable[msgspec.Struct]]
    """Given the release or alias that the call is about, and what it takes."""
    subject: Subject = ""
    """What the call is about: in the path over HTTP, a field of the message over gRPC."""
    takes: type[msgspec.Struct] = t.Nothing
    gives: type[msgspec.Struct]


def open_desk(desk: ReleaseDesk | None) -> ReleaseDesk:
    """Return where releases are moved.

    Raises:
        NotReady: this server keeps none.
    """
    if desk is None:
        raise NotReady("this server keeps no releases: it has no state", hint="start it with `ashore up`")
    return desk


# --- releases


async def list_releases(desk: ReleaseDesk, actor: Actor, _: str, body: t.ListIn) -> t.ReleaseList:
    found = await desk.look(lambda: desk.office.standings(actor, alias=body.alias))
    return t.ReleaseList([release_out(one) for one in found])


async def create_release(desk: ReleaseDesk, actor: Actor, _: str, body: t.ReleaseIn) -> t.ReleaseOut:
    wish = ReleaseWish(
        model=body.model,
        alias=body.alias,
        engine=body.engine,
        options=tuple(sorted(body.options.items())),
        adapters=tuple(sorted(body.adapters.items())),
        drop_adapters=tuple(body.drop_adapters),
        replicas=body.replicas,
    )
    made = await desk.look(lambda: desk.office.create(actor, wish, name=body.name, override=body.override))
    return release_out(made)


async def get_release(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.ReleaseOut:
    return release_out(await desk.look(lambda: desk.office.standing(actor, name)))


async def get_evidence(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.FindingList:
    found = await desk.look(lambda: desk.office.evidence(actor, name))
    items = [
        t.FindingOut(
            stage=stage,
            verdict=one.verdict,
            e_value=one.e_value,
            requests=one.count,
            measure=one.measure,
            slice=one.slice,
            details=dict(one.details),
            needed=one.needed,
            summary=verdict_words(one),
        )
        for stage, one in found
    ]
    return t.FindingList(items)


async def get_burn_rates(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.BurnList:
    slo = desk.policy().slo
    found = await desk.look(lambda: desk.office.burn_rates(actor, name, slo))
    items = [
        t.BurnOut(
            objective=one.objective,
            allowed_percent=round(one.allowed * 100, 4),
            taken_back_from=one.most,
            long_window_s=one.long_s,
            long_rate=round(one.long_rate, 2),
            short_window_s=one.short_s,
            short_rate=round(one.short_rate, 2),
            requests=one.total,
            bad=one.bad,
            alone=alone,
        )
        for alone, one in found
    ]
    return t.BurnList(items)


async def get_pairs(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.PairList:
    found = await desk.look(lambda: desk.office.pairs(actor, name))
    items = [
        t.PairOut(
            at=one.at_s,
            distance=round(one.distance, 4),
            meaning=one.meaning,
            tenant=one.tenant,
            route=one.route,
            turns=one.turns,
            prompt=one.prompt,
            live=one.live,
            candidate=one.candidate,
            candidate_failed=one.candidate_failed,
        )
        for one in found
    ]
    return t.PairList(items)


async def shadow_release(desk: ReleaseDesk, actor: Actor, name: str, body: t.ShadowIn) -> t.ReleaseOut:
    way = Way(goal="shadow", share=thousandths(body.share_percent), automatic=body.automatic)
    return await _roll_out(desk, actor, name, way, body.why, body.version)


async def canary_release(desk: ReleaseDesk, actor: Actor, name: str, body: t.CanaryIn) -> t.ReleaseOut:
    way = Way(
        goal="canary",
        share=thousandths(body.share_percent),
        steps=tuple(thousandths(step) for step in body.steps_percent),
        step_s=body.every_s,
        then_promote=body.then_promote,
        automatic=body.automatic,
    )
    return await _roll_out(desk, actor, name, way, body.why, body.version, drop_adapters=body.drop_adapters)


async def promote_release(desk: ReleaseDesk, actor: Actor, name: str, body: t.PromoteIn) -> t.ReleaseOut:
    way = Way(goal="live", cold=body.cold_standby, standby_s=body.standby_s, automatic=body.automatic)
    return await _roll_out(
        desk, actor, name, way, body.why, body.version, override=body.override, drop_adapters=body.drop_adapters
    )


async def retire_release(desk: ReleaseDesk, actor: Actor, name: str, body: t.RetireIn) -> t.ReleaseOut:
    return release_out(await desk.change(lambda: desk.office.retire(actor, name, why=body.why)))


async def _roll_out(
    desk: ReleaseDesk,
    actor: Actor,
    name: str,
    way: Way,
    why: str,
    version: int | None,
    *,
    override: str = "",
    drop_adapters: Sequence[str] = (),
) -> t.ReleaseOut:
    def move() -> Standing:
        return desk.office.roll_out(
            actor, name, way, why=why, seen=version, override=override, drop_adapters=drop_adapters
        )

    return release_out(await desk.change(move))


# --- aliases


async def list_aliases(desk: ReleaseDesk, actor: Actor, _: str, __: t.Nothing) -> t.AliasList:
    return t.AliasList([alias_out(one) for one in await desk.look(lambda: desk.office.aliases(actor))])


async def get_alias(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.AliasOut:
    return alias_out(await desk.look(lambda: desk.office.alias(actor, name)))


async def get_alias_status(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.AliasStatus:
    def look() -> t.AliasStatus:
        alias, standings = desk.office.alias(actor, name), desk.office.standings(actor)
        ours = [one for one in standings if one.release.alias == name or name in one.weights]
        hosted = [release_out(one) for one in ours if one.course.state in HOSTED]
        return t.AliasStatus(alias=alias_out(alias), releases=hosted)

    return await desk.look(look)


async def get_history(desk: ReleaseDesk, actor: Actor, name: str, body: t.HistoryIn) -> t.EventList:
    events = await desk.look(lambda: desk.office.history(actor, alias=name, limit=body.limit))
    return t.EventList([event_out(event) for event in events])


async def set_alias(desk: ReleaseDesk, actor: Actor, name: str, body: t.AliasIn) -> t.AliasOut:
    weights = {release: thousandths(percent) for release, percent in body.weights_percent.items()}
    alias = await desk.change(
        lambda: desk.office.set_alias(actor, name, weights, sticky=body.sticky, why=body.why, seen=body.version)
    )
    return alias_out(alias)


async def remove_alias(desk: ReleaseDesk, actor: Actor, name: str, _: t.Nothing) -> t.AliasRemoved:
    await desk.change(lambda: desk.office.remove_alias(actor, name))
    return t.AliasRemoved(name=name)


async def roll_back(desk: ReleaseDesk, actor: Actor, name: str, body: t.RollbackIn) -> t.ReleaseList:
    answering = await desk.change(
        lambda: desk.office.roll_back(actor, name, to=body.to, why=body.why, seen=body.version, cold=body.cold_standby)
    )
    return t.ReleaseList([release_out(one) for one in answering])


async def watch_alias(desk: ReleaseDesk, actor: Callable[[], Actor], name: str) -> AsyncGenerator[t.AliasStatus, None]:
    """Yield where an alias leads now, and again whenever that has changed, for ever.

    Args:
        desk: Where releases are moved.
        actor: Tells who looks; asked at each look, so that a key that was revoked sees no more.
        name: The alias.

    Raises:
        AshoreError: it is gone, or whoever looks may not any more.
    """
    told: t.AliasStatus | None = None
    while True:
        news = desk.routes.news  # what changes from here on is seen by the next look
        status = await get_alias_status(desk, actor(), name, t.Nothing())
        if status != told:
            told = status
            yield status
        try:
            async with asyncio.timeout(WATCH_LOOK_S):
                await news.wait()
        except TimeoutError:
            continue


LIST_RELEASES: Final = ReleaseCall(
    name="ListReleases", action=READ, summary="List releases, the newest first", do=list_releases, takes=t.ListIn,
    gives=t.ReleaseList,
)  # fmt: skip
CREATE_RELEASE: Final = ReleaseCall(
    name="CreateRelease", action=WRITE, summary="Make a release", do=create_release, takes=t.ReleaseIn,
    gives=t.ReleaseOut,
)  # fmt: skip
GET_RELEASE: Final = ReleaseCall(
    name="GetRelease", action=READ, summary="Show a release", do=get_release, subject="release", gives=t.ReleaseOut
)
GET_EVIDENCE: Final = ReleaseCall(
    name="GetEvidence", action=READ, summary="What the comparison of a release with what is live says",
    do=get_evidence, subject="release", gives=t.FindingList,
)  # fmt: skip
GET_BURN_RATES: Final = ReleaseCall(
    name="GetBurnRates", action=READ, summary="How fast a release uses up its objectives", do=get_burn_rates,
    subject="release", gives=t.BurnList,
)  # fmt: skip
GET_PAIRS: Final = ReleaseCall(
    name="GetPairs", action=PAIRS,
    summary="The most different answers of a release as shadow and of what was live, masked", do=get_pairs,
    subject="release", gives=t.PairList,
)  # fmt: skip
SHADOW_RELEASE: Final = ReleaseCall(
    name="ShadowRelease", action=WRITE, summary="Copy live requests to a release", do=shadow_release,
    subject="release", takes=t.ShadowIn, gives=t.ReleaseOut,
)  # fmt: skip
CANARY_RELEASE: Final = ReleaseCall(
    name="CanaryRelease", action=WRITE, summary="Let a release answer some of the requests", do=canary_release,
    subject="release", takes=t.CanaryIn, gives=t.ReleaseOut,
)  # fmt: skip
PROMOTE_RELEASE: Final = ReleaseCall(
    name="PromoteRelease", action=WRITE, summary="Let a release answer all requests", do=promote_release,
    subject="release", takes=t.PromoteIn, gives=t.ReleaseOut,
)  # fmt: skip
RETIRE_RELEASE: Final = ReleaseCall(
    name="RetireRelease", action=WRITE, summary="End a release that answers for nobody", do=retire_release,
    subject="release", takes=t.RetireIn, gives=t.ReleaseOut,
)  # fmt: skip
LIST_ALIASES: Final = ReleaseCall(
    name="ListAliases", action=READ, summary="List aliases", do=list_aliases, gives=t.AliasList
)
GET_ALIAS: Final = ReleaseCall(
    name="GetAlias", action=READ, summary="Show an alias", do=get_alias, subject="alias", gives=t.AliasOut
)
GET_ALIAS_STATUS: Final = ReleaseCall(
    name="GetAliasStatus", action=READ, summary="Show an alias with its releases", do=get_alias_status,
    subject="alias", gives=t.AliasStatus,
)  # fmt: skip
GET_HISTORY: Final = ReleaseCall(
    name="GetHistory", action=READ, summary="What happened to an alias, the newest first", do=get_history,
    subject="alias", takes=t.HistoryIn, gives=t.EventList,
)  # fmt: skip
SET_ALIAS: Final = ReleaseCall(
    name="SetAlias", action=WRITE, summary="Lead an alias to releases by hand", do=set_alias, subject="alias",
    takes=t.AliasIn, gives=t.AliasOut,
)  # fmt: skip
REMOVE_ALIAS: Final = ReleaseCall(
    name="RemoveAlias", action=WRITE, summary="Remove an alias that was set by hand", do=remove_alias, subject="alias",
    gives=t.AliasRemoved,
)  # fmt: skip
ROLL_BACK: Final = ReleaseCall(
    name="RollBack", action=WRITE, summary="Go back to what answered before", do=roll_back, subject="alias",
    takes=t.RollbackIn, gives=t.ReleaseList,
)  # fmt: skip
RELEASE_CALLS: Final = (
    LIST_RELEASES, CREATE_RELEASE, GET_RELEASE, GET_EVIDENCE, GET_BURN_RATES, GET_PAIRS, SHADOW_RELEASE,
    CANARY_RELEASE, PROMOTE_RELEASE, RETIRE_RELEASE, LIST_ALIASES, GET_ALIAS, GET_ALIAS_STATUS, GET_HISTORY, SET_ALIAS,
    REMOVE_ALIAS, ROLL_BACK,
)  # fmt: skip
"""Every call but the watch, which is a stream and over gRPC alone."""


# --- pieces


def thousandths(percent: float) -> int:
    """Return a share in thousandths; less than one counts as one."""
    return max(1, round(percent * WHOLE / 100))


def _percents(weights: Mapping[str, int]) -> dict[str, float]:
    return {name: weight * 100 / WHOLE for name, weight in weights.items()}


def release_out(one: Standing) -> t.ReleaseOut:
    """Return a release and where it stands, as clients are told."""
    release, course = one.release, one.course
    return t.ReleaseOut(
        name=release.name,
        alias=release.alias,
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
        needed_bytes=release.needed_bytes,
        gate=release.gate,
        content=release.content,
        parts=dict(release.parts),
        options=dict(release.plan.options.extra),
        adapters=dict(release.plan.adapters),
        created_at=release.created_s,
        created_by=release.created_by,
        load_s=course.load_s or None,
        gate_verdict=None if one.gate is None else gate_words(one.gate),
    )


def gate_words(verdict: GateVerdict) -> str:
    """Return how an evaluation stands in words."""
    if verdict.outcome == "failed":
        return f"failed: {verdict.why}" if verdict.why else "failed"
    return verdict.outcome or "none"


def alias_out(alias: Alias) -> t.AliasOut:
    """Return an alias as clients are told."""
    return t.AliasOut(
        name=alias.name,
        weights_percent=_percents(dict(alias.weights)),
        sticky=alias.sticky,
        before=alias.before,
        version=alias.version,
        changed_at=alias.changed_s,
        changed_by=alias.changed_by,
    )


def event_out(event: Event) -> t.EventOut:
    """Return one step of a history as clients are told."""
    return t.EventOut(
        at=event.at_ms / 1000,
        alias=event.alias,
        release=event.release,
        verb=event.verb,
        state=event.state,
        actor=event.actor,
        why=event.why,
        evidence=dict(event.evidence),
    )
