"""The life of an alert: it waits, is sent once, repeats, escalates, is acknowledged, silenced, and ends."""

from __future__ import annotations

import inspect

import msgspec
import pytest
from msgspec.structs import replace

from ashore.cli.calls import asked_of, command_of, show
from ashore.control.alerts.calls import CALLS, SilenceIn
from ashore.control.alerts.model import (
    HANDED_IN,
    HANDED_IN_S,
    MOST_HANDED_IN,
    MOST_OPEN,
    PER_MINUTE,
    Book,
    Message,
    Silence,
    Wrong,
    dead_channels,
    due,
    handed_in,
    looked,
    sent,
)
from ashore.control.alerts.receiving import ReceivedAlert
from ashore.control.alerts.section import AlertSection, ChannelTable, RouteTable, Severity
from ashore.core.errors import InvalidRequest
from ashore.kit.call import call_named

MAIL = ChannelTable(name="mail", kind="mail", server="smtps://m", sender="a@b", to=("c@d",))
BOSS = replace(MAIL, name="boss")
RULES = AlertSection(channels=(MAIL,))
NIGHT_S = 1_764_630_000.0  # 2025-12-01 23:00 UTC


def wrong(rule: str = "D301", severity: Severity = "warning", what: str = "the disk is full", **more: str) -> Wrong:
    return Wrong(rule=rule, severity=severity, what=what, **more)


class Life:
    """A book, a clock and what was sent."""

    def __init__(self, rules: AlertSection = RULES, now_s: float = 0.0) -> None:
        self.rules, self.now_s, self.book = rules, now_s, Book()
        self.out: list[tuple[float, Message]] = []
        self.down: set[str] = set()

    def look(self, *found: Wrong, for_s: float = 0.0, step_s: float = 5.0) -> list[Message]:
        """Look every `step_s` for a while; return what was sent."""
        first, end_s = len(self.out), self.now_s + for_s
        while True:
            self.book = looked(
                self.book, [*found, *dead_channels(self.book, [c.name for c in self.rules.channels])], self.rules,
                self.now_s,
            )  # fmt: skip
            for message in due(self.book, self.rules, self.now_s):
                fault = "down" if message.channel in self.down else ""
                self.book = sent(self.book, message, self.rules, self.now_s, fault)
                if not fault:
                    self.out.append((self.now_s, message))
            if self.now_s >= end_s:
                return [message for _, message in self.out[first:]]
            self.now_s += step_s


def test_it_waits_is_sent_once_and_ends() -> None:
    life = Life()
    assert life.look(wrong(), for_s=25) == []
    (message,) = life.look(wrong(), for_s=3_600)
    assert message.channel == "mail" and message.firing[0].wrong.what == "the disk is full"
    assert life.look(for_s=295) == []
    (over,) = life.look(for_s=310)
    assert over.ended and not over.firing and life.book.alerts == {}


def test_what_is_over_before_it_was_sent_says_nothing() -> None:
    life = Life()
    assert life.look(wrong(), for_s=10) == [] and life.look(for_s=400) == [] and life.book.alerts == {}


def test_figures_in_a_sentence_make_no_other_alert_and_objects_do() -> None:
    assert wrong(what="the disk is 97.5 % full").id == wrong(what="the disk is 98 % full").id
    assert wrong(what="host m-0 is dead").id != wrong(what="host m-1 is dead").id
    assert wrong(about="a").id != wrong(about="b").id


def test_news_comes_once_to_each_channel_and_has_no_end() -> None:
    left = replace(wrong("directory", "advice", "the directory of corp disabled corp:al"), news=True)
    monitor = ChannelTable(name="monitor", kind="alertmanager", hook="https://m:9093")
    every = (RouteTable(severity=("advice",), to=("mail", "monitor")),)
    life = Life(AlertSection(channels=(MAIL, monitor), routes=every, wait_s=0, again_s=600))
    sent = life.look(left, for_s=3600)
    assert sorted(one.channel for one in sent) == ["mail", "monitor"]
    assert not life.look(for_s=3600) and not life.book.alerts


def test_nobody_acknowledged_it_so_it_comes_again_and_what_is_critical_escalates() -> None:
    rules = AlertSection(channels=(MAIL, BOSS), routes=(RouteTable(to=("mail",), then=("boss",)),))
    life = Life(rules)
    life.look(wrong(severity="critical"), for_s=6 * 3_600)
    told = [(at, message.channel) for at, message in life.out]
    assert told[:2] == [(10, "mail"), (910, "boss")]
    assert [at for at, channel in told if channel == "mail"] == [10, 10 + 4 * 3_600]
    warned = Life(rules)
    warned.look(wrong(), for_s=6 * 3_600)
    assert {message.channel for _, message in warned.out} == {"mail"}, "a warning escalates to nobody"


def test_what_is_critical_is_said_again_where_nobody_else_is_named() -> None:
    life = Life()
    life.look(wrong(severity="critical"), for_s=3_600)
    assert [at for at, _ in life.out] == [10, 910]


def test_an_acknowledged_alert_is_quiet_until_it_gets_worse_or_comes_back() -> None:
    life = Life()
    life.look(wrong(), for_s=60)
    ((id, alert),) = life.book.alerts.items()
    life.book = replace(life.book, alerts={id: replace(alert, acked_by="ann", acked_s=60)})
    assert life.look(wrong(), for_s=12 * 3_600) == []
    worse = life.look(wrong(severity="critical"), for_s=60)
    assert worse and not life.book.alerts[id].acked_by


def test_a_silence_holds_for_its_time() -> None:
    life = Life()
    life.book = replace(life.book, silences=(Silence(id="s", matches="D301", until_s=1_000, by="ann", why="known"),))
    assert life.look(wrong(), for_s=990) == []
    told = life.look(wrong("D302"), wrong(), for_s=400)
    assert {one.wrong.rule for message in told for one in message.firing} == {"D301", "D302"}


def test_quiet_hours_hold_back_all_but_what_is_critical() -> None:
    rules = AlertSection(channels=(MAIL,), routes=(RouteTable(to=("mail",), quiet="22:00-08:00 Europe/London"),))
    life = Life(rules, NIGHT_S)
    assert life.look(wrong(), for_s=3_600, step_s=60) == []
    assert life.look(wrong(), wrong("D1", "critical", "dead"), for_s=60)[0].firing[0].wrong.rule == "D1"
    life.look(wrong(), wrong("D1", "critical", "dead"), for_s=9 * 3_600, step_s=60)
    first = next(at for at, message in life.out if any(one.wrong.rule == "D301" for one in message.firing))
    assert first == NIGHT_S + 9 * 3_600, "at eight in the morning"


def test_routes_choose_by_severity_rule_and_area() -> None:
    routes = (RouteTable(to=("mail",), rules=("backup",)), RouteTable(to=("boss",), severity=("advice",)))
    life = Life(AlertSection(channels=(MAIL, BOSS), routes=routes))
    life.look(wrong(area="backup"), wrong("D2", what="b"), wrong("D3", "advice", "c"), for_s=60)
    assert {(message.channel, message.firing[0].wrong.rule) for _, message in life.out} == {
        ("mail", "D301"), ("boss", "D3"),
    }  # fmt: skip


def test_an_hour_of_flapping_is_a_few_messages_and_the_critical_one_is_among_the_first() -> None:
    life, looks = Life(), 0
    while life.now_s < 3_600:
        found = [wrong("D1", "critical", "the server is down")]
        found += [wrong(about=f"flap {n}") for n in range(200) if (int(life.now_s) // 5 + n) % 7 < 4]
        looks += len(found)
        life.look(*found)
        life.now_s += 5
    times = [at for at, message in life.out if any(one.wrong.rule == "D1" for one in message.firing)]
    print(f"\n{looks:,} findings seen, {len(life.out)} messages, the critical one at {times} s")
    assert len(life.out) <= 10 and times == [10, 910]


def test_ten_thousand_at_once_are_one_message_that_counts_them() -> None:
    life = Life()
    flood = [wrong(about=str(n), what=f"wrong {n}") for n in range(10_000)]
    messages = life.look(*flood, wrong("D1", "critical", "dead"), for_s=320)
    assert len(messages) == 2 and messages[0].firing[0].wrong.rule == "D1", "the critical one first"
    assert len(messages[1].firing) == MOST_OPEN - 1 and messages[1].dropped == 9_001
    assert len(life.book.alerts) == MOST_OPEN and life.book.dropped == 9_001


def test_a_channel_never_gets_more_than_it_takes_in_a_minute() -> None:
    life = Life()
    for number in range(120):  # each second something else is critical
        life.look(*(wrong("D1", "critical", "x", about=str(n)) for n in range(number)), step_s=1)
        life.now_s += 1
    for at, _ in life.out:
        assert sum(at <= other < at + 60 for other, _ in life.out) <= PER_MINUTE


def test_a_dead_channel_is_said_on_the_others_and_gets_everything_when_it_is_back() -> None:
    life = Life(AlertSection(channels=(MAIL, BOSS)))
    life.down = {"mail"}
    life.look(wrong(), for_s=400)
    said = [(message.channel, one.wrong.rule) for _, message in life.out for one in message.firing]
    assert ("boss", "channel") in said and not any(channel == "mail" for channel, _ in said)
    life.down = set()
    life.look(wrong(), for_s=1_000)
    assert ("mail", "D301") in [(message.channel, one.wrong.rule) for _, message in life.out for one in message.firing]
    assert life.book.channels["mail"].failures == 0


def test_what_only_a_dead_channel_would_get_goes_further_at_once_whatever_the_routes_say() -> None:
    routes = (RouteTable(severity=("critical",), to=("mail",), then=("boss",)),)
    life = Life(AlertSection(channels=(MAIL, BOSS), routes=routes))
    life.down = {"mail"}
    life.look(wrong(severity="critical"), for_s=120)
    said = {(message.channel, one.wrong.rule) for _, message in life.out for one in message.firing}
    assert said == {("boss", "D301"), ("boss", "channel")}


def test_an_alertmanager_gets_what_is_open_again_and_again() -> None:
    one = ChannelTable(name="am", kind="alertmanager", hook="https://am")
    life = Life(AlertSection(channels=(one,)))
    life.look(wrong(), for_s=600)
    assert 8 <= len(life.out) <= 11
    life.look(for_s=400)
    assert life.out[-1][1].ended and life.book.alerts == {}


def test_a_silence_that_is_too_long_is_refused_in_the_units_of_its_option() -> None:
    parameters = list(inspect.signature(command_of(call_named("silence", CALLS), show)).parameters.values())
    with pytest.raises(InvalidRequest, match=r"^--for: expected at most 7d$"):
        asked_of(SilenceIn, parameters, ("D913",), {"for_s": "30d", "why": "x"})


def received(number: int, status: str = "firing", severity: str = "warning", **labels: str) -> ReceivedAlert:
    return msgspec.convert(
        {"status": status, "labels": {"alertname": f"A{number}", "severity": severity, **labels}}, ReceivedAlert
    )


def test_what_an_alertmanager_hands_in_goes_out_ends_and_leaves_room() -> None:
    life = Life()
    one = received(1, severity="page").wrong
    life.book = handed_in(life.book, [one], set(), life.now_s)
    (message,) = life.look(for_s=60)
    assert [(a.wrong.rule, a.wrong.severity) for a in message.firing] == [(HANDED_IN, "critical")]
    life.book = handed_in(life.book, [], {received(1, "resolved", "page").wrong.id}, life.now_s)
    assert life.look(for_s=400)[0].ended and not life.book.alerts
    life.book = handed_in(life.book, [one], set(), life.now_s)
    life.look(for_s=HANDED_IN_S + 400, step_s=600)
    assert not life.book.alerts, "what is not repeated ends by itself"


def test_a_flood_that_is_handed_in_is_bounded_and_hides_nothing() -> None:
    life = Life()
    for round in range(5):
        flood = [received(1_000 * round + n, severity="critical").wrong for n in range(1_000)]
        ended = set([*life.book.handed_in][:100])
        life.book = handed_in(life.book, flood, ended, life.now_s)
        life.look(wrong(), for_s=30)
        assert len(life.book.handed_in) <= MOST_HANDED_IN
        assert sum(one.wrong.rule == HANDED_IN for one in life.book.alerts.values()) <= MOST_HANDED_IN
    assert wrong().id in life.book.alerts
    assert any("left out" in one.wrong.what for one in life.book.alerts.values())


def test_what_is_critical_finds_room_behind_a_flood_of_warnings() -> None:
    life = Life()
    for round in range(5):
        flood = [received(1_000 * round + n).wrong for n in range(1_000)]
        life.book = handed_in(life.book, flood, set([*life.book.handed_in][:100]), life.now_s)
        life.look(for_s=30)
    assert any("left out" in one.wrong.what for one in life.book.alerts.values())
    worst = received(9_999, severity="critical").wrong
    life.book = handed_in(life.book, [worst], set(), life.now_s)
    (message,) = life.look(for_s=15)
    assert message.firing[0].wrong.id == worst.id


def test_what_is_kept_of_an_alert_is_small_however_long_its_labels_are() -> None:
    long = "x" * 1_000_000
    alerts = [received(number, job=long).wrong for number in range(20)]
    book = handed_in(Book(), alerts, set(), 0)
    assert len(book.handed_in) == 20 and len(msgspec.json.encode(book)) < 20_000
    assert received(1, job=long).wrong.id != received(1, job=f"{long}y").wrong.id, "all of it tells them apart"


def test_an_alertmanager_gets_back_nothing_that_it_handed_in() -> None:
    life = Life(AlertSection(channels=(replace(MAIL, kind="alertmanager", hook="http://am"),)))
    life.book = handed_in(life.book, [received(1).wrong], set(), 0)
    assert life.look(for_s=600) == [] and life.look(wrong(), for_s=60)


def test_text_of_an_alertmanager_is_one_line_and_known_by_its_labels() -> None:
    odd = msgspec.convert(
        {"status": "firing", "labels": {"alertname": "A\u202e\r\nTo: x"}, "annotations": {"summary": "s" * 9_000}},
        ReceivedAlert,
    )
    assert "\n" not in odd.wrong.what and "\u202e" not in odd.wrong.what and len(odd.wrong.what) <= 300
    assert not odd.wrong.commands and not odd.wrong.remedy
    assert received(1).wrong.id == received(1, "resolved").wrong.id != received(1, instance="b").wrong.id
