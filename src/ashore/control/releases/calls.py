"""What administrators ask of releases and aliases: who may make each call, what it takes, what it does.

Each use case of the office asks for rights on what it touches, and decides on the state. A move returns when every
worker of this machine goes by it; a release that has to load first is `warming` then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from ashore.control.releases.answers import (
    AliasOut,
    AliasRemoved,
    AliasStatus,
    BurnOut,
    EventOut,
    FindingOut,
    PairOut,
    ReleaseOut,
    alias_out,
    burn_out,
    event_out,
    finding_out,
    pair_out,
    release_out,
    thousandths,
)
from ashore.control.releases.office import RELEASE_PAIRS as PAIRS
from ashore.control.releases.office import RELEASE_READ as READ
from ashore.control.releases.office import RELEASE_WRITE as WRITE
from ashore.control.releases.office import ReleaseOffice
from ashore.core.errors import InvalidRequest
from ashore.data.releases import HOSTED, ReleasePolicy, ReleaseWish, Way
from ashore.kit.call import Actor, Call, Nothing

MAX_ITEMS: Final = 64
Meta = msgspec.Meta
Name = Annotated[str, Meta(max_length=200)]
Why = Annotated[str, Meta(max_length=300)]
Percent = Annotated[float, Meta(gt=0, le=100)]
Share = Annotated[Percent, Meta(extra={"flag": "share"})]
Seconds = Annotated[int, Meta(ge=0, le=31_536_000, extra={"span": True})]
Version = Annotated[Annotated[int, Meta(ge=0)] | None, Meta(extra={"filled": True})]
"""Version of the alias as the caller last saw it. Of two concurrent changes one is refused. Commands fill it in."""
Names = Annotated[list[Name], Meta(max_length=MAX_ITEMS, extra={"commas": True})]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseDesk:
    """The use cases of releases."""

    office: ReleaseOffice
    policy: Callable[[], ReleasePolicy] = ReleasePolicy
    """Gives the operator's current policy for trying releases."""


ReleasesIn = Annotated[Name, msgspec.Meta(description="List only releases of this alias.")]


class ReleaseIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which release."""

    release: Name
    """Name of the release."""


class AliasIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alias."""

    alias: Name
    """Name of the alias."""


class StatusIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alias."""

    alias: Name = ""
    """Name of the alias. Default: the only alias."""


class HistoryIn(AliasIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far back a history goes."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    """Maximum number of steps."""


class NewRelease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A release to create."""

    name: Annotated[Name, Meta(extra={"positional": True})] = ""
    """Name of the release. Default: the alias and the next number, chat-2."""
    model: Annotated[str, Meta(min_length=1, max_length=500)]
    """Name in the store, smollm2@int4."""
    alias: Name = ""
    """Alias the release is for. Default: the only alias."""
    engine: Name = ""
    """Kind of engine. Default: chosen for the model."""
    options: Annotated[
        dict[str, str | int | float | bool], Meta(max_length=MAX_ITEMS, extra={"flag": "engine-option"})
    ] = {}
    """Engine tuning option as NAME=VALUE, or a limit of [model.engine] such as context_tokens=4096; may be
    repeated. Other options need [release] allow_options in ashore.toml."""
    adapters: Annotated[dict[str, str], Meta(max_length=MAX_ITEMS, extra={"flag": "adapter"})] = {}
    """LoRA adapter as NAME=FOLDER, in addition to those of the live release; may be repeated. The folder must be in
    [model.adapters], in the home's adapters/, or in [release] adapter_folders of ashore.toml."""
    drop_adapters: Names = []
    """Adapters of the live release to leave out, separated by commas."""
    replicas: Annotated[int, Meta(ge=0, le=64)] = 0
    """Number of engine hosts. Default: the same as the live release."""
    override: Why = ""
    """Reason to create it although its evaluation failed or is missing; recorded in the audit log."""


class ShadowIn(ReleaseIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release is shadowed."""

    share_percent: Share = 10.0
    """Percentage of live requests to copy."""
    automatic: bool = True
    """End it automatically if it performs worse or its hosts keep crashing."""
    why: Why = ""
    """Reason, shown in the history."""
    version: Version = None


class CanaryIn(ReleaseIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release becomes a canary, or how much of one it is."""

    share_percent: Share = 5.0
    """Percentage of requests it answers."""
    steps_percent: Annotated[list[Percent], Meta(max_length=MAX_ITEMS, extra={"flag": "steps", "commas": True})] = []
    """Later percentages, such as 20,50. Each one starts when the --every time of the previous one is over."""
    every_s: Annotated[Seconds, Meta(extra={"flag": "every"})] = 0
    """Duration of one step: 10m."""
    then_promote: bool = False
    """Promote it after the last step, once it is found no worse."""
    automatic: bool = True
    """End it automatically if it performs worse or its hosts keep crashing."""
    drop_adapters: Names = []
    """With --then-promote: adapters of the live release that the new one may lack, separated by commas. Requests for
    them are refused once it is live."""
    why: Why = ""
    """Reason, shown in the history."""
    version: Version = None


class PromoteIn(ReleaseIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a release goes live."""

    standby_s: Annotated[Seconds, Meta(extra={"flag": "standby"})] = 3600
    """How long the previous release stays loaded, so that a rollback is immediate. 0s unloads it at once."""
    cold_standby: bool = False
    """Unload the live release first, if memory cannot hold both. Requests wait while this one loads, and again
    while a rollback loads the previous one."""
    automatic: bool = True
    """Roll back automatically if its hosts keep crashing, or if it performs worse while the previous release is
    still loaded."""
    override: Why = ""
    """Reason to promote it although it was found worse or never compared; recorded in the audit log."""
    drop_adapters: Names = []
    """Adapters of the live release that this one may lack, separated by commas. Requests for them are then refused."""
    why: Why = ""
    """Reason, shown in the history."""
    version: Version = None


class RetireIn(ReleaseIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which release to retire, and why."""

    why: Why = ""
    """Reason, shown in the history."""


class RollbackIn(StatusIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alias to roll back, and to which release."""

    to: Name = ""
    """An earlier release. Default: end the candidate if there is one, otherwise return to the previous release."""
    cold_standby: bool = False
    """Unload the live release first, if the earlier one has to load and memory cannot hold both. Default if the live
    release was promoted with --cold-standby."""
    why: Why = ""
    """Reason, shown in the history."""
    version: Version = None


class WeightsIn(AliasIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which releases an alias points to."""

    weights_percent: Annotated[
        dict[str, Percent], Meta(max_length=MAX_ITEMS, extra={"flag": "releases", "positional": True, "bare": "100"})
    ]
    """RELEASE, or several as RELEASE=PERCENT that add up to 100."""
    sticky: Literal["conversation", "key"] | None = None
    """Unit of requests that always gets the same release."""
    why: Why = ""
    """Reason, shown in the history."""
    version: Version = None


# --- releases


def list_releases(desk: ReleaseDesk, actor: Actor, alias: ReleasesIn = "") -> list[ReleaseOut]:
    """List releases, newest first, with their states.

    created: not loaded. warming: loading. shadow: gets copies of requests, answers nobody. canary: answers a share.
    live: answers. standby: loaded, for a rollback. retired: unloaded. failed: rolled back automatically, for good.
    """
    return [release_out(one) for one in desk.office.standings(actor, alias=alias)]


def create_release(desk: ReleaseDesk, actor: Actor, asked: NewRelease) -> ReleaseOut:
    """Create a release: a fixed set of weights, tokenizer, template, engine and options. It never changes. Nothing is
    loaded yet.

    A model whose evaluation gate failed is refused, unless --override gives a reason. So is one that
    was never evaluated, if ashore.toml sets [release] gate = "required".
    """
    wish = ReleaseWish(
        model=asked.model,
        alias=asked.alias or only_alias([one.name for one in desk.office.aliases(actor)]),
        engine=asked.engine,
        options=tuple(sorted(asked.options.items())),
        adapters=tuple(sorted(asked.adapters.items())),
        drop_adapters=tuple(asked.drop_adapters),
        replicas=asked.replicas,
    )
    return release_out(desk.office.create(actor, wish, name=asked.name, override=asked.override))


def show_release(desk: ReleaseDesk, actor: Actor, asked: ReleaseIn) -> ReleaseOut:
    """Show a release, its parts and its state."""
    return release_out(desk.office.standing(actor, asked.release))


def show_evidence(desk: ReleaseDesk, actor: Actor, asked: ReleaseIn) -> list[FindingOut]:
    """Show how a release compares with the live release, by stage."""
    return [finding_out(stage, one) for stage, one in desk.office.evidence(actor, asked.release)]


def show_burn(desk: ReleaseDesk, actor: Actor, asked: ReleaseIn) -> list[BurnOut]:
    """Show how fast a release uses up its error budget."""
    found = desk.office.burn_rates(actor, asked.release, desk.policy().slo)
    return [burn_out(one, alone=alone) for alone, one in found]


def show_pairs(desk: ReleaseDesk, actor: Actor, asked: ReleaseIn) -> list[PairOut]:
    """Show the masked answers in which a shadow release differs most from the live one, side by side."""
    return [pair_out(one) for one in desk.office.pairs(actor, asked.release)]


async def shadow_release(desk: ReleaseDesk, actor: Actor, asked: ShadowIn) -> ReleaseOut:
    """Load a release beside the live one and copy live requests to it. Clients never see its answers."""
    way = Way(goal="shadow", share=thousandths(asked.share_percent), automatic=asked.automatic)
    return await _roll_out(desk, actor, asked, way)


async def canary_release(desk: ReleaseDesk, actor: Actor, asked: CanaryIn) -> ReleaseOut:
    """Send a share of requests to a release. A conversation, or a key, always gets the same release."""
    way = Way(
        goal="canary",
        share=thousandths(asked.share_percent),
        steps=tuple(thousandths(step) for step in asked.steps_percent),
        step_s=asked.every_s,
        then_promote=asked.then_promote,
        automatic=asked.automatic,
    )
    return await _roll_out(desk, actor, asked, way, drop_adapters=asked.drop_adapters)


async def promote_release(desk: ReleaseDesk, actor: Actor, asked: PromoteIn) -> ReleaseOut:
    """Make a release live: it answers all new requests. Requests in progress finish on the previous release.

    A release that was found worse, or was never compared with the live one (release shadow, release canary), is
    refused, unless --override gives a reason. So is one that lacks an adapter of the live release,
    unless --drop-adapters names it.
    """
    way = Way(goal="live", cold=asked.cold_standby, standby_s=asked.standby_s, automatic=asked.automatic)
    return await _roll_out(desk, actor, asked, way, override=asked.override, drop_adapters=asked.drop_adapters)


async def retire_release(desk: ReleaseDesk, actor: Actor, asked: RetireIn) -> ReleaseOut:
    """End a release that answers no requests, and free its memory. Also works while the server is down."""
    return release_out(await asyncio.to_thread(lambda: desk.office.retire(actor, asked.release, why=asked.why)))


async def _roll_out(
    desk: ReleaseDesk,
    actor: Actor,
    asked: ShadowIn | CanaryIn | PromoteIn,
    way: Way,
    *,
    override: str = "",
    drop_adapters: Sequence[str] = (),
) -> ReleaseOut:
    done = await asyncio.to_thread(
        lambda: desk.office.roll_out(
            actor,
            asked.release,
            way,
            why=asked.why,
            seen=asked.version,
            override=override,
            drop_adapters=drop_adapters,
        )
    )
    return release_out(done)


# --- aliases


def list_aliases(desk: ReleaseDesk, actor: Actor, asked: Nothing) -> list[AliasOut]:
    """List aliases and the releases they point to."""
    return [alias_out(one) for one in desk.office.aliases(actor)]


def show_alias(desk: ReleaseDesk, actor: Actor, asked: AliasIn) -> AliasOut:
    """Show one alias."""
    return alias_out(desk.office.alias(actor, asked.alias))


def show_status(desk: ReleaseDesk, actor: Actor, asked: StatusIn) -> AliasStatus:
    """Show where an alias points, the releases that have engine hosts, and the last event."""
    alias, standings = desk.office.alias(actor, asked.alias), desk.office.standings(actor)
    ours = [one for one in standings if one.release.alias == alias.name or alias.name in one.weights]
    hosted = [release_out(one) for one in ours if one.course.state in HOSTED]
    return AliasStatus(alias=alias_out(alias), releases=hosted)


def show_history(desk: ReleaseDesk, actor: Actor, asked: HistoryIn) -> list[EventOut]:
    """Show the history of an alias, newest first."""
    events = desk.office.history(actor, alias=asked.alias, limit=asked.limit)
    return [event_out(event) for event in events]


async def set_alias(desk: ReleaseDesk, actor: Actor, asked: WeightsIn) -> AliasOut:
    """Point an alias to loaded releases. Creates the alias if it does not exist. Takes effect within 200 ms."""
    weights = {release: thousandths(percent) for release, percent in asked.weights_percent.items()}
    done = await asyncio.to_thread(
        lambda: desk.office.set_alias(
            actor, asked.alias, weights, sticky=asked.sticky, why=asked.why, seen=asked.version
        )
    )
    return alias_out(done)


async def remove_alias(desk: ReleaseDesk, actor: Actor, asked: AliasIn) -> AliasRemoved:
    """Remove an alias that was set by hand. Requests that name it are then refused."""
    await asyncio.to_thread(lambda: desk.office.remove_alias(actor, asked.alias))
    return AliasRemoved(name=asked.alias)


async def roll_back(desk: ReleaseDesk, actor: Actor, asked: RollbackIn) -> list[ReleaseOut]:
    """Roll back an alias: end its candidate, or return to the previous release.

    If the previous release is no longer loaded, it is loaded first; the command prints how long that took last time.
    Requests continue meanwhile, or wait with --cold-standby. Also works while the server is down: the release then
    answers from the next start.
    """
    answering = await asyncio.to_thread(
        lambda: desk.office.roll_back(
            actor, asked.alias, to=asked.to, why=asked.why, seen=asked.version, cold=asked.cold_standby
        )
    )
    return [release_out(one) for one in answering]


LIST_ALIASES: Final = Call("alias", "list", "GET", "/aliases", READ, list_aliases)
SHOW_ALIAS: Final = Call("alias", "show", "GET", "/aliases/{alias}", READ, show_alias)
SHOW_HISTORY: Final = Call("alias", "history", "GET", "/aliases/{alias}/history", READ, show_history)
LIST_RELEASES: Final = Call("release", "list", "GET", "/releases", READ, list_releases)
SHOW_RELEASE: Final = Call("release", "show", "GET", "/releases/{release}", READ, show_release)
SHOW_EVIDENCE: Final = Call("release", "evidence", "GET", "/releases/{release}/evidence", READ, show_evidence)
SHOW_BURN: Final = Call("release", "burn", "GET", "/releases/{release}/burn", READ, show_burn)
CALLS: Final = (
    Call("release", "create", "POST", "/releases", WRITE, create_release),
    LIST_RELEASES,
    SHOW_RELEASE,
    SHOW_EVIDENCE,
    SHOW_BURN,
    Call("release", "pairs", "GET", "/releases/{release}/pairs", PAIRS, show_pairs),
    Call("release", "shadow", "POST", "/releases/{release}/shadow", WRITE, shadow_release),
    Call("release", "canary", "POST", "/releases/{release}/canary", WRITE, canary_release),
    Call("release", "promote", "POST", "/releases/{release}/promote", WRITE, promote_release),
    Call("release", "rollback", "POST", "/aliases/{alias}/rollback", WRITE, roll_back, at_home=True),
    Call("release", "retire", "POST", "/releases/{release}/retire", WRITE, retire_release, at_home=True),
    Call("release", "status", "GET", "/aliases/{alias}/status", READ, show_status),
    LIST_ALIASES,
    SHOW_ALIAS,
    SHOW_HISTORY,
    Call("alias", "set", "PUT", "/aliases/{alias}", WRITE, set_alias),
    Call("alias", "remove", "DELETE", "/aliases/{alias}", WRITE, remove_alias),
)


def only_alias(names: Sequence[str]) -> str:
    """Return the only name.

    Raises:
        InvalidRequest: it is not the only one.
    """
    if len(names) != 1:
        raise InvalidRequest(
            f"no alias was given, and there are {len(names)}: {', '.join(names)}",
            hint="name one of them",
            param="alias",
        )
    return names[0]
