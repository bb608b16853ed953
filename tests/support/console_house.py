"""The console's log-in on one database, and browsers in front of it that keep cookies as browsers do."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from access_house import House

from ashore.control.directory import DirectoryLogIn
from ashore.control.sessions import Outcome, Session, Visit, factor
from ashore.control.sessions.cookies import Cookies
from ashore.control.sessions.gate import Gate
from ashore.control.sessions.hashing import Hasher
from ashore.control.sessions.keeper import Keeper
from ashore.control.sessions.model import Provider
from ashore.control.sessions.office import LogInOffice, make_first_link
from ashore.control.sessions.providers import Providers
from ashore.control.sessions.rules import DEFAULT, MLPS3, Rules
from ashore.control.sessions.section import ProviderSection
from ashore.control.sessions.service import Sessions
from ashore.control.sessions.steps import InForce, Steps
from ashore.data.authority import Acts, Directory, Doorkeeper, Issuer, PolicyAuthority
from ashore.data.authority import sql as access_sql

GOOD = "correct horse battery"
BETTER = "Correct-Horse-7"


async def no_network(*_: Any, **__: Any) -> bytes:
    raise AssertionError("nothing may be fetched")


@dataclass
class ConsoleHouse:
    """Everything on one database: what several workers of one state would have, in one."""

    house: House
    rules: Rules = DEFAULT
    providers: tuple[ProviderSection, ...] = ()
    issuers: tuple[Issuer, ...] = ()
    fetch: Callable[..., Awaitable[bytes]] = no_network
    local: bool = True
    directories: DirectoryLogIn | None = None
    secret: bytes = b"s" * 32

    def __post_init__(self) -> None:
        house = self.house
        self.clock, self.recorder, self.database = house.clock, house.recorder, house.database
        self.directory, self.authority = Directory(), PolicyAuthority()
        self.acts_ = Acts(self.database, self.recorder, self.clock)
        self.office = LogInOffice(self.acts_, changed=self.forget)
        cookies = Cookies(self.secret)
        self.keeper = Keeper(
            self.database, self.directory, self.clock, self.recorder, cookies,
            rules=lambda: self.rules, local=lambda: self.local,
            providers=lambda: [one.issuer for one in self.providers],
            directories=lambda: () if self.directories is None else self.directories.names,
        )  # fmt: skip
        self.hasher = Hasher(memory_kib=64)
        door = Doorkeeper(self.directory, self.clock, self.recorder)
        gate = Gate(self.database, self.clock, self.recorder, cookies)
        offered = tuple(Provider(name=one.issuer, title=one.title or one.issuer) for one in self.providers)
        self.steps = Steps(
            self.keeper, gate, self.hasher, self.acts_, door,
            in_force=lambda: InForce(rules=self.rules, local=self.local, providers=offered),
            directories=self.directories,
        )  # fmt: skip
        self.provided = Providers(
            self.keeper, self.steps, self.clock, fetch=self.fetch, all_strong=lambda: self.rules.factor == "all"
        )
        self.sessions = Sessions(self.keeper, self.steps, self.provided, self.authority)
        self.reread()

    def forget(self) -> None:
        self.keeper.forget()

    def reread(self) -> None:
        """Know what the state has now, as a worker does 200 ms after a change."""
        with self.database.read() as connection:
            accounts, gone = access_sql.changed_accounts(connection, -1)
            self.directory.take(
                tenants=access_sql.list_tenants(connection), accounts=accounts, gone=gone,
                keys=access_sql.changed_keys(connection, -1), whole=True,
            )  # fmt: skip
            self.authority.take(access_sql.load_policy(connection))
        self.keeper.forget()

    def invite(self, name: str, key: str, *, reset: bool = False) -> str:
        made = self.office.invite(self.house.actor(key), name, reset=reset)
        self.reread()
        return made.invitation

    def link(self) -> str:
        return make_first_link(self.database, self.acts_, int(self.clock.now_s()))

    def acts(self, action: str) -> list[str]:
        return [act.reason for act in self.recorder.acts if act.action == action]


@dataclass
class Browser:
    """Keeps cookies, and sends what browsers send."""

    at: ConsoleHouse
    base: str = "https://ai.corp.example"
    prefix: str = ""
    origin: str = "10.0.0.7"
    cookies: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    """Every `Set-Cookie` that came."""
    last: Outcome = field(default_factory=Outcome)

    def visit(self, **more: str) -> Visit:
        held = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return Visit(
            **{  # type: ignore[arg-type]
                "origin": self.origin, "base": self.base, "prefix": self.prefix, "cookie": held, "agent": "Firefox",
                **more,
            }
        )  # fmt: skip

    def posting(self, **more: str) -> Visit:
        return self.visit(**{"fetch_site": "same-origin", "origin_said": self.base, **more})

    def take(self, outcome: Outcome) -> Outcome:
        for header in outcome.cookies:
            self.seen.append(header)
            name, value = header.partition(";")[0].split("=", 1)
            if value:
                self.cookies[name] = value
            else:
                self.cookies.pop(name, None)
        self.last = outcome
        return outcome

    async def open(self, page: str = "") -> Outcome:
        """Go to the log-in page, or the page that it leads to next."""
        return self.take(await self.at.sessions.log_in_form(self.visit(), {"next": page}))

    async def post(self, what: str, *args: Any, **fields: str) -> Outcome:
        """Send a form with the token of the page before."""
        sent = {"csrf": self.last.csrf, **fields}
        return self.take(await getattr(self.at.sessions, what)(self.posting(), *args, sent))

    async def session(self, *, active: bool = True) -> Session | None:
        return await self.at.sessions.session_of(self.visit(), active=active)

    async def log_in(self, name: str, password: str = GOOD) -> Outcome:
        await self.open()
        return await self.post("log_in", account=name, password=password)

    async def redeem(self, name: str, invitation: str, password: str = GOOD) -> Outcome:
        self.take(await self.at.sessions.invitation_form(self.visit(), {}))
        return await self.post("redeem", account=name, invitation=invitation, new_password=password, again=password)

    async def enrol(self) -> bytes:
        """Set up a second factor; return its secret. The page before is the one that asks for it."""
        shown = self.last if self.last.enrolment else await self.open()
        assert shown.enrolment is not None
        secret = secret_of(shown.enrolment.uri)
        done = await self.post("enrol", code=self.code(secret))
        assert done.error is None and len(done.recovery_codes) == factor.NUM_RECOVERY
        return secret

    def code(self, secret: bytes) -> str:
        return factor.code_at(secret, int(self.at.clock.now_s()) // factor.STEP_S)


def secret_of(uri: str) -> bytes:
    """Read the picture as an authenticator does."""
    text = parse_qs(urlsplit(uri).query)["secret"][0]
    return base64.b32decode(text + "=" * (-len(text) % 8))


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


def attributes(header: str) -> Mapping[str, str]:
    """Return the attributes of a `Set-Cookie` header, by name in small letters."""
    parts = [part.strip().partition("=") for part in header.split(";")[1:]]
    return {name.lower(): value for name, _, value in parts}


def is_secret(text: str) -> bool:
    return bool(re.search(r"[A-Za-z0-9_-]{40,}", text))


__all__ = ["BETTER", "GOOD", "MLPS3", "Browser", "ConsoleHouse", "attributes", "is_secret", "run", "secret_of"]
