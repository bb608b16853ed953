"""How long sessions live, by role, profile and way to log in, on a clock that the test turns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from console_house import GOOD, MLPS3, Browser, ConsoleHouse, run
from fake_provider import FakeProvider
from soft_authenticator import SoftAuthenticator

from ashore.control.access import AccountWish, KeyWish, People
from ashore.control.sessions import Session
from ashore.control.sessions.rules import DEFAULT, Rules

ROLES = ("system-administrator", "security-officer", "auditor", "model-owner", "developer", "viewer")
STRONG = "Correct-Horse-7"


class Person:
    """Somebody with one role, who logs in by one way and proves again by the same."""

    def __init__(self, rig: Any, folder: Path, *, role: str, way: str, rules: Rules) -> None:
        self.provider = FakeProvider(rig.clock, folder) if way == "provider" else None
        more = {}
        if self.provider is not None:
            more = {
                "providers": (self.provider.section(),), "issuers": (self.provider.issuer,),
                "fetch": self.provider.fetch,
            }  # fmt: skip
        self.at = ConsoleHouse(rig.house, rules=rules, **more)
        if self.provider is not None:
            run(self.at.provided.apply(self.at.providers, self.at.issuers, ()))
        name = "corp:alice" if way == "provider" else "alice"
        _, made = People(self.at.acts_).create_account(
            self.at.house.actor(rig.keys["sec"]),
            AccountWish(id=name, roles=(role,), key=None if way == "provider" else KeyWish()),
        )
        self.secret = "" if made is None else made.secret
        self.at.reread()
        self.way, self.browser = way, Browser(self.at)
        self.authenticator, self.totp = SoftAuthenticator(), b""

    async def log_in(self) -> Session:
        """Log in the first time by the key and set up what the rules want, then once more by the way of this person."""
        if self.way == "provider":
            await self._come_back(proof_again=False)
            return await self.session()
        await self.browser.redeem("alice", self.secret, STRONG)
        if await self.browser.session() is None:
            self.at.clock.advance(300)  # slow, and still in time
            assert (await self.browser.open()).form == "enrol"
            if self.way == "passkey":
                sent = self.authenticator.make(self.browser.last.passkey)
                await self.browser.post("passkeys", credential=sent, title="mine")
            else:
                self.totp = await self.browser.enrol()
        if self.way == "key":
            return await self.session()
        self.browser = Browser(self.at)
        self.at.clock.advance(60)
        await self.browser.log_in("alice", STRONG)
        if await self.browser.session() is None:
            self.at.clock.advance(300)
            assert (await self.browser.open()).form == "code"
            await self.browser.post("give_code", **self._proof("code"))
        return await self.session()

    async def session(self) -> Session:
        found = await self.browser.session()
        assert found is not None, self.browser.last
        return found

    async def step_up(self) -> None:
        if self.way == "provider":
            return await self._come_back(proof_again=True)
        self.browser.take(await self.at.sessions.step_up_form(self.browser.visit(), {}))
        done = await self.browser.post("step_up", **self._proof("proof"))
        assert done.error is None
        return None

    def _proof(self, name: str) -> dict[str, str]:
        if self.browser.last.passkey:
            return {"credential": self.authenticator.use(self.browser.last.passkey)}
        return {name: self.browser.code(self.totp) if self.totp else STRONG}

    async def _come_back(self, *, proof_again: bool) -> None:
        assert self.provider is not None
        if proof_again:
            self.browser.take(await self.at.sessions.step_up_form(self.browser.visit(), {}))
        else:
            await self.browser.open()
        sent = await self.browser.post("to_provider", "corp", **({"proof_again": "1"} if proof_again else {}))
        query = self.provider.authorize(sent.goto, amr=["pwd", "otp"])
        done = self.browser.take(await self.at.sessions.from_provider(self.browser.visit(), query))
        assert done.error is None


@pytest.mark.parametrize("way", ["key", "password", "passkey", "provider"])
@pytest.mark.parametrize("rules", [DEFAULT, MLPS3], ids=["default", "mlps3"])
@pytest.mark.parametrize("role", ROLES)
def test_a_session_lives_as_long_as_the_rules_say(rig: Any, tmp_path: Path, role: str, rules: Rules, way: str) -> None:
    async def until_it_ends(someone: Person, ends_s: int) -> None:
        """Work without a pause until the longest life is over."""
        while rig.clock.now_s() + rules.idle_s - 1 < ends_s:
            rig.clock.advance(rules.idle_s - 1)
            assert (await someone.session()).ends_s == ends_s
        rig.clock.advance(ends_s - rig.clock.now_s() - 1)
        assert await someone.browser.session() is not None, "a second before its longest life"
        rig.clock.advance(1)
        assert await someone.browser.session() is None

    someone = Person(rig, tmp_path, role=role, way=way, rules=rules)

    async def story() -> None:
        session = await someone.log_in()
        now_s = int(rig.clock.now_s())
        assert (session.ends_s - now_s, session.idle_ends_s - now_s) == (rules.longest_s, rules.idle_s)
        assert session.is_fresh
        rig.clock.advance(rules.fresh_s)
        assert not (await someone.session()).is_fresh
        await someone.step_up()
        proven = await someone.session()
        assert proven.is_fresh and proven.ends_s == session.ends_s, "a proof makes no session longer"
        await until_it_ends(someone, session.ends_s)
        assert (await someone.browser.open()).ended, "the log-in page says why it is there"

    run(story())
    assert rig.acts("session:end")[-1] == "its time was over"


@pytest.mark.parametrize("way", ["key", "password", "passkey", "provider"])
def test_a_session_that_nobody_uses_ends_after_the_idle_limit(rig: Any, tmp_path: Path, way: str) -> None:
    someone = Person(rig, tmp_path, role="auditor", way=way, rules=MLPS3)

    async def story() -> None:
        await someone.log_in()
        rig.clock.advance(MLPS3.idle_s - 1)
        assert await someone.browser.session(active=False) is not None
        rig.clock.advance(1)
        assert await someone.browser.session() is None
        assert (await someone.browser.open()).ended

    run(story())


def test_only_a_session_that_ended_is_said_to_have_ended(rig: Any) -> None:
    async def story() -> None:
        browser = Browser(rig)
        assert not (await browser.open()).ended, "a stranger had none"
        await browser.redeem("dev", rig.invite("dev", rig.keys["sec"]))
        session = await browser.session()
        assert session is not None
        await browser.post("log_out", csrf=session.csrf)
        assert not (await browser.open()).ended, "who logs out knows it"
        await browser.log_in("dev", GOOD)
        rig.clock.advance(DEFAULT.idle_s)
        assert (await browser.open()).ended
        assert not (await browser.log_in("dev", "wrong horse battery")).ended, "the error is what matters then"
        assert (await browser.log_in("dev", GOOD)).status == 303

    run(story())
