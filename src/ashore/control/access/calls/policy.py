"""Calls about roles, bindings, the policy as a whole, and its decisions."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ashore.control.access.book import Applied
from ashore.control.access.calls.desk import AccessDesk, Argument, Name, Several, Title
from ashore.core.errors import InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.data.authority.actions import ACTIONS, POLICY_READ, POLICY_WRITE, ROLE_GRANT
from ashore.data.authority.policy import Binding, Policy, Role, Rule, check_resource, parse_rule
from ashore.kit.call import Actor, Call, Nothing
from ashore.kit.copied import copied

MAX_VERSION: Final = 2**53
Rules = Annotated[list[Annotated[str, msgspec.Meta(max_length=500)]], msgspec.Meta(max_length=100_000)]


class OneRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which role."""

    role: str
    """Name of the role."""


class RoleBody(OneRole, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of a custom role."""

    title: Title = ""
    """Purpose of the role, for people."""
    rules: Annotated[Several, msgspec.Meta(extra={"flag": "rule"})]
    """"infer on model/chat", "deny infer on model/deepseek-*"; may be repeated."""


class RoleOut(msgspec.Struct, frozen=True, kw_only=True):
    """A role."""

    name: str
    title: str
    rules: list[str]
    built_in: bool


class RoleDetail(RoleOut, frozen=True, kw_only=True):
    """A role, and who has it."""

    holders: list[str]
    """Subjects that it was granted to."""


class BindingBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role granted to a subject."""

    subject: Annotated[str, msgspec.Meta(max_length=200, extra={"positional": True})]
    """user/ID, service/ID, group/NAME, tenant/NAME or everyone."""
    role: Argument
    """Name of the role."""


class BindingChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Roles to grant and to revoke."""

    grant: Annotated[list[BindingBody], msgspec.Meta(max_length=1000)] = []
    revoke: Annotated[list[BindingBody], msgspec.Meta(max_length=1000)] = []


class NamedRole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A custom role in a policy."""

    name: Name
    title: Title = ""
    rules: Rules


class PolicyIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy that replaces the one in force."""

    base_version: Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
    """Version on which the change is based. Refused with 409 if it is no longer the version in force."""
    roles: Annotated[list[NamedRole], msgspec.Meta(max_length=10_000)] = []
    bindings: Annotated[list[BindingBody], msgspec.Meta(max_length=100_000)] = []
    comment: Annotated[str, msgspec.Meta(max_length=500)] = ""
    dry_run: bool = False


VersionIn = Annotated[
    Annotated[int, msgspec.Meta(ge=1, le=MAX_VERSION)] | None,
    msgspec.Meta(description="An older version. Default: the one in force."),
]


class PolicyOut(msgspec.Struct, frozen=True, kw_only=True):
    """Custom roles and bindings. The built-in roles are in `GET /admin/v1/roles`."""

    version: int
    roles: list[NamedRole]
    bindings: list[BindingBody]


class PolicyApplied(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a policy change."""

    version: int
    """Version of the policy in force now."""
    in_force: bool
    """False for a dry run, and if nothing changed."""
    changes: list[str]
    """`+ role reader: infer on model/chat`, `- user/alice has developer`."""


HistoryIn = Annotated[int, msgspec.Meta(ge=1, le=1000, description="Maximum number of versions.")]


class VersionOut(msgspec.Struct, frozen=True, kw_only=True):
    """One version of the policy."""

    version: int
    author: str
    comment: str
    created_at: int


class CanIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The account, the action and the resource."""

    subject: str = ""
    """An account: user/alice, service/app. Default: the caller."""
    action: Annotated[str, msgspec.Meta(min_length=1)]
    resource: Annotated[str, msgspec.Meta(min_length=1)]


class HeldRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role, and the subject it was granted to."""

    role: str
    by: str


class CanOut(msgspec.Struct, frozen=True, kw_only=True):
    """Whether an account may do something, by which rule, and why."""

    allowed: bool
    action: str
    resource: str
    why: str
    rule: str
    role: str
    by: str
    """Subject to which the role was granted."""
    roles: list[HeldRole]


class Whoami(msgspec.Struct, frozen=True, kw_only=True):
    """The caller, the credential, and the rights that both give together."""

    account: str
    """user/alice, service/app; `first-key` for the first key of a home."""
    tenant: str
    groups: list[str]
    key: str
    """The key used; empty for a token or a session."""
    issuer: str
    """The issuer of the token used; empty for a key."""
    limits: dict[str, list[str]]
    """Models, actions and networks to which the key is limited."""
    roles: list[HeldRole]
    may: list[str]
    """Actions allowed on at least one resource. `can` tells whether on a certain one."""


class ActionOut(msgspec.Struct, frozen=True, kw_only=True):
    """An action that rules can name."""

    name: str
    office: str | None
    protects: str


def list_roles(desk: AccessDesk, actor: Actor, asked: Nothing) -> list[RoleOut]:
    """List all roles, including the built-in ones."""
    return [copied(RoleOut, role, rules=_rules(role)) for role in desk.book.roles(actor)]


def show_role(desk: AccessDesk, actor: Actor, asked: OneRole) -> RoleDetail:
    """Show one role with its rules, and who has it."""
    roles = {role.name: role for role in desk.book.roles(actor)}
    role = roles.get(asked.role)
    if role is None:
        raise NotFound(f"there is no role {asked.role[:100]!r}", hint=did_you_mean(asked.role[:100], list(roles)))
    holders = [one.subject for one in desk.book.bindings(actor) if one.role == role.name]
    return copied(RoleDetail, role, rules=_rules(role), holders=sorted(holders))


def put_role(desk: AccessDesk, actor: Actor, asked: RoleBody) -> PolicyApplied:
    """Create a custom role, or replace its rules."""
    return _applied(desk.book.put_role(actor, _role(asked.role, asked.title, asked.rules)))


def remove_role(desk: AccessDesk, actor: Actor, asked: OneRole) -> PolicyApplied:
    """Remove a custom role that is granted to nobody."""
    return _applied(desk.book.remove_role(actor, asked.role))


def list_bindings(desk: AccessDesk, actor: Actor, asked: Nothing) -> list[BindingBody]:
    """List who has which role."""
    found = desk.book.bindings(actor)
    return [BindingBody(subject=one.subject, role=one.role) for one in found]


def change_bindings(desk: AccessDesk, actor: Actor, asked: BindingChange) -> PolicyApplied:
    """Grant roles and revoke them."""
    if not asked.grant and not asked.revoke:
        raise InvalidRequest(
            "the request grants nothing and revokes nothing",
            hint='send {"grant": [{"subject": "user/alice", "role": "developer"}]}',
        )
    return _applied(desk.book.grant(actor, add=_bindings(asked.grant), remove=_bindings(asked.revoke)))


def list_actions(desk: AccessDesk, actor: Actor, asked: Nothing) -> list[ActionOut]:
    """List the actions that rules can name, and what each one protects."""
    return [ActionOut(name=one.name, office=one.office, protects=one.protects) for one in ACTIONS]


def show_policy(desk: AccessDesk, actor: Actor, version: VersionIn = None) -> PolicyOut:
    """Print the policy in the format that `apply` reads."""
    policy = desk.book.show(actor, version)
    return PolicyOut(
        version=policy.version,
        roles=[NamedRole(name=role.name, title=role.title, rules=_rules(role)) for role in policy.roles],
        bindings=[BindingBody(subject=one.subject, role=one.role) for one in policy.bindings],
    )


def apply_policy(desk: AccessDesk, actor: Actor, asked: PolicyIn) -> PolicyApplied:
    """Replace the policy in force, or show what would change."""
    policy = Policy(
        roles=tuple(_role(one.name, one.title, one.rules) for one in asked.roles),
        bindings=tuple(dict.fromkeys(_bindings(asked.bindings))),
    )
    done = desk.book.apply(actor, policy, base_version=asked.base_version, comment=asked.comment, dry_run=asked.dry_run)
    return _applied(done)


def list_versions(desk: AccessDesk, actor: Actor, limit: HistoryIn = 100) -> list[VersionOut]:
    """List the versions of the policy, the newest first."""
    found = desk.book.history(actor, limit=limit)
    return [copied(VersionOut, one, created_at=one.created_s) for one in found]


def can(desk: AccessDesk, actor: Actor, asked: CanIn) -> CanOut:
    """Check whether an account may perform an action, and which rule decides. Everyone may ask about themselves."""
    subject = asked.subject or actor.principal.subjects[0]
    decision, roles = desk.book.can(actor, subject, asked.action, check_resource(asked.resource))
    return copied(CanOut, decision, by=decision.subject, roles=[HeldRole(role=role, by=by) for role, by in roles])


def whoami(desk: AccessDesk, actor: Actor, asked: Nothing) -> Whoami:
    """Show who you are to this server: account, key, roles, and what you may do."""
    who = actor.principal
    may, roles = desk.book.own(actor)
    limits = {name: list(getattr(who.scope, name)) for name in ("models", "actions", "networks")}
    return Whoami(
        account=who.subjects[0] if who.kind in ("user", "service") else who.id,
        tenant=who.tenant,
        groups=sorted(who.groups),
        key=who.key_id,
        issuer=who.issuer,
        limits={name: patterns for name, patterns in limits.items() if patterns},
        roles=[HeldRole(role=role, by=by) for role, by in roles],
        may=list(may),
    )


LIST_ROLES: Final = Call("access role", "list", "GET", "/roles", POLICY_READ, list_roles)
SHOW_ROLE: Final = Call("access role", "show", "GET", "/roles/{role}", POLICY_READ, show_role)
PUT_ROLE: Final = Call("access role", "put", "PUT", "/roles/{role}", POLICY_WRITE, put_role)
REMOVE_ROLE: Final = Call("access role", "remove", "DELETE", "/roles/{role}", POLICY_WRITE, remove_role)
HOLDERS: Final = Call("access role", "holders", "GET", "/bindings", POLICY_READ, list_bindings)
BIND: Final = Call("access role", "bind", "POST", "/bindings", ROLE_GRANT, change_bindings)
LIST_ACTIONS: Final = Call("access role", "actions", "GET", "/actions", "", list_actions)
SHOW_POLICY: Final = Call("access policy", "show", "GET", "/policy", POLICY_READ, show_policy)
APPLY_POLICY: Final = Call("access policy", "apply", "PUT", "/policy", POLICY_WRITE, apply_policy)
HISTORY: Final = Call("access policy", "history", "GET", "/policy/history", POLICY_READ, list_versions)
CAN: Final = Call("access", "can", "GET", "/can", "", can)
WHOAMI: Final = Call("access", "whoami", "GET", "/whoami", "", whoami)


def _rules(role: Role) -> list[str]:
    return [str(rule) for rule in role.rules]


def _role(name: str, title: str, rules: list[str]) -> Role:
    return Role(name=name, title=title, rules=tuple(dict.fromkeys(map(_rule, rules))))


def _rule(text: str) -> Rule:
    rule = parse_rule(text)
    check_resource(rule.resource)
    return rule


def _bindings(bodies: list[BindingBody]) -> list[Binding]:
    return [Binding(one.subject, one.role) for one in bodies]


def _applied(applied: Applied) -> PolicyApplied:
    return PolicyApplied(version=applied.policy.version, in_force=applied.in_force, changes=[*applied.changes])
