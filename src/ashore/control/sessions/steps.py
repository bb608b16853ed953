"""Shared by the steps of a log-in: forms, their checks, and the transition to the next stage."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ashore.control.directory import TRIES, DirectoryLogIn
from ashore.control.sessions import factor, sql
from ashore.control.sessions.cookies import set_cookie
from ashore.control.sessions.gate import Gate, Trying, check_site, check_token
from ashore.control.sessions.hashing import Hasher
from ashore.control.sessions.keeper import Found, Keeper
from ashore.control.sessions.model import TYPED, Enrolment, Form, Outcome, Provider, Stage, Visit, Way, has_second
from ashore.control.sessions.paths import home
from ashore.control.sessions.rules import DEFAULT, Rules
from ashore.control.sessions.sql import LocalAccount, SessionRow
from ashore.control.sessions.webauthn import CHALLENGE_S, asked_to_make, asked_to_use, domain_of, new_challenge
from ashore.core.errors import AshoreError, NotFound, Overloaded, PermissionDenied, TooManyAttempts, Unauthenticated
from ashore.data.authority import SYSTEM, Acts, Authenticator, Principal
from ashore.kit.state import in_read, in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection


Fields = Mapping[str, str]

MOST_NAME_CHARS: Final = 128
MOST_PASSWORD_CHARS: Final = 1024
_FORMS: Final[Mapping[Stage, Form]] = {"code": "code", "enrol": "enrol", "new-password": "new-password"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """Current values of ashore.toml."""

    rules: Rules = DEFAULT
    local: bool = True
    providers: tuple[Provider, ...] = ()
    title: str = "ashore"
    """How authenticators name this server."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Shared steps. Used by the event loop of one worker."""

    keeper: Keeper
    gate: Gate
    hasher: Hasher
    acts: Acts
    authenticator: Authenticator
    _: KW_ONLY
    in_force: Callable[[], InForce]
    directories: DirectoryLogIn | None = None

    def first_form(
        self, visit: Visit, *, page: str = "", error: AshoreError | None = None, account: str = "",
        form: Form = "log-in",
    ) -> Outcome:  # fmt: skip
        """Return a form for a visitor without a session. A form without an error also reports an ended session."""
        in_force, cookies = self.in_force(), self.keeper.cookies
        value = cookies.read(visit, "visit")
        headers: tuple[str, ...] = ()
        if not value:
            value = cookies.new("visit")
            headers = (set_cookie(visit, "visit", value, strict=False),)
        return Outcome(
            status=200 if error is None else error.http_status, form=form, csrf=cookies.csrf(value), cookies=headers,
            values={"next": page or home(visit), "account": account[:MOST_NAME_CHARS]}, error=error,
            providers=in_force.providers,
            local=in_force.local or (self.directories is not None and bool(self.directories.names)),
            rules=in_force.rules.sentences() if form == "invitation" else (),
            ended=form == "log-in" and error is None and bool(cookies.read(visit, "session")),
        )  # fmt: skip

    async def form_of(
        self, visit: Visit, found: Found, page: str, error: AshoreError | None = None, *, form: Form | None = None
    ) -> Outcome:
        """Return the form that a session needs next, or `form`."""
        row = found.row
        shown = form or _FORMS[row.stage]
        csrf = self.keeper.cookies.csrf(self.keeper.cookies.read(visit, "session"))
        return Outcome(
            status=200 if error is None else error.http_status, form=shown, csrf=csrf, error=error,
            values={"next": page, "account": row.owner},
            rules=self.in_force().rules.sentences() if shown == "new-password" else (),
            enrolment=await self._enrolment(row) if shown == "enrol" else None,
            **await self._of_passkeys(visit, row, shown),
        )  # fmt: skip

    async def _of_passkeys(self, visit: Visit, row: SessionRow, shown: Form) -> dict[str, Any]:
        """Return a new challenge for passkeys, if this address allows them."""
        domain, uses = domain_of(visit), shown in ("code", "step-up")
        if row.way not in TYPED or not (uses or shown in ("enrol", "passkey")):
            return {}
        local = await self.local(row.owner)
        all_known = () if local is None else local.passkeys
        known = tuple(one for one in all_known if one.domain == domain)
        mine = tuple((one.id, one.title or one.domain) for one in all_known) if shown == "passkey" else ()
        if not domain or (uses and not known):
            return {"passkeys": mine}
        challenge, ends_s = new_challenge(), self.keeper.now_s + CHALLENGE_S
        await in_write(
            self.keeper.database, sql.save_challenge, row.digest, "use" if uses else "make", challenge, ends_s
        )
        if uses:
            return {"passkey": asked_to_use(challenge, domain=domain, known=known)}
        title = self.in_force().title
        asked = asked_to_make(challenge, domain=domain, issuer=title, account=row.owner, known=known)
        return {"passkey": asked, "passkeys": mine}

    def check_first(self, visit: Visit, fields: Fields) -> None:
        """Check that a form of a visitor without a session may be processed.

        Raises:
            PermissionDenied: another site sent it, or it was shown to another browser.
        """
        check_site(visit)
        value = self.keeper.cookies.read(visit, "visit")
        check_token(self.keeper.cookies.csrf(value) if value else "", fields.get("csrf", ""))

    async def check_posted(self, visit: Visit, fields: Fields) -> Found:
        """Return the session that a form was shown to.

        Raises:
            PermissionDenied: another site sent it, or it was shown in another session.
            Unauthenticated: the session has ended.
        """
        check_site(visit)
        found = await self.keeper.find(visit)
        if found is None:
            raise Unauthenticated("the session has ended", hint="log in again")
        csrf = self.keeper.cookies.csrf(self.keeper.cookies.read(visit, "session"))
        check_token(csrf, fields.get("csrf", ""))
        return found

    async def go_on(
        self,
        visit: Visit,
        who: Principal,
        local: LocalAccount,
        page: str,
        *,
        factors: tuple[str, ...],
        before: SessionRow | None = None,
        trying: Trying | None = None,
        way: Way = "password",
    ) -> Outcome:
        """Move a log-in to its next stage: request what is missing, or open the session."""
        stage = await self._stage(who, local, factors)
        if before is None:
            row = self.keeper.new_row(visit, stage=stage, way=way, owner=who.id, tenant=who.tenant)
        else:
            row = replace(before, stage=stage)
        row = replace(row, factors=factors)
        if stage != "open":
            if trying is not None:
                await self.gate.released(trying)
            cookies = await self.keeper.open(visit, row, replaces=before)
            return going(f"{home(visit)}/log-in?next={quoted(page)}", cookies)
        device = "" if trying is None else await self.gate.passed(visit, trying)
        now_s = self.keeper.now_s
        opened = replace(row, proof_s=now_s, active_s=now_s, ends_s=now_s + self.rules.longest_s)
        cookies = await self.keeper.open(visit, opened, replaces=before)
        if device:
            cookies = (*cookies, set_cookie(visit, "device", device, strict=True))
        await self.change(who.id, lambda one: replace(one, last_s=now_s))
        return going(page, cookies)

    async def _stage(self, who: Principal, local: LocalAccount, factors: tuple[str, ...]) -> Stage:
        rules = self.rules
        if local.has_factor and not has_second(factors):
            return "code"
        if not local.has_factor and await self.must_have_factor(who):
            return "enrol"
        if local.password and rules.max_age_s and self.keeper.now_s >= local.password_set_s + rules.max_age_s:
            return "new-password"
        return "open"

    async def must_have_factor(self, who: Principal) -> bool:
        """Return whether the rules require a second factor."""
        rules = self.rules
        if rules.factor != "offices":
            return rules.factor == "all"

        def look() -> bool:
            with self.acts.look(SYSTEM) as desk:
                return any(role.offices for role, _ in desk.compiled.roles_of(who))

        return await asyncio.to_thread(look)

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self.in_force().rules

    async def is_right(self, visit: Visit, trying: Trying, password: str, *hashes: str) -> bool:
        """Return whether a password matches one of the hashes. An attempt that cannot be checked now does not count."""
        try:
            return await self.hasher.verify(password, *hashes, origin=visit.origin) >= 0
        except (Overloaded, TooManyAttempts):
            await self.gate.released(trying)
            raise

    def rules_for(self, way: str) -> Rules:
        """Return the rules in force for a way: fewer tries where a directory counts wrong passwords, too."""
        return replace(self.rules, tries=min(self.rules.tries, TRIES)) if way == "directory" else self.rules

    def check_local(self) -> None:
        """Check that local accounts may log in.

        Raises:
            PermissionDenied: they may not.
        """
        if not self.in_force().local:
            raise PermissionDenied("local accounts may not log in here", hint="use the button of your provider")

    def person(self, account: str) -> Principal | None:
        """Return the principal of an account that may log in."""
        return self.keeper.person(account)

    async def local(self, account: str) -> LocalAccount | None:
        """Return a person's log-in; None: they have no password here."""
        return await in_read(self.keeper.database, sql.find_account, account)

    async def begin_local(self, local: LocalAccount) -> None:
        """Keep the log-in of a person whose password is elsewhere: for their second factor."""
        await in_write(self.keeper.database, sql.save_account, local)

    async def change(
        self,
        account: str,
        change: Callable[[LocalAccount], LocalAccount | None],
        record: Callable[[Connection], None] = lambda _: None,
    ) -> bool:
        """Change the current account in the state, if `change` returns another; return whether it changed. `record` is
        called in the transaction.
        """

        def save(connection: Connection) -> bool:
            local = sql.find_account(connection, account, change=True)
            changed = None if local is None else change(local)
            if changed is not None:
                sql.save_account(connection, changed)
                record(connection)
            return changed is not None

        done = await in_write(self.keeper.database, save)
        self.keeper.forget()
        return done

    async def end_others(self, row: SessionRow, reason: str, visit: Visit) -> None:
        """End every other session of a person, and forget their known browsers."""

        def end(connection: Connection) -> None:
            sql.forget_devices_of(connection, row.owner)
            for name in sql.end_sessions_of(connection, row.owner, but=row.digest):
                self.keeper.record("session:end", replace(row, id=name), visit, reason=reason, on=connection)

        await in_write(self.keeper.database, end)
        self.keeper.forget()

    async def again(
        self, visit: Visit, found: Found | None, page: str, fault: AshoreError, *, form: Form | None = None
    ) -> Outcome:
        """Return a session's form with an error; the first form if there is no session."""
        if found is None:
            return self.first_form(visit, page=page, error=fault)
        if found.row.stage == "open" and form is None:
            return going(page)
        return await self.form_of(visit, found, page, fault, form=form if found.row.stage == "open" else None)

    async def _enrolment(self, row: SessionRow) -> Enrolment:
        """Return the authenticator that a session is setting up; a new one if there is none."""
        account = row.owner

        def begin(connection: Connection) -> bytes:
            local = sql.find_account(connection, account, change=True)
            if local is None:
                raise NotFound(f"there is no local account {account}", hint="log in again")
            if local.factor_new and local.factor_session == row.id:
                return sql.open_factor(connection, account, local.factor_new)
            secret = factor.new_secret()
            sealed = sql.seal_factor(connection, account, secret)
            sql.save_account(connection, replace(local, factor_new=sealed, factor_session=row.id))
            return secret

        secret = await in_write(self.keeper.database, begin)
        uri = factor.uri_of(secret, account=account, issuer=self.in_force().title)
        return Enrolment(uri=uri, secret=factor.written(secret))


def going(page: str, cookies: tuple[str, ...] = ()) -> Outcome:
    """Return the outcome that redirects to a page."""
    return Outcome(status=303, goto=page, cookies=cookies)


def quoted(page: str) -> str:
    """Return a page as a parameter of an address."""
    return quote(page, safe="/")
