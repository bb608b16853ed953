"""Logging in to the console: what opens, what does not, and what a session may then do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from console_house import BETTER, GOOD, Browser, attributes, run

from ashore.control.sessions.rules import MLPS3
from ashore.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, TooManyAttempts, Unauthenticated
from ashore.data.authority import KEY_CREATE_OWN, Binding
from ashore.kit.rights import SERVER


def test_an_invited_user_chooses_a_password_and_is_in(rig: Any) -> None:
    async def story() -> None:
        browser = Browser(rig)
        done = await browser.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        assert (done.status, done.goto) == (303, "/console")
        session = await browser.session()
        assert session is not None and session.principal.id == "dev" and session.way == "password"
        assert rig.authority.decide(session.principal, "infer", "model/chat").allowed
        assert session.notices == (), "who holds no office lacks nothing without a second factor"
        assert not rig.authority.decide(session.principal, "access:write", "tenant/default/user/x").allowed
        out = await browser.post("log_out", csrf=session.csrf)
        assert out.goto == "/console/log-in" and await browser.session() is None
        back = await browser.log_in("dev")
        assert back.goto == "/console" and (await browser.session()) is not None

    run(story())
    assert rig.acts("session:open") == ["", ""] and rig.acts("session:end") == ["logged out"]


def test_an_invitation_opens_once_and_for_a_day(rig: Any) -> None:
    async def story() -> None:
        code = rig.invite("dev", rig.keys["sec"])
        assert isinstance((await Browser(rig).redeem("sam", code)).error, Unauthenticated), "for dev alone"
        weak = await Browser(rig).redeem("dev", code, "short")
        assert (
            isinstance(weak.error, InvalidRequest) and weak.error.param == "new_password" and weak.form == "invitation"
        )
        assert (await Browser(rig).redeem("dev", code)).status == 303
        assert isinstance((await Browser(rig).redeem("dev", code)).error, Unauthenticated), "used"
        later = rig.invite("dev", rig.keys["sec"], reset=True)
        rig.clock.advance(86_401)
        assert isinstance((await Browser(rig).redeem("dev", later)).error, Unauthenticated)

    run(story())


def test_a_key_of_ones_own_stands_for_an_invitation(rig: Any) -> None:
    async def story() -> None:
        assert isinstance((await Browser(rig).redeem("sam", rig.keys["dev"])).error, Unauthenticated)
        browser = Browser(rig)
        first = await browser.redeem("sam", rig.keys["sam"])
        assert first.goto.startswith("/console/log-in") and await browser.session() is None, "sam holds an office"
        await browser.enrol()
        session = await browser.session()
        assert session is not None and session.has_factor and session.is_fresh
        assert rig.authority.decide(session.principal, "server:reload", "server").allowed

    run(story())
    assert rig.acts("factor:enrol") == [""]


def test_the_first_key_is_no_way_to_a_password(fresh: Any) -> None:
    refused = run(Browser(fresh).redeem("first-key", fresh.house.first_key))
    assert isinstance(refused.error, Unauthenticated)


def test_wrong_unknown_and_disabled_look_the_same(rig: Any) -> None:
    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        rig.invite("ann", rig.keys["ann"])
        known = await Browser(rig).log_in("dev", "wrong horse battery")
        others = [await Browser(rig).log_in(name) for name in ("nobody", "ann", "", "x" * 500, "ann'--")]
        rig.office.change(rig.house.actor(rig.keys["sec"]), "dev", disabled=True)
        others.append(await Browser(rig).log_in("dev"))
        for other in others:
            assert str(other.error) == str(known.error) and other.status == known.status == 401
            assert other.form == "log-in" and not other.goto

    run(story())


def test_an_unknown_account_costs_as_many_hashes_as_a_known_one(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ashore.control.sessions import hashing

    compared: list[str] = []
    right = hashing._matches

    def counted(password: str, phc: str) -> bool:
        compared.append(phc.rpartition("$")[0].rpartition("$")[0])
        return right(password, phc)

    monkeypatch.setattr(hashing, "_matches", counted)

    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        await Browser(rig).log_in("nobody")  # makes the hash that belongs to nobody
        compared.clear()
        await Browser(rig).log_in("dev", "wrong horse battery")
        known = [*compared]
        compared.clear()
        await Browser(rig).log_in("nobody")
        assert len(known) == 1 and compared == known, "one hash, with the same parameters"

    run(story())


def test_an_account_locks_and_opens_again_by_itself(rig: Any) -> None:
    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        for _ in range(5):
            assert isinstance((await Browser(rig).log_in("dev", "wrong horse battery")).error, Unauthenticated)
        locked = await Browser(rig).log_in("dev")
        assert isinstance(locked.error, TooManyAttempts) and locked.error.retry_after_s == 900
        sec = rig.house.actor(rig.keys["sec"])
        rig.invite("sam", rig.keys["sam"])
        assert [one.account.id for one in rig.office.accounts(sec, state="locked")] == ["dev"]
        assert [one.account.id for one in rig.office.accounts(sec, state="invited")] == ["sam"]
        assert not rig.office.accounts(sec, state="disabled")
        assert [one.account.id for one in rig.office.accounts(sec, search="DE")] == ["dev"]
        assert [one.account.id for one in rig.office.accounts(sec, limit=1, after="dev")] == ["sam"]
        unknown = Browser(rig)
        for _ in range(5):
            rig.clock.advance(31)  # the address has a count of its own
            await unknown.log_in("nobody")
        assert isinstance((await unknown.log_in("nobody")).error, TooManyAttempts), "as if there were such an account"
        rig.clock.advance(901)
        assert (await Browser(rig).log_in("dev")).status == 303

    run(story())
    assert rig.acts("account:lock")


def test_nobody_locks_out_a_browser_that_was_in_before(rig: Any) -> None:
    async def story() -> None:
        mine = Browser(rig)
        await mine.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        session = await mine.session()
        assert session is not None
        await mine.post("log_out", csrf=session.csrf)
        for number in range(200):  # whoever wants to lock dev out, from many addresses, for hours
            rig.clock.advance(60)
            await Browser(rig, origin=f"10.9.{number}.1").log_in("dev", "wrong horse battery")
        assert isinstance((await Browser(rig).log_in("dev")).error, TooManyAttempts), "a stranger's browser"
        assert (await mine.log_in("dev")).status == 303
        session = await mine.session()
        assert session is not None
        await mine.post("log_out", csrf=session.csrf)
        for _ in range(5):  # whoever has that very browser has a count of their own, and then is a stranger
            assert isinstance((await mine.log_in("dev", "wrong horse battery")).error, Unauthenticated)
        assert isinstance((await mine.log_in("dev")).error, TooManyAttempts)
        rig.office.unlock(rig.house.actor(rig.keys["sec"]), "dev")
        assert (await Browser(rig, origin="10.1.1.1").log_in("dev")).status == 303, "the security officer unlocked it"

    run(story())


def test_of_many_tries_at_once_no_more_are_looked_at(rig: Any) -> None:
    import asyncio

    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        rig.office.invite(rig.house.actor(rig.keys["dev"]), "dev", reset=True)
        browsers = [Browser(rig, origin=f"10.8.0.{number}") for number in range(40)]
        for browser in browsers:
            await browser.open()
        said = await asyncio.gather(
            *(browser.post("log_in", account="dev", password="wrong horse battery") for browser in browsers)
        )
        looked_at = [one for one in said if isinstance(one.error, Unauthenticated)]
        assert len(looked_at) <= 5

    run(story())


def test_a_code_is_asked_for_and_opens_once(rig: Any) -> None:
    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        rig.rules = replace(rig.rules, factor="all")
        browser = Browser(rig)
        await browser.log_in("dev")
        secret = await browser.enrol()
        codes = browser.last.recovery_codes
        rig.clock.advance(60)
        again = Browser(rig)
        asked = await again.log_in("dev")
        assert asked.goto.startswith("/console/log-in") and await again.session() is None
        assert (await again.open()).form == "code"
        code = again.code(secret)
        wrong = f"{(int(code) + 1) % 1_000_000:06}"
        assert isinstance((await again.post("give_code", code=wrong)).error, Unauthenticated)
        before = dict(again.cookies)
        assert (await again.post("give_code", code=code)).status == 303
        session = await again.session()
        assert session is not None and session.principal.factors == ("pwd", "otp")
        assert await Browser(rig, cookies=before).session() is None, "the cookie of the step before opens nothing"
        replay = Browser(rig)
        await replay.log_in("dev")
        await replay.open()
        assert isinstance((await replay.post("give_code", code=code)).error, Unauthenticated), "seen over a shoulder"
        assert (await replay.post("give_code", code=codes[0].upper().replace("-", " "))).status == 303
        third = Browser(rig)
        await third.log_in("dev")
        await third.open()
        assert isinstance((await third.post("give_code", code=codes[0])).error, Unauthenticated), "used"

    run(story())


def test_an_office_needs_a_proof_that_is_fresh(rig: Any) -> None:
    async def story() -> None:
        browser = Browser(rig)
        await browser.redeem("sec", rig.keys["sec"])
        secret = await browser.enrol()
        session = await browser.session()
        assert session is not None and session.principal == session.whole
        act = ("access:write", "tenant/default/user/new")
        assert rig.authority.decide(session.principal, *act).allowed
        rig.clock.advance(301)
        stale = await browser.session()
        assert stale is not None and not stale.is_fresh
        assert not rig.authority.decide(stale.principal, *act).allowed
        assert rig.authority.decide(stale.principal, "access:read", "tenant/*").allowed, "looking needs none"
        with pytest.raises(PermissionDenied) as refused:
            rig.authority.require(stale.principal, *act)
        assert rig.sessions.needs_proof(stale, refused.value)
        with pytest.raises(PermissionDenied) as never:
            rig.authority.require(stale.principal, "audit:export", "audit")
        assert not rig.sessions.needs_proof(stale, never.value), "no proof gives what the role does not"
        with pytest.raises(PermissionDenied) as door:
            rig.authority.require(stale.principal, KEY_CREATE_OWN, SERVER)
        assert rig.sessions.needs_proof(stale, door.value), "a key outlives the session"
        form = browser.take(await rig.sessions.step_up_form(browser.visit(), {"next": "/console/people"}))
        assert form.form == "step-up"
        assert isinstance((await browser.post("step_up", proof=GOOD)).error, Unauthenticated), (
            "the code, not the password"
        )
        before = dict(browser.cookies)
        done = await browser.post("step_up", proof=browser.code(secret), next="/console/people")
        assert done.goto == "/console/people"
        after = await browser.session()
        assert after is not None and after.is_fresh and after.id == session.id
        assert await Browser(rig, cookies=before).session() is None, "a new cookie"

    run(story())
    assert len(rig.acts("session:prove")) == 1


def test_who_gains_an_office_without_a_second_factor_can_look_alone(rig: Any) -> None:
    async def story() -> None:
        browser = Browser(rig)
        await browser.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        rig.house.book.grant(rig.house.actor(rig.keys["sec"]), add=[Binding("user/dev", "system-administrator")])
        rig.reread()
        session = await browser.session()
        assert session is not None and not rig.authority.decide(session.principal, "server:reload", "server").allowed
        assert any("second factor" in one for one in session.notices)
        browser.last = replace(browser.last, csrf=session.csrf)
        await browser.post("enrol")
        await browser.enrol()
        strong = await browser.session()
        assert strong is not None and rig.authority.decide(strong.principal, "server:reload", "server").allowed

    run(story())


def test_a_session_ends_when_nobody_uses_it_and_at_its_limit(rig: Any) -> None:
    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        idle = Browser(rig)
        await idle.log_in("dev")
        for _ in range(16):
            rig.clock.advance(60)
            session = await idle.session(active=False)
        assert session is None, "polling keeps none alive"
        busy = Browser(rig)
        await busy.log_in("dev")
        for _ in range(59):
            rig.clock.advance(600)
            assert await busy.session() is not None
        rig.clock.advance(601)
        assert await busy.session() is None, "ten hours are over"

    run(story())
    assert "nobody used it" in rig.acts("session:end") and "its time was over" in rig.acts("session:end")


def test_what_another_worker_saw_keeps_a_session_alive(rig: Any) -> None:
    from console_house import ConsoleHouse

    async def story() -> None:
        other = ConsoleHouse(rig.house)
        browser = Browser(rig)
        await browser.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        there = Browser(other, cookies=browser.cookies)
        assert await there.session() is not None
        rig.clock.advance(800)
        assert await there.session() is not None
        await other.keeper.flush()
        rig.clock.advance(200)
        assert await browser.session(active=False) is not None

    run(story())


def test_a_change_of_the_password_ends_the_other_sessions(rig: Any) -> None:
    async def story() -> None:
        mine, other = Browser(rig), Browser(rig)
        await mine.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        await other.log_in("dev")
        session = await mine.session()
        assert session is not None and await other.session() is not None
        asked = {"csrf": session.csrf, "password": GOOD}
        for new, again, param in (
            (GOOD, GOOD, "new_password"), ("dev-dev-dev-dev-1", "dev-dev-dev-dev-1", "new_password"),
            ("password12345", "password12345", "new_password"), (BETTER, GOOD, "again"),
        ):  # fmt: skip
            refused = await mine.post("change_password", **asked, new_password=new, again=again)
            assert refused.error is not None and refused.error.param == param, new
        before = dict(mine.cookies)
        done = await mine.post("change_password", **asked, new_password=BETTER, again=BETTER)
        assert done.status == 303 and await mine.session() is not None
        assert await other.session() is None and await Browser(rig, cookies=before).session() is None
        assert (await Browser(rig).log_in("dev")).status == 401
        assert (await Browser(rig).log_in("dev", BETTER)).status == 303

    run(story())


def test_an_expired_password_must_be_changed_before_anything_else(rig: Any) -> None:
    async def story() -> None:
        rig.rules = replace(MLPS3, factor="nobody")
        assert (await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]), GOOD)).error is not None
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]), BETTER)
        rig.clock.advance(85 * 86_400)
        browser = Browser(rig)
        await browser.log_in("dev", BETTER)
        session = await browser.session()
        assert session is not None and any("expires in 5 days" in one for one in session.notices)
        rig.clock.advance(6 * 86_400)
        browser = Browser(rig)
        await browser.log_in("dev", BETTER)
        assert await browser.session() is None
        asked = await browser.open()
        assert asked.form == "new-password" and asked.rules
        new = "Another-Horse-8"
        done = await browser.post("change_password", password=BETTER, new_password=new, again=new)
        assert done.status == 303 and await browser.session() is not None

    run(story())


def test_a_person_has_so_many_sessions_and_the_oldest_ends(rig: Any) -> None:
    async def story() -> None:
        rig.rules = replace(rig.rules, most_sessions=3)
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        browsers = [Browser(rig) for _ in range(4)]
        for browser in browsers:
            rig.clock.advance(1)
            await browser.log_in("dev")
        assert [await browser.session() is not None for browser in browsers] == [False, True, True, True]

    run(story())


def test_a_disabled_user_is_out_at_once(rig: Any) -> None:
    async def story() -> None:
        browser = Browser(rig)
        await browser.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        rig.house.people.change_account(rig.house.actor(rig.keys["sec"]), "user", "dev", disabled=True)
        rig.reread()
        assert await browser.session() is None
        assert (await Browser(rig).log_in("dev")).status == 401

    run(story())


def test_sessions_are_listed_and_ended_by_their_owner_and_the_security_officer(rig: Any) -> None:
    async def story() -> None:
        browsers = [Browser(rig) for _ in range(3)]
        await browsers[0].redeem("dev", rig.invite("dev", rig.keys["sec"]))
        for browser in browsers[1:]:
            await browser.log_in("dev")
        sec, dev, sam = (rig.house.actor(rig.keys[name]) for name in ("sec", "dev", "sam"))
        names = [row.id for row in rig.office.sessions(dev, account="dev")]
        assert len(names) == 3 == len(rig.office.sessions(sec))
        with pytest.raises(PermissionDenied):
            rig.office.sessions(dev)
        with pytest.raises(PermissionDenied):
            rig.office.end_session(sam, names[0])
        rig.office.end_session(dev, names[0])
        rig.office.end_session(sec, names[1])
        with pytest.raises(NotFound):
            rig.office.end_session(sec, names[1])
        assert len(rig.office.sessions(dev, account="dev")) == 1
        assert sum([await browser.session() is not None for browser in browsers]) == 1
        assert rig.office.end_sessions(sec, "dev") and not rig.office.sessions(sec)
        assert not [await one.session() for one in browsers if await one.session()]

    run(story())


def test_a_log_in_is_given_as_keys_are(rig: Any) -> None:
    sec, sam, dev = (rig.house.actor(rig.keys[name]) for name in ("sec", "sam", "dev"))
    with pytest.raises(PermissionDenied):
        rig.office.invite(dev, "sam", reset=False)
    with pytest.raises(PermissionDenied):
        rig.office.invite(sam, "dev", reset=False)
    with pytest.raises(PermissionDenied, match="only they"):
        rig.office.invite(sec, "ann", reset=False)
    assert rig.office.invite(sam, "sam", reset=False).invitation, "one's own, with a key"
    assert rig.office.invite(sec, "dev", reset=False).invitation
    with pytest.raises(NotFound):
        rig.office.invite(sec, "devv", reset=False)
    run(Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"])))
    with pytest.raises(Conflict, match="already") as there:
        rig.office.invite(sec, "dev", reset=False)
    assert "account reset dev" in there.value.hint
    from ashore.data.authority.offices import makers_of

    with rig.database.read() as connection:
        assert makers_of(connection, "dev") == {"dev", "sec"}, "who may have used the invitation"


def test_a_reset_takes_everything_away(rig: Any) -> None:
    async def story() -> None:
        rig.rules = replace(rig.rules, factor="all")
        browser = Browser(rig)
        await browser.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        await browser.enrol()
        assert await browser.session() is not None
        code = rig.invite("dev", rig.keys["sec"], reset=True)
        assert await browser.session() is None and (await Browser(rig).log_in("dev")).status == 401
        again = Browser(rig)
        assert (await again.redeem("dev", code)).error is None
        assert (await again.open()).form == "enrol", "the lost telephone counts no more"

    run(story())


def test_cookies_are_what_they_promise(rig: Any) -> None:
    async def story() -> None:
        await Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"]))
        for base, prefix, name, path in (
            ("https://ai.corp.example", "", "__Host-ashore", "/"),
            ("https://corp.example", "/ai", "__Secure-ashore", "/ai/console"),
            ("http://127.0.0.1:8080", "", "ashore-8080", "/console"),
        ):
            browser = Browser(rig, base=base, prefix=prefix, origin="127.0.0.1")
            await browser.open()
            await browser.post("log_in", account="dev", password=GOOD)
            assert await browser.session() is not None
            header = next(one for one in browser.seen if one.startswith(f"{name}="))
            said = attributes(header)
            assert said["path"] == path and "httponly" in said and said["samesite"] == "Strict"
            assert ("secure" in said) == base.startswith("https") and "domain" not in said and "max-age" not in said

    run(story())
