"""Ways to more than was given: restricted keys, locks wiped by refused tries, log-ins that outlive whose they were."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from console_house import BETTER, GOOD, Browser, run, secret_of

from ashore.control.access import KeyWish
from ashore.control.access.keyring import Keyring
from ashore.control.access.people import AccountWish
from ashore.control.sessions import sql
from ashore.control.sessions.gate import check_channel
from ashore.control.sessions.locks import Tries, after_failure, taken_back
from ashore.control.sessions.rules import DEFAULT
from ashore.core.errors import Conflict, PermissionDenied, TooManyAttempts, Unauthenticated
from ashore.data.authority import KeyScope
from ashore.data.authority.guessing import Guesses


@pytest.mark.parametrize(
    "scope", [KeyScope(actions=("infer",)), KeyScope(models=("chat",)), KeyScope(networks=("10.0.0.0/8",))]
)
def test_a_restricted_key_opens_no_log_in_of_its_owner(rig: Any, scope: KeyScope) -> None:
    """Whoever finds a key that may ask one model must not become its owner by it."""
    sec = rig.house.actor(rig.keys["sec"])
    narrow = Keyring(rig.acts_).create(sec, "sec", KeyWish(scope=scope)).secret
    run(Browser(rig).redeem("sec", rig.invite("sec", rig.keys["sec"])))
    actor = replace(sec, principal=rig.house.who(narrow, "10.0.0.9"))
    for reset in (True, False):
        with pytest.raises(PermissionDenied):
            rig.office.invite(actor, "sec", reset=reset)
    with pytest.raises(PermissionDenied):
        rig.office.change(actor, "sec", disabled=True)
    rig.reread()
    taken = run(Browser(rig).redeem("sec", narrow, BETTER))
    assert isinstance(taken.error, Unauthenticated), "nor does the key itself stand for an invitation"


def test_nobody_enables_what_a_security_officer_disabled(rig: Any) -> None:
    sec = rig.house.actor(rig.keys["sec"])
    run(Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"])))
    rig.office.change(sec, "dev", disabled=True)
    with pytest.raises(PermissionDenied):
        rig.office.change(rig.house.actor(rig.keys["dev"]), "dev", disabled=False)
    assert not rig.office.change(sec, "dev", disabled=False).local.disabled


def test_a_lock_outlives_tries_that_are_taken_back(rig: Any) -> None:
    """Tries that the line before the hasher refuses are no failures; nor may they undo those of others."""

    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        gate, visit = rig.steps.gate, Browser(rig).visit()
        refused = [await gate.begin(visit, "dev", DEFAULT) for _ in range(2)]
        for at in range(3):
            wrong = await gate.begin(replace(visit, origin=f"10.1.0.{at}"), "dev", DEFAULT)
            await gate.failed(visit, wrong, what="wrong password")
        for one in refused:
            await gate.released(one)
        with pytest.raises(TooManyAttempts):
            await gate.begin(visit, "dev", DEFAULT)

    run(story())


def test_what_is_taken_back_is_one_try_and_no_more() -> None:
    first, four = Tries(), Tries(failures=4, since_s=100, at_s=100)
    one = after_failure(first, DEFAULT, 100)
    assert taken_back(one, first, one) == first
    two = after_failure(one, DEFAULT, 101)
    assert taken_back(two, first, one).failures == 1
    locked = after_failure(four, DEFAULT, 102)
    assert locked.left_s(102) and taken_back(locked, four, locked) == four, "its own lock"
    assert taken_back(locked, first, one) == locked, "the lock of another"


def test_a_log_in_does_not_pass_to_a_later_user_of_the_same_name(rig: Any) -> None:
    async def story() -> None:
        sec, people = rig.house.actor(rig.keys["sec"]), rig.house.people
        gone = Browser(rig)
        await gone.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        assert await gone.session() is not None
        people.remove_account(sec, "user", "dev")
        rig.clock.advance(5)
        people.create_account(sec, AccountWish(id="dev", roles=("developer",)))
        rig.reread()
        assert await gone.session() is None, "the session of the one before"
        assert isinstance((await Browser(rig).log_in("dev")).error, Unauthenticated), "the password of the one before"
        new = Browser(rig)
        await new.redeem("dev", rig.invite("dev", rig.keys["sec"]), BETTER)
        assert await new.session() is not None
        assert isinstance((await Browser(rig).log_in("dev")).error, Unauthenticated)

    run(story())


def test_what_is_left_of_a_removed_user_is_cleared(rig: Any) -> None:
    run(Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"])))
    rig.house.people.remove_account(rig.house.actor(rig.keys["sec"]), "user", "dev")
    rig.reread()
    run(rig.keeper.clear())
    with rig.database.read() as connection:
        kept = "\n".join(connection.connection.iterdump())
    assert "argon2id" not in kept and 'INTO "login_device"' not in kept


def test_who_saw_a_second_factor_that_was_never_set_up_knows_nothing(rig: Any) -> None:
    """Somebody with the password alone must not plant a secret that its owner then confirms."""

    async def story() -> None:
        thief, owner = Browser(rig), Browser(rig)
        await owner.redeem("sam", rig.invite("sam", rig.keys["sam"]))
        await thief.log_in("sam")
        seen = (await thief.open()).enrolment
        assert seen is not None
        assert (await thief.open()).enrolment == seen, "the same while one session sets it up"
        secret = await owner.enrol()
        assert secret != secret_of(seen.uri)
        assert (await thief.post("enrol", code=thief.code(secret_of(seen.uri)))).error is not None

    run(story())


def test_a_reset_holds_against_what_was_under_way(rig: Any) -> None:
    """A password change and a log-in that began before a reset end after it."""

    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        changing, coming = Browser(rig), Browser(rig)
        await changing.log_in("dev")
        session = await changing.session()
        assert session is not None
        right = rig.hasher.hash

        async def late(password: str, *, origin: str) -> str:
            rig.invite("dev", rig.keys["sec"], reset=True)
            return str(await right(password, origin=origin))

        rig.hasher.hash = late
        done = await changing.post(
            "change_password", csrf=session.csrf, password=GOOD, new_password=BETTER, again=BETTER
        )
        assert isinstance(done.error, Unauthenticated) and await changing.session() is None
        rig.hasher.hash = right
        with rig.database.read() as connection:
            local = sql.find_account(connection, "dev")
        assert local is not None and not local.password and local.invitation, "the reset stands"
        row = rig.keeper.new_row(coming.visit(), stage="open", way="password", owner="dev", tenant="default")
        for cookie in await rig.keeper.open(coming.visit(), row):
            name, value = cookie.partition(";")[0].split("=", 1)
            coming.cookies[name] = value
        assert await coming.session() is None

    run(story())


def test_an_auditor_without_a_key_is_reset_with_consent_alone(rig: Any) -> None:
    sec = rig.house.actor(rig.keys["sec"])
    run(Browser(rig).redeem("ann", rig.invite("ann", rig.keys["ann"])))
    rig.house.make(sec, "eve", "auditor")  # the office stays held when ann's key is gone
    rig.house.people.consent(rig.house.actor(rig.keys["sam"]), "ann")
    Keyring(rig.acts_).revoke(sec, rig.house.who(rig.keys["ann"]).key_id)
    for act in (
        lambda: rig.office.invite(sec, "ann", reset=True),
        lambda: rig.office.change(sec, "ann", disabled=True),
    ):
        with pytest.raises(Conflict, match="consent"):
            act()
    rig.house.people.consent(rig.house.actor(rig.keys["sam"]), "ann")
    assert rig.office.invite(sec, "ann", reset=True).invitation


def test_a_proxy_that_nobody_vouches_for_makes_no_browser_local(fresh: Any) -> None:
    visit = Browser(fresh, base="http://127.0.0.1:8080", origin="127.0.0.1").visit()
    check_channel(visit)
    passed_on = replace(visit, passed_on=True)
    with pytest.raises(PermissionDenied):
        check_channel(passed_on)
    assert isinstance(run(fresh.sessions.first(passed_on, fresh.link())).error, PermissionDenied)


def test_sessions_end_with_the_way_that_they_came_by(rig: Any) -> None:
    browser = Browser(rig)
    run(browser.redeem("dev", rig.invite("dev", rig.keys["sec"])))
    assert run(browser.session()) is not None
    rig.local = False
    assert run(browser.session()) is None


def test_nobody_locks_out_the_browsers_behind_the_same_address(rig: Any) -> None:
    async def story() -> None:
        mine = Browser(rig)
        await mine.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        mine.cookies.pop("__Host-ashore")
        rig.steps.gate._guesses = Guesses()  # as after a restart
        insider = Browser(rig)
        for at in range(10):
            await insider.log_in(f"nobody-{at}")
        assert isinstance((await Browser(rig).log_in("dev")).error, TooManyAttempts)
        assert (await mine.log_in("dev")).status == 303

    run(story())
