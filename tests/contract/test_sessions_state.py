"""What the console's log-in and the ring of figures keep, on every database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from access_house import House
from console_house import BETTER, GOOD, Browser, ConsoleHouse, run
from postgres_server import fresh_state

from ashore.control.sessions import sql
from ashore.control.sessions.locks import Tries
from ashore.control.sessions.office import make_first_link
from ashore.control.sessions.sql import Flow
from ashore.core.clock import ManualClock, SystemClock
from ashore.data.authority import keep_first_key, new_key
from ashore.data.server.history import Ring, rows_of
from ashore.data.server.series import LONG_S, TICK_S, Sampler
from ashore.kit.metrics import Metrics
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, open_state


@pytest.fixture(params=["sqlite", "postgres"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = fresh_state(request.getfixturevalue("postgres_url")) if request.param == "postgres" else ""
    made = open_state(url, default=tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


def test_a_person_comes_in_and_goes(state: Database) -> None:
    clock, key = ManualClock(now_s=SystemClock().now_s()), new_key()
    with state.write() as connection:
        keep_first_key(connection, key, created_s=1)
    rig = ConsoleHouse(House(state, clock, MemoryRecorder(), key))
    link = rig.link()
    sec = rig.house.three()[1]
    rig.house.make(rig.house.actor(sec), "dev", "developer")
    rig.reread()
    assert link and make_first_link(state, rig.acts_, int(clock.now_s())) == ""

    async def story() -> None:
        rig.rules = replace(rig.rules, factor="all", most_sessions=2)
        browser = Browser(rig)
        await browser.redeem("dev", rig.invite("dev", sec))
        secret = await browser.enrol()
        assert (await browser.session()) is not None
        clock.advance(60)
        others = [Browser(rig, origin=f"10.0.1.{at}") for at in range(2)]
        for other in others:
            await other.log_in("dev")
            await other.open()
        code = others[0].code(secret)
        both = await asyncio.gather(*(other.post("give_code", code=code) for other in others))
        assert sorted(one.status for one in both) == [303, 401], "a code is used once, whoever comes first"
        assert (await Browser(rig).log_in("dev", "wrong horse battery")).status == 401
        session = await browser.session()
        assert session is not None
        done = await browser.post(
            "change_password", csrf=session.csrf, password=GOOD, new_password=BETTER, again=BETTER
        )
        assert done.status == 303
        await rig.keeper.flush()
        assert len(rig.office.sessions(rig.house.actor(sec))) == 1
        clock.advance(40_000)
        await rig.keeper.clear()
        assert not rig.office.sessions(rig.house.actor(sec))

    run(story())


def test_what_is_used_once_is_used_once(state: Database) -> None:
    flow = Flow(state="s", provider="corp", verifier="v", nonce="n", visit="d", next_page="/console", ends_s=200)
    with state.write() as connection:
        sql.save_flow(connection, flow)
        assert sql.count_flows(connection, 100, "10.0.0.7") == (1, 0) and sql.count_flows(connection, 300, "") == (0, 0)
        assert sql.count_flows(connection, 100, flow.origin) == (1, 1)
        assert sql.take_flow(connection, "s", 100) == flow and sql.take_flow(connection, "s", 100) is None
        assert sql.take_logout(connection, "j", 200) and not sql.take_logout(connection, "j", 200)
        sql.save_link(connection, "l", key_id="first-key", ends_s=200)
        assert sql.take_link(connection, "l", 300) == "" == sql.take_link(connection, "l", 100)
        tries = Tries(failures=2, since_s=1, at_s=2, locked_until_s=3, locks=4)
        sql.save_tries(connection, "account/x", tries)
        assert sql.find_tries(connection, "account/x") == tries and sql.forget_tries(connection, "account/x")
        for at in range(sql.MOST_DEVICES + 5):
            sql.save_device(connection, f"d{at}", "dev", at)
        assert not sql.is_device_of(connection, "d0", "dev") and sql.is_device_of(connection, "d24", "dev")


def test_figures_are_kept_and_go(state: Database) -> None:
    clock, metrics = ManualClock(now_s=1_700_000_100.0), Metrics()
    ring = Ring(state, Sampler(metrics), clock, source="m/0")
    for _ in range(LONG_S // TICK_S):
        metrics.add("ashore_requests", 2.0, "/", "200")
        clock.advance(TICK_S)
        ring.write()
    with state.read() as connection:
        (long,) = rows_of(connection, LONG_S, 0, 2_000_000_000)
    assert long[1]["requests"] == pytest.approx(60.0)
