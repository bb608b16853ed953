"""The loop of a site, over a real tree of a real centre, with a link that a test cuts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from site_centre import ACTOR, open_office
from site_home import Site, tiny_store

from ashore.control.sites import Status, fetch
from ashore.control.sites.agent import Agent, Joined
from ashore.control.sites.centre import Office
from ashore.control.sites.identity import site_key
from ashore.control.sites.joining import ask, take_answer
from ashore.control.sites.links import FolderLink
from ashore.control.sites.publish import publish_model
from ashore.control.sites.report import SiteReport
from ashore.control.sites.reports import Reports, Sources
from ashore.control.sites.section import SitesSection
from ashore.control.sites.sql import load_rollouts, load_site, load_usage, save_site
from ashore.control.sites.switch import local_reference
from ashore.core.errors import SourceUnreachable
from ashore.data.audit.signing import new_signing_key
from ashore.data.authority.budgets import SqlAuthority, Usage
from ashore.kit.store import ModelStore


class Line(FolderLink):
    """The centre's tree over a line that breaks after so many bytes; reports go to the office."""

    def __init__(self, folder: Path, office: Office) -> None:
        super().__init__(folder)
        self.office, self.left, self.paths = office, 1 << 60, list[str]()

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        self.paths.append(path)
        for piece in super().read(path, start=start, limit=limit):
            if self.left <= 0:
                raise SourceUnreachable("the line is cut")
            yield piece[: self.left]
            self.left -= len(piece)
            if self.left <= 0:
                raise SourceUnreachable("the line is cut")

    def put(self, path: str, body: bytes) -> None:
        if self.left <= 0:
            raise SourceUnreachable("the line is cut")
        self.office.take(path.split("/")[1], body)


class Branch:
    """One site that has joined."""

    def __init__(self, office: Office, tree: Path, root: Path, name: str, digests: list[str]) -> None:
        self.site = Site(root, dict.fromkeys(digests))  # type: ignore[arg-type]
        self.site.clock.jump(office.clock.now_s() - self.site.clock.now_s())
        self.line, folder = Line(tree, office), root / "sites"
        folder.mkdir()
        key, token = site_key(self.site.house.database), office.create(ACTOR, name, "")
        answer = office.join(ask(token, key.request(name), new_signing_key().public.text))
        (folder / "root.json").write_bytes(take_answer(token, answer).root)
        self.agent = Agent(
            folder=folder, joined=Joined(site=name, centre="https://centre.example", joined_s=1),
            link=lambda: self.line, switch=self.site.switch,
            reports=Reports(folder / "reports.json", name, key),
            sources=Sources(database=self.site.house.database, audit=root / "audit"), office=self.site.house.office,
            store=self.site.store, section=SitesSection, clock=self.site.clock, luck=lambda: 0.5,
        )  # fmt: skip

    def run(self, office: Office, seconds: int = 300) -> None:
        """Let time pass at the site, at its supervisor and at the centre."""
        end_s = self.site.clock.now_s() + seconds
        while self.site.clock.now_s() < end_s:
            pause_s = self.agent.turn()
            self.site.supervise()
            self.site.clock.advance(max(1.0, pause_s))
            if office.clock.now_s() < self.site.clock.now_s():
                office.clock.advance(self.site.clock.now_s() - office.clock.now_s())
                office.turn()

    @property
    def status(self) -> Status:
        return msgspec.json.decode((self.agent.folder / "status.json").read_bytes(), type=Status)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """A folder where a forced write costs nothing."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = open_office(tmp_path, tree=FolderLink(tmp_path / "tree"))  # type: ignore[arg-type]
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    return tiny_store(tmp_path_factory.mktemp("centre"), range(2))


def release(office: Office, store: ModelStore, name: str) -> str:
    office.release(ACTOR, publish_model(store, office.tree, name))
    return str(store.resolve(name).digest)


@pytest.fixture
def branches(office: Office, models: ModelStore, tmp_path: Path) -> Iterator[list[Branch]]:
    digests = [str(models.resolve(name).digest) for name in ("tiny0", "tiny1")]
    made = [Branch(office, tmp_path / "tree", tmp_path / name, name, digests) for name in ("north", "south")]
    for one in made:
        one.site.house.workshop.needed = {
            local_reference(f"tiny{at}", digest): 1 << 20 for at, digest in enumerate(digests)
        }
    yield made
    for one in made:
        one.site.house.database.close()


def test_a_version_comes_through_a_line_that_is_cut_again_and_again(
    office: Office, models: ModelStore, branches: list[Branch]
) -> None:
    north, digest = branches[0], release(office, models, "tiny0")
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "tiny0"}, "smoke")})
    office.publish()
    for _ in range(40):
        north.line.left = 300_000
        north.run(office, 60)
        if north.status.serving:
            break
    north.line.left = 1 << 60
    north.run(office)
    assert north.site.serving()["chat"] == local_reference("tiny0", digest)
    with office.database.read() as connection:
        seen = load_site(connection, "north").report
    assert seen is not None and [(one.alias, one.digest, one.state) for one in seen.served] == [
        ("chat", digest, "serving")
    ]
    assert seen.health == "good" and not list((north.agent.folder / "staging").iterdir())
    segments = [path for path in north.line.paths if path.startswith("segments/")]
    north.line.paths.clear()
    north.run(office, 60)
    assert segments and len(north.line.paths) <= 4, "nothing new costs two requests a poll"


def test_a_bad_version_is_stopped_in_its_first_wave(office: Office, models: ModelStore, branches: list[Branch]) -> None:
    north, south = branches
    release(office, models, "tiny0")
    office.assign(ACTOR, "all", {"serve": office.wishes({"chat": "tiny0"}, "smoke")})
    office.publish()
    for one in branches:
        one.run(office)
    good = north.site.serving()["chat"]
    bad = release(office, models, "tiny1")
    north.site.wrong[bad] = south.site.wrong[bad] = "it answers nothing"
    office.start(ACTOR, "all", office.wishes({"chat": "tiny1"}, "smoke"), "1,100%", 60)
    office.publish()
    for _ in range(4):
        north.run(office, 120)
        south.run(office, 120)
    with office.database.read() as connection:
        (rollout,) = load_rollouts(connection)
    assert rollout.state == "stopped" and rollout.wave == 0 and "failed" in rollout.why
    assert [one.site.serving()["chat"] for one in branches] == [good, good]
    assert bad in north.status.failed and not south.status.failed


def test_it_serves_on_without_news_holds_when_told_and_takes_a_stick(
    office: Office, models: ModelStore, branches: list[Branch], tmp_path: Path
) -> None:
    north, digest = branches[0], release(office, models, "tiny0")
    north.line.left = 0
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "tiny0"}, "none"), "offline_days": 30})
    office.publish()
    north.run(office, 600)
    assert "cut" in north.status.note and not north.status.serving
    assert north.agent._failures > 2 and len(north.line.paths) < 9, "it asks less and less often"
    stick = FolderLink(tmp_path / "tree")  # the same files, carried there
    north.agent.bring(stick)
    north.run(office, 120)
    assert north.site.serving()["chat"] == local_reference("tiny0", digest)
    assert north.status.until_s == north.status.news_s + 30 * 86_400
    until = (north.agent.folder / "until").read_text().split()
    assert float(until[0]) == pytest.approx(north.status.until_s, abs=2) and until[1:] == [
        "30",
        "centre.example",
    ]
    north.agent.bring(stick)
    assert north.status.waiting == 2, "the stick has yet to arrive"
    assert office.collect(stick) == 2
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "tiny0"}, "smoke"), "frozen": True})
    office.publish()
    north.agent.bring(stick)
    assert north.status.frozen and north.status.waiting <= 1, "what the centre says it has waits no more"


def test_parts_that_the_site_does_not_allow_are_reported_and_keep_the_models_out(
    office: Office, models: ModelStore, branches: list[Branch]
) -> None:
    north, digest = branches[0], release(office, models, "tiny0")
    before = north.site.serving()
    wish = {"serve": office.wishes({"chat": "tiny0"}, "smoke"), "policies": {"admission": "max_waiting = 1"}}
    office.assign(ACTOR, "north", wish)
    office.publish()
    north.run(office)
    assert north.site.serving() == before and "not allowed at this site" in north.status.note
    with office.database.read() as connection:
        report = load_site(connection, "north").report
    assert report is not None and [(one.state, one.wanted) for one in report.served] == [("failed", digest)]
    policies = {"admission": "", "cache": "ttl_s = 30"}
    office.assign(ACTOR, "north", {"policies": policies})
    office.publish()
    north.run(office)
    assert north.site.serving()["chat"] == local_reference("tiny0", digest)
    assert north.site.server.in_force.cache.ttl_s == 30 and not north.status.note


def test_the_next_certificate_is_taken_for_the_own_key_alone(
    office: Office, branches: list[Branch], tmp_path: Path
) -> None:
    north, south = branches
    office.publish()
    for one in branches:
        with office.database.write() as connection:
            site = load_site(connection, one.agent.joined.site)
            save_site(connection, replace(site, joined_s=site.joined_s - 3 * 365 * 86_400))
    office.turn()
    north.run(office, 60)
    with office.database.read() as connection:
        wants = {name: load_site(connection, name).want for name in ("north", "south")}
    pem = north.agent.folder / "site.pem"
    assert pem.read_text() == wants["north"].certificate and north.agent.reports.key.fits(pem.read_bytes())
    office.assign(ACTOR, "south", {"certificate": wants["north"].certificate})
    office.publish()
    south.run(office, 60)
    assert not (south.agent.folder / "site.pem").exists() and "not for the key of this site" in south.status.note
    assert south.agent.memory.attacks["forged"] > 0


def _report(office: Office, name: str = "north") -> SiteReport:
    with office.database.read() as connection:
        found = load_site(connection, name).report
    assert found is not None
    return found


def test_what_hinders_a_fetch_is_reported_and_no_reason_to_be_silent(
    office: Office, models: ModelStore, branches: list[Branch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    north = branches[0]
    release(office, models, "tiny0")
    hour = datetime.fromtimestamp(office.clock.now_s()) + timedelta(hours=3)
    wish = {
        "serve": office.wishes({"chat": "tiny0"}, "smoke"),
        "hours": f"{hour:%H:%M}-{hour + timedelta(hours=1):%H:%M}",
    }
    office.assign(ACTOR, "north", wish)
    office.publish()
    north.run(office, 900)
    report = _report(office)
    assert report.served[0].state == "fetching" and "hours" in report.note and office.clock.now_s() - report.at_s < 700
    stick = FolderLink(tmp_path / "tree")
    with monkeypatch.context() as patched:
        patched.setattr(fetch, "SPARE_BYTES", 1 << 60)
        assert "are free" in north.agent.bring(stick)
        office.assign(ACTOR, "north", {"hours": ""})
        office.publish()
        north.run(office, 900)
        report = _report(office)
        assert "are free" in report.note and office.clock.now_s() - report.at_s < 700
    assert north.agent.bring(stick) == "", "hours are for lines"


def test_a_long_fetch_stops_for_reports_and_for_what_is_wanted_now(
    office: Office, models: ModelStore, branches: list[Branch]
) -> None:
    north, line = branches[0], branches[0].line
    first = release(office, models, "tiny0")
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "tiny0"}, "smoke")})
    office.publish()
    read = line.read

    def slowly(path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        if path.startswith("segments/"):
            north.site.clock.advance(400)
        yield from read(path, start=start, limit=limit)

    line.read = slowly  # type: ignore[method-assign]
    north.agent.turn()
    north.site.clock.advance(1)
    north.agent.turn()
    assert 0 < _report(office).done < 1 and _report(office).served[0].state == "fetching"
    assert (north.agent.folder / "staging" / first.removeprefix("sha256:")).is_dir() and not north.status.note
    second = release(office, models, "tiny1")
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "tiny1"}, "smoke")})
    office.publish()
    north.agent.turn()
    assert [one.name for one in (north.agent.folder / "staging").iterdir()] == [second.removeprefix("sha256:")]


def test_a_clock_that_is_set_back_by_a_year_keeps_no_site_from_its_centre(
    office: Office, models: ModelStore, branches: list[Branch]
) -> None:
    north = branches[0]
    release(office, models, "tiny0")
    office.publish()
    north.run(office, 120)
    north.site.clock.jump(-365 * 86_400)
    office.assign(ACTOR, "north", {"serve": office.wishes({"chat": "tiny0"}, "smoke"), "offline_days": 1})
    office.publish()
    for _ in range(120):
        north.agent.turn()
        north.site.supervise()
        north.site.clock.advance(5)
        office.clock.advance(5)
    assert _report(office).served[0].state == "serving" and north.status.until_s > office.clock.now_s()


def test_a_stick_brings_back_as_many_reports_as_wait(office: Office, branches: list[Branch], tmp_path: Path) -> None:
    north = branches[0]
    office.publish()
    north.line.left = 0
    day = datetime.fromtimestamp(office.clock.now_s(), UTC).date().isoformat()
    rows = [Usage(day=day, tenant=f"t{at}", user="ann", model="chat", requests=1, prompt_tokens=1) for at in range(300)]
    SqlAuthority(north.site.house.database).report("w", (), rows)
    stick = FolderLink(tmp_path / "tree")
    north.agent.bring(stick)
    assert office.collect(stick) > 1
    with office.database.read() as connection:
        assert len(load_usage(connection, "north")) == 300
