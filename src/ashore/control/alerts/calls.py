"""What may be asked about alerts: which are open, to acknowledge and to silence them, and whether channels work."""

from __future__ import annotations

import secrets
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from ashore.control.alerts.model import HANDED_IN, MOST_SILENCES, Alert, Book, ChannelState, Silence, is_silenced
from ashore.control.alerts.office import AlertOffice
from ashore.control.alerts.section import Severity
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.fieldmarks import FLAG, POSITIONAL, SPAN

READ: Final = "alert:read"
ACK: Final = "alert:ack"
SILENCE: Final = "alert:silence"
TEST: Final = "alert:test"
LONGEST_S: Final = 7 * 86_400
OWN_RULES: Final = (HANDED_IN, "budget", "channel", "directory", "doctor", "node")
"""What alerts of their own are named by; all others are rules of the doctor."""
Id = Annotated[str, msgspec.Meta(max_length=40)]


class AlertRow(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    alert: str
    """Its id."""
    severity: Severity
    state: str
    """`waiting`: not sent yet; `sent`, `escalated`, `acknowledged`, `silenced`; `over`: well again, and its end is sent
    soon."""
    what: str
    rule: str
    since_at: float
    """Since when it is wrong, in seconds since 1970."""
    channels: str
    """Where it was sent."""
    acked_by: str
    remedy: str


class AlertRows(msgspec.Struct, frozen=True, kw_only=True):
    """The open alerts, the worst first."""

    items: tuple[AlertRow, ...]
    dropped: int
    """Things that are wrong beyond the most that are kept."""


AlertId = Annotated[Id, msgspec.Meta(description="Id of the alert, as `ashore alert list` prints it.")]


class SilenceIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What nobody wants to hear of for a while."""

    matches: Annotated[str, msgspec.Meta(min_length=1, max_length=40, extra={POSITIONAL: True})]
    """Id of an alert, a rule such as `D301`, or an area such as `backup`."""
    for_s: Annotated[int, msgspec.Meta(ge=1, le=LONGEST_S, extra={FLAG: "for", SPAN: True})]
    """How long, at most seven days."""
    why: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """Reason, for colleagues and auditors."""


class SilenceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One silence."""

    silence: str
    """Its id."""
    matches: str
    until_at: float
    by: str
    why: str


SilenceId = Annotated[Id, msgspec.Meta(description="Id of the silence, as `ashore alert silences` prints it.")]


class ChannelRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel stands."""

    channel: str
    kind: str
    state: str
    """`works`, `fails`, or `unused`."""
    good_at: float | None
    """When it last took something, in seconds since 1970; null: never."""
    failures: int
    """In a row."""
    error: str


class RouteRow(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts go where."""

    severity: tuple[str, ...]
    rules: tuple[str, ...]
    """Rules and areas; empty: all."""
    to: tuple[str, ...]
    """Channels."""
    then: tuple[str, ...]
    """Channels that also get what is critical and not acknowledged within `escalate_s`."""
    escalate_s: float
    quiet: str
    """Hours in which only what is critical is sent."""


ChannelName = Annotated[Id, msgspec.Meta(description="Name of the channel.")]


class Tested(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a test."""

    taken: bool
    """Whether the receiver took the message."""
    error: str


def list_alerts(office: AlertOffice, actor: Actor, asked: Nothing) -> AlertRows:
    """List what is wrong and whom it was sent to, the worst first."""
    book = office.store.read()
    order = {"critical": 0, "warning": 1, "advice": 2}
    found = sorted(book.alerts.values(), key=lambda one: (order[one.wrong.severity], one.since_s))
    return AlertRows(items=tuple(_row(book, one) for one in found), dropped=book.dropped)


def ack(office: AlertOffice, actor: Actor, alert: AlertId) -> AlertRow:
    """Acknowledge an alert: it is neither repeated nor escalated. If it ends and comes back, it is a new one."""

    def acked(book: Book, transaction: object) -> Book:
        if (found := book.alerts.get(alert)) is None:
            raise NotFound(
                f"there is no open alert {alert!r}",
                hint=did_you_mean(alert, book.alerts) or "`ashore alert list` lists them",
            )
        actor.record(office.recorder, ACK, f"alert/{alert}", detail={"rule": found.wrong.rule}, on=transaction)
        found = replace(found, acked_by=actor.principal.id, acked_s=office.clock.now_s())
        return replace(book, alerts={**book.alerts, alert: found})

    book = office.store.change(acked)
    return _row(book, book.alerts[alert])


def silence(office: AlertOffice, actor: Actor, asked: SilenceIn) -> SilenceRow:
    """Send nothing about an alert, a rule or an area for a while. It ends by itself, after seven days at most."""
    from ashore.control.doctor.rule import load_rules

    made = Silence(
        id=secrets.token_hex(4), matches=asked.matches, until_s=office.clock.now_s() + asked.for_s,
        by=actor.principal.id, why=asked.why,
    )  # fmt: skip

    def silenced(book: Book, transaction: object) -> Book:
        if len(book.silences) >= MOST_SILENCES:
            raise InvalidRequest(f"there are {MOST_SILENCES} silences", hint="remove one: `ashore alert unsilence ID`")
        known = {*OWN_RULES, *book.alerts, *(name for one in load_rules() for name in (one.id, one.area))}
        if asked.matches not in known:
            raise NotFound(
                f"{asked.matches!r} is neither an open alert nor a rule nor an area",
                hint=did_you_mean(asked.matches, sorted(known)) or "`ashore doctor rules` lists rules and areas",
            )
        detail: dict[str, str | int] = {"matches": asked.matches, "for_s": asked.for_s}
        actor.record(office.recorder, SILENCE, f"silence/{made.id}", reason=asked.why, detail=detail, on=transaction)
        return replace(book, silences=(*book.silences, made))

    office.store.change(silenced)
    return _silence(made)


def unsilence(office: AlertOffice, actor: Actor, silence: SilenceId) -> SilenceRow:
    """Remove a silence."""
    found: list[Silence] = []

    def heard(book: Book, transaction: object) -> Book:
        found[:] = [one for one in book.silences if one.id == silence]
        if not found:
            raise NotFound(f"there is no silence {silence!r}", hint="`ashore alert silences` lists them")
        actor.record(office.recorder, "alert:unsilence", f"silence/{silence}", on=transaction)
        return replace(book, silences=tuple(one for one in book.silences if one.id != silence))

    office.store.change(heard)
    return _silence(found[0])


def list_silences(office: AlertOffice, actor: Actor, asked: Nothing) -> list[SilenceRow]:
    """List what is silenced, until when, and why."""
    now_s = office.clock.now_s()
    return [_silence(one) for one in office.store.read().silences if one.until_s > now_s]


def list_channels(office: AlertOffice, actor: Actor, asked: Nothing) -> list[ChannelRow]:
    """Show whether each channel takes what is sent."""
    states, rows = office.store.read().channels, []
    for one in office.rules.channels:
        said = states.get(one.name, ChannelState())
        state = "fails" if said.failures else "works" if said.good_s else "unused"
        rows.append(
            ChannelRow(
                channel=one.name, kind=one.kind, state=state, good_at=said.good_s or None, failures=said.failures,
                error=said.error,
            )
        )  # fmt: skip
    return rows


def list_routes(office: AlertOffice, actor: Actor, asked: Nothing) -> list[RouteRow]:
    """List which alerts go to which channels, and where those go that nobody acknowledges."""
    return [
        RouteRow(
            severity=one.severity, rules=one.rules, to=one.to, then=one.then, escalate_s=office.rules.escalate_s,
            quiet=one.quiet,
        )
        for one in office.rules.in_force
    ]  # fmt: skip


async def test_channel(office: AlertOffice, actor: Actor, channel: ChannelName) -> Tested:
    """Send a test message over a channel, and report what its receiver said."""
    names = [one.name for one in office.rules.channels]
    found = next((one for one in office.rules.channels if one.name == channel), None)
    if found is None:
        raise NotFound(
            f"there is no channel {channel!r}",
            hint=did_you_mean(channel, names) or "`ashore alert channels` lists them",
        )
    fault = await office.test(found)
    actor.record(office.recorder, TEST, f"channel/{channel}", outcome="failed" if fault else "done", reason=fault)
    return Tested(taken=not fault, error=fault)


def _row(book: Book, alert: Alert) -> AlertRow:
    state = (
        "over" if alert.gone_s
        else "silenced" if is_silenced(book, alert.wrong.id, alert.wrong)
        else "acknowledged" if alert.acked_by
        else "escalated" if alert.raised
        else "sent" if alert.sent
        else "waiting"
    )  # fmt: skip
    return AlertRow(
        alert=alert.wrong.id, severity=alert.wrong.severity, state=state, what=alert.wrong.what, rule=alert.wrong.rule,
        since_at=alert.since_s, channels=", ".join(sorted(alert.sent)), acked_by=alert.acked_by,
        remedy=alert.wrong.remedy,
    )  # fmt: skip


def _silence(one: Silence) -> SilenceRow:
    return SilenceRow(silence=one.id, matches=one.matches, until_at=one.until_s, by=one.by, why=one.why)


CALLS: Final = (
    Call("alert", "list", "GET", "/alerts", READ, list_alerts, on_server=True),
    Call("alert", "ack", "POST", "/alerts/{alert}/ack", ACK, ack, on_server=True),
    Call("alert", "silence", "POST", "/alert-silences", SILENCE, silence, on_server=True),
    Call("alert", "silences", "GET", "/alert-silences", READ, list_silences, on_server=True),
    Call("alert", "unsilence", "DELETE", "/alert-silences/{silence}", SILENCE, unsilence, on_server=True),
    Call("alert", "channels", "GET", "/alert-channels", READ, list_channels, on_server=True),
    Call("alert", "routes", "GET", "/alert-routes", READ, list_routes, on_server=True),
    Call("alert", "test", "POST", "/alert-channels/{channel}/test", TEST, test_channel, on_server=True),
)
