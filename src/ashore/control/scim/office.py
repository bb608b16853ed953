"""What an identity provider may do by SCIM: create, change and disable the users of its own issuer, and their groups.

Out of its reach: local users, service accounts, users of other issuers and tenants, and holders of an office. Deleting
disables. Each change of an account is an act in the audit log, and in force everywhere within a second.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from ashore.control.scim import sql
from ashore.control.scim.bodies import MOST_MEMBERS, NAME, Body, Kind, cleaned, members, patched
from ashore.control.scim.section import ScimSection
from ashore.control.scim.sql import Resource, folded
from ashore.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from ashore.data.authority import Account, Actor, Acts, Desk, Group, check_account_id, is_officer
from ashore.data.authority import sql as access_sql

if TYPE_CHECKING:
    from sqlalchemy import Connection

PROVISION: Final = "people:provision"
MOST_NAMESAKES: Final = 100
MOST: Final[Mapping[Kind, int]] = {"User": 500_000, "Group": 10_000}
"""Of one tenant; deleted users count, for their accounts stay taken."""
MOST_GROUP_CHARS: Final = 256 << 20
"""Of all groups of one tenant: five million members."""
MOST_HELD: Final = 20_000
"""Memberships that one page of users shows."""
MOST_AT_ONCE: Final = 1_000
"""Members whom one transaction takes into a mapped group or out of it: meanwhile nothing else is written."""


class ScimOffice:
    """Use cases. Each blocks."""

    def __init__(self, acts: Acts, section: Callable[[], ScimSection], *, most: Mapping[Kind, int] = MOST) -> None:
        """Create it. `most`: resources of each kind that a tenant may push."""
        self._acts = acts
        self._section = section
        self._most = most

    @property
    def is_on(self) -> bool:
        return self._section().enabled

    def check(self, actor: Actor) -> None:
        """Check that the caller may provision.

        Raises:
            PermissionDenied: it may not.
        """
        with self._acts.look(actor) as desk:
            desk.require(PROVISION, _resource(actor))

    def select(
        self, actor: Actor, kind: Kind, where: Mapping[str, str], *, start: int, count: int
    ) -> tuple[list[tuple[Resource, list[Resource]]], int]:
        """Return resources, each user with the groups that hold them, and how many there are."""
        with self._acts.look(actor) as desk:
            desk.require(PROVISION, _resource(actor))
            tenant = actor.principal.tenant
            found, total = sql.select(desk.connection, kind, tenant, where, start=start, count=count)
            people = {one.id for one in found} if kind == "User" else set()
            holding = sql.holding(desk.connection, tenant, people) if people else {}
            sums = accumulate(len(holding.get(one.id, ())) for one in found)
            fitting = max(1, sum(held <= MOST_HELD for held in sums))
            return [(one, holding.get(one.id, [])) for one in found[:fitting]], total

    def find(self, actor: Actor, kind: Kind, number: str) -> tuple[Resource, list[Resource]]:
        """Return one resource.

        Raises:
            NotFound: there is none of this id.
        """
        found, _ = self.select(actor, kind, {"id": number}, start=0, count=1)
        if not found:
            raise _missing(kind, number)
        return found[0]

    def create(self, actor: Actor, kind: Kind, body: Mapping[str, Any]) -> Resource:
        """Create a user or group.

        Raises:
            Conflict: there is a user of this name.
            PermissionDenied: the account of this name holds an office, or is no user of the issuer.
        """
        new = cleaned(kind, body)
        with self._write(actor) as desk:
            tenant = actor.principal.tenant
            account = ""
            if kind == "User":
                self._check_free(desk.connection, tenant, new["userName"], "")
                account = self._new_account(desk, new["userName"])
            made = Resource(
                id=str(uuid.uuid4()), kind=kind, tenant=tenant, account=account, body=new,
                created_s=self._acts.now_s, changed_s=self._acts.now_s,
            )  # fmt: skip
            made = self._save(desk.connection, made, None)
            self._apply(desk, made, self._touched(made, None), word="create")
        return made if made.body is new else self.change(actor, kind, made.id, whole=new)

    def change(
        self,
        actor: Actor,
        kind: Kind,
        number: str,
        *,
        whole: Mapping[str, Any] | None = None,
        operations: object = None,
    ) -> Resource:
        """Replace a resource, or change it by operations.

        Raises:
            NotFound: there is none of this id.
            Conflict: another user has the new name, or others change the members of the group all the time.
            PermissionDenied: the account holds an office, and would be disabled.
        """
        for _ in range(2 * MOST_MEMBERS // MOST_AT_ONCE + 1):
            with self._write(actor) as desk:
                tenant = actor.principal.tenant
                before = sql.find(desk.connection, kind, tenant, number)
                if before is None:
                    raise _missing(kind, number)
                body = patched(kind, before.body, operations) if whole is None else cleaned(kind, whole)
                if kind == "User":
                    self._check_free(desk.connection, tenant, body["userName"], number)
                now = replace(before, body=body, changed_s=self._acts.now_s, version=before.version + 1)
                now = self._save(desk.connection, now, before)
                self._apply(desk, now, self._touched(now, before), word="change")
            if now.body is body:
                return now
        raise Conflict(f"the members of {number[:80]!r} are changed by others all the time", hint="ask again")

    def remove(self, actor: Actor, kind: Kind, number: str) -> None:
        """Disable a user for good, or forget a group.

        Raises:
            NotFound: there is none of this id.
            PermissionDenied: the account holds an office.
        """
        with self._write(actor) as desk:
            before = sql.find(desk.connection, kind, actor.principal.tenant, number)
            if before is None:
                raise _missing(kind, number)
            gone = replace(before, body={**before.body, "active": False, "members": []}, changed_s=self._acts.now_s)
            if self._begun(gone, before) is gone:
                sql.save(desk.connection, gone, gone=True)
                if kind == "Group":
                    sql.forget(desk.connection, number)
                self._apply(desk, gone, self._touched(gone, before), word="remove")
                return
        self.change(actor, kind, number, operations=[{"op": "remove", "path": "members"}])
        self.remove(actor, kind, number)

    def _write(self, actor: Actor) -> Any:
        self.check(actor)
        return self._acts.quiet_write(actor)

    def _apply(self, desk: Desk, changed: Resource, touched: Collection[str], *, word: str) -> None:
        """Bring the accounts to what the resources say, and record it."""
        names = {folded(there): here for here, there in self._section().map.items()}
        holding = sql.holding(desk.connection, changed.tenant, touched, names) if touched else {}
        self._keep_groups(desk.connection)
        if changed.kind == "Group":
            detail: dict[str, str | int] = {"name": str(changed.body[NAME["Group"]])[:300], "id": changed.id}
            self._acts.tell(desk.actor, f"scim:{word}", f"tenant/{changed.tenant}/scim", detail, on=desk.connection)
        for number in sorted(touched):
            user = changed if number == changed.id else sql.find(desk.connection, "User", changed.tenant, number)
            if user is None or not user.account:
                continue
            given = frozenset(names[folded(one.body["displayName"])] for one in holding.get(user.id, ()))
            before = access_sql.find_account(desk.connection, user.account)
            if before is None and changed.id != user.id:
                continue  # a security officer removed it
            base = before or Account(id=user.account, tenant=changed.tenant, created_s=self._acts.now_s)
            title = "".join(one for one in str(user.body.get("displayName") or "") if one.isprintable())[:200]
            shut_s = 0 if user.body["active"] else base.shut_s or self._acts.now_s
            given = frozenset() if shut_s else given
            after = replace(base, title=title or base.title, given_groups=given, shut_s=shut_s)
            if after == before:
                continue
            if shut_s and not base.is_out and is_officer(desk.compiled, base):
                raise PermissionDenied(
                    f"{base.id} holds an office, and no provisioner disables it",
                    hint="ask a security officer: `ashore access user disable NAME`",
                    action=PROVISION, resource=base.resource, rule="offices are out of reach",
                )  # fmt: skip
            access_sql.save_account(desk.connection, after)
            act = "disable" if shut_s and not base.shut_s else "enable" if base.shut_s and not shut_s else word
            detail = {"id": user.id, "groups": ", ".join(sorted(after.given_groups))[:1000]}
            self._acts.tell(desk.actor, f"scim:{act}", after.resource, detail, on=desk.connection)

    def _touched(self, now: Resource, before: Resource | None) -> set[str]:
        """Return the users whose accounts a change may concern; of a group that is not in the map, nobody's."""
        if now.kind == "User":
            return {now.id}
        then = set() if before is None else set(members(before.body))
        was = now if before is None else before
        renamed = was.body[NAME["Group"]] != now.body[NAME["Group"]]
        mapped = set(map(folded, self._section().map.values()))
        if mapped.isdisjoint(folded(one.body[NAME["Group"]]) for one in (was, now)):
            return set()
        mine = set(members(now.body))
        return then | mine if renamed else then ^ mine

    def _save(self, connection: Connection, now: Resource, before: Resource | None) -> Resource:
        """Save a resource, a large group in part, and return what was saved."""
        sql.save(connection, now)
        self._check_room(connection, now, before)
        begun = self._begun(now, before)
        if begun is not now:
            sql.save(connection, begun)
        return begun

    def _begun(self, now: Resource, before: Resource | None) -> Resource:
        """Return the resource with its first `MOST_AT_ONCE` changes of members, where each one changes an account.

        The others stay as they were. If the caller dies between two parts, the same request ends the change.
        """
        then = [] if before is None else before.body.get("members", [])
        changed = {str(one["value"]) for one in then} ^ set(members(now.body))
        if len(changed) <= MOST_AT_ONCE or not self._touched(now, before):
            return now
        later = frozenset(sorted(changed)[MOST_AT_ONCE:])
        rows = [one for one in now.body["members"] if one["value"] not in later]
        body: Body = {**now.body, "members": rows + [one for one in then if one["value"] in later]}
        return replace(now, body=body)

    def _keep_groups(self, connection: Connection) -> None:
        there = {one.name for one in access_sql.list_groups(connection)}
        for name in sorted(self._section().map.keys() - there):
            made = Group(name=name, title=f"from {self._section().issuer} by SCIM", created_s=self._acts.now_s)
            access_sql.save_group(connection, made)

    def _check_room(self, connection: Connection, now: Resource, before: Resource | None) -> None:
        """Check that a tenant has pushed no more than may be kept, where a change adds to it."""
        if before is not None and (now.kind == "User" or len(members(now.body)) <= len(members(before.body))):
            return
        number, chars = sql.used(connection, now.kind, now.tenant)
        if number > self._most[now.kind] or chars > MOST_GROUP_CHARS:
            raise InvalidRequest(
                f"this tenant pushed {number:,} {now.kind}s with {chars:,} characters of groups; it may push "
                f"{self._most[now.kind]:,} with {MOST_GROUP_CHARS:,}",
                hint="assign fewer people or groups to ashore there", param="invalidValue",
            )  # fmt: skip

    def _check_free(self, connection: Connection, tenant: str, name: str, own: str) -> None:
        found, _ = sql.select(connection, "User", tenant, {"name": folded(name)})
        if any(one.id != own for one in found):
            raise Conflict(f"there is a user {name[:100]!r}", hint="look it up by userName", param="uniqueness")

    def _new_account(self, desk: Desk, name: str) -> str:
        """Return the id of a new user: one that nobody pushed before, so that nobody inherits keys."""
        for number in range(1, MOST_NAMESAKES):
            account = f"{self._section().issuer}:{folded(name)}" + (f"+{number}" if number > 1 else "")
            check_account_id(account, "user")
            there = access_sql.find_account(desk.connection, account)
            if (there is not None and there.kind != "user") or sql.is_taken(desk.connection, account):
                continue
            if there is not None and (there.tenant != desk.principal.tenant or is_officer(desk.compiled, there)):
                raise PermissionDenied(
                    f"{account} is of another tenant, or holds an office", hint="ask a security officer",
                    action=PROVISION, resource=there.resource, rule="offices are out of reach",
                )  # fmt: skip
            return account
        raise InvalidRequest(f"{MOST_NAMESAKES - 1} people had the name {name[:100]!r}", param="invalidValue")


def _resource(actor: Actor) -> str:
    return f"tenant/{actor.principal.tenant}/scim"


def _missing(kind: Kind, number: str) -> NotFound:
    return NotFound(f"there is no {kind} {number[:80]!r}", hint="look it up by its name")
