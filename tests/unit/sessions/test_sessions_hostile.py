"""What people with ill will try at the log-in: planted sessions, forged forms, other hosts, replays, floods."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from console_house import GOOD, Browser, run

from ashore.control.sessions import Visit, hashing
from ashore.control.sessions.cookies import Cookies, name_of
from ashore.control.sessions.hashing import Hasher
from ashore.control.sessions.paths import next_of
from ashore.core.errors import AshoreError, Overloaded, PermissionDenied, TooManyAttempts, Unauthenticated

EVIL = (
    "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "http:evil.example",
    "javascript:alert(1)", "/console//evil.example", "/console/../v1/models", "/console/%2e%2e/v1", "/console/..%2fv1",
    "/console/%252e%252e/v1", "/consolevil", "/console@evil.example", "/console\r\nSet-Cookie: a=b", "/console\t//evil",
    "/v1/models", "/admin/v1/users", "console", "/console/%5c%5cevil", "/console/a?next=//evil\n",
    "/console/" + "a" * 2000, "/console#//evil",
    "/console/<script>", '/console/"onload="', " /console", "/console/\u2025/", "/Console",
)  # fmt: skip


@pytest.fixture
def member(rig: Any) -> Any:
    """The house, where dev has a password."""
    run(Browser(rig).redeem("dev", rig.invite("dev", rig.keys["sec"])))
    return rig


@pytest.mark.parametrize("page", EVIL)
@pytest.mark.parametrize("prefix", ["", "/ai"])
def test_a_log_in_leads_nowhere_else(page: str, prefix: str) -> None:
    visit = Visit(base="https://ai.corp.example", prefix=prefix)
    assert next_of(visit, page) == f"{prefix}/console"
    assert next_of(visit, prefix + page) == f"{prefix}/console"


@pytest.mark.parametrize("page", ["/console", "/console/models", "/console/audit?after=a%20b&limit=5", "/console/me/"])
def test_a_log_in_leads_back_to_a_page(page: str) -> None:
    assert next_of(Visit(base="https://x"), page) == page
    assert next_of(Visit(base="https://x", prefix="/ai"), f"/ai{page}") == f"/ai{page}"


def test_a_planted_cookie_becomes_nobodys_session(member: Any) -> None:
    async def story() -> None:
        attacker, victim = Browser(member), Browser(member)
        await attacker.open()
        planted = dict(attacker.cookies)
        victim.cookies = {**planted, "__Host-ashore": planted["__Host-ashore-visit"]}
        await victim.open()
        await victim.post("log_in", account="dev", password=GOOD)
        assert await victim.session() is not None
        attacker.cookies = {**planted, "__Host-ashore": planted["__Host-ashore-visit"]}
        assert await attacker.session() is None, "every log-in has a cookie of its own"

    run(story())


def test_made_up_cookies_cost_no_look_into_the_state(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_look(*_: object) -> None:
        raise AssertionError("the state was asked")

    monkeypatch.setattr(type(member.keeper), "_read", no_look)
    stranger, visit = Cookies(b"t" * 32).new("session"), Cookies(b"s" * 32).new("visit")
    for value in ("", "x", "x" * 64, "A" * 64, "\u00e9" * 64, stranger, stranger + "=", "a=b" * 20, visit):
        assert run(Browser(member, cookies={"__Host-ashore": value}).session()) is None


def test_the_state_holds_nothing_that_opens(member: Any) -> None:
    async def story() -> None:
        browser = Browser(member)
        await browser.log_in("dev")
        link, code = member.link(), member.invite("dev", member.keys["sec"], reset=True)
        with member.database.read() as connection:
            dump = "\n".join(connection.connection.iterdump())  # type: ignore[attr-defined]
        for secret in (*browser.cookies.values(), code, GOOD, *([link] if link else [])):
            assert secret not in dump
        assert not [act for act in member.recorder.acts if code in str(act) or GOOD in str(act)]

    run(story())


@pytest.mark.parametrize("how", ["no token", "another's token", "cross-site", "same-site", "no header", "other origin"])
def test_forms_that_another_site_sends_do_nothing(member: Any, how: str) -> None:
    async def story() -> None:
        browser, other = Browser(member), Browser(member)
        await browser.log_in("dev")
        await other.log_in("dev")
        session, others = await browser.session(), await other.session()
        assert session is not None and others is not None
        fields = {"csrf": session.csrf}
        visit = browser.posting()
        match how:
            case "no token":
                fields = {}
            case "another's token":
                fields = {"csrf": others.csrf}
            case "no header":
                visit = browser.visit()
            case "other origin":
                visit = browser.visit(origin_said="https://evil.example")
            case _:
                visit = browser.visit(fetch_site=how, origin_said=browser.base)
        with pytest.raises(PermissionDenied):
            member.sessions.check_post(visit, session, fields)
        for what in ("log_out", "enrol", "change_password", "step_up"):
            outcome = await getattr(member.sessions, what)(visit, {**fields, "password": GOOD, "proof": GOOD})
            assert isinstance(outcome.error, PermissionDenied), what
        assert await browser.session() is not None
        stranger = Browser(member)
        await stranger.open()
        sent = {**fields, "account": "dev", "password": GOOD}
        if how not in ("no token", "another's token"):
            sent["csrf"] = stranger.last.csrf
        held = replace(visit, cookie=stranger.visit().cookie)
        assert isinstance((await member.sessions.log_in(held, sent)).error, PermissionDenied), "log-in CSRF"

    run(story())


def test_the_token_of_the_form_before_log_in_is_worth_nothing_after(member: Any) -> None:
    async def story() -> None:
        browser = Browser(member)
        await browser.open()
        before = browser.last.csrf
        await browser.post("log_in", account="dev", password=GOOD)
        session = await browser.session()
        assert session is not None and session.csrf != before
        with pytest.raises(PermissionDenied):
            member.sessions.check_post(browser.posting(), session, {"csrf": before})
        member.sessions.check_post(browser.posting(), session, {}, token=session.csrf)

    run(story())


@pytest.mark.parametrize("base, origin, taken", [
    ("https://ai.corp.example", "10.0.0.7", True), ("http://127.0.0.1:8080", "127.0.0.1", True),
    ("http://localhost:8080", "::1", True), ("http://[::1]:8080", "", True),
    ("http://10.0.0.5:8080", "10.0.0.7", False),
    ("http://ai.corp.example", "127.0.0.1", False), ("http://127.0.0.1:8080", "10.0.0.7", False),
    ("http://127.0.0.1.evil.example", "127.0.0.1", False),
])  # fmt: skip
def test_a_password_travels_by_tls_or_not_at_all(member: Any, base: str, origin: str, taken: bool) -> None:
    browser = Browser(member, base=base, origin=origin)
    done = run(browser.log_in("dev"))
    assert (done.status == 303) is taken, done.error
    if not taken:
        assert "plain HTTP" in str(done.error)


def test_the_first_link_opens_once_for_minutes_and_here(fresh: Any) -> None:
    async def story() -> None:
        def here(token: str, **more: str) -> Any:
            return fresh.sessions.first(Visit(base="http://127.0.0.1:8080", origin="127.0.0.1", **more), token)

        old, token = fresh.link(), fresh.link()
        assert (await here(old)).status == 401, "replaced by the next"
        away = await fresh.sessions.first(Visit(base="http://127.0.0.1:8080", origin="10.0.0.7"), token)
        assert away.status == 403 and not away.cookies
        assert (await here(token, purpose="prefetch")).status == 204, "looking ahead uses nothing up"
        browser = Browser(fresh, base="http://127.0.0.1:8080", origin="127.0.0.1")
        opened = browser.take(await here(token))
        assert opened.goto == "/console"
        session = await browser.session()
        assert session is not None and session.principal.kind == "first-key"
        replayed = await here(token)
        assert replayed.status == 401 and not replayed.cookies
        late = fresh.link()
        fresh.clock.advance(601)
        assert (await here(late)).status == 401
        for guess in ("", "x", token[:-1], "0" * 5000):
            assert (await here(guess)).status == 401
        at_once = fresh.link()
        both = await asyncio.gather(here(at_once), here(at_once))
        assert sorted(one.status for one in both) == [303, 401]

    run(story())


def test_the_first_link_makes_the_administrators_and_ends_with_them(fresh: Any) -> None:
    async def story() -> None:
        browser = Browser(fresh, base="http://127.0.0.1:8080", origin="127.0.0.1")
        browser.take(await fresh.sessions.first(browser.visit(), fresh.link()))
        session = await browser.session()
        assert session is not None and session.is_fresh
        assert fresh.authority.decide(session.principal, "access:write", "first-administrators/auditor").allowed
        assert not fresh.authority.decide(session.principal, "server:reload", "server").allowed
        actor = replace(fresh.house.actor(fresh.house.first_key), principal=session.principal)
        roles = {"a": "system-administrator", "b": "security-officer", "c": "auditor"}
        keys = {name: fresh.house.make(actor, name, role) for name, role in roles.items()}
        fresh.reread()
        assert fresh.link() == "", "and there are no more links"
        assert len(fresh.office.sessions(fresh.house.actor(keys["b"]))) == 1
        await fresh.keeper.clear()
        assert not fresh.office.sessions(fresh.house.actor(keys["b"])), "the first key is dead"
        assert await browser.session() is None

    run(story())


def test_a_code_that_was_used_opens_nothing_anywhere(member: Any) -> None:
    async def story() -> None:
        member.rules = replace(member.rules, factor="all")
        first = Browser(member)
        await first.log_in("dev")
        secret = await first.enrol()
        member.clock.advance(90)
        code = first.code(secret)
        one, two = Browser(member), Browser(member, origin="10.0.0.8")
        for browser in (one, two):
            await browser.log_in("dev")
            await browser.open()
        both = await asyncio.gather(one.post("give_code", code=code), two.post("give_code", code=code))
        assert sorted(done.status for done in both) == [303, 401], "of two at once one is in"
        winner = one if one.last.status == 303 else two
        session = await winner.session()
        assert session is not None
        winner.last = replace(winner.last, csrf=session.csrf)
        assert (await winner.post("step_up", proof=code)).status == 401
        member.clock.advance(-30)
        early = Browser(member, origin="10.0.0.9")
        await early.log_in("dev")
        await early.open()
        assert (await early.post("give_code", code=early.code(secret))).status == 401, "nor one from before it"

    run(story())


def test_codes_cannot_be_tried_through(member: Any) -> None:
    async def story() -> None:
        member.rules = replace(member.rules, factor="all")
        first = Browser(member)
        await first.log_in("dev")
        await first.enrol()
        tried = 0
        for number in range(30):
            browser = Browser(member, origin=f"10.7.{number}.1")
            await browser.log_in("dev")
            if (await browser.open()).form != "code":
                assert isinstance((await browser.log_in("dev")).error, TooManyAttempts)
                break
            tried += isinstance((await browser.post("give_code", code="000000")).error, Unauthenticated)
        assert tried <= 5, "knowing the password gives no more tries"

    run(story())


def test_a_step_cannot_be_left_out(member: Any) -> None:
    async def story() -> None:
        member.rules = replace(member.rules, factor="all")
        browser = Browser(member)
        await browser.log_in("dev")
        await browser.enrol()
        half = Browser(member)
        await half.log_in("dev")
        await half.open()
        for what, fields in (
            ("enrol", {}), ("enrol", {"code": "000000"}), ("change_password", {"password": GOOD}),
            ("step_up", {"proof": GOOD}),
        ):  # fmt: skip
            done = await half.post(what, **fields)
            assert done.error is not None and not done.enrolment and await half.session() is None, what
            await half.open()
        assert half.last.form == "code"
        member.clock.advance(601)
        assert (await half.open()).form == "log-in", "a log-in that is not finished is forgotten"

    run(story())


def test_a_flood_of_log_ins_meets_a_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(hashing, "_matches", lambda *_: gate.wait(60))
    hasher = Hasher(memory_kib=64)

    async def story() -> None:
        begun = [asyncio.ensure_future(hasher.verify("x", "hash", origin=f"10.6.0.{n}")) for n in range(15)]
        await asyncio.sleep(0)
        begun.append(asyncio.ensure_future(hasher.verify("x", "hash", origin="10.6.0.0")))
        await asyncio.sleep(0)
        with pytest.raises(TooManyAttempts):  # one address has two at once
            await hasher.verify("x", "hash", origin="10.6.0.0")
        with pytest.raises(Overloaded) as refused:
            await hasher.verify("x", "hash", origin="10.6.0.99")
        assert refused.value.retry_after_s
        gate.set()
        assert await asyncio.gather(*begun) == [0] * 16
        assert await hasher.verify("x", "hash", origin="10.6.0.99") == 0, "there is room again"

    try:
        run(story())
    finally:
        gate.set()
        hasher.close()


def test_a_try_that_meets_the_line_is_held_against_nobody(member: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> int:
        raise Overloaded("full", retry_after_s=1.0)

    async def story() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(member.hasher, "verify", full)
            for _ in range(9):
                assert isinstance((await Browser(member).log_in("dev")).error, Overloaded)
        assert (await Browser(member).log_in("dev")).status == 303

    run(story())


def test_names_and_passwords_of_any_length_and_kind_are_answered(member: Any) -> None:
    async def story() -> None:
        member.rules = replace(member.rules, tries=20)
        for number, text in enumerate(
            ("", "\x00", "é" * 3000, "a\r\nb", "'; DROP TABLE login_account; --", "\ud7ff" * 9)
        ):
            browser = Browser(member, origin=f"10.4.{number}.1")
            for done in (await browser.log_in(text, text), await browser.redeem(text, text, text)):
                assert isinstance(done.error, AshoreError) and 400 <= done.status < 500

    run(story())


def test_cookie_headers_of_any_form_are_read() -> None:
    cookies = Cookies(b"s" * 32)
    value = cookies.new("session")
    visit = Visit(base="https://x")
    name = name_of(visit, "session")
    for header in (f"{name}={value}", f"a=b; {name}={value}; c", f"{name}={value}; {name}=planted"):
        assert cookies.read(replace(visit, cookie=header), "session") == value
    for header in (f"ashore={value}", f"__Secure-ashore={value}", f"{name}-visit={value}", f"{name}", "=" * 50_000):
        assert cookies.read(replace(visit, cookie=header), "session") == ""
