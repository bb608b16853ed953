"""Second factors: codes of an authenticator app, recovery codes, and passkeys; set up, used and removed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from ashore.control.sessions import factor, sql
from ashore.control.sessions.hashing import same
from ashore.control.sessions.keeper import Found
from ashore.control.sessions.model import TYPED, Outcome, Visit
from ashore.control.sessions.paths import home, next_of
from ashore.control.sessions.sql import LocalAccount, SessionRow
from ashore.control.sessions.steps import Fields, Steps, going, quoted
from ashore.control.sessions.webauthn import Passkey, made, read_sent, used
from ashore.core.errors import AshoreError, Conflict, NotFound, PermissionDenied, Unauthenticated
from ashore.kit.state import in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection

Proof = Literal["", "code", "recovery", "passkey", "password"]
MOST_PASSKEYS: Final = 10
"""Of one account."""


class Factors:
    """Manages second factors. Used by the event loop of one worker."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def _take_code(self, account: str, given: str) -> Proof:
        """Consume a code of the authenticator or a recovery code; return which it was."""
        given = given.strip()[:100]

        def take(connection: Connection) -> Proof:
            local = sql.find_account(connection, account, change=True)
            if local is None or not local.has_factor:
                return ""
            if local.factor and factor.is_code(given.replace(" ", "")):
                secret = sql.open_factor(connection, account, local.factor)
                code = given.replace(" ", "")
                step = factor.step_of(secret, code, self._steps.keeper.now_s, after=local.factor_step)
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

        return await in_write(self._steps.keeper.database, take)

    async def prove(self, visit: Visit, row: SessionRow, fields: Fields, *, name: str) -> Proof:
        """Consume a form's second factor; return which it was, empty if it is wrong.

        Args:
            visit: The request.
            row: Its session.
            fields: The form, with `credential` from a passkey, or a code.
            name: The field that has the code.

        Raises:
            AshoreError: the passkey is wrong; the error says how.
        """
        if fields.get("credential"):
            return await self._use(visit, row, fields["credential"])
        return await self._take_code(row.owner, fields.get(name, ""))

    async def _use(self, visit: Visit, row: SessionRow, text: str) -> Proof:
        """Verify a passkey proof of this person for the last challenge of this session."""
        sent, now_s = read_sent(text), self._steps.keeper.now_s

        def look(connection: Connection) -> tuple[str, Passkey | None]:
            challenge = sql.take_challenge(connection, row.digest, "use", now_s)
            local = sql.find_account(connection, row.owner)
            known = () if local is None else local.passkeys
            return challenge, next((one for one in known if one.id == sent.id.rstrip("=")), None)

        challenge, passkey = await in_write(self._steps.keeper.database, look)
        if passkey is None:
            raise Unauthenticated("this passkey is not one of this account", hint="use another one, or a code")
        counter = used(sent, challenge, visit, passkey)
        database = self._steps.keeper.database
        is_used = await in_write(database, sql.use_passkey, passkey.id, counter=counter, now_s=now_s)
        return "passkey" if is_used else ""

    async def enrol(self, visit: Visit, fields: Fields) -> Outcome:
        """Start to set up a second factor (no `code` in fields), or confirm it by its first code, which shows the
        recovery codes. For an unfinished log-in that must have one, and for an open session. [POST /console/me/factor]
        """
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self._steps.check_posted(visit, fields)
            if (elsewhere := self._not_now(visit, found.row, page)) is not None:
                return elsewhere
            code = fields.get("code", "").replace(" ", "")
            if not code:
                return await self._steps.form_of(visit, found, page, form="enrol")
            codes = await self._confirm(found.row, code, visit)
            if not codes:
                raise Unauthenticated(
                    "the code is wrong", hint="scan the picture, then type the code that is shown now", param="code"
                )
            return await self._changed(visit, found.row, page, "otp", codes)
        except AshoreError as fault:
            return await self._steps.again(visit, found, page, fault, form="enrol")

    async def passkeys(self, visit: Visit, fields: Fields) -> Outcome:
        """Show the passkeys of a person and request a new one (neither `credential` nor `remove` in fields), store it,
        or remove one. As `enrol`, for an unfinished log-in and for an open session. [POST /console/me/passkey]
        """
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self._steps.check_posted(visit, fields)
            row = found.row
            if (elsewhere := self._not_now(visit, row, page)) is not None:
                return elsewhere
            if fields.get("remove"):
                await self._remove(row, fields["remove"], visit)
                return await self._changed(visit, row, page, "", ())
            if not fields.get("credential"):
                return await self._steps.form_of(visit, found, page, form="passkey")
            codes = await self._make(visit, row, fields)
            return await self._changed(visit, row, page, "hwk", codes)
        except AshoreError as fault:
            return await self._steps.again(visit, found, page, fault, form="passkey")

    def _not_now(self, visit: Visit, row: SessionRow, page: str) -> Outcome | None:
        """Return where a person must go before changing a second factor; None: they may change it."""
        if row.way not in TYPED or row.stage not in ("enrol", "open"):
            raise PermissionDenied("a second factor belongs to a local account", hint="log in with a password")
        if row.stage == "open" and self._steps.keeper.now_s - row.proof_s >= self._steps.rules.fresh_s:
            return going(f"{home(visit)}/step-up?next={quoted(page)}")
        return None

    async def _make(self, visit: Visit, row: SessionRow, fields: Fields) -> tuple[str, ...]:
        """Store the new passkey for the last challenge of this session; return new recovery codes if there are none
        yet.
        """
        sent, now_s = read_sent(fields["credential"]), self._steps.keeper.now_s
        title = "".join(char for char in fields.get("title", "") if char.isprintable()).strip()
        challenge = await in_write(self._steps.keeper.database, sql.take_challenge, row.digest, "make", now_s)
        passkey = made(sent, challenge, visit, account=row.owner, title=title, now_s=now_s)

        def keep(connection: Connection) -> tuple[str, ...]:
            local = sql.find_account(connection, row.owner, change=True)
            if local is None:
                raise NotFound(f"there is no local account {row.owner}", hint="log in again")
            _check_first(row, local)
            if len(local.passkeys) >= MOST_PASSKEYS or not sql.add_passkey(connection, passkey):
                raise Conflict(
                    f"this passkey is registered already, or there are {MOST_PASSKEYS}", hint="remove one first"
                )
            self._steps.keeper.record("factor:enrol", row, visit, detail={"by": "passkey"}, on=connection)
            if local.recovery:
                return ()
            codes = factor.new_recovery_codes()
            kept = tuple(factor.digest_of_recovery(one) for one in codes)
            sql.save_account(connection, replace(local, recovery=kept))
            return codes

        return await in_write(self._steps.keeper.database, keep)

    async def _remove(self, row: SessionRow, name: str, visit: Visit) -> None:
        who = self._steps.person(row.owner)
        must_have = who is None or await self._steps.must_have_factor(who)

        def remove(connection: Connection) -> bool:
            local = sql.find_account(connection, row.owner, change=True)
            if local is None:
                return False
            _check_first(row, local)
            if must_have and not local.factor and [one.id for one in local.passkeys] == [name]:
                raise Conflict(
                    "this passkey is the only second factor, and the rules here want one of you",
                    hint="set up another one first",
                )
            removed = sql.remove_passkeys_of(connection, row.owner, only=name)
            if removed:
                self._steps.keeper.record("factor:remove", row, visit, detail={"by": "passkey"}, on=connection)
            return removed

        if not await in_write(self._steps.keeper.database, remove):
            raise NotFound("there is no such passkey of yours", hint="load the page again")

    async def _changed(
        self, visit: Visit, row: SessionRow, page: str, factor_name: str, codes: tuple[str, ...]
    ) -> Outcome:
        """Continue after a change of a second factor; show new recovery codes first."""
        who, local = self._steps.person(row.owner), await self._steps.local(row.owner)
        if who is None or local is None:
            raise Unauthenticated("the account is disabled", hint="ask a security officer")
        factors = tuple(dict.fromkeys((*row.factors, *((factor_name,) if factor_name else ()))))
        if row.stage != "open":
            outcome = await self._steps.go_on(visit, who, local, page, factors=factors, before=row)
        else:
            await self._steps.end_others(row, "the second factor was changed", visit)
            new = replace(row, factors=factors, proof_s=self._steps.keeper.now_s)
            outcome = going(page, await self._steps.keeper.open(visit, new, replaces=row))
        if not codes:
            return outcome
        shown = replace(outcome, status=200, goto="", form="recovery-codes", recovery_codes=codes)
        return replace(shown, values={"next": outcome.goto or page})

    async def _confirm(self, row: SessionRow, code: str, visit: Visit) -> tuple[str, ...]:
        """Activate the authenticator that is being set up; return new recovery codes, or none."""

        def confirm(connection: Connection) -> tuple[str, ...]:
            local = sql.find_account(connection, row.owner, change=True)
            if local is None or local.factor_session != row.id or not local.factor_new or not factor.is_code(code):
                return ()
            _check_first(row, local)
            secret = sql.open_factor(connection, row.owner, local.factor_new)
            step = factor.step_of(secret, code, self._steps.keeper.now_s, after=0)
            if step is None:
                return ()
            codes = factor.new_recovery_codes()
            kept = tuple(factor.digest_of_recovery(one) for one in codes)
            changed = replace(local, factor=local.factor_new, factor_new="", factor_step=step, recovery=kept)
            sql.save_account(connection, changed)
            self._steps.keeper.record("factor:enrol", row, visit, on=connection)
            return codes

        return await in_write(self._steps.keeper.database, confirm)


def _check_first(row: SessionRow, local: LocalAccount) -> None:
    """Check that a session may change an account's second factors. One with only a password may set up the first, but
    not replace it: another person may have set up the first meanwhile."""
    if row.stage == "enrol" and local.has_factor:
        raise PermissionDenied("a second factor was set up meanwhile", hint="log in again, with it")
