"""New passwords: the first one, through an invitation or a key, and later ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ashore.control.sessions import sql
from ashore.control.sessions.cookies import digest_of
from ashore.control.sessions.gate import check_channel
from ashore.control.sessions.hashing import same
from ashore.control.sessions.keeper import Found
from ashore.control.sessions.model import Outcome, Visit, has_second
from ashore.control.sessions.paths import home, next_of
from ashore.control.sessions.rules import weakness_of
from ashore.control.sessions.sql import LocalAccount
from ashore.control.sessions.steps import MOST_NAME_CHARS, MOST_PASSWORD_CHARS, Fields, Steps, going
from ashore.core.errors import AshoreError, InvalidRequest, PermissionDenied, Unauthenticated
from ashore.core.principal import WIDE
from ashore.kit.state import in_write

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Passwords:
    """Sets passwords. Used by the event loop of one worker."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def change_password(self, visit: Visit, fields: Fields) -> Outcome:
        """Set a new password. Other sessions of the account end. [POST /console/me/password]"""
        page = next_of(visit, fields.get("next", ""))
        found: Found | None = None
        try:
            found = await self._steps.check_posted(visit, fields)
            row = found.row
            if row.way != "password" or row.stage not in ("new-password", "open"):
                raise PermissionDenied("this session has no password here", hint="change it where you log in")
            trying = await self._steps.gate.begin(visit, row.owner, self._steps.rules)
            local = await self._steps.local(row.owner)
            old = fields.get("password", "")[:MOST_PASSWORD_CHARS]
            hashes = (local.password,) if local is not None and local.password else ()
            if not await self._steps.is_right(visit, trying, old, *hashes) or local is None:
                await self._steps.gate.failed(visit, trying, what="wrong password", tenant=row.tenant)
                raise Unauthenticated("the present password is wrong", hint="type it again", param="password")
            await self._steps.gate.released(trying)
            changed = await self._with_password(visit, local, fields)
            if not await self._steps.change(
                row.owner,
                lambda one: _take_password(one, changed) if one.password == local.password else None,
                lambda connection: self._steps.keeper.record("password:change", row, visit, on=connection),
            ):
                raise Unauthenticated("the password was changed meanwhile", hint="log in again")
            await self._steps.end_others(row, "the password was changed", visit)
            who = self._steps.person(row.owner)
            if who is None:
                raise Unauthenticated("the account is disabled", hint="ask a security officer")
            if row.stage != "open":
                return await self._steps.go_on(visit, who, changed, page, factors=row.factors, before=row)
            new = replace(row, proof_s=row.proof_s if has_second(row.factors) else self._steps.keeper.now_s)
            return going(page, await self._steps.keeper.open(visit, new, replaces=row))
        except AshoreError as fault:
            return await self._steps.again(visit, found, page, fault, form="new-password")

    async def _with_password(self, visit: Visit, local: LocalAccount, fields: Fields) -> LocalAccount:
        """Return an account with a form's new password."""
        rules, new = self._steps.rules, fields.get("new_password", "")[:MOST_PASSWORD_CHARS]
        weak = weakness_of(new, rules, account=local.id)
        if weak:
            raise InvalidRequest(f"the password {weak}", hint="; ".join(rules.sentences()), param="new_password")
        if new != fields.get("again", "")[:MOST_PASSWORD_CHARS]:
            raise InvalidRequest("the two passwords differ", hint="type the new one twice", param="again")
        former = tuple(one for one in (local.password, *local.former) if one)[: rules.password_former]
        if former and await self._steps.hasher.verify(new, *former, origin=visit.origin) >= 0:
            raise InvalidRequest(
                "you used this password before", hint=f"not one of the last {rules.password_former}",
                param="new_password",
            )  # fmt: skip
        phc = await self._steps.hasher.hash(new, origin=visit.origin)
        return replace(local, password=phc, former=former, password_set_s=self._steps.keeper.now_s, invitation="")

    def invitation_form(self, visit: Visit, query: Fields) -> Outcome:
        """Return the form for an invitation. [GET /console/invitation]"""
        return self._steps.first_form(visit, form="invitation", account=query.get("account", ""))

    async def redeem(self, visit: Visit, fields: Fields) -> Outcome:
        """Redeem an invitation once, with the person's own first password. [POST /console/invitation]"""
        name = fields.get("account", "").strip()[:MOST_NAME_CHARS]
        try:
            self._steps.check_first(visit, fields)
            check_channel(visit)
            self._steps.check_local()
            self._steps.hasher.check_room(visit.origin)
            trying = await self._steps.gate.begin(visit, name, self._steps.rules)
            given = fields.get("invitation", "").strip()[:200]
            local, by = await self._invited(visit, name, given)
            who = self._steps.person(name)
            if local is None or who is None or local.disabled:
                await self._steps.gate.failed(visit, trying, what="wrong invitation")
                raise Unauthenticated(
                    "the account or the invitation is wrong, or the invitation was used or has expired",
                    hint="a security officer gives you a new one: `ashore account reset NAME`",
                    param="invitation",
                )
            try:
                changed = await self._with_password(visit, local, fields)
                row = self._steps.keeper.new_row(visit, stage="open", way="password", owner=who.id, tenant=who.tenant)
                await self._redeemed(
                    changed,
                    local,
                    lambda on: self._steps.keeper.record("password:set", row, visit, detail={"by": by}, on=on),
                )
            except AshoreError:
                await self._steps.gate.released(trying)
                raise
            return await self._steps.go_on(visit, who, changed, home(visit), factors=("pwd",), trying=trying)
        except AshoreError as fault:
            return self._steps.first_form(visit, error=fault, account=name, form="invitation")

    async def _invited(self, visit: Visit, name: str, given: str) -> tuple[LocalAccount | None, str]:
        """Return the account that may set a password, and its proof: an invitation, or a key of its own."""
        local = await self._steps.local(name)
        if given.startswith("ash_"):
            who = self._steps.authenticator.authenticate(given, visit.origin)
            plain = who.kind == "user" and not who.issuer and who.scope == WIDE
            if who.id != name or not plain:
                return None, "key"
            return local or LocalAccount(id=name, created_s=self._steps.keeper.now_s), f"key {who.key_id}"
        if local is None or not local.invitation or self._steps.keeper.now_s >= local.invitation_ends_s:
            return None, "invitation"
        return (local, "invitation") if same(local.invitation, digest_of(given)) else (None, "invitation")

    async def _redeemed(
        self, changed: LocalAccount, before: LocalAccount, record: Callable[[Connection], None]
    ) -> None:
        """Store the first password."""

        def save(connection: Connection) -> bool:
            there = sql.find_account(connection, changed.id, change=True)
            if (there.invitation if there is not None else "") != before.invitation:
                return False
            if there is None:  # left behind by an earlier user of this name
                sql.remove_passkeys_of(connection, changed.id)
            sql.save_account(connection, _take_password(there or changed, changed))
            sql.end_sessions_of(connection, changed.id)
            record(connection)
            return True

        if not await in_write(self._steps.keeper.database, save):
            raise Unauthenticated("the invitation was used", hint="ask a security officer for a new one")
        self._steps.keeper.forget()


def _take_password(there: LocalAccount, changed: LocalAccount) -> LocalAccount:
    """Return an account with the password of `changed`."""
    return replace(
        there, password=changed.password, former=changed.former, password_set_s=changed.password_set_s, invitation=""
    )
