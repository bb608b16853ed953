"""`/admin/v1/releases` and `/admin/v1/aliases`: parse, call the use case, render.

Each use case asks the authority on what, and decides on the state. An answer to a change comes when every worker of
this machine goes by it; a release that has to load first is `warming` then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from ashore.access import Actor, Principal
from ashore.api.http.admin import releasetypes as t
from ashore.api.http.decode import decode
from ashore.api.http.exchange import Exchange
from ashore.api.http.streaming import JSON
from ashore.core import whole_number
from ashore.errors import InvalidRequest, NotReady
from ashore.releases import HOSTED, WHOLE, Alias, Event, ReleaseWish, Standing, Way

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp
    from ashore.api.releasing import ReleaseDesk

NO_STORE: Final = (b"cache-control", b"no-store")
MOST_EVENTS: Final = 1000

B = TypeVar("B", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode
_release_in = msgspec.json.Decoder(t.ReleaseIn)
_shadow_in = msgspec.json.Decoder(t.ShadowIn)
_canary_in = msgspec.json.Decoder(t.CanaryIn)
_promote_in = msgspec.json.Decoder(t.PromoteIn)
_rollback_in = msgspec.json.Decoder(t.RollbackIn)
_retire_in = msgspec.json.Decoder(t.RetireIn)
_alias_in = msgspec.json.Decoder(t.AliasIn)


# --- releases


async def list_releases(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/releases?alias=chat`."""
    desk, actor, alias = _desk(app), _actor(app, exchange, principal), exchange.query().get("alias", "")
    found = await desk.look(lambda: desk.office.standings(actor, alias=alias))
    await _answer(exchange, t.ReleaseList([_release(one) for one in found]))


async def create_release(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/releases`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _release_in)
    wish = ReleaseWish(
        model=body.model,
        alias=body.alias,
        engine=body.engine,
        options=tuple(sorted(body.options.items())),
        adapters=tuple(sorted(body.adapters.items())),
        replicas=body.replicas,
    )
    made = await desk.look(lambda: desk.office.create(actor, wish, name=body.name, override=body.override))
    await _answer(exchange, _release(made))


async def show_release(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/releases/{release}`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await _answer(exchange, _release(await desk.look(lambda: desk.office.standing(actor, exchange.argument))))


async def evidence(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/releases/{release}/evidence`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    found = await desk.look(lambda: desk.office.evidence(actor, exchange.argument))
    items = [
        t.FindingOut(
            stage=stage,
            verdict=one.verdict,
            e_value=one.e_value,
            requests=one.count,
            measure=one.measure,
            slice=one.slice,
            details=dict(one.details),
        )
        for stage, one in found
    ]
    await _answer(exchange, t.FindingList(items))


async def pairs(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/releases/{release}/pairs`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    found = await desk.look(lambda: desk.office.pairs(actor, exchange.argument))
    items = [
        t.PairOut(
            at=one.at_s,
            distance=round(one.distance, 4),
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
    await _answer(exchange, t.PairList(items))


async def shadow(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/releases/{release}/shadow`."""
    body = await _body(app, exchange, _shadow_in)
    way = Way(goal="shadow", share=thousandths(body.share_percent), automatic=body.automatic, cold=body.cold_standby)
    await _roll_out(app, exchange, principal, way, body.why, body.version)


async def canary(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/releases/{release}/canary`."""
    body = await _body(app, exchange, _canary_in)
    way = Way(
        goal="canary",
        share=thousandths(body.share_percent),
        steps=tuple(thousandths(step) for step in body.steps_percent),
        step_s=body.every_s,
        then_promote=body.then_promote,
        automatic=body.automatic,
    )
    await _roll_out(app, exchange, principal, way, body.why, body.version)


async def promote(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/releases/{release}/promote`."""
    body = await _body(app, exchange, _promote_in)
    way = Way(goal="live", cold=body.cold_standby, standby_s=body.standby_s, automatic=body.automatic)
    await _roll_out(app, exchange, principal, way, body.why, body.version)


async def retire(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/releases/{release}/retire`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _retire_in)
    done = await desk.change(lambda: desk.office.retire(actor, exchange.argument, why=body.why))
    await _answer(exchange, _release(done))


# --- aliases


async def list_aliases(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/aliases`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await _answer(exchange, t.AliasList([_alias(one) for one in await desk.look(lambda: desk.office.aliases(actor))]))


async def show_alias(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/aliases/{alias}`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await _answer(exchange, _alias(await desk.look(lambda: desk.office.alias(actor, exchange.argument))))


async def alias_status(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/aliases/{alias}/status`."""
    desk, actor, name = _desk(app), _actor(app, exchange, principal), exchange.argument

    def look() -> t.AliasStatus:
        alias, standings = desk.office.alias(actor, name), desk.office.standings(actor)
        ours = [one for one in standings if one.release.alias == name or name in one.weights]
        return t.AliasStatus(alias=_alias(alias), releases=[_release(o) for o in ours if o.course.state in HOSTED])

    await _answer(exchange, await desk.look(look))


async def history(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/aliases/{alias}/history?limit=100`."""
    desk, actor, name = _desk(app), _actor(app, exchange, principal), exchange.argument
    limit = whole_number(exchange.query().get("limit", "100").encode())
    if limit is None or not 1 <= limit <= MOST_EVENTS:
        raise InvalidRequest(f"limit is no number from 1 to {MOST_EVENTS}", param="limit")
    events = await desk.look(lambda: desk.office.history(actor, alias=name, limit=limit))
    await _answer(exchange, t.EventList([_event(event) for event in events]))


async def set_alias(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`PUT /admin/v1/aliases/{alias}`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _alias_in)
    weights = {release: thousandths(percent) for release, percent in body.weights_percent.items()}
    alias = await desk.change(
        lambda: desk.office.set_alias(
            actor, exchange.argument, weights, sticky=body.sticky, why=body.why, seen=body.version
        )
    )
    await _answer(exchange, _alias(alias))


async def remove_alias(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /admin/v1/aliases/{alias}`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await desk.change(lambda: desk.office.remove_alias(actor, exchange.argument))
    await _answer(exchange, t.AliasRemoved(name=exchange.argument))


async def rollback(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/aliases/{alias}/rollback`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _rollback_in)
    answering = await desk.change(
        lambda: desk.office.roll_back(
            actor, exchange.argument, to=body.to, why=body.why, seen=body.version, cold=body.cold_standby
        )
    )
    await _answer(exchange, t.ReleaseList([_release(one) for one in answering]))


# --- pieces


async def _roll_out(
    app: HttpApp, exchange: Exchange, principal: Principal, way: Way, why: str, version: int | None
) -> None:
    desk, actor = _desk(app), _actor(app, exchange, principal)
    done = await desk.change(lambda: desk.office.roll_out(actor, exchange.argument, way, why=why, seen=version))
    await _answer(exchange, _release(done))


def _desk(app: HttpApp) -> ReleaseDesk:
    if app.releases is None:
        raise NotReady("this server keeps no releases: it has no state", hint="start it with `ashore up`")
    return app.releases


def _actor(app: HttpApp, exchange: Exchange, principal: Principal) -> Actor:
    return Actor(principal=principal, origin=app.origin_of(exchange), request_id=exchange.request_id)


async def _body(app: HttpApp, exchange: Exchange, decoder: msgspec.json.Decoder[B]) -> B:
    """Return the body; nothing at all means the defaults of everything."""
    return decode(await exchange.body(app.limits) or b"{}", decoder)


async def _answer(exchange: Exchange, answer: msgspec.Struct) -> None:
    await exchange.respond(200, [JSON, NO_STORE], _encode(answer))


def thousandths(percent: float) -> int:
    """Return a share in thousandths; less than one counts as one."""
    return max(1, round(percent * WHOLE / 100))


def _percents(weights: Mapping[str, int]) -> dict[str, float]:
    return {name: weight * 100 / WHOLE for name, weight in weights.items()}


def _release(one: Standing) -> t.ReleaseOut:
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
    )


def _alias(alias: Alias) -> t.AliasOut:
    return t.AliasOut(
        name=alias.name,
        weights_percent=_percents(dict(alias.weights)),
        sticky=alias.sticky,
        version=alias.version,
        changed_at=alias.changed_s,
        changed_by=alias.changed_by,
    )


def _event(event: Event) -> t.EventOut:
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
