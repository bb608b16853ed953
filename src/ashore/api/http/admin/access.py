"""`/admin/v1/{tenants,users,service-accounts,groups,keys,roles,bindings,policy,can}`: parse, call the use case, render.

Every route lets in whoever may do its action on anything; the use case asks on what, and decides on the state. An
answer to a change comes when the change is in force in every process of this machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec

from ashore.access import (
    ACTIONS,
    Account,
    AccountWish,
    Actor,
    Acts,
    Applied,
    Binding,
    KeyRecord,
    Keyring,
    KeyScope,
    KeyWish,
    NewKey,
    People,
    Policy,
    PolicyBook,
    Principal,
    Role,
    Tenant,
    parse_rule,
)
from ashore.api.decode import decode
from ashore.api.http.admin import accesstypes as t
from ashore.api.http.exchange import Exchange
from ashore.core import Clock, Recorder, whole_number
from ashore.errors import InvalidRequest, NotReady

if TYPE_CHECKING:
    from ashore.api.http.app import HttpApp
    from ashore.api.keys import Keys

JSON: Final = (b"content-type", b"application/json")
NO_STORE: Final = (b"cache-control", b"no-store")
IN_FORCE_S: Final = 0.2
"""Within this time other processes know of a change (`EpochWatch`)."""
TAG: Final = "Access"

T = TypeVar("T")
B = TypeVar("B", bound=msgspec.Struct)
_encode = msgspec.json.Encoder().encode
_tenant_in = msgspec.json.Decoder(t.TenantIn)
_tenant_change = msgspec.json.Decoder(t.TenantChange)
_owned_key_in = msgspec.json.Decoder(t.OwnedKeyIn)
_rotate_in = msgspec.json.Decoder(t.RotateIn)
_account_in = msgspec.json.Decoder(t.AccountIn)
_account_change = msgspec.json.Decoder(t.AccountChange)
_group_in = msgspec.json.Decoder(t.GroupIn)
_members_change = msgspec.json.Decoder(t.MembersChange)
_role_body = msgspec.json.Decoder(t.RoleBody)
_binding_change = msgspec.json.Decoder(t.BindingChange)
_policy_in = msgspec.json.Decoder(t.PolicyIn)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDesk:
    """The use cases of the access room, and what this worker knows of their effect."""

    people: People
    keyring: Keyring
    book: PolicyBook
    keys: Keys
    alone: bool = True
    """Whether this is the only worker of the machine."""

    async def look(self, work: Callable[[], T]) -> T:
        """Ask the state, on a thread."""
        return await asyncio.to_thread(work)

    async def change(self, work: Callable[[], T]) -> T:
        """Change the state, on a thread; return when every process of this machine goes by it."""
        done = await asyncio.to_thread(work)
        await self.keys.reread(whole=False)
        if not self.alone:
            await asyncio.sleep(IN_FORCE_S)
        return done


def make_access_desk(keys: Keys, clock: Clock, recorder: Recorder, *, alone: bool) -> AccessDesk | None:
    """Return the use cases of the access room; None where there is no state to keep accounts in."""
    if keys.database is None:
        return None
    acts = Acts(keys.database, recorder, clock)
    return AccessDesk(people=People(acts), keyring=Keyring(acts), book=PolicyBook(acts), keys=keys, alone=alone)


def _desk(app: HttpApp) -> AccessDesk:
    if app.access is None:
        raise NotReady("this server keeps no accounts: it has no state", hint="start it with `ashore up`")
    return app.access


def _actor(app: HttpApp, exchange: Exchange, principal: Principal) -> Actor:
    return Actor(principal=principal, origin=app.origin_of(exchange), request_id=exchange.request_id)


async def _body(app: HttpApp, exchange: Exchange, decoder: msgspec.json.Decoder[B]) -> B:
    """Return the body; nothing at all means the defaults of everything."""
    return decode(await exchange.body(app.limits) or b"{}", decoder)


async def _answer(exchange: Exchange, answer: msgspec.Struct) -> None:
    await exchange.respond(200, [JSON, NO_STORE], _encode(answer))


def _page(exchange: Exchange) -> tuple[str, int]:
    """Return what a page begins behind, and how many it has at most."""
    asked = exchange.query()
    limit = whole_number(asked.get("limit", "100").encode())
    if limit is None or not 1 <= limit <= 1000:
        raise InvalidRequest(f"limit is {asked['limit'][:20]!r}; expected 1 to 1000", param="limit")
    return asked.get("after", ""), limit


# --- tenants


async def list_tenants(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/tenants`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    found = await desk.look(lambda: desk.people.tenants(actor))
    await _answer(exchange, t.TenantList(items=[_tenant(one) for one in found]))


async def create_tenant(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/tenants`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _tenant_in)
    await _answer(exchange, _tenant(await desk.change(lambda: desk.people.create_tenant(actor, body.name, body.title))))


async def change_tenant(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`PATCH /admin/v1/tenants/{tenant}`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _tenant_change)
    changed = await desk.change(
        lambda: desk.people.change_tenant(actor, exchange.argument, title=body.title, disabled=body.disabled)
    )
    await _answer(exchange, _tenant(changed))


# --- users and service accounts


class Accounts:
    """The same routes for users and for service accounts."""

    def __init__(self, kind: Literal["user", "service"]) -> None:
        self._kind: Final[Literal["user", "service"]] = kind

    async def list(self, app: HttpApp, exchange: Exchange, principal: Principal) -> None:
        desk, actor, (after, limit) = _desk(app), _actor(app, exchange, principal), _page(exchange)
        tenant = exchange.query().get("tenant", "")
        found = await desk.look(
            lambda: desk.people.accounts(actor, self._kind, tenant=tenant, after=after, limit=limit)
        )
        following = found[-1].id if len(found) == limit else None
        await _answer(exchange, t.AccountList(items=[_account(one) for one in found], next=following))

    async def create(self, app: HttpApp, exchange: Exchange, principal: Principal) -> None:
        desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _account_in)
        wish = AccountWish(
            id=body.id,
            kind=self._kind,
            tenant=body.tenant,
            title=body.title,
            groups=tuple(body.groups),
            roles=tuple(body.roles),
            key=None if body.key is None else _key_wish(body.key),
        )
        account, new = await desk.change(lambda: desk.people.create_account(actor, wish))
        made = t.AccountMade(account=_account(account), key=None if new is None else _new_key(new))
        await _answer(exchange, made)

    async def show(self, app: HttpApp, exchange: Exchange, principal: Principal) -> None:
        desk, actor = _desk(app), _actor(app, exchange, principal)
        found, roles = await desk.look(lambda: desk.people.account(actor, self._kind, exchange.argument))
        await _answer(exchange, t.AccountDetail(account=_account(found), roles=[*roles]))

    async def change(self, app: HttpApp, exchange: Exchange, principal: Principal) -> None:
        desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _account_change)
        changed = await desk.change(
            lambda: desk.people.change_account(
                actor, self._kind, exchange.argument, title=body.title, disabled=body.disabled
            )
        )
        await _answer(exchange, _account(changed))

    async def remove(self, app: HttpApp, exchange: Exchange, principal: Principal) -> None:
        desk, actor = _desk(app), _actor(app, exchange, principal)
        await desk.change(lambda: desk.people.remove_account(actor, self._kind, exchange.argument))
        await _answer(exchange, t.Removed(removed=f"{self._kind}/{exchange.argument}"))


USERS: Final = Accounts("user")
SERVICES: Final = Accounts("service")


async def consent(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/users/{user}/consent`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await desk.change(lambda: desk.people.consent(actor, exchange.argument))
    await _answer(exchange, t.Consented(consented_to=f"user/{exchange.argument}", holds_for_s=86_400))


# --- groups


async def list_groups(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/groups`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    found = await desk.look(lambda: desk.people.groups(actor))
    items = [
        t.GroupOut(name=group.name, title=group.title, members=[*members], created_at=group.created_s)
        for group, members in found
    ]
    await _answer(exchange, t.GroupList(items=items))


async def create_group(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/groups`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _group_in)
    made = await desk.change(lambda: desk.people.create_group(actor, body.name, body.title))
    await _answer(exchange, t.GroupOut(name=made.name, title=made.title, members=[], created_at=made.created_s))


async def change_members(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/groups/{group}/members`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _members_change)
    members = await desk.change(
        lambda: desk.people.change_members(actor, exchange.argument, add=body.add, remove=body.remove)
    )
    await _answer(exchange, t.MembersOut(items=[*members]))


async def remove_group(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /admin/v1/groups/{group}`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await desk.change(lambda: desk.people.remove_group(actor, exchange.argument))
    await _answer(exchange, t.Removed(removed=f"group/{exchange.argument}"))


# --- keys


async def list_keys(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/keys`; everybody may list those of `owner=` themselves."""
    desk, actor, (after, limit) = _desk(app), _actor(app, exchange, principal), _page(exchange)
    asked = exchange.query()
    found = await desk.look(
        lambda: desk.keyring.keys(
            actor, owner=asked.get("owner", ""), tenant=asked.get("tenant", ""), after=after, limit=limit
        )
    )
    following = found[-1].key_id if len(found) == limit else None
    await _answer(exchange, t.KeyList(items=[_key(one) for one in found], next=following))


async def create_key(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/keys`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _owned_key_in)
    new = await desk.change(lambda: desk.keyring.create(actor, body.owner, _key_wish(body)))
    await _answer(exchange, _new_key(new))


async def rotate_key(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/keys/{key}/rotate`; everybody may rotate the key that they use."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _rotate_in)
    new = await desk.change(lambda: desk.keyring.rotate(actor, exchange.argument, overlap_s=body.overlap_s))
    await _answer(exchange, _new_key(new))


async def revoke_key(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /admin/v1/keys/{key}`; everybody may revoke the key that they use."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await _answer(exchange, _key(await desk.change(lambda: desk.keyring.revoke(actor, exchange.argument))))


# --- the policy


async def list_roles(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/roles`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    found = await desk.look(lambda: desk.book.roles(actor))
    items = [
        t.RoleOut(name=role.name, title=role.title, rules=[str(rule) for rule in role.rules], built_in=role.built_in)
        for role in found
    ]
    await _answer(exchange, t.RoleList(items=items))


async def put_role(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`PUT /admin/v1/roles/{role}`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _role_body)
    role = _role(exchange.argument, body.title, body.rules)
    await _answer(exchange, _applied(await desk.change(lambda: desk.book.put_role(actor, role))))


async def remove_role(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`DELETE /admin/v1/roles/{role}`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    await _answer(exchange, _applied(await desk.change(lambda: desk.book.remove_role(actor, exchange.argument))))


async def list_bindings(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/bindings`."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    found = await desk.look(lambda: desk.book.bindings(actor))
    await _answer(exchange, t.BindingList(items=[t.BindingBody(subject=one.subject, role=one.role) for one in found]))


async def change_bindings(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`POST /admin/v1/bindings`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _binding_change)
    add = [Binding(one.subject, one.role) for one in body.grant]
    remove = [Binding(one.subject, one.role) for one in body.revoke]
    if not add and not remove:
        raise InvalidRequest("there is nothing to grant and nothing to revoke", hint='{"grant": [{"subject", "role"}]}')
    await _answer(exchange, _applied(await desk.change(lambda: desk.book.grant(actor, add=add, remove=remove))))


async def show_policy(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/policy`, `?version=N` for an older one."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    asked = exchange.query().get("version")
    version = None if asked is None else whole_number(asked.encode())
    if asked is not None and not (version and version <= t.MAX_VERSION):
        raise InvalidRequest(f"version is {asked[:20]!r}; expected a whole number above 0", param="version")
    policy = await desk.look(lambda: desk.book.show(actor, version))
    await _answer(exchange, _policy(policy))


async def apply_policy(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`PUT /admin/v1/policy`."""
    desk, actor, body = _desk(app), _actor(app, exchange, principal), await _body(app, exchange, _policy_in)
    policy = Policy(
        roles=tuple(_role(one.name, one.title, one.rules) for one in body.roles),
        bindings=tuple(dict.fromkeys(Binding(one.subject, one.role) for one in body.bindings)),
    )
    done = await desk.change(
        lambda: desk.book.apply(
            actor, policy, base_version=body.base_version, comment=body.comment, dry_run=body.dry_run
        )
    )
    await _answer(exchange, _applied(done))


async def history(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/policy/history`."""
    desk, actor, (_, limit) = _desk(app), _actor(app, exchange, principal), _page(exchange)
    found = await desk.look(lambda: desk.book.history(actor, limit=limit))
    items = [
        t.VersionOut(version=one.version, author=one.author, comment=one.comment, created_at=one.created_s)
        for one in found
    ]
    await _answer(exchange, t.VersionList(items=items))


async def can(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/can?subject=&action=&resource=`; everybody may ask about themselves."""
    desk, actor = _desk(app), _actor(app, exchange, principal)
    asked = exchange.query()
    subject, action, resource = (asked.get(name, "") for name in ("subject", "action", "resource"))
    if not action or not resource:
        raise InvalidRequest(
            "action and resource must be given", hint="?subject=user/alice&action=infer&resource=model/x"
        )
    subject = subject or principal.subjects[0]
    decision, roles = await desk.look(lambda: desk.book.can(actor, subject, action, resource))
    answer = t.CanOut(
        allowed=decision.allowed,
        action=decision.action,
        resource=decision.resource,
        why=decision.why,
        rule=decision.rule,
        role=decision.role,
        by=decision.subject,
        roles=[t.HeldRole(role=role, by=by) for role, by in roles],
    )
    await _answer(exchange, answer)


async def list_actions(app: HttpApp, exchange: Exchange, principal: Principal) -> None:
    """`GET /admin/v1/actions`."""
    items = [t.ActionOut(name=one.name, protects=one.protects, office=one.office) for one in ACTIONS]
    await _answer(exchange, t.ActionList(items=items))


# --- rendering


def _tenant(tenant: Tenant) -> t.TenantOut:
    return t.TenantOut(name=tenant.name, title=tenant.title, disabled=tenant.disabled, created_at=tenant.created_s)


def _account(account: Account) -> t.AccountOut:
    return t.AccountOut(
        id=account.id,
        kind=account.kind,
        tenant=account.tenant,
        title=account.title,
        groups=sorted(account.groups),
        disabled=account.disabled,
        created_at=account.created_s,
    )


def _key(key: KeyRecord) -> t.KeyOut:
    return t.KeyOut(
        id=key.key_id,
        owner=key.owner,
        tenant=key.tenant,
        title=key.title,
        models=[*key.scope.models],
        actions=[*key.scope.actions],
        networks=[*key.scope.networks],
        created_at=key.created_s,
        created_by=key.created_by,
        expires_at=key.expires_s,
        revoked_at=key.revoked_s,
        last_used_at=key.last_used_s,
    )


def _new_key(new: NewKey) -> t.NewKeyOut:
    return t.NewKeyOut(key=new.secret, record=_key(new.record))


def _key_wish(body: t.KeyIn) -> KeyWish:
    scope = KeyScope(models=tuple(body.models), actions=tuple(body.actions), networks=tuple(body.networks))
    return KeyWish(title=body.title, scope=scope, expires_in_s=body.expires_in_s)


def _role(name: str, title: str, rules: list[str]) -> Role:
    return Role(name=name, title=title, rules=tuple(dict.fromkeys(parse_rule(rule) for rule in rules)))


def _policy(policy: Policy) -> t.PolicyOut:
    return t.PolicyOut(
        version=policy.version,
        roles=[t.NamedRole(name=r.name, title=r.title, rules=[str(rule) for rule in r.rules]) for r in policy.roles],
        bindings=[t.BindingBody(subject=one.subject, role=one.role) for one in policy.bindings],
    )


def _applied(applied: Applied) -> t.PolicyApplied:
    return t.PolicyApplied(version=applied.policy.version, in_force=applied.in_force, changes=[*applied.changes])
