"""What a home knows of its alerts, in SQLite and in Postgres: acknowledged, silenced, sent, ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_receiver import http_receiver
from postgres_server import fresh_database

import ashore.control.alerts.office as office_module
from ashore.control.alerts.calls import (
    SilenceIn,
    ack,
    list_alerts,
    list_channels,
    list_routes,
    list_silences,
    silence,
    unsilence,
)
from ashore.control.alerts.calls import (
    test_channel as send_test,
)
from ashore.control.alerts.model import Wrong
from ashore.control.alerts.office import NEWS_S, AlertOffice, BookStore, shut_people, silent_homes, spent_budgets
from ashore.control.alerts.section import AlertSection, ChannelTable
from ashore.core.clock import ManualClock
from ashore.core.errors import NotFound
from ashore.data.authority import SYSTEM, Account
from ashore.data.authority import sql as access_sql
from ashore.data.authority.budgets import BudgetRule, CountRow, SqlAuthority
from ashore.kit.call import Nothing
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_state

WRONG = Wrong(rule="D301", severity="critical", what="the disk is full")
NOTHING = Nothing()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = ""
    if request.param == "postgres":
        url = fresh_database(request.getfixturevalue("postgres_url"), "alert_book")
    state = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path, clock=ManualClock())
    yield state
    state.close()


def an_office(database: Database, clock: ManualClock, url: str = "https://127.0.0.1:1", home: str = "") -> AlertOffice:
    channel = ChannelTable(name="ops", kind="wecom", hook=f"{url}/robot")
    return AlertOffice(
        store=BookStore(database, home), recorder=MemoryRecorder(), clock=clock, node="node1", home=home,
        rules=AlertSection(channels=(channel,)), allow=parse_allow(LOOPBACK), found=[WRONG],
    )  # fmt: skip


def turns(office: AlertOffice, clock: ManualClock, for_s: float) -> None:
    for _ in range(int(for_s // 5)):
        asyncio.run(office.turn())
        clock.advance(5)


def test_an_alert_is_sent_acknowledged_and_ends(database: Database) -> None:
    clock = ManualClock()
    with http_receiver(lambda path, body: (200, {"errcode": 0})) as (url, came):
        office = an_office(database, clock, url)
        turns(office, clock, 30)
        (row,) = list_alerts(office, SYSTEM, NOTHING).items
        assert len(came) == 1 and row.state == "sent" and row.channels == "ops"
        assert ack(office, SYSTEM, row.alert).state == "acknowledged"
        turns(an_office(database, clock, url), clock, 1_200)
        assert len(came) == 1, "neither repeated nor escalated, also by the process that comes after"
        office.found = []
        turns(office, clock, 400)
        assert len(came) == 2 and not list_alerts(office, SYSTEM, NOTHING).items
        assert list_channels(office, SYSTEM, NOTHING)[0].state == "works"
    (route,) = list_routes(office, SYSTEM, NOTHING)
    assert route.severity == ("critical", "warning") and route.to == ("ops",), "none is written: all to every channel"
    acts = [(act.action, act.outcome) for act in office.recorder.acts]  # type: ignore[attr-defined]
    assert acts == [("alert:send", "done"), ("alert:ack", "done"), ("alert:send", "done")]


def test_what_is_not_there_cannot_be_acknowledged_silenced_or_heard_again(database: Database) -> None:
    office = an_office(database, ManualClock())
    for do in (
        lambda: ack(office, SYSTEM, "nope"),
        lambda: silence(office, SYSTEM, SilenceIn(matches="D3O1", for_s=60, why="a slip of the finger")),
        lambda: unsilence(office, SYSTEM, "nope"),
        lambda: asyncio.run(send_test(office, SYSTEM, "nope")),
    ):
        with pytest.raises(NotFound):
            do()
    assert not office.recorder.acts  # type: ignore[attr-defined]


def test_a_silence_is_kept_recorded_and_removed(database: Database) -> None:
    clock = ManualClock()
    office = an_office(database, clock)
    made = silence(office, SYSTEM, SilenceIn(matches="D301", for_s=3600, why="known"))
    turns(office, clock, 60)
    assert list_alerts(office, SYSTEM, NOTHING).items[0].state == "silenced"
    assert [one.why for one in list_silences(office, SYSTEM, NOTHING)] == ["known"]
    unsilence(office, SYSTEM, made.silence)
    turns(office, clock, 5)
    assert not list_silences(office, SYSTEM, NOTHING)
    assert list_channels(office, SYSTEM, NOTHING)[0].state == "fails", "nothing listens there"


def test_a_test_says_what_the_receiver_said(database: Database) -> None:
    with http_receiver(lambda path, body: (200, {"errcode": 45009, "errmsg": "limit"})) as (url, _):
        office = an_office(database, ManualClock(), url)
        tested = asyncio.run(send_test(office, SYSTEM, "ops"))
    assert not tested.taken and "limit" in tested.error and url not in tested.error


def test_a_home_that_dies_is_said_by_another_and_one_that_was_stopped_is_not(database: Database) -> None:
    clock = ManualClock()
    a, b = (an_office(database, clock, home=home) for home in ("a", "b"))
    for office in (a, b):
        office.found = []
        asyncio.run(office.turn())
    clock.advance(200)
    asyncio.run(b.turn())
    assert [one.what.split()[2] for one in list_alerts(b, SYSTEM, NOTHING).items] == ["a"]
    a.stop()
    assert silent_homes(a.store.homes(), clock.now_s(), own="b") == []


def test_who_is_disabled_by_a_directory_is_news_of_a_day_one_for_each_sync(database: Database) -> None:
    with database.write() as connection:
        gone = [Account(id=f"corp:u{number}", tenant="default", shut_s=1000) for number in range(7)]
        others = [Account(id="okta:al", tenant="default", shut_s=1000), Account(id="corp:in", tenant="default")]
        access_sql.save_accounts(connection, [*gone, *others, Account(id="corp:late", tenant="default", shut_s=1001)])
        access_sql.remove_account(connection, "corp:u6")
    assert shut_people(database, 1000.9) == [], "a second that is not over may have more"
    found = {one.what: one for one in shut_people(database, 1002.0)}
    assert list(found) == [
        "the directory of corp disabled corp:late",
        "the directory of corp disabled corp:u0, corp:u1, corp:u2, corp:u3, corp:u4 (+1)",
        "the directory of okta disabled okta:al",
    ]
    assert len({one.id for one in found.values()}) == 3 and all(one.news for one in found.values())
    assert len(shut_people(database, 1001.0 + NEWS_S)) == 1 and shut_people(database, 1002.0 + NEWS_S) == []


def test_without_budgets_none_is_spent(database: Database) -> None:
    assert spent_budgets(database, 1e9) == []


def test_an_alert_of_a_budget_says_whose_it_is_and_each_user_has_their_own(database: Database) -> None:
    authority = SqlAuthority(database)
    rule = BudgetRule(kind="tokens", window="total", cap=100, tenant="acme", user="*")
    authority.put_rule(rule)
    rows = [
        CountRow(rule_id=rule.rule_id, subject=("", user, "acme", ""), starts_ms=0, ends_ms=0, settled=used, open=0)
        for user, used in (("alice", 96), ("bob", 97), ("carol", 5))
    ]
    authority.report("one", rows, [])
    found = spent_budgets(database, 1.0)
    assert [one.what for one in found] == [
        "96% of the tokens per total of tenant acme, user alice are used",
        "97% of the tokens per total of tenant acme, user bob are used",
    ]
    assert len({one.id for one in found}) == 2


def test_a_channel_that_hangs_delays_no_other_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message waits for a receiver that does not answer; the other channel gets its alerts meanwhile."""
    monkeypatch.setattr(office_module, "TURN_S", 0.05)
    free = threading.Event()

    def said(path: str, body: bytes) -> tuple[int, Any]:
        if path.startswith("/hangs"):
            free.wait(60)
        return 200, {"errcode": 0}

    async def scenario() -> None:
        while not any(path == "/robot" for path, _, _ in came):
            await office.turn()
            clock.advance(20)
        hanging = office._sending["hangs"]
        await office.turn()
        assert not hanging.done() and [path for path, _, _ in came].count("/hangs") == 1
        free.set()
        await hanging
        while list_channels(office, SYSTEM, NOTHING)[1].state != "works":
            await office.turn()

    clock = ManualClock()
    with http_receiver(said) as (url, came):
        office = an_office(database, clock, url)
        hangs = ChannelTable(name="hangs", kind="wecom", hook=f"{url}/hangs")
        office.rules = AlertSection(channels=(hangs, *office.rules.channels))
        try:
            asyncio.run(asyncio.wait_for(scenario(), 60))
        finally:
            free.set()
        assert [one.state for one in list_channels(office, SYSTEM, NOTHING)] == ["works", "works"]
