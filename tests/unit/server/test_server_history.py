"""The ring of figures: what a tick holds, how ticks are merged, what is read, what is kept; logs and configuration."""

from __future__ import annotations

import asyncio
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ashore.cli.recorded import Owned
from ashore.control.server.calls import (
    MOST_BYTES,
    HistoryIn,
    ServerDesk,
    TailIn,
    show_config,
    show_history,
    show_logs,
    show_tail,
    tail_of,
)
from ashore.core.clock import ManualClock
from ashore.core.errors import NotFound, NotReady
from ashore.core.ids import TenantId
from ashore.core.principal import Principal
from ashore.data.server.history import Ring
from ashore.data.server.series import KEPT_S, LONG_S, READINGS, SERIES, TICK_S, Sampler, merged
from ashore.kit.call import Actor, Nothing
from ashore.kit.metrics import TABLE, Metrics
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database, execute, open_database
from ashore.machine.config import parse_spec
from ashore.machine.config.effective import in_force

ACTOR = Actor(principal=Principal(id="sam", tenant=TenantId("default")))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


class Workers:
    """Two workers of one state, and who reads what they keep."""

    def __init__(self, database: Database) -> None:
        self.clock = ManualClock(now_s=1_700_000_100.0)  # the beginning of a long tick
        assert int(self.clock.now_s()) % LONG_S == 0
        self.metrics = [Metrics(), Metrics()]
        self.rings = [Ring(database, Sampler(one), self.clock, source=f"m/{at}") for at, one in enumerate(self.metrics)]
        self.desk = ServerDesk(database=database, recorder=MemoryRecorder(), rights=Owned(), now_s=self.clock.now_s)

    def tick(self, number: int = 1) -> None:
        for _ in range(number):
            self.clock.advance(TICK_S)
            for ring in self.rings:
                ring.write()

    def read(self, name: str, since_s: int = 60, points: int = 360) -> list[float | None]:
        found = show_history(self.desk, ACTOR, HistoryIn(series=name, since_s=since_s, points=points))
        return found.series[0].values


def test_every_series_is_of_a_metric_that_there_is() -> None:
    known = {one.name: one.kind for one in TABLE}
    kinds = {"rate": "counter", "level": "gauge", "peak": "gauge", "spread": "histogram"}
    for one in SERIES:
        assert one.metric.startswith(("host:", "machine:")) or known[one.metric] == kinds[one.kind], one.name
    assert 20 <= len(SERIES) <= 30 and len({one.name for one in READINGS}) == len(READINGS)


def test_workers_are_added_and_time_is_divided(database: Database) -> None:
    workers = Workers(database)
    first, second = workers.metrics
    first.add("ashore_requests", 30.0, "/v1/chat/completions", "200")
    second.add("ashore_requests", 20.0, "/v1/models", "200")
    first.add("ashore_cache_lookups", 3.0, "chat", "miss")
    first.add("ashore_cache_lookups", 2.0, "chat", "hit")
    first.set("ashore_running_sequences", 4.0, "chat")
    second.set("ashore_running_sequences", 2.0, "chat")
    first.set("ashore_loop_busy_share", 0.5)
    second.set("ashore_loop_busy_share", 0.25)
    workers.tick()
    assert workers.read("requests", 10) == [5.0] and workers.read("cache_lookups", 10) == [0.5]
    assert workers.read("cache_hits", 10) == [0.2]
    assert workers.read("running", 10) == [6.0] and workers.read("loop_busy", 10) == [0.5]
    workers.tick(2)
    assert workers.read("requests", 40) == [None, 5.0, 0.0, 0.0], (
        "before the start nothing is known; later nothing came"
    )
    assert workers.read("requests", 30, points=1) == [pytest.approx(5 / 3)]
    assert workers.read("running", 40, points=2) == [6.0, 6.0]


def test_quantiles_come_from_all_workers(database: Database) -> None:
    workers = Workers(database)
    assert workers.read("ttft_p95", 10) == [None]
    for at in range(100):
        workers.metrics[at % 2].observe("ashore_ttft_seconds", 0.02 if at < 90 else 0.9, "chat")
    workers.tick()
    (p50,), (p95,) = workers.read("ttft_p50", 10), workers.read("ttft_p95", 10)
    assert p50 is not None and 0.01 <= p50 <= 0.025
    assert p95 is not None and 0.5 < p95 <= 1.0
    workers.tick()
    assert workers.read("ttft_p50", 10) == [None], "nobody asked in the last ten seconds"
    assert workers.read("ttft_p50", 20, points=1)[0] == pytest.approx(p50)


def test_long_ticks_are_of_the_short_ones_and_old_ones_go(database: Database) -> None:
    workers = Workers(database)
    for _ in range(30):
        workers.metrics[0].add("ashore_requests", 6.0, "/", "200")
        workers.tick()
    assert workers.read("requests", 30 * 86_400, points=1000)[-1] == pytest.approx(0.6 / 9), "nine long ticks a point"
    found = show_history(workers.desk, ACTOR, HistoryIn(series="requests", since_s=9 * 3600))
    assert found.step_s == LONG_S and found.series[0].values[-1] == pytest.approx(0.6)
    workers.clock.advance(KEPT_S[TICK_S] + LONG_S - TICK_S)
    workers.tick()
    with database.read() as connection:
        query = "SELECT step_s, COUNT(*) AS n FROM server_history GROUP BY step_s"
        rows = {int(row.step_s): int(row.n) for row in execute(connection, query)}
    assert rows[TICK_S] <= 4 and rows[LONG_S] == 4, rows


def test_sleeps_that_end_a_moment_early_or_late_lose_no_tick(database: Database) -> None:
    workers = Workers(database)
    moved = iter((-0.004, 0.3, -0.2, 0.0, 4.0, -0.001))

    async def sleep(seconds: float) -> None:
        workers.metrics[0].add("ashore_requests", 10.0, "/", "200")
        try:
            workers.clock.advance(seconds + next(moved))
        except StopIteration:
            raise asyncio.CancelledError from None

    ring = Ring(database, Sampler(workers.metrics[0]), workers.clock, source="m/0")
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(ring.keep_writing(sleep))
    workers.clock.advance(0.5)
    assert workers.read("requests", 60) == [1.0] * 6
    assert merged([], over_time=True) == {}


def test_the_ring_stays_small(database: Database) -> None:
    """8 hours and 30 days of a busy worker, by the size of one tick."""
    workers = Workers(database)
    for one in TABLE:
        labels = tuple("x" for _ in one.labels)
        for _ in range(50):
            if one.kind == "counter":
                workers.metrics[0].add(one.name, 3.0, *labels)
            elif one.kind == "gauge":
                workers.metrics[0].set(one.name, 0.123456, *labels)
            else:
                workers.metrics[0].observe(one.name, 0.3, *labels)
    workers.tick()
    with database.read() as connection:
        size = execute(connection, "SELECT MAX(LENGTH(figures)) AS n FROM server_history").scalar_one()
    ticks = sum(kept_s // step_s for step_s, kept_s in KEPT_S.items())
    assert size * ticks <= 12 << 20, f"{size} bytes a tick"


def test_names_that_there_are_not_and_no_state() -> None:
    desk = ServerDesk(database=None, recorder=MemoryRecorder(), rights=Owned(), now_s=lambda: 0.0)
    with pytest.raises(NotFound) as refused:
        show_history(desk, ACTOR, HistoryIn(series="requests, request"))
    assert "requests" in refused.value.hint
    assert "'request'" in str(refused.value)
    with pytest.raises(NotReady):
        show_history(desk, ACTOR, HistoryIn())
    with pytest.raises(NotReady):
        show_config(desk, ACTOR)


def test_logs_are_read_from_behind_and_by_name_alone(tmp_path: Path) -> None:
    folder, recorder = tmp_path / "logs", MemoryRecorder()
    folder.mkdir()
    (folder / "api.log").write_text("".join(f"line {number}\n" for number in range(300_000)))
    (folder / "odd.log").write_bytes(b"\xff\xfe no newline")
    (tmp_path / "secret.log").write_text("nothing for you")
    assert (folder / "api.log").stat().st_size > MOST_BYTES
    desk = ServerDesk(database=None, recorder=recorder, rights=Owned(), now_s=lambda: 0.0, logs=folder)
    listed = show_logs(desk, ACTOR, Nothing())
    assert [one.name for one in listed] == ["api", "odd"]
    assert show_tail(desk, ACTOR, TailIn(log="api", lines=2)).lines == ["line 299998", "line 299999"]
    assert tail_of(folder, "odd", 5) == ["\ufffd\ufffd no newline"]
    assert all(line.startswith("line ") for line in tail_of(folder, "api", 1000))
    for name in ("../secret", "secret", "", "api.log", "/etc/passwd", "*"):
        with pytest.raises(NotFound):
            show_tail(desk, ACTOR, TailIn(log=name))
    assert [(act.action, act.resource) for act in recorder.acts] == [("server:read", "log/api")]


def test_the_configuration_in_force_says_where_each_value_comes_from() -> None:
    text = "[http]\nport = 9000\n[admission]\nmax_waiting = 50\n[[model]]\nname = 'fake:echo'"
    document, spec = tomllib.loads(text), parse_spec(text)
    optioned = msgspec.structs.replace(spec, grpc=msgspec.structs.replace(spec.grpc, port=7000))
    running = msgspec.structs.replace(
        optioned.listening, admission=msgspec.structs.replace(spec.admission, max_waiting=40)
    )
    held = {(one.table, one.key): one for one in in_force(running, optioned, document, os.environ)}
    assert held["[http]", "port"].source == "file" and held["[http]", "port"].value == "9000"
    assert held["[grpc]", "port"].source == "option" and held["[grpc]", "port"].value == "7000"
    changed = held["[admission]", "max_waiting"]
    assert (changed.source, changed.value) == ("earlier file", "40"), "the file says 50 and was not reloaded"
    assert held["[console]", "profile"].source == "default"
    assert held["[[model]] 1", "name"].source == "file"
