"""Log-in by an OpenID provider: what it opens, what a stranger in between can do, and how it ends."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from console_house import Browser, ConsoleHouse, attributes, run
from fake_provider import URL, FakeProvider

from ashore.control.access import AccountWish
from ashore.control.sessions import Outcome, Session, providers
from ashore.control.sessions.providers import is_strong
from ashore.core.errors import AshoreError, Overloaded, PermissionDenied, SourceUnreachable
from ashore.data.authority import Binding


class Corp:
    """A house whose people come from a provider."""

    def __init__(self, rig: Any, folder: Path, **section: Any) -> None:
        self.provider = FakeProvider(rig.clock, folder)
        said = self.provider.section(**section)
        self.rig = ConsoleHouse(
            rig.house, providers=(said,), issuers=(self.provider.issuer,), fetch=self.provider.fetch
        )
        self.keys = rig.keys
        run(self.rig.provided.apply((said,), (self.provider.issuer,), ()))

    async def leave(self, browser: Browser, page: str = "/console/models") -> str:
        await browser.open()
        assert [one.name for one in browser.last.providers] == ["corp"]
        sent = await browser.post("to_provider", "corp", next=page)
        assert sent.status == 303, sent.error
        return sent.goto

    async def back(self, browser: Browser, query: dict[str, str]) -> Outcome:
        return browser.take(await self.rig.sessions.from_provider(browser.visit(), query))

    async def log_in(self, browser: Browser, **claims: Any) -> Session | None:
        url = await self.leave(browser)
        await self.back(browser, self.provider.authorize(url, **claims))
        return await browser.session()


@pytest.fixture
def corp(rig: Any, tmp_path: Path) -> Corp:
    return Corp(rig, tmp_path)


def test_a_person_comes_in_with_the_rights_of_their_groups(corp: Corp) -> None:
    async def story() -> None:
        rig = corp.rig
        sec = rig.house.actor(corp.keys["sec"])
        rig.house.people.create_group(sec, "ml")
        rig.house.book.grant(sec, add=[Binding("group/ml", "developer")])
        rig.reread()
        browser = Browser(rig)
        session = await corp.log_in(browser, groups=["ml"], roles=["auditor", "viewer"], amr=["pwd", "otp"])
        assert browser.last.goto == "/console/models"
        assert session is not None and session.principal.id == "corp:alice" and session.way == "provider"
        assert rig.authority.decide(session.principal, "infer", "model/chat").allowed, "by the group"
        assert not rig.authority.decide(session.principal, "audit:search", "audit").allowed, "none by a token"
        asked = corp.provider.asked
        assert asked["redirect_uri"] == "https://ai.corp.example/console/oidc" and asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256" and len(asked["state"]) > 40 and len(asked["nonce"]) > 40
        header = next(one for one in browser.seen if one.startswith("__Host-ashore=") and "Max-Age=0" not in one)
        assert attributes(header)["samesite"] == "Lax", "else it would not come along on the way back"

    run(story())


def test_an_office_of_an_account_of_the_provider_needs_two_factors(corp: Corp) -> None:
    async def story() -> None:
        rig = corp.rig
        rig.house.people.create_account(
            rig.house.actor(corp.keys["sec"]),
            AccountWish(id="corp:alice", roles=("system-administrator",)),
        )  # fmt: skip
        rig.reread()
        act = ("server:reload", "server")
        weak = await corp.log_in(Browser(rig), amr=["pwd"])
        assert weak is not None and not rig.authority.decide(weak.whole, *act).allowed
        code = await corp.log_in(Browser(rig), amr=["otp"])
        assert code is not None and not rig.authority.decide(code.whole, *act).allowed, "a code alone is one factor"
        strong = await corp.log_in(Browser(rig), amr=["pwd", "otp"])
        assert strong is not None and rig.authority.decide(strong.principal, *act).allowed
        old = await corp.log_in(Browser(rig), amr=["mfa"], auth_time=int(rig.clock.now_s()) - 3600)
        assert old is not None and not old.is_fresh, "the provider asked an hour ago"

    run(story())


def test_a_fresh_proof_is_asked_of_the_provider(corp: Corp) -> None:
    async def story() -> None:
        browser = Browser(corp.rig)
        session = await corp.log_in(browser, amr=["mfa"])
        assert session is not None and session.is_fresh
        corp.rig.clock.advance(400)
        form = browser.take(await corp.rig.sessions.step_up_form(browser.visit(), {"next": "/console/people"}))
        assert form.form == "step-up" and not form.local and [one.name for one in form.providers] == ["corp"]
        sent = await browser.post("to_provider", "corp", next="/console/people", proof_again="1")
        lazy = corp.provider.authorize(sent.goto, amr=["mfa"], auth_time=int(corp.rig.clock.now_s()) - 400)
        assert corp.provider.asked["prompt"] == "login" and corp.provider.asked["max_age"] == "0"
        refused = await corp.back(browser, lazy)
        assert refused.error is not None and "anew" in str(refused.error)
        browser.take(await corp.rig.sessions.step_up_form(browser.visit(), {}))
        sent = await browser.post("to_provider", "corp", next="/console/people", proof_again="1")
        other = await corp.back(browser, corp.provider.authorize(sent.goto, sub="mallory"))
        assert isinstance(other.error, PermissionDenied), "somebody else's proof"
        browser.take(await corp.rig.sessions.step_up_form(browser.visit(), {}))
        sent = await browser.post("to_provider", "corp", next="/console/people", proof_again="1")
        done = await corp.back(browser, corp.provider.authorize(sent.goto, amr=["mfa"]))
        assert done.goto == "/console/people"
        after = await browser.session()
        assert after is not None and after.is_fresh and after.id == session.id

    run(story())


@pytest.mark.parametrize("how", [
    "state of nobody", "no state", "another browser", "twice", "late", "nonce", "issuer", "audience", "signature",
    "mix-up", "refused", "no code", "expired", "code of another",
])  # fmt: skip
def test_what_comes_back_wrong_opens_nothing(corp: Corp, how: str) -> None:
    async def story() -> None:
        browser = Browser(corp.rig)
        url = await corp.leave(browser)
        claims: dict[str, Any] = {
            "nonce": {"nonce": "planted"}, "issuer": {"iss": "https://evil.example"}, "audience": {"aud": "ashore"},
            "expired": {"exp": int(corp.rig.clock.now_s()) - 3600},
        }.get(how, {})  # fmt: skip
        query = corp.provider.authorize(url, **claims)
        comes = browser
        match how:
            case "state of nobody":
                query["state"] = "x" * 43
            case "no state":
                del query["state"]
            case "another browser":
                comes = Browser(corp.rig)
                await comes.open()
            case "twice":
                assert (await corp.back(browser, dict(query))).status == 303
                comes = browser
                await corp.rig.keeper.end((await corp.rig.keeper.find(browser.visit())).row, reason="x")  # type: ignore[union-attr]
            case "late":
                corp.rig.clock.advance(601)
            case "signature":
                corp.provider.key = FakeProvider(corp.rig.clock, corp.provider.folder / "..").key
            case "mix-up":
                query["iss"] = "https://evil.example"
            case "refused":
                query = {"error": "access_denied\r\n<script>", "state": query["state"]}
            case "no code":
                del query["code"]
            case "code of another":
                other = Browser(corp.rig)
                query["code"] = corp.provider.authorize(await corp.leave(other), sub="bob")["code"]
        done = await corp.back(comes, query)
        assert isinstance(done.error, AshoreError) and done.form == "log-in" and not done.goto, how
        assert await comes.session() is None
        assert str(done.error).isprintable()

    run(story())


def test_a_provider_that_speaks_for_another_is_not_asked(rig: Any, tmp_path: Path) -> None:
    corp = Corp(rig, tmp_path)

    async def other(url: str, egress: object, /, **_: object) -> bytes:
        evil = "https://evil.example"
        return json.dumps({"issuer": evil, "authorization_endpoint": evil, "token_endpoint": evil}).encode()

    corp.rig.provided._fetch = other  # type: ignore[assignment]

    async def story() -> None:
        browser = Browser(corp.rig)
        await browser.open()
        done = await browser.post("to_provider", "corp")
        assert isinstance(done.error, SourceUnreachable) and URL in str(done.error)
        assert (await browser.post("to_provider", "nobody")).status == 404

    run(story())


def test_a_token_of_one_provider_finishes_no_log_in_by_another(rig: Any, tmp_path: Path) -> None:
    """Both providers are known, and the token is signed and meant for this client; it is just not corp's."""
    corp = Corp(rig, tmp_path)
    other = msgspec.structs.replace(corp.provider.issuer, name="other", issuer="https://other.example")
    sections = corp.provider.section(), corp.provider.section(issuer="other")
    run(corp.rig.provided.apply(sections, (corp.provider.issuer, other), ()))

    async def story() -> None:
        for claims, comes_in in (({"iss": other.issuer}, False), ({}, True)):
            browser = Browser(corp.rig)
            await browser.open()
            url = (await browser.post("to_provider", "corp", next="/console")).goto
            done = await corp.back(browser, corp.provider.authorize(url, **claims))
            assert (await browser.session() is not None) is comes_in, done.error
            assert comes_in or "corp sent a token of other" in str(done.error)

    run(story())


def test_everybody_needs_two_factors_where_the_profile_says_so(rig: Any, tmp_path: Path) -> None:
    corp = Corp(rig, tmp_path)
    corp.rig.rules = replace(corp.rig.rules, factor="all")
    assert run(corp.log_in(Browser(corp.rig), amr=["pwd"])) is None
    assert run(corp.log_in(Browser(corp.rig), amr=["pwd", "otp"])) is not None
    always = Corp(rig, tmp_path, second_factor=True)
    always.rig.rules = replace(always.rig.rules, factor="all")
    assert run(always.log_in(Browser(always.rig))) is not None
    acr = Corp(rig, tmp_path, acr="gold")
    assert run(acr.log_in(Browser(acr.rig))) is None and acr.provider.asked["acr_values"] == "gold"
    assert run(acr.log_in(Browser(acr.rig), acr="gold")) is not None


def test_what_two_factors_are() -> None:
    assert is_strong(["mfa"]) and is_strong(["pwd", "otp"]) and is_strong(["hwk", "fpt"]) and is_strong(["hwk", "pin"])
    assert not is_strong([]) and not is_strong(["pwd"]) and not is_strong(["otp"]) and not is_strong(["pwd", "kba"])


@pytest.mark.parametrize("by", ["person", "session"])
def test_the_provider_ends_sessions(corp: Corp, by: str) -> None:
    async def story() -> None:
        browser, bob = Browser(corp.rig), Browser(corp.rig)
        assert await corp.log_in(browser, sid="s1") is not None
        assert await corp.log_in(bob, sub="bob", sid="s2") is not None
        claims = {"sub": "alice"} if by == "person" else {"sub": None, "sid": "s1"}
        token = corp.provider.logout_token(**claims)
        done = await corp.rig.sessions.ended_by_provider({"logout_token": token})
        assert done.status == 200 and await browser.session() is None and await bob.session() is not None
        assert await corp.log_in(browser, sid="s3") is not None
        again = await corp.rig.sessions.ended_by_provider({"logout_token": token})
        assert again.status == 400 and await browser.session() is not None, "a replay ends nothing"

    run(story())
    assert "corp ended it" in corp.rig.acts("session:end")


@pytest.mark.parametrize("wrong", [
    {"events": None}, {"events": {}}, {"nonce": "n"}, {"jti": None}, {"sub": None}, {"aud": "ashore"}, {"sub": 7},
    {"iss": "https://evil.example"}, {"exp": 1}, {"exp": None}, {"events": "x"},
])  # fmt: skip
def test_what_is_no_logout_token_ends_nothing(corp: Corp, wrong: dict[str, Any]) -> None:
    async def story() -> None:
        browser = Browser(corp.rig)
        assert await corp.log_in(browser) is not None
        token = corp.provider.logout_token(**wrong)
        for sent in (token, token[:-3], "", "a.b.c"):
            assert (await corp.rig.sessions.ended_by_provider({"logout_token": sent})).status == 400
        assert await browser.session() is not None

    run(story())


def test_a_new_key_of_the_provider_is_fetched_when_it_is_needed(corp: Corp) -> None:
    async def story() -> None:
        other = FakeProvider(corp.rig.clock, corp.provider.folder)
        corp.provider.key, corp.provider.kid = other.key, "b"
        corp.provider.publish()
        corp.rig.clock.advance(20)
        assert await corp.log_in(Browser(corp.rig)) is not None

    run(story())


def test_a_disabled_or_removed_person_is_out(corp: Corp) -> None:
    async def story() -> None:
        rig, sec = corp.rig, corp.rig.house.actor(corp.keys["sec"])
        browser = Browser(rig)
        assert await corp.log_in(browser) is not None
        rig.house.people.create_account(sec, AccountWish(id="corp:alice"))
        rig.house.people.change_account(sec, "user", "corp:alice", disabled=True)
        rig.reread()
        assert await browser.session() is None
        assert await corp.log_in(Browser(rig)) is None

    run(story())


def test_sessions_of_a_provider_end_with_it(corp: Corp) -> None:
    async def story() -> None:
        browser = Browser(corp.rig)
        assert await corp.log_in(browser) is not None
        corp.rig.providers = ()
        assert await browser.session() is None

    run(story())


def test_one_address_cannot_use_up_the_log_ins_of_all(corp: Corp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "MOST_OF_ONE", 3)

    async def story() -> None:
        for at in range(4):
            flood = Browser(corp.rig, origin=f"2001:db8::{at}")
            await flood.open()
            sent = await flood.post("to_provider", "corp")
        assert isinstance(sent.error, Overloaded)
        assert await corp.log_in(Browser(corp.rig)) is not None

    run(story())


def test_visitors_of_a_provider_that_hangs_ask_it_once(corp: Corp) -> None:
    async def story() -> None:
        corp.provider.hangs = asyncio.Event()
        visitors = [asyncio.create_task(corp.leave(Browser(corp.rig))) for _ in range(20)]
        while not corp.provider.fetched:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        corp.provider.hangs.set()
        assert len({*await asyncio.gather(*visitors)}) == 20, "each with a state of its own"
        assert corp.provider.fetched == [f"{URL}/.well-known/openid-configuration"]

    run(story())


@pytest.mark.parametrize("claims", [{"nonce": "\ud800"}, {"sid": "a\0b"}, {"sid": "\ud800"}])
def test_texts_that_no_state_keeps_break_nothing(corp: Corp, claims: dict[str, str]) -> None:
    async def story() -> None:
        browser = Browser(corp.rig)
        session = await corp.log_in(browser, **claims)
        assert (session is None) == ("nonce" in claims)
        assert "nonce" not in claims or isinstance(browser.last.error, PermissionDenied)

    run(story())
