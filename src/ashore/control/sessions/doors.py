"""Log-in steps without a provider: password, second factor, first link, fresh proof, log-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ashore.control.directory import DirectorySection
from ashore.control.sessions import sql
from ashore.control.sessions.cookies import digest_of, set_cookie
from ashore.control.sessions.factors import Factors, Proof
from ashore.control.sessions.gate import Trying, check_channel, is_here
from ashore.control.sessions.keeper import Found
from ashore.control.sessions.model import TYPED, Outcome, Visit
from ashore.control.sessions.paths import home, next_of
from ashore.control.sessions.sql import LocalAccount, SessionRow
from ashore.control.sessions.steps import MOST_NAME_CHARS, MOST_PASSWORD_CHARS, Fields, Steps, going, quoted
from ashore.core.errors import AshoreError, PermissionDenied, Unauthenticated
from ashore.kit.state import in_write

_WRONG: Final = "the account or the password is wrong"
FACTOR: Final[Mapping[Proof, str]] = {"code": "otp", "recovery": "otp", "passkey": "hwk"}
"""What a session says of each proof (RFC 8176)."""


class Doors:
    """Handles the forms. Used by the event loop of one worker."""

    def __init__(self, steps: Steps, factors: Factors) -> None:
        self._steps = steps
        self._factors = factors

    async def log_in_form(self, visit: Visit, query: Fields) -> Outcome:
        """Return the first form, or that of the next step; a logged-in person goes to `next`. [GET /console/log-in]"""
        page = next_of(visit, query.get("next", ""))
        found = await self._steps.keeper.find(visit)
        if found is not None:
            return await self._steps.form_of(visit, found, page) if found.row.stage != "open" else going(page)
        return self._steps.first_form(visit, page=page)

    async def log_in(self, visit: Visit, fields: Fields) -> Outcome:
        """Check account and password. Answer and timing are the same for an unknown account and a wrong password. [POST
        /console/log-in]
        """
        page, name = next_of(visit, fields.get("next", "")), fields.get("account", "").strip()[:MOST_NAME_CHARS]
        try:
            self._steps.check_first(visit, fields)
            check_channel(visit)
            local = await self._steps.local(name)
            password = fields.get("password", "")[:MOST_PASSWORD_CHARS]
            there = None if self._steps.directories is None else self._steps.directories.named(name)
            if there is not None and (local is None or not local.password):
                return await self._by_directory(visit, *there, password, page)
            self._steps.check_local()
            self._steps.hasher.check_room(visit.origin)
            trying = await self._steps.gate.begin(visit, name, self._steps.rules)
            hashes = (local.password,) if local is not None and local.password else ()
            right = await self._steps.is_right(visit, trying, password, *hashes)
            who = self._steps.person(name) if right and local is not None and not local.disabled else None
            if who is None or local is None:
                await self._steps.gate.failed(visit, trying, what="disabled" if right else "wrong password")
                raise Unauthenticated(_WRONG, hint="check both; a security officer resets a forgotten password")
            if not self._steps.hasher.is_current(local.password):
                phc = await self._steps.hasher.hash(password, origin=visit.origin)
                await self._steps.change(
                    name, lambda one: replace(one, password=phc) if one.password == local.password else None
                )
            return await self._steps.go_on(visit, who, local, page, factors=("pwd",), trying=trying)
        except AshoreError as fault:
            return self._steps.first_form(visit, page=page, error=fault, account=name)

    async def _by_directory(
        self, visit: Visit, section: DirectorySection, login: str, password: str, page: str
    ) -> Outcome:
        """Have a directory check a password; the second factor is that of ashore."""
        name, directories = f"{section.name}:{login}", self._steps.directories
        assert directories is not None
        trying = await self._steps.gate.begin(visit, name, self._steps.rules_for("directory"))
        try:
            account = await directories.prove(section, login, password)
        except AshoreError:
            await self._steps.gate.released(trying)
            raise
        who = self._steps.person(account) if account else None
        local = await self._steps.local(account) if account else None
        if who is None or (local is not None and local.disabled):
            await self._steps.gate.failed(visit, trying, what="disabled" if account else "wrong password")
            raise Unauthenticated(_WRONG, hint="check both; the password is that of the directory")
        if local is None:
            local = LocalAccount(id=account, created_s=self._steps.keeper.now_s)
            await self._steps.begin_local(local)
        return await self._steps.go_on(visit, who, local, page, factors=("pwd",), trying=trying, way="directory")

    async def give_code(self, visit: Visit, fields: Fields) -> Outcome:
        """Check the code of the second factor, or a recovery code. [POST /console/log-in/code]"""
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self._steps.check_posted(visit, fields)
            if found.row.stage != "code":
                return going(f"{home(visit)}/log-in")
            trying = await self._steps.gate.begin(visit, found.row.owner, self._steps.rules)
            proof = await self._prove(visit, trying, found.row, fields, name="code")
            if not proof:
                await self._steps.gate.failed(visit, trying, what="wrong code", tenant=found.row.tenant)
                raise Unauthenticated(
                    "the code is wrong, or was used before", hint="wait for the next one; check the telephone's clock",
                    param="code",
                )  # fmt: skip
            who, local = self._steps.person(found.row.owner), await self._steps.local(found.row.owner)
            if who is None or local is None or local.disabled:
                raise Unauthenticated("the account is disabled", hint="ask a security officer")
            return await self._steps.go_on(
                visit, who, local, page, factors=(*found.row.factors, FACTOR[proof]), before=found.row, trying=trying
            )
        except AshoreError as fault:
            return await self._steps.again(visit, found, page, fault)

    async def first(self, visit: Visit, token: str) -> Outcome:
        """Open a session with the link that `ashore up` printed: once, within minutes, from this machine.
        [GET /console/first/TOKEN]
        """
        hint = "`ashore session link` prints a new one on the machine of the server"
        if not is_here(visit):
            fault: AshoreError = PermissionDenied(
                "this link opens on the machine of the server alone", hint="open it there, or through `ssh -L`"
            )
            return Outcome(status=fault.http_status, error=fault)
        if visit.purpose:  # a browser that looks ahead must not use it up
            return Outcome(status=204)
        key_id = await in_write(
            self._steps.keeper.database, sql.take_link, digest_of(token[:200]), self._steps.keeper.now_s
        )
        if not key_id:
            fault = Unauthenticated(
                "this link was used, is older than ten minutes, or was replaced by a newer one", hint=hint
            )
            return Outcome(status=fault.http_status, error=fault)
        row = self._steps.keeper.new_row(
            visit, stage="open", way="first-link", owner="first-key", tenant="default", claims=key_id
        )
        try:
            self._steps.keeper.principal_of(row)
        except Unauthenticated as fault:
            return Outcome(status=fault.http_status, error=fault)
        return going(home(visit), await self._steps.keeper.open(visit, row))

    async def step_up_form(self, visit: Visit, query: Fields) -> Outcome:
        """Return the form that asks for a fresh proof. [GET /console/step-up]"""
        page = next_of(visit, query.get("next", ""))
        found = await self._steps.keeper.find(visit)
        if found is None or found.row.stage != "open":
            return going(f"{home(visit)}/log-in?next={quoted(page)}")
        outcome = await self._steps.form_of(visit, found, page, form="step-up")
        return self._with_provider(outcome, found)

    async def step_up(self, visit: Visit, fields: Fields) -> Outcome:
        """Check a fresh proof; the session continues under a new cookie. [POST /console/step-up]"""
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self._steps.check_posted(visit, fields)
            row = found.row
            if row.stage != "open" or row.way not in TYPED:
                raise PermissionDenied("this session gives its proof elsewhere", hint="use the button of your provider")
            trying = await self._steps.gate.begin(visit, row.owner, self._steps.rules_for(row.way))
            proof = await self._proof(visit, trying, row, fields)
            if not proof:
                await self._steps.gate.failed(visit, trying, what="wrong proof", tenant=row.tenant)
                raise Unauthenticated("that is wrong, or was used before", hint="try again", param="proof")
            await self._steps.gate.passed(visit, trying)
            self._steps.keeper.record("session:prove", row, visit, detail={"by": proof}, on=None)
            new = replace(row, proof_s=self._steps.keeper.now_s, active_s=self._steps.keeper.now_s)
            return going(page, await self._steps.keeper.open(visit, new, replaces=row))
        except AshoreError as fault:
            outcome = await self._steps.again(visit, found, page, fault, form="step-up")
            return outcome if found is None else self._with_provider(outcome, found)

    async def _proof(self, visit: Visit, trying: Trying, row: SessionRow, fields: Fields) -> Proof:
        local = await self._steps.local(row.owner)
        if local is None or local.disabled:
            return ""
        if local.has_factor:
            return await self._prove(visit, trying, row, fields, name="proof")
        given = fields.get("proof", "")[:MOST_PASSWORD_CHARS]
        if row.way == "directory" and (directories := self._steps.directories) is not None:
            try:
                return "password" if await directories.prove_again(row.owner, given) else ""
            except AshoreError:
                await self._steps.gate.released(trying)
                raise
        return "password" if await self._steps.is_right(visit, trying, given, local.password) else ""

    async def _prove(self, visit: Visit, trying: Trying, row: SessionRow, fields: Fields, *, name: str) -> Proof:
        """Verify a form's second factor and return which it was. A wrong passkey counts as a failure, like a wrong
        code.
        """
        try:
            return await self._factors.prove(visit, row, fields, name=name)
        except AshoreError:
            if fields.get("credential"):
                await self._steps.gate.failed(visit, trying, what="wrong passkey", tenant=row.tenant)
            raise

    def _with_provider(self, outcome: Outcome, found: Found) -> Outcome:
        mine = found.row.owner.partition(":")[0] if found.row.way == "provider" else ""
        offered = tuple(one for one in self._steps.in_force().providers if one.name == mine)
        return replace(outcome, providers=offered, local=found.row.way in TYPED)

    async def log_out(self, visit: Visit, fields: Fields) -> Outcome:
        """End this session. [POST /console/log-out]"""
        try:
            found = await self._steps.check_posted(visit, fields)
        except Unauthenticated:
            return going(f"{home(visit)}/log-in")
        except AshoreError as fault:
            return Outcome(status=fault.http_status, error=fault)
        await self._steps.keeper.end(found.row, visit, reason="logged out")
        return going(f"{home(visit)}/log-in", (set_cookie(visit, "session", "", strict=True),))
