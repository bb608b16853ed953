"""What administrators of a centre ask: which sites there are, how they stand, and what they shall serve."""

from __future__ import annotations

import tomllib
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ashore.control.sites.centre import ALL, Office
from ashore.control.sites.model import Want
from ashore.control.sites.report import Attack, SiteReport, Usage
from ashore.control.sites.sql import Rollout, Site, load_models, load_rollouts, load_site, load_sites, load_usage
from ashore.core.errors import AshoreError, InvalidRequest
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.fieldmarks import FILLED, FLAG, POSITIONAL, SPAN

READ: Final = "site:read"
ADMIT: Final = "site:admit"
WRITE: Final = "site:write"
SILENT_S: Final = 900
"""A site that was not heard for so long is shown as silent."""
SiteNameIn = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,62}\Z", extra={POSITIONAL: True})]
Whom = Annotated[str, Meta(pattern=r"\A(@?[a-z0-9][a-z0-9-]{0,62})\Z", extra={POSITIONAL: True})]
Models = Annotated[dict[str, str], Meta(max_length=100)]
Gate = Literal["smoke", "shadow", "none"]
Done = Literal["assigned", "frozen", "let go", "revoked", "signed again"]
Standing = Literal["new", "revoked", "silent", "worse", "frozen", "behind", "current"]


class SiteIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which site."""

    site: SiteNameIn
    """Name of the site."""


class CreateIn(SiteIn, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A site to make."""

    group: Annotated[str, Meta(pattern=r"\A([a-z0-9][a-z0-9-]{0,62})?\Z")] = ""
    """Group that it belongs to, to be named as @GROUP."""


class AssignIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sites shall serve and may do. What is not given stays as it is."""

    site: Whom
    """A site, @GROUP, or `all`."""
    serve: Models = {}
    """Released models by alias, `chat=MODEL`; an empty model takes the alias away."""
    gate: Gate = "smoke"
    """What a new version must pass at the site before it answers."""
    policies: Annotated[
        dict[str, Annotated[str, Meta(max_length=100_000)]], Meta(max_length=20, extra={FILLED: True})
    ] = {}
    """Parts of ashore.toml by section, `budgets` and `pairs`, as TOML. They replace those of the same name; an empty
    text takes it away."""
    offline_days: Annotated[float, Meta(ge=0, le=3_650)] | None = None
    """How long a site serves without news; 0: for ever."""
    escalate: Literal["never", "overflow", "quality"] | None = None
    """Which requests a site passes on to the centre: those that it has no room for, or those that its model is too
    small for as well."""
    votes: bool | None = None
    """Whether masked votes are handed in."""
    rate: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    """Most bytes a second that a site fetches; 0: no limit."""
    hours: Annotated[str, Meta(pattern=r"\A(\d\d:\d\d-\d\d:\d\d)?\Z")] | None = None
    """Local times between which models are fetched, 22:00-06:00; an empty text: always."""


class FreezeIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which sites."""

    site: Whom
    """A site, @GROUP, or `all`."""
    off: bool = False
    """Let it change again."""


class RolloutIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models to roll out."""

    serve: Annotated[Models, Meta(min_length=1, extra={POSITIONAL: True})]
    """Released models by alias, `chat=MODEL`."""
    to: Annotated[str, Meta(pattern=r"\A@?[a-z0-9][a-z0-9-]{0,62}\Z")] = ALL
    """A site, @GROUP, or `all`. Frozen sites are left out."""
    waves: Annotated[str, Meta(max_length=100)] = "1,10%,100%"
    """How many sites are reached by the end of each wave."""
    soak_s: Annotated[int, Meta(ge=0, le=31_536_000, extra={FLAG: "soak", SPAN: True})] = 1_800
    """How long all sites of a wave must serve the version and be well before the next wave begins."""
    gate: Gate = "smoke"
    """What the version must pass at each site before it answers."""


RolloutId = Annotated[
    str, Meta(max_length=60, extra={POSITIONAL: True}, description="As `ashore site rollout list` prints it.")
]


class SiteRow(msgspec.Struct, frozen=True, kw_only=True):
    """One site in the fleet."""

    site: str
    group: str
    state: Standing
    """new: it has not joined. silent: not heard for 15 minutes. worse: it reports bad health, or went back. frozen:
    nothing changes there. behind: it does not serve yet what it shall. current: it does."""
    serves: str
    """What answers, by alias."""
    wanted: str
    """What shall answer, where that is something else."""
    lag_s: int
    """Seconds since it was assigned models that it does not serve yet; 0: it serves them, or has not joined."""
    seen_s: Annotated[int | None, Meta(extra={"absent": "never"})]
    """Seconds since its last report."""
    health: str
    """As it reports; empty: it was never heard."""
    drift: Annotated[float | None, Meta(extra={"absent": "unknown"})]
    """How far lengths of prompts and answers moved from the week before (population stability index): below 0.1
    little, above 0.25 much. None: too few requests in one of the two weeks."""
    link: int | None
    """Bytes a second, when it last fetched; none: it has not."""
    attacks: int
    """Attacks on what it reads that it has refused."""
    version: str
    """Of ashore."""
    note: str


class SiteShown(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the centre knows of a site."""

    site: SiteRow
    want: str
    """What it is assigned, in words."""
    sequence: int
    """Number of the assignment."""
    trusts: int | None
    """Number of the newest assignment that the site trusts; none: it reported none."""
    attacks: dict[Attack, int]
    forked: int
    """Checkpoints of its audit log that contradict earlier ones."""
    joined_at: int
    """0: it has not joined."""
    certificate: str
    """SHA-256 of its certificate."""
    usage: list[Usage]


class TokenOut(msgspec.Struct, frozen=True, kw_only=True):
    """What a site joins with. It is shown once."""

    site: str
    token: str
    """For `ashore site join CENTRE --token TOKEN` at the site; it works once."""
    until_at: int


class ChangedOut(msgspec.Struct, frozen=True, kw_only=True):
    """What was changed."""

    done: Done
    sites: list[str]
    unpublished: str
    """Why sites cannot read it yet; it is tried again every few seconds. Empty: they can."""


class RolloutRow(msgspec.Struct, frozen=True, kw_only=True):
    """One roll-out."""

    id: str
    state: Literal["running", "paused", "stopped", "done"]
    serve: str
    wave: str
    """The wave that is under way, of how many."""
    sites: int
    """Sites that were reached."""
    of: int
    why: str
    """Why it stopped or waits, or which silent sites it went on without."""
    by: str
    begun_at: int


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One released model."""

    name: str
    digest: str


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One signing role of the centre."""

    role: str
    version: int
    expires_at: int
    """When its signature ends. After that sites take nothing new."""
    held: Literal["here", "by operators"]
    keys: list[str]
    """First digits of the ids of its keys."""


def list_sites(office: Office, actor: Actor, asked: Nothing) -> list[SiteRow]:
    """List the sites: the version that each shall serve and serves, its lag, health, last report, link and attacks."""
    with office.database.read() as connection:
        return [row_of(one, office.now_s) for one in load_sites(connection).values()]


def show_site(office: Office, actor: Actor, asked: SiteIn) -> SiteShown:
    """Show one site: its assignment, what it reported, and what it used."""
    with office.database.read() as connection:
        site, usage = load_site(connection, asked.site), load_usage(connection, asked.site)
    report = site.report or _nothing_said(site)
    return SiteShown(
        site=row_of(site, office.now_s), want=_assigned(site.want), trusts=report.want or None,
        sequence=site.want.sequence, attacks=dict(report.attacks), forked=site.forked,
        joined_at=site.joined_s, certificate=site.renewed or site.fingerprint,
        usage=usage,
    )  # fmt: skip


def create_site(office: Office, actor: Actor, asked: CreateIn) -> TokenOut:
    """Make a site, and print the token that it joins with once.

    For a site that has not joined yet, or was revoked, the token is a new one, and the former no longer works.
    """
    token = office.create(actor, asked.site, asked.group)
    _publish(office)
    until = office.now_s + int(office.section().token_hours * 3_600)
    return TokenOut(site=asked.site, token=token, until_at=until)


def assign_sites(office: Office, actor: Actor, asked: AssignIn) -> ChangedOut:
    """Change what sites shall serve and may do, at once for all that are named.

    Use `ashore site rollout start` to reach them in waves.
    """
    change = {
        name: value
        for name in ("escalate", "votes", "rate", "hours")
        if (value := getattr(asked, name)) is not None
    }  # fmt: skip
    if asked.offline_days is not None:
        change["offline_days"] = asked.offline_days or None
    if asked.serve:
        change["serve"] = office.wishes(asked.serve, asked.gate)
    for section, text in asked.policies.items():
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError as fault:
            raise InvalidRequest(f"the part [{section[:60]}] is not TOML: {fault}", param="policies") from fault
    if asked.policies:
        change["policies"] = asked.policies
    if not change:
        raise InvalidRequest("nothing to assign was named", hint="give --serve ALIAS=MODEL, or another option")
    return _changed(office, "assigned", office.assign(actor, asked.site, change))


def freeze_sites(office: Office, actor: Actor, asked: FreezeIn) -> ChangedOut:
    """Let nothing change at sites until they are let go with --off. They serve on."""
    sites = office.assign(actor, asked.site, {"frozen": not asked.off}, act="site:freeze")
    return _changed(office, "let go" if asked.off else "frozen", sites)


def revoke_site(office: Office, actor: Actor, asked: SiteIn) -> ChangedOut:
    """Let a site read and report nothing more, at once, as after a theft. What it has, it has."""
    office.revoke(actor, asked.site)
    return _changed(office, "revoked", [asked.site])


def list_models(office: Office, actor: Actor, asked: Nothing) -> list[ModelRow]:
    """List the models that are released to sites."""
    with office.database.read() as connection:
        found = load_models(connection).items()
    return [ModelRow(name=name, digest=digest) for digest, (name, _) in found]


def start_rollout(office: Office, actor: Actor, asked: RolloutIn) -> RolloutRow:
    """Roll models out to sites in waves.

    It stops by itself when a site reports that it went back, that the version failed, or bad health; then every site
    that was reached gets back what it served before.
    """
    made = office.start(actor, asked.to, office.wishes(asked.serve, asked.gate), asked.waves, asked.soak_s)
    _publish(office)
    return _rollout(made)


def list_rollouts(office: Office, actor: Actor, asked: Nothing) -> list[RolloutRow]:
    """List the roll-outs to sites, the newest first."""
    with office.database.read() as connection:
        return [_rollout(one) for one in load_rollouts(connection)[:100]]


def pause_rollout(office: Office, actor: Actor, id: RolloutId) -> RolloutRow:
    """Begin no further wave, until it is resumed."""
    return _rollout(office.steer(actor, id, "paused"))


def resume_rollout(office: Office, actor: Actor, id: RolloutId) -> RolloutRow:
    """Go on with a roll-out that was paused."""
    return _rollout(office.steer(actor, id, "running"))


def stop_rollout(office: Office, actor: Actor, id: RolloutId) -> RolloutRow:
    """Stop a roll-out. Every site that was reached gets back what it served before."""
    stopped = office.steer(actor, id, "stopped")
    _publish(office)
    return _rollout(stopped)


def show_keys(office: Office, actor: Actor, asked: Nothing) -> list[KeyRow]:
    """Show the signing roles of this centre, who holds their keys, and when their signatures expire."""
    return [
        KeyRow(
            role=role, version=version, expires_at=int(expires_s), held="here" if held else "by operators",
            keys=[one[:12] for one in keys],
        )
        for role, version, expires_s, keys, held in office.signing.standing()
    ]  # fmt: skip


def bump_keys(office: Office, actor: Actor, asked: Nothing) -> ChangedOut:
    """Sign every assignment again with a higher number, after this centre was restored from a backup."""
    return _changed(office, "signed again", office.bump(actor))


def row_of(site: Site, now_s: int) -> SiteRow:
    """Return a site as the fleet shows it."""
    report, want = site.report or _nothing_said(site), site.want
    has = {one.alias: one.digest for one in report.served}
    wanted = {one.alias: one.model for one in want.serve}
    is_current = report.want >= want.sequence and has == wanted
    state: Standing = "frozen" if want.frozen else "current" if is_current else "behind"
    if report.health != "good" or any(one.state in ("went back", "failed") for one in report.served):
        state = "worse"
    if now_s - max(site.seen_s, site.joined_s) > SILENT_S:
        state = "silent"
    if not site.joined_s:
        state = "new"
    return SiteRow(
        site=site.name, group=site.group, state="revoked" if site.revoked_s else state, version=report.version,
        serves=_said(has), wanted="" if has == wanted else _said(wanted), note=report.note,
        health=report.health if site.report else "", link=report.rate or None, drift=report.drift,
        attacks=sum(report.attacks.values()),
        lag_s=0 if has == wanted or not site.joined_s else now_s - max(site.assigned_s, site.joined_s),
        seen_s=now_s - site.seen_s if site.seen_s else None,
    )  # fmt: skip


def _nothing_said(site: Site) -> SiteReport:
    return SiteReport(site=site.name, sequence=1, at_s=0)


def _said(models: dict[str, str]) -> str:
    return ", ".join(f"{alias}={digest.removeprefix('sha256:')[:12]}" for alias, digest in sorted(models.items()))


def _rollout(one: Rollout) -> RolloutRow:
    return RolloutRow(
        id=one.id, state=one.state, serve=_said({wish.alias: wish.model for wish in one.serve}), why=one.why,
        wave=f"{one.wave + 1} of {len(one.waves)}", sites=sum(len(wave) for wave in one.waves[: one.wave + 1]),
        of=sum(len(wave) for wave in one.waves), by=one.by, begun_at=one.begun_s,
    )  # fmt: skip


def _publish(office: Office) -> str:
    try:
        office.publish()
    except AshoreError as fault:
        return fault.in_one_line
    return ""


def _changed(office: Office, done: Done, sites: list[str]) -> ChangedOut:
    return ChangedOut(done=done, sites=sites, unpublished=_publish(office))


def _assigned(want: Want) -> str:
    served = [f"{one.alias}={one.name or one.model} (gate {one.gate})" for one in want.serve]
    said = {name: getattr(want, name) for name in ("escalate", "offline_days", "rate", "hours", "votes", "frozen")}
    limits = [f"{key} {cell}".removesuffix(" True") for key, cell in said.items() if cell not in (None, "never", "", 0)]
    return "; ".join([*served, *limits, *(f"policy [{one}]" for one in want.policies)]) or "nothing"


CALLS: Final = (
    Call("site", "list", "GET", "/sites", READ, list_sites, on_server=True),
    Call("site", "show", "GET", "/sites/{site}", READ, show_site, on_server=True),
    Call("site", "create", "PUT", "/sites/{site}", ADMIT, create_site, on_server=True),
    Call("site", "assign", "PATCH", "/sites/{site}", WRITE, assign_sites, on_server=True),
    Call("site", "freeze", "POST", "/sites/{site}/freeze", WRITE, freeze_sites, on_server=True),
    Call(
        "site", "revoke", "DELETE", "/sites/{site}", ADMIT, revoke_site, on_server=True,
        sure="revoke {site}; it must join again to be heard",
    ),
    Call("site", "models", "GET", "/site-models", READ, list_models, on_server=True),
    Call("site rollout", "start", "POST", "/site-rollouts", WRITE, start_rollout, on_server=True),
    Call("site rollout", "list", "GET", "/site-rollouts", READ, list_rollouts, on_server=True),
    Call("site rollout", "pause", "POST", "/site-rollouts/{id}/pause", WRITE, pause_rollout, on_server=True),
    Call("site rollout", "resume", "POST", "/site-rollouts/{id}/resume", WRITE, resume_rollout, on_server=True),
    Call("site rollout", "stop", "POST", "/site-rollouts/{id}/stop", WRITE, stop_rollout, on_server=True),
    Call("site keys", "status", "GET", "/site-keys", READ, show_keys, on_server=True),
    Call("site keys", "bump", "POST", "/site-keys/bump", ADMIT, bump_keys, on_server=True),
)  # fmt: skip
