"""A directory and receivers of alerts that hang, dribble or are dead: the doctor says so in time, and never waits."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import pytest
from fake_directory import BASE, FakeDirectory, Trust

from ashore.control.alerts import channels, office
from ashore.control.alerts.model import Wrong
from ashore.control.alerts.office import BookStore
from ashore.control.alerts.section import AlertSection, ChannelTable
from ashore.control.directory import DirectoriesSection
from ashore.control.directory import syncing as syncing_module
from ashore.control.directory.scheduled import DirectorySchedule
from ashore.control.doctor import Readings, diagnose, load_rules
from ashore.control.doctor.probes.home import read_access
from ashore.core.clock import ManualClock
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.settings import Home
from ashore.kit.state import Database, open_database

ALLOW = parse_allow(LOOPBACK)
LATE_S = 300
"""Bound of D926 and D927."""
Trouble = Literal["hangs", "dribbles", "is dead"]
TROUBLES: tuple[Trouble, ...] = ("hangs", "dribbles", "is dead")


@contextmanager
def trouble(kind: Trouble, first: bytes = b"") -> Iterator[int]:
    """Give a port that takes connections and says nothing, or `first` and then a byte each tenth of a second, or one
    where nobody listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    port, visitors = int(listener.getsockname()[1]), []

    def dribble(visitor: socket.socket) -> None:
        with suppress(OSError):
            visitor.sendall(first)
            while kind == "dribbles":
                visitor.sendall(b"\x16")
                time.sleep(0.1)

    def take() -> None:
        with suppress(OSError):
            while True:
                visitors.append(listener.accept()[0])
                threading.Thread(target=dribble, args=(visitors[-1],), daemon=True).start()

    if kind == "is dead":
        listener.close()
    else:
        threading.Thread(target=take, daemon=True).start()
    try:
        yield port
    finally:
        with suppress(OSError):  # the thread waits in it
            listener.shutdown(socket.SHUT_RDWR)
        for one in (listener, *visitors):
            one.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = open_database(tmp_path / "state.db", snapshots=tmp_path / "snapshots", clock=ManualClock())
    yield made
    made.close()


def findings(database: Database, clock: ManualClock, folder: Path) -> dict[str, str]:
    """Return what the doctor finds about access; it must not wait for anybody."""
    began_s = time.monotonic()
    access = read_access(Home(root=folder), database, clock.now_s(), ())
    found = {one.rule: one.what for one in diagnose(Readings(access=access), load_rules()).findings}
    assert time.monotonic() - began_s < 5
    return found


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_directory_is_missed_within_the_bound_of_the_rule_and_no_longer_once_it_answers(
    kind: Trouble, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing_module, "LOOK_S", 0.3)
    fake, trust, clock, recorder = FakeDirectory(), Trust(tmp_path / "trust"), ManualClock(), MemoryRecorder()
    schedule = DirectorySchedule(database, recorder, clock, lambda: None)
    with trouble(kind) as port:
        section = fake.section(trust, port, map={"ml": f"cn=team,ou=groups,{BASE}"})
        schedule.take(DirectoriesSection(all=(section,)), ALLOW)
        for waited_s in (0, 30, LATE_S - 31):
            clock.advance(waited_s)
            began_s = time.monotonic()
            asyncio.run(schedule.look(section))
            assert time.monotonic() - began_s < 5
        assert "D926" not in findings(database, clock, tmp_path)
        clock.advance(1)
        assert findings(database, clock, tmp_path)["D926"] == "the directory corp has not been followed for 5 min"
    assert [one.outcome for one in recorder.acts] == ["failed"], "it is said once"
    fake.group("team", fake.person("alice"))
    with fake.serving(trust) as port:
        section = fake.section(trust, port, map=section.map)
        schedule.take(DirectoriesSection(all=(section,)), ALLOW)
        asyncio.run(schedule.look(section))
        (noticed,) = schedule._noticed.values()
        assert noticed.back, "so that a sync follows"
        syncing_module.Syncing(database, recorder, clock, ALLOW).sync(section, actor="system")
    assert "D926" not in findings(database, clock, tmp_path)


def test_a_directory_that_ashore_toml_names_no_more_is_not_missed(database: Database, tmp_path: Path) -> None:
    clock, trust = ManualClock(), Trust(tmp_path / "trust")
    schedule = DirectorySchedule(database, MemoryRecorder(), clock, lambda: None)
    with trouble("is dead") as port:
        section = FakeDirectory().section(trust, port)
        schedule.take(DirectoriesSection(all=(section,)), ALLOW)
        asyncio.run(schedule.look(section))
    clock.advance(LATE_S)
    assert "D926" in findings(database, clock, tmp_path)
    schedule.take(DirectoriesSection(), ALLOW)
    assert "D926" not in findings(database, clock, tmp_path)


@pytest.mark.parametrize("way", ["mail", "webhook"])
@pytest.mark.parametrize("kind", TROUBLES)
def test_a_channel_is_missed_within_the_bound_of_the_rule(
    kind: Trouble, way: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in ((channels, "TIMEOUT_S", 0.2), (channels, "MAIL_S", 0.2), (office, "TURN_S", 2.0)):
        monkeypatch.setattr(module, name, value)
    clock = ManualClock()
    first = b"220-x\r\n" if way == "mail" else b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n"
    with trouble(kind, first) as port:
        channel = ChannelTable(
            name="ops", kind="webhook", hook=f"http://127.0.0.1:{port}/", secret="whsec_c2VjcmV0"
        ) if way == "webhook" else ChannelTable(
            name="ops", kind="mail", server=f"smtp://127.0.0.1:{port}", sender="a@corp.example", to=("b@corp.example",)
        )  # fmt: skip
        desk = office.AlertOffice(
            store=BookStore(database, ""), recorder=MemoryRecorder(), clock=clock, node="node1", home="", allow=ALLOW,
            rules=AlertSection(channels=(channel,)), found=[Wrong(rule="D301", severity="critical", what="full")],
        )  # fmt: skip

        async def turns(number: int) -> None:
            for _ in range(number):
                began_s = time.monotonic()
                await desk.turn()
                assert time.monotonic() - began_s < 5
                clock.advance(30)

        asyncio.run(turns(4))
        assert "D927" not in findings(database, clock, tmp_path)
        clock.advance(LATE_S - 90)
        found = findings(database, clock, tmp_path)
    assert found["D927"].startswith("the channel ops has taken no alerts for 5 min")
