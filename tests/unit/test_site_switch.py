"""A site switches to what the centre wants: whole or not, back by itself, and through a kill at every step."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from site_home import ALIASES, Site, stage

from ashore.control.sites.rows import SITE
from ashore.control.sites.switch import local_reference
from ashore.core.errors import AshoreError, InvalidSpec, PermissionDenied
from ashore.data.authority.budgets import SqlAuthority
from ashore.kit.store import ModelCopy


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ModelCopy, Path]]:
    """Three versions of a tiny model as they are staged at a site: blobs named by their hashes."""
    return stage(tmp_path_factory.mktemp("centre"), range(3))


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder where a forced write costs nothing."""
    place = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=place if place.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def site(tmp_path: Path, parcels: dict[str, tuple[ModelCopy, Path]]) -> Iterator[Site]:
    one = Site(tmp_path / "site", parcels)
    yield one
    one.house.database.close()


def names(parcels: dict[str, Any]) -> tuple[str, str, str]:
    first, second, third = parcels
    return first, second, third


def test_a_want_is_applied_whole_and_the_one_before_is_the_way_back(site: Site, parcels: dict[str, Any]) -> None:
    first, second, third = names(parcels)
    for sequence, digest in enumerate((first, second, third), start=1):
        assert site.want(sequence, chat=digest, sort=digest)
        site.settle()
        assert set(site.serving().values()) == {local_reference("tiny", digest)}
    assert not site.want(4, chat=third, sort=third)
    kept = {one.digest for one in site.store.list()}
    assert kept == {second, third}, "the way back stays, older ones free the disk"
    former = site.switch.journal.former["chat"].release
    site.house.office.roll_back(SITE, "chat", to=former, why="by hand")
    assert site.serving()["chat"] == local_reference("tiny", second)


def test_one_bad_version_holds_up_the_whole_want_and_is_not_tried_again(site: Site, parcels: dict[str, Any]) -> None:
    first, second, _ = names(parcels)
    before = site.serving()
    site.wrong[second] = "it answers nothing"
    site.want(7, chat=first, sort=second)
    site.settle()
    assert site.serving() == before
    (failed,) = site.switch.journal.failed
    assert (failed.digest, failed.sequence, failed.why) == (second, 7, "it answers nothing")
    hosted = [c.release for c in site.house.office.book(SITE).courses.values() if c.state not in ("live", "retired")]
    assert hosted == [] and not site.store.list()
    assert not site.want(7, chat=first, sort=second)
    site.wrong.clear()
    assert site.want(8, chat=first, sort=second)
    site.settle()
    assert site.serving() == {"chat": local_reference("tiny", first), "sort": local_reference("tiny", second)}


def test_what_the_release_room_takes_back_takes_the_whole_want_back(site: Site, parcels: dict[str, Any]) -> None:
    first, second, _ = names(parcels)
    before = site.serving()
    site.want(1, chat=first, sort=second)
    while site.switch.journal.phase != "judging":
        site.switch.advance()
        site.supervise()
    new = site.house.office.book(SITE).aliases["sort"].releases[0]
    site.house.keeper.fell(new, "its hosts keep crashing", {})
    site.settle()
    assert site.serving() == before
    assert [one.digest for one in site.switch.journal.failed] == [second]


def test_without_memory_for_two_it_loads_in_place_of_the_live_one(
    tmp_path: Path, parcels: dict[str, tuple[ModelCopy, Path]]
) -> None:
    first, second, _ = names(parcels)
    site = Site(tmp_path / "site", parcels, free=1 << 10)
    site.want(1, chat=first)
    with pytest.raises(AshoreError):
        site.settle()  # not even one fits beside what makes no memory free
    site.house.workshop.free = 1 << 40
    site.settle()
    site.house.workshop.free = (256 << 20) + (1 << 19)  # what must be spare, and half of what one more needs
    site.wrong[second] = "it answers nothing"
    site.want(2, chat=second)
    site.settle()
    assert site.serving()["chat"] == local_reference("tiny", first)
    site.house.database.close()


CACHE = {"cache": "ttl_s = 30"}
BUDGET = '[[budget]]\nkind = "requests"\ncap = 9\ntenant = "acme"'


def test_parts_of_ashore_toml_come_with_the_models_and_go_back_with_them(site: Site, parcels: dict[str, Any]) -> None:
    first, second, _ = names(parcels)
    own = site.server.in_force
    assert site.want(1, CACHE, chat=first)
    assert site.server.in_force == own, "nothing before the models pass their gate"
    site.settle()
    assert site.server.in_force.cache.ttl_s == 30 and not site.want(1, CACHE, chat=first)
    site.wrong[second] = "it answers nothing"
    site.want(2, {}, chat=second)
    site.settle()
    assert site.server.in_force.cache.ttl_s == 30, "the want failed as a whole"
    site.want(3, {}, chat=first)
    site.settle()
    assert site.server.in_force == own and site.parts.now() == {}


def test_parts_go_back_when_a_model_of_the_want_goes_back(site: Site, parcels: dict[str, Any]) -> None:
    first, second, _ = names(parcels)
    own, before = site.server.in_force, site.serving()
    site.want(1, CACHE, chat=first, sort=second)
    while site.switch.journal.phase != "judging":
        site.switch.advance()
        site.supervise()
    assert site.server.in_force.cache.ttl_s == 30
    new = site.house.office.book(SITE).aliases["sort"].releases[0]
    site.house.keeper.fell(new, "its hosts keep crashing", {})
    site.settle()
    assert (site.serving(), site.server.in_force, site.parts.now()) == (before, own, {})


@pytest.mark.parametrize(
    "told", [{"admission": "max_waiting = 1"}, {"cache": "ttl_s = -1"}, {"cache": "max_bytes = 1048576"}, {"http": ""}]
)
def test_parts_that_are_not_allowed_or_broken_keep_the_whole_want_out(
    site: Site, parcels: dict[str, Any], told: dict[str, str]
) -> None:
    first, *_ = names(parcels)
    before, own = site.serving(), site.server.in_force
    with pytest.raises((PermissionDenied, InvalidSpec)):
        site.want(1, {**CACHE, **told}, chat=first)
    assert (site.serving(), site.server.in_force, site.switch.journal.phase) == (before, own, "idle")
    assert not site.store.list()


def test_parts_that_the_server_refuses_take_the_whole_want_back(site: Site, parcels: dict[str, Any]) -> None:
    first, *_ = names(parcels)
    before, own = site.serving(), site.server.in_force
    site.server.refuses = "no"
    site.want(1, CACHE, chat=first)
    site.settle()
    assert (site.serving(), site.server.in_force) == (before, own)
    assert [(one.digest, one.why) for one in site.switch.journal.failed] == [("ashore.toml", "no")]
    assert not site.want(1, CACHE, chat=first)
    site.server.refuses = ""
    assert site.want(2, CACHE, chat=first)


class _Deadly:
    """Kills this process before or after the n-th call of what it wraps."""

    def __init__(self, inner: Any, count: list[int], step: int) -> None:
        self._inner, self._count, self._step = inner, count, step

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        def call(*args: Any, **more: Any) -> Any:
            self._tick()
            done = found(*args, **more)
            self._tick()
            return done

        return call

    def _tick(self) -> None:
        self._count[0] += 1
        if self._count[0] == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def killed_at(step: int, work: Callable[[Callable[[Any], Any], list[int]], None]) -> Iterator[bool]:
    """Do it in a child that is killed at a step; yield whether it came through."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            count = [0]
            work(lambda one: _Deadly(one, count, step), count)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    yield code == 0


@pytest.mark.parametrize("bad", [False, True], ids=["good", "bad"])
def test_a_kill_at_every_step_leaves_old_or_new(in_memory: Path, parcels: dict[str, Any], bad: bool) -> None:
    first, second, _ = names(parcels)
    old = {"chat": local_reference("tiny", first), "sort": local_reference("tiny", first)}
    new = {"chat": local_reference("tiny", second), "sort": local_reference("tiny", second)}
    wrong, parts = {second: "it answers nothing"} if bad else {}, {**CACHE, "budgets": BUDGET}
    base = Site(in_memory / "base", parcels)
    base.want(1, chat=first, sort=first)
    base.settle()
    base.house.database.close()
    seen, step, came_through = set(), 0, False
    while not came_through:
        step += 2 if bad else 1  # the way there is the same: every other step of it is enough
        root = in_memory / f"s{step}"
        shutil.copytree(base.root, root, symlinks=True)

        def work(wrap: Callable[[Any], Any], count: list[int], root: Path = root) -> None:
            one = Site(root, parcels, wrong=wrong, wrap=wrap)
            one.want(2, parts, chat=second, sort=second)
            one.settle()

        with killed_at(step, work) as came_through:
            pass
        after = Site(root, parcels, wrong=wrong)
        at_once = after.serving()  # each alias has one release that answers
        assert all(at_once[alias] in (old[alias], new[alias]) for alias in ALIASES)
        after.settle()
        if after.want(2, parts, chat=second, sort=second):  # it died before it had begun
            after.settle()
        assert (after.server.in_force.cache.ttl_s == 30) != bad and after.parts.now() == ({} if bad else parts)
        assert [one.cap for one in SqlAuthority(after.house.database).rules()] == ([] if bad else [9])
        assert after.serving() == (old if bad else new)
        assert after.switch.journal.phase == "idle" and bool(after.switch.journal.failed) == bad
        states = {c.state for c in after.house.office.book(SITE).courses.values()}
        assert not states & {"warming", "shadow", "canary", "created"}
        seen.add(tuple(at_once.values()))
        after.house.database.close()
    assert step > 20
    assert bad or {tuple(old.values()), tuple(new.values())} <= seen
