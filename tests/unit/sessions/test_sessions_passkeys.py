"""Passkeys: made, used and removed by an authenticator in memory, and everything that a false one tries."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from console_house import Browser, ConsoleHouse, run
from soft_authenticator import SoftAuthenticator, cbor

from ashore.control.access import AccountWish, People
from ashore.control.sessions import Visit
from ashore.control.sessions.cbor import read_cbor
from ashore.control.sessions.webauthn import domain_of, encoded
from ashore.core.errors import AshoreError, Conflict, InvalidRequest, PermissionDenied, TooManyAttempts, Unauthenticated


async def member(rig: Any, name: str = "dev") -> Browser:
    """Return a browser in which somebody is in, on the page of their passkeys."""
    browser = Browser(rig)
    if name != "dev":
        People(rig.acts_).create_account(rig.house.actor(rig.keys["sec"]), AccountWish(id=name, roles=("developer",)))
        rig.reread()
    await browser.redeem(name, rig.invite(name, rig.keys["sec"]))
    return await my_passkeys(browser)


async def my_passkeys(browser: Browser) -> Browser:
    session = await browser.session()
    assert session is not None
    await browser.post("passkeys", csrf=session.csrf)
    assert browser.last.form == "passkey" and browser.last.passkey, browser.last.error
    return browser


async def with_passkey(rig: Any, key: SoftAuthenticator, name: str = "dev") -> Browser:
    browser = await member(rig, name)
    done = await browser.post("passkeys", credential=key.make(browser.last.passkey), title="my telephone")
    assert done.form == "recovery-codes" and len(done.recovery_codes) == 10, done.error
    return browser


async def asked(rig: Any, name: str = "dev") -> Browser:
    """Return a browser that gave the password, and is asked for the second factor."""
    browser = Browser(rig)
    await browser.log_in(name)
    assert (await browser.open()).form == "code"
    return browser


@pytest.mark.parametrize("kind", ["p256", "edwards", "rsa"])
def test_a_passkey_is_a_second_factor(rig: Any, kind: Any) -> None:
    async def story() -> None:
        key = SoftAuthenticator(kind=kind)
        mine = await with_passkey(rig, key)
        session = await mine.session()
        assert session is not None and session.has_factor and session.principal.factors == ("pwd", "hwk")
        browser = await asked(rig)
        assert await browser.session() is None
        assert json.loads(browser.last.passkey)["allowCredentials"] == [{"type": "public-key", "id": encoded(key.id)}]
        assert (await browser.post("give_code", credential=key.use(browser.last.passkey))).status == 303
        session = await browser.session()
        assert session is not None and session.principal.factors == ("pwd", "hwk") and session.is_fresh
        rig.clock.advance(400)
        session = await browser.session()
        assert session is not None and not session.is_fresh
        browser.take(await rig.sessions.step_up_form(browser.visit(), {}))
        assert (await browser.post("step_up", credential=key.use(browser.last.passkey))).status == 303
        session = await browser.session()
        assert session is not None and session.is_fresh
        assert rig.acts("factor:enrol") and rig.acts("session:prove")
        out = rig.office.account(rig.house.actor(rig.keys["sec"]), "dev").local
        assert [one.title for one in out.passkeys] == ["my telephone"] and out.has_factor

    run(story())


def test_recovery_codes_of_a_passkey_open_once_and_a_removed_one_never(rig: Any) -> None:
    async def story() -> None:
        key = SoftAuthenticator()
        mine = await with_passkey(rig, key)
        codes = mine.last.recovery_codes
        browser = await asked(rig)
        assert (await browser.post("give_code", code=codes[0])).status == 303
        await my_passkeys(browser)
        assert browser.last.passkeys == ((encoded(key.id), "my telephone"),)
        session = await browser.session()
        assert session is not None
        browser.base = "https://10.0.0.7"  # where browsers give none, they are listed still
        await browser.post("passkeys", csrf=session.csrf)
        assert browser.last.passkeys == ((encoded(key.id), "my telephone"),) and not browser.last.passkey
        browser.base = "https://ai.corp.example"
        assert (await browser.post("passkeys", remove=encoded(key.id))).status == 303
        assert rig.acts("factor:remove") and await mine.session() is None, "other sessions ended"
        plain = Browser(rig)
        assert (await plain.log_in("dev")).status == 303 and await plain.session() is not None

    run(story())


def test_an_office_may_set_up_a_passkey_in_place_of_an_app(rig: Any) -> None:
    async def story() -> None:
        browser = Browser(rig)
        await browser.redeem("ann", rig.invite("ann", rig.keys["ann"]))
        await browser.open()
        assert browser.last.form == "enrol" and browser.last.enrolment is not None and browser.last.passkey
        key = SoftAuthenticator()
        await browser.post("passkeys", credential=key.make(browser.last.passkey))
        session = await browser.session()
        assert session is not None and session.has_factor and session.principal == session.whole

    run(story())


def test_a_password_alone_changes_no_factor_that_was_set_up_meanwhile(rig: Any) -> None:
    async def story() -> None:
        thief, owner, key, own = Browser(rig), Browser(rig), SoftAuthenticator(), SoftAuthenticator()
        await owner.redeem("ann", rig.invite("ann", rig.keys["ann"]))
        await thief.log_in("ann")
        await thief.open()
        assert thief.last.form == "enrol"
        question = thief.last.passkey
        await owner.open()
        await owner.post("passkeys", credential=key.make(owner.last.passkey))
        assert await owner.session() is not None
        for form in ({"credential": own.make(question)}, {"remove": encoded(key.id)}):
            said = await thief.post("passkeys", **form)
            assert isinstance(said.error, PermissionDenied), form
        assert await thief.session() is None
        out = rig.office.account(rig.house.actor(rig.keys["sec"]), "ann").local
        assert [one.id for one in out.passkeys] == [encoded(key.id)]

    run(story())


def test_who_must_have_a_second_factor_keeps_the_last_one(rig: Any) -> None:
    async def story() -> None:
        browser, key, other = Browser(rig), SoftAuthenticator(), SoftAuthenticator()
        await browser.redeem("ann", rig.invite("ann", rig.keys["ann"]))
        await browser.open()
        await browser.post("passkeys", credential=key.make(browser.last.passkey))
        await my_passkeys(browser)
        assert isinstance((await browser.post("passkeys", remove=encoded(key.id))).error, Conflict)
        await browser.post("passkeys", credential=other.make(browser.last.passkey))
        await my_passkeys(browser)
        assert (await browser.post("passkeys", remove=encoded(key.id))).status == 303

    run(story())


def test_a_reset_and_a_later_user_of_the_name_have_no_passkeys(rig: Any) -> None:
    async def story() -> None:
        key = SoftAuthenticator()
        await with_passkey(rig, key)
        rig.clock.advance(5)
        invitation = rig.invite("dev", rig.keys["sec"], reset=True)
        browser = Browser(rig)
        await browser.redeem("dev", invitation)
        session = await browser.session()
        assert session is not None and not session.has_factor
        await my_passkeys(browser)
        assert browser.last.passkeys == ()
        again = await browser.post("passkeys", credential=key.make(browser.last.passkey))
        assert again.form == "recovery-codes", "it may be registered anew"
        sec = rig.house.actor(rig.keys["sec"])
        People(rig.acts_).remove_account(sec, "user", "dev")
        rig.clock.advance(5)
        People(rig.acts_).create_account(sec, AccountWish(id="dev", roles=("developer",)))
        rig.reread()
        later = Browser(rig)
        await later.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        await my_passkeys(later)
        assert later.last.passkeys == ()

    run(story())


Lie = Callable[[SoftAuthenticator, str], str]
NEWER = {
    "another origin": lambda key, asked: replaced(key, origin="https://ai.corp.example.evil").make(asked),
    "another port": lambda key, asked: replaced(key, origin="https://ai.corp.example:8443").make(asked),
    "without TLS": lambda key, asked: replaced(key, origin="http://ai.corp.example").make(asked),
    "another domain": lambda key, asked: replaced(key, domain="corp.example").make(asked),
    "within a frame": lambda key, asked: replaced(key, cross=True).make(asked),
    "nobody there": lambda key, asked: replaced(key, flags=0x40).make(asked),
    "no key": lambda key, asked: replaced(key, flags=0x01).make(asked),
    "another challenge": lambda key, asked: key.make(json.dumps({"challenge": encoded(secrets.token_bytes(32))})),
    "no challenge": lambda key, asked: key.make(json.dumps({"challenge": ""})),
    "a proof": lambda key, asked: key.use(asked),
    "short RSA": lambda key, asked: key.make(asked, cose=rsa_key(b"\xff" * 128)),
    "RSA with leading zeros": lambda key, asked: key.make(asked, cose=rsa_key(bytes(128) + b"\xff" * 128)),
    "RSA that is even": lambda key, asked: key.make(asked, cose=rsa_key(b"\xff" * 255 + b"\xfe")),
    "RSA that anybody can sign": lambda key, asked: key.make(asked, cose={**rsa_key(b"\xff" * 256), -2: b"\1"}),
    "RSA with SHA-1": lambda key, asked: key.make(asked, cose={**rsa_key(b"\xff" * 256), 3: -65535}),
    "no point": lambda key, asked: key.make(asked, cose={1: 2, 3: -7, -1: 1, -2: bytes(32), -3: b"\1" * 32}),
    "another curve": lambda key, asked: key.make(asked, cose={**key.cose, -1: 2}),
    "no map": lambda key, asked: key.make(asked, raw=cbor([1, 2])),
    "no CBOR": lambda key, asked: key.make(asked, raw=b"\xff\xff"),
    "cut off": lambda key, asked: key.make(asked, raw=cbor({"authData": bytes(200)})[:-1]),
    "short": lambda key, asked: key.make(asked, raw=cbor({"authData": bytes(20)})),
    "no JSON": lambda key, asked: "{",
    "long": lambda key, asked: "x" * 20_000,
}  # fmt: skip


def rsa_key(modulus: bytes) -> dict[int, Any]:
    return {1: 3, 3: -257, -1: modulus, -2: b"\1\0\1"}


def replaced(key: SoftAuthenticator, **more: Any) -> SoftAuthenticator:
    for name, value in more.items():
        setattr(key, name, value)
    return key


@pytest.mark.parametrize("lie", NEWER.values(), ids=NEWER)
def test_a_false_passkey_is_not_kept(rig: Any, lie: Lie) -> None:
    async def story() -> None:
        browser = await member(rig)
        said = await browser.post("passkeys", credential=lie(SoftAuthenticator(), browser.last.passkey))
        assert isinstance(said.error, PermissionDenied | InvalidRequest | Unauthenticated) and not said.recovery_codes
        assert said.form == "passkey" and said.passkeys == ()

    run(story())


def test_a_question_is_answered_once_and_in_its_session_alone(rig: Any) -> None:
    async def story() -> None:
        key, other = SoftAuthenticator(), SoftAuthenticator()
        browser, eve = await member(rig), await member(rig, "eve")
        stolen = key.make(browser.last.passkey)
        assert isinstance((await eve.post("passkeys", credential=stolen)).error, PermissionDenied), "of another session"
        question = browser.last.passkey
        await browser.post("passkeys", credential=stolen)
        await my_passkeys(browser)
        assert isinstance((await browser.post("passkeys", credential=other.make(question))).error, PermissionDenied)
        late = browser.last.passkey
        rig.clock.advance(301)
        browser.take(await rig.sessions.step_up_form(browser.visit(), {}))
        assert (await browser.post("step_up", credential=key.use(browser.last.passkey))).status == 303
        session = await browser.session()
        assert session is not None
        said = await browser.post("passkeys", credential=other.make(late), csrf=session.csrf)
        assert isinstance(said.error, PermissionDenied), "too late"

    run(story())


def test_a_false_proof_opens_nothing_and_counts_as_a_failure(rig: Any) -> None:
    async def story() -> None:
        key, foreign, unknown = SoftAuthenticator(), SoftAuthenticator(), SoftAuthenticator()
        await with_passkey(rig, key)
        await with_passkey(rig, foreign, "eve")
        copy = SoftAuthenticator(id=key.id)  # the id is no secret
        lies: list[Callable[[str], str]] = [
            lambda asked: foreign.use(asked),
            lambda asked: unknown.use(asked),
            lambda asked: copy.use(asked),
            lambda asked: key.use(asked, spoil=b"x"),
            lambda asked: key.use(asked, kind="create"),
        ]
        rig.rules = replace(rig.rules, tries=20)
        for lie in lies:
            browser = await asked(rig)
            said = await browser.post("give_code", credential=lie(browser.last.passkey))
            assert isinstance(said.error, AshoreError) and await browser.session() is None
        assert len(rig.acts("session:refuse")) == len(lies)
        browser = await asked(rig)
        proof = key.use(browser.last.passkey)
        other = await asked(rig)
        assert isinstance((await other.post("give_code", credential=proof)).error, PermissionDenied), "another session"
        assert (await browser.post("give_code", credential=proof)).status == 303
        third = await asked(rig)
        assert isinstance((await third.post("give_code", credential=proof)).error, PermissionDenied), "replayed"
        rig.rules = replace(rig.rules, tries=3)
        for _ in range(3):
            await third.post("give_code", credential=copy.use(third.last.passkey))
        said = await third.post("give_code", credential=copy.use(third.last.passkey or '{"challenge": ""}'))
        assert isinstance(said.error, TooManyAttempts)

    run(story())


def test_a_passkey_that_was_copied_is_noticed_by_its_counter(rig: Any) -> None:
    async def story() -> None:
        key = SoftAuthenticator(counter=7)
        await with_passkey(rig, key)
        for counter, opens in ((8, True), (8, False), (3, False), (0, False), (9, True)):
            key.counter = counter
            browser = await asked(rig)
            said = await browser.post("give_code", credential=key.use(browser.last.passkey))
            assert (said.error is None) == opens, counter

    run(story())


def test_a_passkey_of_somebody_else_cannot_be_taken_over(rig: Any) -> None:
    async def story() -> None:
        key = SoftAuthenticator()
        await with_passkey(rig, key)
        eve = await member(rig, "eve")
        said = await eve.post("passkeys", credential=key.make(eve.last.passkey))
        assert said.error is not None and said.passkeys == ()
        gone = await eve.post("passkeys", remove=encoded(key.id))
        assert gone.error is not None
        browser = await asked(rig)
        assert (await browser.post("give_code", credential=key.use(browser.last.passkey))).status == 303

    run(story())


def test_passkeys_are_offered_where_browsers_give_them(rig: ConsoleHouse) -> None:
    for base, domain in (
        ("https://ai.corp.example", "ai.corp.example"), ("https://ai.corp.example:8443", "ai.corp.example"),
        ("http://ai.corp.example", ""), ("http://localhost:8080", "localhost"), ("http://127.0.0.1:8080", ""),
        ("https://10.0.0.7", ""), ("https://[::1]:8443", ""),
    ):  # fmt: skip
        assert domain_of(Visit(base=base)) == domain, base


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x18", b"\x1c", b"\x58\x05ab", b"\x01\x01", b"\xa2\x01\x01\x01\x02", b"\xa1\x81\x01\x01", b"\x9f\xff",
        b"\xc1\x01",
        b"\xf9\x00\x00", b"\x61\xff", b"\x98\xff", b"\x81" * 9 + b"\x01", b"\xbb" + b"\xff" * 8],
)  # fmt: skip
def test_a_reader_of_cbor_takes_only_what_authenticators_send(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_cbor(raw)
    value = {"a": [1, -2, 300, 1 << 33], -1: b"x" * 300, 2: True}
    assert read_cbor(cbor(value)) == value
