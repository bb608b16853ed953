"""Alerts and their life, as values: what is wrong now and what was known give what must be sent. No clock, no I/O."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final

import msgspec
from msgspec.structs import replace

from ashore.control.alerts.section import AlertSection, RouteTable, Severity

RANK: Final[Mapping[str, int]] = {"critical": 0, "warning": 1, "advice": 2}
MOST_OPEN: Final = 1_000
"""Alerts of one home. Further ones are counted alone, the least severe first."""
MOST_SILENCES: Final = 200
HANDED_IN: Final = "alertmanager"
"""Rule of what an Alertmanager hands in."""
MOST_HANDED_IN: Final = 200
"""Such alerts at a time, so that they leave room for those of ashore."""
MOST_LESSER: Final = 150
"""Those among them that are not critical, so that they leave room for one that is."""
HANDED_IN_S: Final = 86_400.0
"""After so long one has ended that was neither repeated nor resolved. An Alertmanager repeats every four hours."""
TEST: Final = "test"
"""Rule of a message that only tries a channel."""
CRITICAL_WAIT_S: Final = 10.0
PER_MINUTE: Final = 15
"""Messages on one channel. DingTalk and WeCom take 20, and then nothing for ten minutes."""
REFRESH_S: Final = 60.0
"""Between two messages to an Alertmanager, where an alert ends unless it is sent again within its `resolve_timeout`."""
LONGEST_RETRY_S: Final = 300.0
_NUMBER: Final = re.compile(r"(?<![\w-])\d[\d.,:]*(?![\w-])")


class Wrong(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is wrong now, as a source says it."""

    rule: str
    """`D301` of the doctor, `budget`, `channel`, `directory`, `node`."""
    severity: Severity
    what: str
    """One sentence with the object it is about."""
    about: str = ""
    """What tells it from others of its rule; empty: its sentence without figures, which change."""
    area: str = ""
    remedy: str = ""
    commands: tuple[str, ...] = ()
    news: bool = False
    """Whether it happened, and does not last: each channel gets it once, and nobody hears of an end."""

    @property
    def id(self) -> str:
        """The same for the same thing, whatever its figures are."""
        about = self.about or _NUMBER.sub("#", self.what)
        return hashlib.sha256(f"{self.rule}\0{about}".encode()).hexdigest()[:12]


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """Something wrong, from when it was seen first until its end was sent."""

    wrong: Wrong
    since_s: float
    gone_s: float = 0.0
    """Since when it is well; 0: it is wrong now."""
    sent: Mapping[str, float] = {}
    """When each channel last got it."""
    first_s: float = 0.0
    """When it was sent first; 0: never."""
    raised: bool = False
    """Whether it was escalated."""
    acked_by: str = ""
    acked_s: float = 0.0


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Something that nobody wants to hear of for a while."""

    id: str
    matches: str
    """A rule, an area, or the id of an alert."""
    until_s: float
    by: str
    why: str


class ChannelState(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel stands."""

    recent: tuple[float, ...] = ()
    """When it was used in the last minute."""
    good_s: float = 0.0
    failures: int = 0
    """In a row."""
    failed_s: float = 0.0
    since_s: float = 0.0
    """Since when it fails; 0: it works."""
    error: str = ""


class HandedIn(msgspec.Struct, frozen=True, kw_only=True):
    """What an Alertmanager says is wrong."""

    wrong: Wrong
    until_s: float


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """All that one home knows of its alerts."""

    alerts: Mapping[str, Alert] = {}
    """By id."""
    silences: tuple[Silence, ...] = ()
    channels: Mapping[str, ChannelState] = {}
    dropped: int = 0
    """Things that are wrong beyond the most."""
    handed_in: Mapping[str, HandedIn] = {}
    """By id; those that were not resolved."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel gets at once."""

    channel: str
    firing: tuple[Alert, ...] = ()
    """The worst first."""
    ended: tuple[Alert, ...] = ()
    dropped: int = 0


def looked(book: Book, wrong: Iterable[Wrong], rules: AlertSection, now_s: float) -> Book:
    """Return what is known after a look: new alerts, and those that are well again."""
    wrong = [*wrong, *_outside(book, now_s)]
    found = {one.id: one for one in sorted(wrong, key=lambda one: RANK[one.severity], reverse=True)}
    alerts: dict[str, Alert] = {}
    for id, alert in book.alerts.items():
        now = found.pop(id, None)
        if now is None:
            if not alert.wrong.news:
                alerts[id] = alert if alert.gone_s else replace(alert, gone_s=now_s)
        elif RANK[now.severity] < RANK[alert.wrong.severity]:  # it got worse, so it is news to everybody
            alerts[id] = Alert(wrong=now, since_s=alert.since_s)
        else:
            alerts[id] = replace(alert, wrong=now, gone_s=0.0)
    free = _room_for(one.wrong for one in alerts.values())
    for id, one in [*found.items()][::-1]:  # the worst are last; what finds no room waits
        if one.rule == HANDED_IN and not free(one):
            del found[id]
    worst = sorted(found.values(), key=lambda one: RANK[one.severity])
    room = max(0, MOST_OPEN - len(alerts))
    alerts |= {one.id: Alert(wrong=one, since_s=now_s) for one in worst[:room]}
    ended = [
        id for id, one in alerts.items()
        if one.gone_s and now_s - one.gone_s >= rules.settle_s and not set(one.sent) & {c.name for c in rules.channels}
    ]  # fmt: skip
    for id in ended:
        del alerts[id]
    return replace(
        book, alerts=alerts, dropped=len(worst[room:]),
        silences=tuple(one for one in book.silences if one.until_s > now_s),
    )  # fmt: skip


def handed_in(book: Book, firing: Iterable[Wrong], ended: Set[str], now_s: float) -> Book:
    """Return what is known once an Alertmanager has handed something in. `ended`: ids of what it says is over."""
    kept = {id: one for id, one in book.handed_in.items() if id not in ended and one.until_s > now_s}
    free = _room_for(one.wrong for one in kept.values())
    for one in sorted(firing, key=lambda one: RANK[one.severity]):
        if one.id in kept or free(one):
            kept[one.id] = HandedIn(wrong=one, until_s=now_s + HANDED_IN_S)
    return replace(book, handed_in=kept)


def _room_for(there: Iterable[Wrong]) -> Callable[[Wrong], bool]:
    """Return a function that says whether another alert of an Alertmanager has room beside those that are there, and
    counts it if so."""
    outside = [one.severity == "critical" for one in there if one.rule == HANDED_IN]
    critical, lesser = outside.count(True), outside.count(False)

    def free(one: Wrong) -> bool:
        nonlocal critical, lesser
        is_critical = one.severity == "critical"
        if critical + lesser >= MOST_HANDED_IN or (not is_critical and lesser >= MOST_LESSER):
            return False
        critical, lesser = critical + is_critical, lesser + (not is_critical)
        return True

    return free


def _outside(book: Book, now_s: float) -> list[Wrong]:
    found = [one.wrong for one in book.handed_in.values() if one.until_s > now_s]
    lesser = [at for at, one in enumerate(found) if one.severity != "critical"]
    if len(found) >= MOST_HANDED_IN or len(lesser) >= MOST_LESSER:
        found[lesser[-1] if lesser else -1] = Wrong(
            rule=HANDED_IN, about="full", severity="warning",
            what=f"an Alertmanager handed in more than {len(found) - 1} alerts; further ones are left out",
            remedy="route fewer to ashore, or group them there",
        )  # fmt: skip
    return found


def due(book: Book, rules: AlertSection, now_s: float) -> tuple[Message, ...]:
    """Return what goes out now, at most one message for each channel, within its limits."""
    messages = []
    dead = {name for name, one in book.channels.items() if one.failures > 1}
    for channel in rules.channels:
        state = book.channels.get(channel.name, ChannelState())
        if state.failures and now_s - state.failed_s < min(LONGEST_RETRY_S, 5.0 * 2.0 ** min(6, state.failures)):
            continue
        if sum(now_s - at < 60 for at in state.recent) >= PER_MINUTE:
            continue
        refreshed = channel.kind == "alertmanager"
        firing = [
            one for id, one in book.alerts.items()
            if _is_due(one, channel.name, rules, now_s, dead=dead, refreshed=refreshed)
            and not is_silenced(book, id, one.wrong)
        ]  # fmt: skip
        ended = [
            one for one in book.alerts.values()
            if one.gone_s and channel.name in one.sent and now_s - one.gone_s >= rules.settle_s
        ]  # fmt: skip
        urgent = any(one.wrong.severity == "critical" for one in firing)
        last_s = max(state.recent, default=0.0) if state.recent else state.good_s
        pause_s = REFRESH_S if refreshed else rules.group_s
        if not (firing or ended) or (not urgent and last_s and now_s - last_s < pause_s):
            continue
        if refreshed and last_s and now_s - last_s < REFRESH_S and not any(not one.sent for one in firing):
            continue
        firing.sort(key=lambda one: (RANK[one.wrong.severity], one.since_s))
        messages.append(Message(channel=channel.name, firing=tuple(firing), ended=tuple(ended), dropped=book.dropped))
    return tuple(messages)


def _is_due(alert: Alert, channel: str, rules: AlertSection, now_s: float, *, dead: Set[str], refreshed: bool) -> bool:
    """Return whether a channel gets an alert now.

    Args:
        alert: The alert.
        channel: Name of the channel.
        rules: In force.
        now_s: The time.
        dead: Channels that fail: what only they would get goes to `then` at once.
        refreshed: Whether the channel gets every alert at each message.
    """
    wrong, critical = alert.wrong, alert.wrong.severity == "critical"
    wait_s = min(rules.wait_s, CRITICAL_WAIT_S) if critical else rules.wait_s
    if alert.gone_s or now_s - alert.since_s < wait_s:
        return False
    wants = [one for one in rules.in_force if _takes(one, wrong) and (critical or not one.is_quiet(now_s))]
    raises = not alert.acked_by and _is_late(alert, rules, now_s)
    to = {name for one in wants for name in one.to}
    then = {name for one in wants for name in one.then} if raises or alert.raised or to <= dead else set()
    if wrong.rule == "channel":  # whatever the routes say, all others hear of it
        to = {one.name for one in rules.channels} - {wrong.about}
    if channel not in to | then:
        return False
    if refreshed and wrong.rule == HANDED_IN:  # it came from there
        return False
    last_s = alert.sent.get(channel)
    if wrong.news:
        return last_s is None and not alert.acked_by
    if alert.acked_by or refreshed:
        return refreshed
    return last_s is None or now_s - last_s >= rules.again_s or (raises and not alert.raised and not then)


def _is_late(alert: Alert, rules: AlertSection, now_s: float) -> bool:
    """Return whether it is time to escalate an alert, also one that nobody got."""
    critical = alert.wrong.severity == "critical"
    return critical and now_s - (alert.first_s or alert.since_s) >= rules.escalate_s


def _takes(route: RouteTable, wrong: Wrong) -> bool:
    return wrong.severity in route.severity and (not route.rules or bool({wrong.rule, wrong.area} & set(route.rules)))


def is_silenced(book: Book, id: str, wrong: Wrong) -> bool:
    """Return whether a silence covers an alert."""
    return any(one.matches in (id, wrong.rule, wrong.area) for one in book.silences)


def sent(book: Book, message: Message, rules: AlertSection, now_s: float, fault: str = "") -> Book:
    """Return what is known once a message was delivered, or was not for the reason `fault`."""
    state = book.channels.get(message.channel, ChannelState())
    if fault:
        state = replace(state, failures=state.failures + 1, failed_s=now_s, error=fault, since_s=state.since_s or now_s)
        return replace(book, channels={**book.channels, message.channel: state})
    recent = (*(at for at in state.recent if now_s - at < 60), now_s)
    state = ChannelState(recent=recent, good_s=now_s)
    alerts = dict(book.alerts)
    for one in message.firing:
        if (alert := alerts.get(one.wrong.id)) is not None:
            alerts[one.wrong.id] = replace(
                alert, sent={**alert.sent, message.channel: now_s}, first_s=alert.first_s or now_s,
                raised=alert.raised or _is_late(alert, rules, now_s),
            )  # fmt: skip
    for one in message.ended:
        if (alert := alerts.get(one.wrong.id)) is not None:
            left = {name: at for name, at in alert.sent.items() if name != message.channel}
            if left:
                alerts[one.wrong.id] = replace(alert, sent=left)
            else:
                del alerts[one.wrong.id]
    return replace(book, alerts=alerts, channels={**book.channels, message.channel: state})


def dead_channels(book: Book, names: Sequence[str]) -> list[Wrong]:
    """Return the channels that take nothing, which the others say."""
    return [
        Wrong(
            rule="channel", about=name, severity="critical", what=f"the channel {name} takes no alerts: {state.error}",
            remedy="correct the channel; what it missed is sent by itself",
            commands=("ashore alert channels", f"ashore alert test {name}"),
        )
        for name, state in book.channels.items() if state.failures > 1 and name in names
    ]  # fmt: skip
