"""Log-in to the console with the password of a directory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from access_house import House
from console_house import Browser, ConsoleHouse, run
from fake_directory import BASE, FakeDirectory, Trust
from msgspec.structs import replace as changed

from ashore.control.directory import DirectoriesSection, DirectoryLogIn, DirectorySection, Syncing
from ashore.control.directory.calls import DirectoryDesk
from ashore.core.clock import ManualClock
from ashore.core.errors import SourceUnreachable, TooManyAttempts, Unauthenticated
from ashore.data.authority import keep_first_key, new_key
from ashore.kit.egress import LOOPBACK, parse_allow
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import Database

ALLOW = parse_allow(LOOPBACK)


@dataclass
class Rig:
    fake: FakeDirectory
    console: ConsoleHouse
    desk: DirectoryDesk
    section: DirectorySection

    def sync(self) -> None:
        console = self.console
        Syncing(console.database, console.recorder, console.clock, ALLOW).sync(self.section, actor="system")
        console.reread()


@pytest.fixture
def rig(fake: FakeDirectory, trust: Trust, database: Database) -> Iterator[Rig]:
    clock, key, recorder = ManualClock(), new_key(), MemoryRecorder()
    with database.write() as connection:
        keep_first_key(connection, key, created_s=int(clock.now_s()))
    fake.passwords[f"uid=carol,ou=people,{BASE}"] = "carols"
    with fake.serving(trust) as port:
        section = fake.section(trust, port, map={"ml": f"cn=department,ou=groups,{BASE}"})
        house = House(database, clock, recorder, key)
        console = ConsoleHouse(house)
        desk = DirectoryDesk(
            database=database, clock=clock, rights=console.authority, section=DirectoriesSection(all=(section,)),
            allow=ALLOW,
        )  # fmt: skip
        console = replace(console, directories=DirectoryLogIn(desk))
        house.three()
        made = Rig(fake, console, desk, section)
        made.sync()
        yield made


@pytest.mark.parametrize("name", ["alice", "corp:alice", "ALICE"])
def test_a_person_of_the_directory_is_in(rig: Rig, name: str) -> None:
    async def story() -> None:
        browser = Browser(rig.console)
        done = await browser.log_in(name, "wonder")
        assert (done.status, done.goto) == (303, "/console"), done.error
        session = await browser.session()
        assert session is not None and session.principal.id == "corp:alice" and session.way == "directory"
        assert session.principal.groups == {"ml"}

    run(story())


def test_a_second_factor_of_ashore_comes_on_top_and_a_fresh_proof_too(rig: Rig) -> None:
    rig.console.rules = replace(rig.console.rules, factor="all")

    async def story() -> None:
        browser = Browser(rig.console)
        await browser.log_in("alice", "wonder")
        assert await browser.session() is None
        secret = await browser.enrol()
        assert await browser.session() is not None
        rig.console.clock.advance(120)
        again = Browser(rig.console)
        shown = await again.log_in("alice", "wonder")
        assert shown.goto.startswith("/console/log-in") and await again.session() is None
        await again.open()
        await again.post("give_code", code=again.code(secret))
        assert await again.session() is not None

    run(story())


def test_a_proof_is_the_password_of_the_directory_where_there_is_no_second_factor(rig: Rig) -> None:
    async def story() -> None:
        browser = Browser(rig.console)
        await browser.log_in("alice", "wonder")
        rig.console.clock.advance(600)
        session = await browser.session()
        assert session is not None and not session.is_fresh
        form = browser.take(await rig.console.sessions.step_up_form(browser.visit(), {"next": "/console"}))
        assert form.form == "step-up"
        wrong = await browser.post("step_up", proof="other")
        assert isinstance(wrong.error, Unauthenticated)
        assert (await browser.post("step_up", proof="wonder")).status == 303
        session = await browser.session()
        assert session is not None and session.is_fresh

    run(story())


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("alice", "wrong"),
        ("alice", ""),
        ("nobody", "x"),
        ("*", "wonder"),
        ("alice)(uid=*", "wonder"),
        ("bob", "wonder"),
    ],
)
def test_one_sentence_for_all_that_can_be_wrong(rig: Rig, name: str, password: str) -> None:
    rig.fake.mode = "anon"

    async def story() -> None:
        done = await Browser(rig.console).log_in(name, password)
        assert isinstance(done.error, Unauthenticated) and done.error.message == "the account or the password is wrong"

    run(story())


def test_the_lock_is_below_that_of_the_directory(rig: Rig) -> None:
    async def story() -> None:
        for _ in range(3):
            assert isinstance((await Browser(rig.console).log_in("alice", "guess")).error, Unauthenticated)
        asked = len(rig.fake.binds)
        for name in ("alice", "corp:ALICE", "alice"):
            assert isinstance((await Browser(rig.console).log_in(name, "wonder")).error, TooManyAttempts)
        assert len(rig.fake.binds) == asked, "the directory is asked no more"

    run(story())


def test_who_is_in_no_mapped_group_or_was_disabled_is_not_let_in(rig: Rig) -> None:
    async def story() -> None:
        done = await Browser(rig.console).log_in("carol", "carols")
        assert isinstance(done.error, Unauthenticated) and "no account here yet" in done.error.message
        browser = Browser(rig.console)
        await browser.log_in("alice", "wonder")
        assert await browser.session() is not None
        rig.fake.person("alice", password="wonder", nsAccountLock="TRUE")

    async def after() -> None:
        assert isinstance((await Browser(rig.console).log_in("alice", "wonder")).error, Unauthenticated)

    run(story())
    rig.sync()
    run(after())


def test_a_session_ends_when_its_person_is_disabled_or_the_directory_may_log_in_no_more(rig: Rig) -> None:
    browser, other = Browser(rig.console), Browser(rig.console)
    run(browser.log_in("alice", "wonder"))
    rig.fake.passwords[f"uid=bob,ou=people,{BASE}"] = "bobs"
    run(other.log_in("bob", "bobs"))
    rig.fake.person("alice", nsAccountLock="TRUE")
    rig.sync()
    assert run(browser.session()) is None and run(other.session()) is not None
    rig.desk.section = DirectoriesSection(all=(changed(rig.section, log_in=False),))
    rig.console.forget()
    assert run(other.session()) is None


def test_a_dead_directory_lets_nobody_new_in_and_nobody_out(rig: Rig) -> None:
    browser = Browser(rig.console)
    run(browser.log_in("alice", "wonder"))
    rig.fake.mode = "plain"
    done = run(Browser(rig.console).log_in("alice", "wonder"))
    assert isinstance(done.error, SourceUnreachable) and "localhost" not in done.error.in_one_line
    assert run(browser.session()) is not None
    rig.fake.mode = ""
    for _ in range(4):
        assert run(Browser(rig.console).log_in("alice", "wonder")).error is None, (
            "failures of the directory do not count"
        )
