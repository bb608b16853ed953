"""The steps of a log-in that need no provider: password, code, second factor, new password, invitation, first link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal
from urllib.parse import quote

from ashore.access import SYSTEM, Acts, Authenticator, Principal
from ashore.access.model import WIDE
from ashore.errors import (
    AshoreError,
    InvalidRequest,
    NotFound,
    Overloaded,
    PermissionDenied,
    TooManyAttempts,
    Unauthenticated,
)
from ashore.sessions import factor, sql
from ashore.sessions.cookies import digest_of, set_cookie
from ashore.sessions.gate import Gate, Trying, check_channel, check_site, check_token, is_here
from ashore.sessions.hashing import Hasher, same
from ashore.sessions.keeper import Found, Keeper
from ashore.sessions.model import Enrolment, Form, Outcome, Provider, Stage, Visit
from ashore.sessions.paths import home, next_of
from ashore.sessions.rules import DEFAULT, Rules, weakness_of
from ashore.sessions.sql import LocalAccount, SessionRow

Fields = Mapping[str, str]
Proof = Literal["", "code", "recovery", "password"]

MOST_NAME_CHARS: Final = 128
MOST_PASSWORD_CHARS: Final = 1024
_WRONG: Final = "the account or the password is wrong"
_FORMS: Final[Mapping[Stage, Form]] = {"code": "code", "enrol": "enrol", "new-password": "new-password"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """What ashore.toml says now."""

    rules: Rules = DEFAULT
    local: bool = True
    providers: tuple[Provider, ...] = ()
    title: str = "ashore"
    """How authenticators name this server."""


class Doors:
    """Takes the forms. Used by the event loop of one worker."""

    def __init__(
        self,
        keeper: Keeper,
        gate: Gate,
        hasher: Hasher,
        acts: Acts,
        authenticator: Authenticator,
        *,
        in_force: Callable[[], InForce],
    ) -> None:
        self._keeper = keeper
        self._gate = gate
        self._hasher = hasher
        self._acts = acts
        self._authenticator = authenticator
        self._in_force = in_force

    # --- forms

    async def log_in_form(self, visit: Visit, query: Fields) -> Outcome:
        page = next_of(visit, query.get("next", ""))
        found = await self._keeper.find(visit)
        if found is not None:
            return await self._form_of(visit, found, page) if found.row.stage != "open" else _go(page)
        return self.first_form(visit, page=page)

    def first_form(
        self, visit: Visit, *, page: str = "", error: AshoreError | None = None, account: str = "",
        form: Form = "log-in",
    ) -> Outcome:  # fmt: skip
        """Return a form for somebody without a session."""
        in_force, cookies = self._in_force(), self._keeper.cookies
        value = cookies.read(visit, "visit")
        headers: tuple[str, ...] = ()
        if not value:
            value = cookies.new("visit")
            headers = (set_cookie(visit, "visit", value, strict=False),)
        return Outcome(
            status=200 if error is None else error.http_status, form=form, csrf=cookies.csrf(value), cookies=headers,
            values={"next": page or home(visit), "account": account[:MOST_NAME_CHARS]}, error=error,
            providers=in_force.providers, local=in_force.local,
            rules=in_force.rules.sentences() if form == "invitation" else (),
        )  # fmt: skip

    async def _form_of(
        self, visit: Visit, found: Found, page: str, error: AshoreError | None = None, *, form: Form | None = None
    ) -> Outcome:
        """Return the form that a session lacks, or `form`."""
        row = found.row
        shown = form or _FORMS[row.stage]
        csrf = self._keeper.cookies.csrf(self._keeper.cookies.read(visit, "session"))
        return Outcome(
            status=200 if error is None else error.http_status, form=shown, csrf=csrf, error=error,
            values={"next": page, "account": row.owner},
            rules=self._in_force().rules.sentences() if shown == "new-password" else (),
            enrolment=await self._enrolment(row) if shown == "enrol" else None,
        )  # fmt: skip

    def check_first(self, visit: Visit, fields: Fields) -> None:
        """Return when a form of somebody without a session may be looked at.

        Raises:
            PermissionDenied: another site sent it, or it was shown to another browser.
        """
        check_site(visit)
        value = self._keeper.cookies.read(visit, "visit")
        check_token(self._keeper.cookies.csrf(value) if value else "", fields.get("csrf", ""))

    async def check_posted(self, visit: Visit, fields: Fields) -> Found:
        """Return the session of a form that it was shown to.

        Raises:
            PermissionDenied: another site sent it, or it was shown in another session.
            Unauthenticated: the session has ended.
        """
        check_site(visit)
        found = await self._keeper.find(visit)
        if found is None:
            raise Unauthenticated("the session has ended", hint="log in again")
        csrf = self._keeper.cookies.csrf(self._keeper.cookies.read(visit, "session"))
        check_token(csrf, fields.get("csrf", ""))
        return found

    # --- password and code

    async def log_in(self, visit: Visit, fields: Fields) -> Outcome:
        page, name = next_of(visit, fields.get("next", "")), fields.get("account", "").strip()[:MOST_NAME_CHARS]
        try:
            self.check_first(visit, fields)
            check_channel(visit)
            self._check_local()
            self._hasher.check_room(visit.origin)
            trying = await self._gate.begin(visit, name, self._rules)
            password = fields.get("password", "")[:MOST_PASSWORD_CHARS]
            local = await self._local(name)
            hashes = (local.password,) if local is not None and local.password else ()
            right = await self._is_right(visit, trying, password, *hashes)
            who = self._person(name) if right and local is not None and not local.disabled else None
            if who is None or local is None:
                await self._gate.failed(visit, trying, what="disabled" if right else "wrong password")
                raise Unauthenticated(_WRONG, hint="check both; a security officer resets a forgotten password")
            if not self._hasher.is_current(local.password):
                phc = await self._hasher.hash(password, origin=visit.origin)
                await self._change(
                    name, lambda one: replace(one, password=phc) if one.password == local.password else None
                )
            return await self._go_on(visit, who, local, page, factors=("pwd",), trying=trying)
        except AshoreError as fault:
            return self.first_form(visit, page=page, error=fault, account=name)

    async def give_code(self, visit: Visit, fields: Fields) -> Outcome:
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self.check_posted(visit, fields)
            if found.row.stage != "code":
                return _go(f"{home(visit)}/log-in")
            trying = await self._gate.begin(visit, found.row.owner, self._rules)
            if not await self._take_code(found.row.owner, fields.get("code", "")):
                await self._gate.failed(visit, trying, what="wrong code", tenant=found.row.tenant)
                raise Unauthenticated(
                    "the code is wrong, or was used before", hint="wait for the next one; check the telephone's clock",
                    param="code",
                )  # fmt: skip
            who, local = self._person(found.row.owner), await self._local(found.row.owner)
            if who is None or local is None or local.disabled:
                raise Unauthenticated("the account is disabled", hint="ask a security officer")
            return await self._go_on(
                visit, who, local, page, factors=(*found.row.factors, "otp"), before=found.row, trying=trying
            )
        except AshoreError as fault:
            return await self._again(visit, found, page, fault)

    async def _take_code(self, account: str, given: str) -> Proof:
        """Use up a code of the authenticator or a recovery code; return which it was."""
        given = given.strip()[:100]

        def take() -> Proof:
            with self._keeper.database.write() as connection:
                local = sql.find_account(connection, account, change=True)
                if local is None or not local.factor:
                    return ""
                if factor.is_code(given.replace(" ", "")):
                    secret = sql.open_factor(connection, account, local.factor)
                    code = given.replace(" ", "")
                    step = factor.step_of(secret, code, self._keeper.now_s, after=local.factor_step)
                    if step is None:
                        return ""
                    sql.save_account(connection, replace(local, factor_step=step))
                    return "code"
                digest = factor.digest_of_recovery(given)
                left = tuple(one for one in local.recovery if not same(one, digest))
                if len(left) == len(local.recovery):
                    return ""
                sql.save_account(connection, replace(local, recovery=left))
                return "recovery"

        return await asyncio.to_thread(take)

    async def _go_on(
        self,
        visit: Visit,
        who: Principal,
        local: LocalAccount,
        page: str,
        *,
        factors: tuple[str, ...],
        before: SessionRow | None = None,
        trying: Trying | None = None,
    ) -> Outcome:
        """Bring a log-in to its next stage: ask for what is missing, or open the session."""
        stage = await self._stage(who, local, factors)
        if before is None:
            row = self._keeper.new_row(visit, stage=stage, way="password", owner=who.id, tenant=who.tenant)
        else:
            row = replace(before, stage=stage)
        row = replace(row, factors=factors)
        if stage != "open":
            if trying is not None:
                await self._gate.released(trying)
            cookies = await self._keeper.open(visit, row, replaces=before)
            return _go(f"{home(visit)}/log-in?next={_quoted(page)}", cookies)
        device = "" if trying is None else await self._gate.passed(visit, trying)
        now_s = self._keeper.now_s
        cookies = await self._keeper.open(visit, self._keeper.opened(row, proof_s=now_s), replaces=before)
        if device:
            cookies = (*cookies, set_cookie(visit, "device", device, strict=True))
        await self._change(who.id, lambda one: replace(one, last_s=now_s))
        return _go(page, cookies)

    async def _stage(self, who: Principal, local: LocalAccount, factors: tuple[str, ...]) -> Stage:
        rules = self._rules
        if local.factor and "otp" not in factors:
            return "code"
        if not local.factor and await self.must_have_factor(who):
            return "enrol"
        if rules.max_age_s and self._keeper.now_s >= local.password_set_s + rules.max_age_s:
            return "new-password"
        return "open"

    async def must_have_factor(self, who: Principal) -> bool:
        """Return whether the rules want a second factor of somebody."""
        rules = self._rules
        if rules.factor != "offices":
            return rules.factor == "all"

        def look() -> bool:
            with self._acts.look(SYSTEM) as desk:
                return any(role.offices for role, _ in desk.compiled.roles_of(who))

        return await asyncio.to_thread(look)

    # --- the second factor

    async def enrol(self, visit: Visit, fields: Fields) -> Outcome:
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self.check_posted(visit, fields)
            row = found.row
            if row.way != "password" or row.stage not in ("enrol", "open"):
                raise PermissionDenied("a second factor belongs to a local account", hint="log in with a password")
            if row.stage == "open" and self._keeper.now_s - row.proof_s >= self._rules.fresh_s:
                return _go(f"{home(visit)}/step-up?next={_quoted(page)}")
            code = fields.get("code", "").replace(" ", "")
            if not code:
                return await self._form_of(visit, found, page, form="enrol")
            codes = await self._confirm(row, code)
            if not codes:
                raise Unauthenticated(
                    "the code is wrong", hint="scan the picture, then type the code that is shown now", param="code"
                )
            who, local = self._person(row.owner), await self._local(row.owner)
            if who is None or local is None:
                raise Unauthenticated("the account is disabled", hint="ask a security officer")
            self._keeper.record("factor:enrol", row, visit)
            outcome = await self._after_factor(visit, who, local, row, page)
            shown = replace(outcome, status=200, goto="", form="recovery-codes", recovery_codes=codes)
            return replace(shown, values={"next": outcome.goto or page})
        except AshoreError as fault:
            return await self._again(visit, found, page, fault, form="enrol")

    async def _after_factor(
        self, visit: Visit, who: Principal, local: LocalAccount, row: SessionRow, page: str
    ) -> Outcome:
        factors = tuple(dict.fromkeys((*row.factors, "otp")))
        if row.stage != "open":
            return await self._go_on(visit, who, local, page, factors=factors, before=row)
        await self._end_others(row, "the second factor was changed", visit)
        new = replace(row, factors=factors, proof_s=self._keeper.now_s)
        return _go(page, await self._keeper.open(visit, new, replaces=row))

    async def _enrolment(self, row: SessionRow) -> Enrolment:
        """Return the authenticator that a session sets up; a new one where it has none."""
        account = row.owner

        def begin() -> bytes:
            with self._keeper.database.write() as connection:
                local = sql.find_account(connection, account, change=True)
                if local is None:
                    raise NotFound(f"there is no local account {account}", hint="log in again")
                if local.factor_new and local.factor_session == row.id:
                    return sql.open_factor(connection, account, local.factor_new)
                secret = factor.new_secret()
                sealed = sql.seal_factor(connection, account, secret)
                sql.save_account(connection, replace(local, factor_new=sealed, factor_session=row.id))
                return secret

        secret = await asyncio.to_thread(begin)
        uri = factor.uri_of(secret, account=account, issuer=self._in_force().title)
        return Enrolment(uri=uri, secret=factor.written(secret))

    async def _confirm(self, row: SessionRow, code: str) -> tuple[str, ...]:
        """Make the authenticator that is being set up the one that counts; return new recovery codes, none if not."""

        def confirm() -> tuple[str, ...]:
            with self._keeper.database.write() as connection:
                local = sql.find_account(connection, row.owner, change=True)
                if local is None or local.factor_session != row.id or not local.factor_new or not factor.is_code(code):
                    return ()
                secret = sql.open_factor(connection, row.owner, local.factor_new)
                step = factor.step_of(secret, code, self._keeper.now_s, after=0)
                if step is None:
                    return ()
                codes = factor.new_recovery_codes()
                kept = tuple(factor.digest_of_recovery(one) for one in codes)
                changed = replace(local, factor=local.factor_new, factor_new="", factor_step=step, recovery=kept)
                sql.save_account(connection, changed)
                return codes

        return await asyncio.to_thread(confirm)

    # --- passwords

    async def change_password(self, visit: Visit, fields: Fields) -> Outcome:
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self.check_posted(visit, fields)
            row = found.row
            if row.way != "password" or row.stage not in ("new-password", "open"):
                raise PermissionDenied("this session has no password here", hint="change it where you log in")
            trying = await self._gate.begin(visit, row.owner, self._rules)
            local = await self._local(row.owner)
            old = fields.get("password", "")[:MOST_PASSWORD_CHARS]
            hashes = (local.password,) if local is not None and local.password else ()
            if not await self._is_right(visit, trying, old, *hashes) or local is None:
                await self._gate.failed(visit, trying, what="wrong password", tenant=row.tenant)
                raise Unauthenticated("the present password is wrong", hint="type it again", param="password")
            await self._gate.released(trying)
            changed = await self._with_password(visit, local, fields)
            if not await self._change(
                row.owner, lambda one: _take_password(one, changed) if one.password == local.password else None
            ):
                raise Unauthenticated("the password was changed meanwhile", hint="log in again")
            self._keeper.record("password:change", row, visit)
            await self._end_others(row, "the password was changed", visit)
            who = self._person(row.owner)
            if who is None:
                raise Unauthenticated("the account is disabled", hint="ask a security officer")
            if row.stage != "open":
                return await self._go_on(visit, who, changed, page, factors=row.factors, before=row)
            new = replace(row, proof_s=self._keeper.now_s if "otp" not in row.factors else row.proof_s)
            return _go(page, await self._keeper.open(visit, new, replaces=row))
        except AshoreError as fault:
            return await self._again(visit, found, page, fault, form="new-password")

    async def _with_password(self, visit: Visit, local: LocalAccount, fields: Fields) -> LocalAccount:
        """Return an account with the new password of a form.

        Raises:
            InvalidRequest: it is too weak, was used before, or was typed differently the second time.
        """
        rules, new = self._rules, fields.get("new_password", "")[:MOST_PASSWORD_CHARS]
        weak = weakness_of(new, rules, account=local.id)
        if weak:
            raise InvalidRequest(f"the password {weak}", hint="; ".join(rules.sentences()), param="new_password")
        if new != fields.get("again", "")[:MOST_PASSWORD_CHARS]:
            raise InvalidRequest("the two passwords differ", hint="type the new one twice", param="again")
        former = tuple(one for one in (local.password, *local.former) if one)[: rules.password_former]
        if former and await self._hasher.verify(new, *former, origin=visit.origin) >= 0:
            raise InvalidRequest(
                "you used this password before", hint=f"not one of the last {rules.password_former}",
                param="new_password",
            )  # fmt: skip
        phc = await self._hasher.hash(new, origin=visit.origin)
        return replace(local, password=phc, former=former, password_set_s=self._keeper.now_s, invitation="")

    def invitation_form(self, visit: Visit, query: Fields) -> Outcome:
        return self.first_form(visit, form="invitation", account=query.get("account", ""))

    async def redeem(self, visit: Visit, fields: Fields) -> Outcome:
        name = fields.get("account", "").strip()[:MOST_NAME_CHARS]
        try:
            self.check_first(visit, fields)
            check_channel(visit)
            self._check_local()
            self._hasher.check_room(visit.origin)
            trying = await self._gate.begin(visit, name, self._rules)
            given = fields.get("invitation", "").strip()[:200]
            local, by = await self._invited(visit, name, given)
            who = self._person(name)
            if local is None or who is None or local.disabled:
                await self._gate.failed(visit, trying, what="wrong invitation")
                raise Unauthenticated(
                    "the account or the invitation is wrong, or the invitation was used or has expired",
                    hint="a security officer gives you a new one: `ashore account reset NAME`",
                    param="invitation",
                )
            try:
                changed = await self._with_password(visit, local, fields)
                await self._redeemed(changed, local)
            except AshoreError:
                await self._gate.released(trying)
                raise
            outcome = await self._go_on(visit, who, changed, home(visit), factors=("pwd",), trying=trying)
            row = self._keeper.new_row(visit, stage="open", way="password", owner=who.id, tenant=who.tenant)
            self._keeper.record("password:set", row, visit, detail={"by": by})
            return outcome
        except AshoreError as fault:
            return self.first_form(visit, error=fault, account=name, form="invitation")

    async def _invited(self, visit: Visit, name: str, given: str) -> tuple[LocalAccount | None, str]:
        """Return the account that may choose a password now, and by what: an invitation, or a key of its own."""
        local = await self._local(name)
        if given.startswith("ash_"):
            who = self._authenticator.authenticate(given, visit.origin)
            plain = who.kind == "user" and not who.issuer and who.scope == WIDE
            if who.id != name or not plain:
                return None, "key"
            return local or LocalAccount(id=name, created_s=self._keeper.now_s), f"key {who.key_id}"
        if local is None or not local.invitation or self._keeper.now_s >= local.invitation_ends_s:
            return None, "invitation"
        return (local, "invitation") if same(local.invitation, digest_of(given)) else (None, "invitation")

    async def _redeemed(self, changed: LocalAccount, before: LocalAccount) -> None:
        """Keep the first password.

        Raises:
            Unauthenticated: somebody else was quicker with the same invitation.
        """

        def save() -> bool:
            with self._keeper.database.write() as connection:
                there = sql.find_account(connection, changed.id, change=True)
                if (there.invitation if there is not None else "") != before.invitation:
                    return False
                sql.save_account(connection, _take_password(there or changed, changed))
                sql.end_sessions_of(connection, changed.id)
                return True

        if not await asyncio.to_thread(save):
            raise Unauthenticated("the invitation was used", hint="ask a security officer for a new one")
        self._keeper.forget()

    # --- the first link

    async def first(self, visit: Visit, token: str) -> Outcome:
        hint = "`ashore session link` prints a new one on the machine of the server"
        if not is_here(visit):
            fault: AshoreError = PermissionDenied(
                "this link opens on the machine of the server alone", hint="open it there, or through `ssh -L`"
            )
            return Outcome(status=fault.http_status, error=fault)
        if visit.purpose:  # a browser that looks ahead must not use it up
            return Outcome(status=204)

        def take() -> str:
            with self._keeper.database.write() as connection:
                return sql.take_link(connection, digest_of(token[:200]), self._keeper.now_s)

        key_id = await asyncio.to_thread(take)
        if not key_id:
            fault = Unauthenticated(
                "this link was used, is older than ten minutes, or was replaced by a newer one", hint=hint
            )
            return Outcome(status=fault.http_status, error=fault)
        row = self._keeper.new_row(
            visit, stage="open", way="first-link", owner="first-key", tenant="default", claims=key_id
        )
        try:
            self._keeper.principal_of(row)
        except Unauthenticated as fault:
            return Outcome(status=fault.http_status, error=fault)
        return _go(home(visit), await self._keeper.open(visit, row))

    # --- proofs

    async def step_up_form(self, visit: Visit, query: Fields) -> Outcome:
        page = next_of(visit, query.get("next", ""))
        found = await self._keeper.find(visit)
        if found is None or found.row.stage != "open":
            return _go(f"{home(visit)}/log-in?next={_quoted(page)}")
        outcome = await self._form_of(visit, found, page, form="step-up")
        return self._with_provider(outcome, found)

    async def step_up(self, visit: Visit, fields: Fields) -> Outcome:
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self.check_posted(visit, fields)
            row = found.row
            if row.stage != "open" or row.way != "password":
                raise PermissionDenied("this session gives its proof elsewhere", hint="use the button of your provider")
            trying = await self._gate.begin(visit, row.owner, self._rules)
            proof = await self._proof(visit, trying, row, fields.get("proof", ""))
            if not proof:
                await self._gate.failed(visit, trying, what="wrong proof", tenant=row.tenant)
                raise Unauthenticated("that is wrong, or was used before", hint="try again", param="proof")
            await self._gate.passed(visit, trying)
            self._keeper.record("session:prove", row, visit, detail={"by": proof})
            new = replace(row, proof_s=self._keeper.now_s, active_s=self._keeper.now_s)
            return _go(page, await self._keeper.open(visit, new, replaces=row))
        except AshoreError as fault:
            outcome = await self._again(visit, found, page, fault, form="step-up")
            return outcome if found is None else self._with_provider(outcome, found)

    async def _proof(self, visit: Visit, trying: Trying, row: SessionRow, given: str) -> Proof:
        local = await self._local(row.owner)
        if local is None or local.disabled:
            return ""
        if local.factor:
            return await self._take_code(row.owner, given)
        right = await self._is_right(visit, trying, given[:MOST_PASSWORD_CHARS], local.password)
        return "password" if right else ""

    def _with_provider(self, outcome: Outcome, found: Found) -> Outcome:
        mine = found.row.owner.partition(":")[0] if found.row.way == "provider" else ""
        offered = tuple(one for one in self._in_force().providers if one.name == mine)
        return replace(outcome, providers=offered, local=found.row.way == "password")

    async def log_out(self, visit: Visit, fields: Fields) -> Outcome:
        try:
            found = await self.check_posted(visit, fields)
        except Unauthenticated:
            return _go(f"{home(visit)}/log-in")
        except AshoreError as fault:
            return Outcome(status=fault.http_status, error=fault)
        await self._keeper.end(found.row, visit, reason="logged out")
        return _go(f"{home(visit)}/log-in", (set_cookie(visit, "session", "", strict=True),))

    # --- parts

    @property
    def _rules(self) -> Rules:
        return self._in_force().rules

    async def _is_right(self, visit: Visit, trying: Trying, password: str, *hashes: str) -> bool:
        """Return whether a password is one of those. A try that cannot be looked at now is not held against anybody."""
        try:
            return await self._hasher.verify(password, *hashes, origin=visit.origin) >= 0
        except (Overloaded, TooManyAttempts):
            await self._gate.released(trying)
            raise

    def _check_local(self) -> None:
        if not self._in_force().local:
            raise PermissionDenied("local accounts may not log in here", hint="use the button of your provider")

    def _person(self, account: str) -> Principal | None:
        """Return the principal of an account that may come in."""
        return self._keeper.person(account)

    async def _local(self, account: str) -> LocalAccount | None:
        def read() -> LocalAccount | None:
            with self._keeper.database.read() as connection:
                return sql.find_account(connection, account)

        return await asyncio.to_thread(read)

    async def _change(self, account: str, change: Callable[[LocalAccount], LocalAccount | None]) -> bool:
        """Change an account as it is in the state now, where `change` gives another; return whether it was changed."""

        def save() -> bool:
            with self._keeper.database.write() as connection:
                local = sql.find_account(connection, account, change=True)
                changed = None if local is None else change(local)
                if changed is not None:
                    sql.save_account(connection, changed)
                return changed is not None

        done = await asyncio.to_thread(save)
        self._keeper.forget()
        return done

    async def _end_others(self, row: SessionRow, reason: str, visit: Visit) -> None:
        def end() -> tuple[str, ...]:
            with self._keeper.database.write() as connection:
                sql.forget_devices_of(connection, row.owner)
                return sql.end_sessions_of(connection, row.owner, but=row.digest)

        for name in await asyncio.to_thread(end):
            self._keeper.record("session:end", replace(row, id=name), visit, reason=reason)
        self._keeper.forget()

    async def _again(
        self, visit: Visit, found: Found | None, page: str, fault: AshoreError, *, form: Form | None = None
    ) -> Outcome:
        """Return the form of a session with what was wrong; the first form where there is no session."""
        if found is None:
            return self.first_form(visit, page=page, error=fault)
        if found.row.stage == "open" and form is None:
            return _go(page)
        return await self._form_of(visit, found, page, fault, form=form if found.row.stage == "open" else None)


def _go(page: str, cookies: tuple[str, ...] = ()) -> Outcome:
    return Outcome(status=303, goto=page, cookies=cookies)


def _quoted(page: str) -> str:
    return quote(page, safe="/")


def _take_password(there: LocalAccount, changed: LocalAccount) -> LocalAccount:
    """Return an account as it is, with the password of `changed`."""
    return replace(
        there, password=changed.password, former=changed.former, password_set_s=changed.password_set_s, invitation=""
    )
