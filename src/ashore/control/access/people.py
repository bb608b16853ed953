"""Use cases of tenants, users, service accounts and groups. Each is one act, decided on the state and audited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from ashore.control.access.book import bind, save, unbind
from ashore.control.access.keyring import KeyWish, NewKey, issue
from ashore.core.errors import Conflict, NotFound, PermissionDenied
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.data.authority import (
    OFFICERS,
    Account,
    AccountKind,
    Binding,
    Compiled,
    Group,
    Principal,
    Tenant,
    check_account_id,
    check_name,
    check_title,
    sql,
)
from ashore.data.authority.actions import ACCESS_READ, ACCESS_WRITE, AUDITOR_CONSENT, FIRST_ADMINISTRATORS, ROLE_GRANT
from ashore.data.authority.acts import MAX_PAGE, Actor, Acts, Desk, check_separated, is_officer, page_of
from ashore.data.authority.offices import bootstrap_hint, missing_offices


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountWish:
    """An account to create."""

    id: str
    kind: AccountKind = "user"
    tenant: str = "default"
    title: str = ""
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    key: KeyWish | None = field(default=None)
    """A key that is made with it."""


class People:
    """Use cases of tenants, accounts and groups."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts

    # --- tenants

    def tenants(self, actor: Actor) -> tuple[Tenant, ...]:
        """Return every tenant that the actor may see."""
        with self._acts.read(actor, ACCESS_READ, "tenant/*") as desk:
            found = sql.list_tenants(desk.connection)
            return tuple(one for one in found if desk.allows(ACCESS_READ, f"tenant/{one.name}"))

    def create_tenant(self, actor: Actor, name: str, title: str = "") -> Tenant:
        """Create a tenant.

        Raises:
            Conflict: there is one of this name.
        """
        tenant = Tenant(name=check_name(name, "tenant"), title=check_title(title), created_s=self._acts.now_s)
        with self._acts.write(actor, "tenant:create", f"tenant/{name}") as desk:
            desk.require(ACCESS_WRITE, f"tenant/{name}")
            if sql.find_tenant(desk.connection, name) is not None:
                raise Conflict(f"the tenant {name!r} already exists", hint="choose another name", param="name")
            sql.save_tenant(desk.connection, tenant)
        return tenant

    def change_tenant(
        self, actor: Actor, name: str, *, title: str | None = None, disabled: bool | None = None
    ) -> Tenant:
        """Change a tenant's title, or disable or enable it with all its principals.

        Raises:
            NotFound: there is none of this name.
            Conflict: an office would lose its last holder.
        """
        with self._acts.write(actor, "tenant:change", f"tenant/{name}") as desk:
            desk.require(ACCESS_WRITE, f"tenant/{name}")
            found = _tenant(desk, name)
            changed = replace(
                found,
                title=found.title if title is None else check_title(title),
                disabled=found.disabled if disabled is None else disabled,
            )
            if changed.disabled and not found.disabled:
                _keep_tenant_officers(desk, name)
            desk.detail["disabled"] = int(changed.disabled)
            sql.save_tenant(desk.connection, changed)
        return changed

    # --- accounts

    def accounts(
        self,
        actor: Actor,
        kind: AccountKind,
        *,
        tenant: str = "",
        search: str = "",
        disabled: bool = False,
        after: str = "",
        limit: int = 100,
    ) -> tuple[tuple[Account, tuple[str, ...]], ...]:
        """Return a page of the users or service accounts that the actor may see, by id, with the roles of each.
        `disabled`: only those that are.
        """
        with self._acts.read(actor, ACCESS_READ, f"tenant/{tenant}/*" if tenant else "tenant/*") as desk:
            read = partial(
                sql.list_accounts, desk.connection, kind=kind, tenant=tenant, search=search, disabled=disabled
            )
            found = page_of(
                lambda behind, size: read(after=behind, limit=size),
                lambda account: account.id,
                lambda account: desk.allows(ACCESS_READ, account.resource),
                after=after,
                limit=min(limit, MAX_PAGE),
            )
            return tuple((one, _roles(desk, one)) for one in found)

    def account(self, actor: Actor, kind: AccountKind, account_id: str) -> tuple[Account, tuple[str, ...]]:
        """Return one account and the roles that it has, by bindings of its own and of its groups."""
        with self._acts.look(actor) as desk:
            known = sql.find_account(desk.connection, account_id)
            desk.require(ACCESS_READ, "tenant/*" if known is None else known.resource)
            found = _account(desk, kind, account_id)
            return found, _roles(desk, found)

    def create_account(self, actor: Actor, wish: AccountWish) -> tuple[Account, NewKey | None]:
        """Create an account, with roles and a key if requested. The key's secret is returned once.

        The first key may do this only for those of the three offices that have no holder with a key yet.

        Raises:
            Conflict: there is an account of this id.
            NotFound: the tenant or a group does not exist.
            InvalidRequest: a name is malformed, or it would hold two offices.
            PermissionDenied: the actor may not, may not grant a role that the account has or gets, or it is for a user
                of an issuer and the actor does not administer every tenant.
        """
        account = Account(
            id=check_account_id(wish.id, wish.kind),
            kind=wish.kind,
            tenant=wish.tenant,
            title=check_title(wish.title),
            groups=frozenset(wish.groups),
            created_s=self._acts.now_s,
        )
        with self._acts.write(actor, f"{wish.kind}:create", account.resource) as desk:
            if actor.principal.kind == "first-key":
                _check_first_administrator(desk, wish)
            else:
                desk.require(ACCESS_WRITE, account.resource)
                if ":" in account.id:  # a user of an issuer, of the tenant in their token
                    desk.require(ACCESS_WRITE, "tenant/*")
                has = [one.role for one in desk.compiled.policy.bindings if one.subject == account.subject]
                for role in (*wish.roles, *has):
                    desk.require(ROLE_GRANT, f"role/{role}")
                for group in wish.groups:
                    desk.require(ACCESS_WRITE, f"group/{group}")
            _tenant(desk, account.tenant)
            _check_groups(desk, wish.groups)
            if sql.find_account(desk.connection, account.id) is not None:
                raise Conflict(f"the account {account.id!r} already exists", hint="choose another id", param="id")
            sql.save_account(desk.connection, account)
            after = desk.compiled
            if wish.roles:
                bound = bind(desk.compiled.policy, [Binding(account.subject, role) for role in wish.roles])
                after = save(desk, bound, comment=f"roles of the new {account.subject}")
            check_separated(after, account)
            new = None if wish.key is None else issue(desk, account, wish.key)
            desk.detail["roles"] = ", ".join(wish.roles)
        return account, new

    def change_account(
        self,
        actor: Actor,
        kind: AccountKind,
        account_id: str,
        *,
        title: str | None = None,
        disabled: bool | None = None,
    ) -> Account:
        """Change an account's title, or disable or enable it. A disabled one is refused within 200 ms, with every key
        and token. For a user of an issuer without an account, disabling creates one.

        Raises:
            NotFound: there is none of this id, and it is not to be disabled.
            Conflict: an office would lose its last holder, or consent to an auditor's loss is missing.
        """
        with self._acts.write(actor, f"{kind}:change", f"{kind}/{account_id}") as desk:
            found = sql.find_account(desk.connection, account_id)
            if found is None and disabled and ":" in account_id:
                check_account_id(account_id, kind)
                found = Account(id=account_id, kind=kind, tenant="default", created_s=desk.now_s)
            found = _account(desk, kind, account_id) if found is None or found.kind != kind else found
            desk.require(ACCESS_WRITE, found.resource)
            changed = replace(
                found,
                title=found.title if title is None else check_title(title),
                disabled=found.disabled if disabled is None else disabled,
            )
            if disabled is False and changed.shut_s:
                raise Conflict(
                    f"the directory of {account_id} disabled it, or has it no more",
                    hint="enable it there; it is enabled here within a minute",
                )
            desk.detail["disabled"] = int(changed.disabled)
            sql.save_account(desk.connection, changed)
        return changed

    def remove_account(self, actor: Actor, kind: AccountKind, account_id: str) -> None:
        """Remove an account with its keys and bindings. Its past acts stay in the audit log.

        Raises:
            NotFound: there is none of this id.
            Conflict: as for `change_account`.
        """
        with self._acts.write(actor, f"{kind}:remove", f"{kind}/{account_id}") as desk:
            found = _account(desk, kind, account_id)
            desk.require(ACCESS_WRITE, found.resource)
            for key in sql.list_keys(desk.connection, owner=found.id, limit=100_000):
                if key.revoked_s is None:
                    sql.save_key(desk.connection, replace(key, revoked_s=desk.now_s))
            bound = unbind(desk.compiled.policy, subject=found.subject)
            if bound != desk.compiled.policy:
                save(desk, bound, comment=f"{found.subject} was removed", checked=False)
            sql.remove_account(desk.connection, found.id)

    def consent(self, actor: Actor, account_id: str) -> None:
        """Consent, for 24 hours, to a security officer's change of an auditor's account. Auditors cannot consent for
        themselves."""
        with self._acts.write(actor, "auditor:consent", f"user/{account_id}") as desk:
            found = _account(desk, "user", account_id)
            desk.require(AUDITOR_CONSENT, found.resource)
            sql.save_consent(desk.connection, subject=found.subject, principal=actor.principal.id, now_s=desk.now_s)

    # --- groups

    def groups(self, actor: Actor) -> tuple[tuple[Group, tuple[str, ...]], ...]:
        """Return every group that the actor may see, with those of its accounts that the actor may see."""
        with self._acts.read(actor, ACCESS_READ, "group/*") as desk:
            groups = [
                group for group in sql.list_groups(desk.connection) if desk.allows(ACCESS_READ, f"group/{group.name}")
            ]
            members = sql.members(desk.connection)
            return tuple((group, _seen(desk, members.get(group.name, ()))) for group in groups)

    def create_group(self, actor: Actor, name: str, title: str = "") -> Group:
        """Create a group.

        Raises:
            Conflict: there is one of this name.
        """
        group = Group(name=check_name(name, "group"), title=check_title(title), created_s=self._acts.now_s)
        with self._acts.write(actor, "group:create", f"group/{name}") as desk:
            desk.require(ACCESS_WRITE, f"group/{name}")
            if any(one.name == name for one in sql.list_groups(desk.connection)):
                raise Conflict(f"the group {name!r} already exists", hint="choose another name", param="name")
            sql.save_group(desk.connection, group)
        return group

    def change_members(
        self, actor: Actor, name: str, *, add: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Add accounts to a group, and remove others; return the members.

        Raises:
            NotFound: the group or an account does not exist.
            PermissionDenied: the actor would raise their own rights.
            InvalidRequest: an account would hold two offices.
            Conflict: as for `change_account`.
        """
        with self._acts.write(actor, "group:members", f"group/{name}") as desk:
            desk.require(ACCESS_WRITE, f"group/{name}")
            _check_groups(desk, [name])
            for account_id in (*add, *remove):
                found = sql.find_account(desk.connection, account_id)
                if found is None:
                    raise NotFound(
                        f"there is no account {account_id[:100]!r}",
                        hint="list the accounts with `ashore access user list`",
                    )
                if account_id in remove and name in found.given_groups:
                    raise Conflict(
                        f"the directory of {account_id} says that it is in {name}",
                        hint="remove it from the group there",
                    )
                groups = found.groups | {name} if account_id in add else found.groups - {name}
                changed = replace(found, groups=groups)
                check_separated(desk.compiled, changed)
                if found.id == actor.principal.id:
                    desk.forbid_raising(desk.compiled, _principal_after(actor.principal, changed, name))
                sql.save_account(desk.connection, changed)
            desk.detail.update(added=", ".join(add)[:1000], removed=", ".join(remove)[:1000])
            return _seen(desk, sql.members_of(desk.connection, name))

    def remove_group(self, actor: Actor, name: str) -> None:
        """Remove a group, with its memberships and bindings.

        Raises:
            NotFound: there is none of this name.
            Conflict: as for `change_account`.
        """
        with self._acts.write(actor, "group:remove", f"group/{name}") as desk:
            desk.require(ACCESS_WRITE, f"group/{name}")
            _check_groups(desk, [name])
            bound = unbind(desk.compiled.policy, subject=f"group/{name}")
            after = Compiled(bound)
            desk.forbid_raising(after)
            if bound != desk.compiled.policy:
                save(desk, bound, comment=f"group/{name} was removed")
            for account in sql.members_of(desk.connection, name):
                given = account.given_groups - {name}
                sql.save_account(desk.connection, replace(account, groups=account.groups - {name}, given_groups=given))
            sql.remove_group(desk.connection, name)


def _roles(desk: Desk, account: Account) -> tuple[str, ...]:
    return tuple(role.name for role, _ in desk.compiled.held_by(account.principal))


def _seen(desk: Desk, members: Iterable[Account]) -> tuple[str, ...]:
    """Return the ids of the accounts that the actor may see or administer."""
    return tuple(
        sorted(
            one.id
            for one in members
            if desk.allows(ACCESS_READ, one.resource) or desk.allows(ACCESS_WRITE, one.resource)
        )
    )


def _check_first_administrator(desk: Desk, wish: AccountWish) -> None:
    """Check that the first key may create this account."""
    missing = missing_offices(desk.connection, desk.now_s)
    role = wish.roles[0] if len(wish.roles) == 1 else ""
    if (
        wish.kind == "user"
        and role in missing
        and wish.key is not None
        and not wish.groups
        and wish.tenant == "default"
    ):
        desk.require(ACCESS_WRITE, f"{FIRST_ADMINISTRATORS}/{role}")
        return
    what = (
        f"the role {role} is already granted"
        if role in OFFICERS and role not in missing
        else (
            "it may only create users of the tenant default, with a key and exactly one of the roles "
            + ", ".join(OFFICERS)
        )
    )
    raise PermissionDenied(
        f"the first key may not create {wish.kind}/{wish.id}: {what}",
        hint=bootstrap_hint(desk.connection, desk.now_s),
        action=ACCESS_WRITE,
        resource=f"{wish.kind}/{wish.id}",
        rule="the first key may only create the three administrators",
    )


def _principal_after(principal: Principal, changed: Account, name: str) -> Principal:
    """Return the actor after its account joined or left a group; groups from its token or directory stay."""
    groups = principal.groups | {name} if name in changed.groups else principal.groups - {name}
    own = changed.groups
    return replace(
        principal,
        groups=groups | changed.given_groups,
        token_groups=principal.token_groups - own,
        given_groups=changed.given_groups - own,
    )


def _keep_tenant_officers(desk: Desk, tenant: str) -> None:
    for account in sql.list_accounts(desk.connection, tenant=tenant, limit=1_000_000):
        if not account.is_out and is_officer(desk.compiled, account):
            raise Conflict(
                f"{account.subject} of the tenant {tenant} holds an office and would be disabled with it",
                hint="move the office to an account of another tenant first",
            )


def _tenant(desk: Desk, name: str) -> Tenant:
    found = sql.find_tenant(desk.connection, name)
    if found is None:
        names = [tenant.name for tenant in sql.list_tenants(desk.connection)]
        raise NotFound(f"there is no tenant {name[:100]!r}", hint=did_you_mean(name[:100], names), param="tenant")
    return found


def _account(desk: Desk, kind: AccountKind, account_id: str) -> Account:
    found = sql.find_account(desk.connection, account_id)
    if found is None or found.kind != kind:
        raise _no_account(desk, kind, account_id[:100], of_other_kind=found is not None)
    return found


def _no_account(desk: Desk, kind: AccountKind, account_id: str, *, of_other_kind: bool) -> NotFound:
    noun, other = ("user", "service") if kind == "user" else ("service account", "user")
    if of_other_kind:
        hint = f"it is an account of the other kind: `ashore access {other} show {account_id}`"
    else:
        some = sql.list_accounts(desk.connection, kind=kind, tenant="", after="", limit=MAX_PAGE)
        near = nearest_names(account_id, [account.id for account in some])
        hint = did_you_mean(account_id, near) if near else f"list them with `ashore access {kind} list`"
    return NotFound(f"there is no {noun} {account_id!r}", hint=hint)


def _check_groups(desk: Desk, names: Iterable[str]) -> None:
    known = [group.name for group in sql.list_groups(desk.connection)]
    for name in names:
        if name not in known:
            raise NotFound(f"there is no group {name[:100]!r}", hint=did_you_mean(name[:100], known))
