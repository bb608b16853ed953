"""Use cases of the policy: show, replace, change a binding, compare, and check rights (`can`, `own`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ashore.core.errors import Conflict, InvalidRequest, NotFound
from ashore.core.nearest import did_you_mean
from ashore.core.visible import check_line
from ashore.data.authority import BUILT_IN, DEFAULT_TENANT, Compiled, Decision, Principal, sql
from ashore.data.authority.actions import BY_NAME, POLICY_READ, POLICY_WRITE, ROLE_GRANT
from ashore.data.authority.acts import SYSTEM, Actor, Acts, Desk, check_separated
from ashore.data.authority.policy import Binding, Policy, Role, check_policy, check_role, check_subject
from ashore.data.authority.records import PolicyVersion

MAX_TOLD_CHANGES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """Result of applying a policy."""

    policy: Policy
    changes: tuple[str, ...]
    """One line each: `+ role reader: infer on model/chat`, `- user/alice has developer`."""
    in_force: bool
    """False for a dry run, and where nothing changes."""


class PolicyBook:
    """The policy and its versions."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts

    def show(self, actor: Actor, version: int | None = None) -> Policy:
        """Return the policy in force, or an older version.

        Raises:
            NotFound: there is no such version.
        """
        with self._acts.read(actor, POLICY_READ, "policy") as desk:
            policy = sql.load_policy(desk.connection, version)
            if version and policy.version != version:
                raise NotFound(
                    f"there is no version {version} of the policy",
                    hint="list the versions with `ashore access policy history`",
                )
            return policy

    def history(self, actor: Actor, *, limit: int = 100) -> tuple[PolicyVersion, ...]:
        """Return the versions, the newest first."""
        with self._acts.read(actor, POLICY_READ, "policy") as desk:
            return sql.list_versions(desk.connection, limit=min(limit, 1000))

    def apply(
        self, actor: Actor, policy: Policy, *, base_version: int, comment: str = "", dry_run: bool = False
    ) -> Applied:
        """Replace the policy in force, which must still be `base_version`.

        Without differences nothing changes, whatever the base version: a file may be applied repeatedly.

        Raises:
            Conflict: it was changed since; the message names the changes.
            InvalidRequest: it cannot come into force.
            PermissionDenied: the actor may not, or would raise their own rights.
        """
        with self._acts.write(actor, "policy:check" if dry_run else "policy:apply", "policy") as desk:
            desk.require(POLICY_WRITE, "policy")
            current = desk.compiled.policy
            changes = policy_changes(current, policy)
            if changes:
                _check_base(desk, base_version)
            for binding in set(policy.bindings) ^ set(current.bindings):
                desk.require(ROLE_GRANT, f"role/{binding.role}")
            desk.detail["changes"] = "; ".join(changes)[:4000]
            desk.dry = dry_run
            if dry_run or not changes:
                after = _check(desk, check_policy(policy, BUILT_IN))
                desk.keep_administrable(after)
                return Applied(policy=replace(policy, version=current.version), changes=changes, in_force=False)
            kept = save(desk, policy, comment=comment)
        return Applied(policy=kept.policy, changes=changes, in_force=True)

    def roles(self, actor: Actor) -> tuple[Role, ...]:
        """Return the built-in and custom roles that the actor may see."""
        with self._acts.read(actor, POLICY_READ, "role/*") as desk:
            found = (*BUILT_IN, *desk.compiled.policy.roles)
            return tuple(role for role in found if desk.allows(POLICY_READ, f"role/{role.name}"))

    def put_role(self, actor: Actor, role: Role) -> Applied:
        """Create a custom role, or replace its rules.

        Raises:
            InvalidRequest: it is built in, malformed, or would give powers of two offices.
            PermissionDenied: the actor may not, or has that role and would raise their own rights.
        """
        with self._acts.write(actor, "role:put", f"role/{role.name}") as desk:
            desk.require(POLICY_WRITE, f"role/{role.name}")
            current = desk.compiled.policy
            others = tuple(one for one in current.roles if one.name != role.name)
            return _applied(desk, replace(current, roles=(*others, check_role(role))))

    def remove_role(self, actor: Actor, name: str) -> Applied:
        """Remove a custom role that has no holders.

        Raises:
            NotFound: there is none of this name.
            Conflict: it has holders.
        """
        with self._acts.write(actor, "role:remove", f"role/{name}") as desk:
            desk.require(POLICY_WRITE, f"role/{name}")
            current = desk.compiled.policy
            if name not in {role.name for role in current.roles}:
                raise NotFound(
                    f"there is no custom role {name[:100]!r}", hint="list the roles with `ashore access role list`"
                )
            holders = sorted(binding.subject for binding in current.bindings if binding.role == name)
            if holders:
                raise Conflict(
                    f"the role {name} is still granted to {', '.join(holders[:5])}",
                    hint="revoke it first: `ashore access role revoke`",
                )
            return _applied(desk, replace(current, roles=tuple(one for one in current.roles if one.name != name)))

    def grant(self, actor: Actor, *, add: Sequence[Binding] = (), remove: Sequence[Binding] = ()) -> Applied:
        """Grant roles to subjects, and revoke others. Bindings that already match are not changed.

        Raises:
            NotFound: a subject that is an account or a group does not exist.
            InvalidRequest: a subject would hold two offices.
            PermissionDenied: the actor may not, or would raise their own rights.
            Conflict: an office would lose its last holder, or consent to an auditor's loss is missing.
        """
        names = ", ".join(f"{one.subject} {one.role}" for one in (*add, *remove))
        with self._acts.write(actor, "role:grant" if add else "role:revoke", f"role/{names[:200]}") as desk:
            for binding in (*add, *remove):
                desk.require(ROLE_GRANT, f"role/{binding.role}")
            for binding in add:
                _check_exists(desk, check_subject(binding.subject))
            policy = bind(desk.compiled.policy, add)
            policy = replace(policy, bindings=tuple(one for one in policy.bindings if one not in set(remove)))
            return _applied(desk, policy)

    def bindings(self, actor: Actor) -> tuple[Binding, ...]:
        """Return the bindings of the roles that the actor may see."""
        with self._acts.read(actor, POLICY_READ, "role/*") as desk:
            found = desk.compiled.policy.bindings
            return tuple(one for one in found if desk.allows(POLICY_READ, f"role/{one.role}"))

    def can(
        self, actor: Actor, subject: str, action: str, resource: str
    ) -> tuple[Decision, tuple[tuple[str, str], ...]]:
        """Return the decision for an account, with its effective roles and their origin.

        Everyone may check their own account.

        Raises:
            InvalidRequest: no such action, or the subject is not an account.
            NotFound: there is no such account.
        """
        if action not in BY_NAME:
            raise InvalidRequest(
                f"there is no action {action[:100]!r}", hint=did_you_mean(action[:100], list(BY_NAME)), param="action"
            )
        if subject in actor.principal.subjects[:1]:
            with self._acts.read(replace(SYSTEM, origin=actor.origin), POLICY_READ, "policy") as desk:
                return _answer(desk.compiled, actor.principal, action, resource)
        with self._acts.read(actor, POLICY_READ, "policy") as desk:
            principal, disabled = _asked_about(desk, subject)
            decision, roles = _answer(desk.compiled, principal, action, resource)
            if disabled:
                why = f"{subject} is disabled"
                decision = Decision(allowed=False, action=action, resource=resource, why=why)
            return decision, roles

    def own(self, actor: Actor) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
        """Return what the caller may do on anything at all, and the caller's effective roles with their origin."""
        with self._acts.read(replace(SYSTEM, origin=actor.origin), POLICY_READ, "policy") as desk:
            may = tuple(name for name in BY_NAME if desk.compiled.holds(actor.principal, name))
            return may, _held(desk.compiled, actor.principal)


def bind(policy: Policy, bindings: Iterable[Binding]) -> Policy:
    """Return the policy with more bindings; existing ones are not duplicated."""
    new = [binding for binding in dict.fromkeys(bindings) if binding not in set(policy.bindings)]
    return replace(policy, bindings=(*policy.bindings, *new))


def unbind(policy: Policy, *, subject: str) -> Policy:
    """Return the policy without the bindings of a subject."""
    return replace(policy, bindings=tuple(one for one in policy.bindings if one.subject != subject))


def save(desk: Desk, policy: Policy, *, comment: str, checked: bool = True) -> Compiled:
    """Save the policy in the open transaction and return it compiled; the caller has authorised it.

    `checked=False`: skip validation for changes that only remove rights.
    """
    check_line(comment, "the comment", most=500, param="comment")
    policy = replace(check_policy(policy, BUILT_IN), version=desk.compiled.policy.version + 1)
    after = _check(desk, policy) if checked else Compiled(policy)
    sql.save_policy(desk.connection, policy, author=desk.principal.id, comment=comment, now_s=desk.now_s)
    desk.detail["policy_version"], desk.after = policy.version, after
    return after


def policy_changes(before: Policy, after: Policy) -> tuple[str, ...]:
    """Return the difference of two policies, a line for each rule and binding."""
    old, new = set(_lines(before)), set(_lines(after))
    return (*(f"- {line}" for line in sorted(old - new)), *(f"+ {line}" for line in sorted(new - old)))


def _lines(policy: Policy) -> Iterable[str]:
    for role in policy.roles:
        yield f"role {role.name}" + (f" ({role.title})" if role.title else "")
        yield from (f"role {role.name}: {rule}" for rule in role.rules)
    yield from (f"{binding.subject} has {binding.role}" for binding in policy.bindings)


def _check(desk: Desk, policy: Policy) -> Compiled:
    """Compile and return the policy, checking that it raises no rights of the actor and gives nobody two offices."""
    after = Compiled(policy)
    desk.forbid_raising(after)
    for binding in set(policy.bindings) - set(desk.compiled.policy.bindings):
        kind, _, name = binding.subject.partition("/")
        if kind == "group":
            for account in sql.members_of(desk.connection, name):
                check_separated(after, account)
        elif kind in ("user", "service"):
            found = sql.find_account(desk.connection, name)
            if found is not None:
                check_separated(after, found)
    return after


def _check_base(desk: Desk, base_version: int) -> None:
    current = desk.compiled.policy
    if base_version == current.version:
        return
    newest = sql.list_versions(desk.connection, limit=1)
    who = f" by {newest[0].author}" if newest else ""
    base = sql.load_policy(desk.connection, base_version) if base_version else Policy()
    if base.version != base_version:
        raise Conflict(
            f"the policy has no version {base_version}; the current version is {current.version}",
            hint="read the policy again",
        )
    changes = policy_changes(base, current)
    told = "; ".join(changes[:MAX_TOLD_CHANGES]) + ("; …" if len(changes) > MAX_TOLD_CHANGES else "")
    raise Conflict(
        f"the policy was changed{who}: it is at version {current.version}, and yours is based on "
        f"{base_version}. Changes since then: {told}",
        hint="read the policy again, and repeat your change on that version",
        param="base_version",
    )


def _applied(desk: Desk, policy: Policy) -> Applied:
    current = desk.compiled.policy
    changes = policy_changes(current, policy)
    desk.detail["changes"] = "; ".join(changes)[:4000]
    if not changes:
        return Applied(policy=current, changes=(), in_force=False)
    return Applied(policy=save(desk, policy, comment="; ".join(changes)[:500]).policy, changes=changes, in_force=True)


def _check_exists(desk: Desk, subject: str) -> None:
    kind, _, name = subject.partition("/")
    if kind in ("user", "service") and ":" not in name:
        found = sql.find_account(desk.connection, name)
        if found is None or found.kind != kind:
            raise NotFound(
                f"there is no {subject[:100]}", hint=f"list them with `ashore access {kind} list`", param="subject"
            )
    if kind == "group" and name not in {group.name for group in sql.list_groups(desk.connection)}:
        raise NotFound(
            f"there is no {subject[:100]}", hint="list the groups with `ashore access group list`", param="subject"
        )
    if kind == "tenant" and sql.find_tenant(desk.connection, name) is None:
        raise NotFound(
            f"there is no {subject[:100]}", hint="list the tenants with `ashore access tenant list`", param="subject"
        )


def _asked_about(desk: Desk, subject: str) -> tuple[Principal, bool]:
    """Return the principal that a subject names, and whether it is disabled."""
    kind, _, name = check_subject(subject if "/" in subject else f"user/{subject}").partition("/")
    if kind not in ("user", "service"):
        raise InvalidRequest(
            f"{subject[:100]} is not an account", hint="write it as user/ID or service/ID", param="subject"
        )
    found = sql.find_account(desk.connection, name)
    if found is not None and found.kind == kind:
        return found.principal, found.is_out
    if ":" in name:  # of an issuer, whose users need no account
        return Principal(id=name, tenant=DEFAULT_TENANT, issuer=name.partition(":")[0]), False
    raise NotFound(f"there is no {kind}/{name}", hint=f"list them with `ashore access {kind} list`", param="subject")


def _answer(
    compiled: Compiled, principal: Principal, action: str, resource: str
) -> tuple[Decision, tuple[tuple[str, str], ...]]:
    return compiled.decide(principal, action, resource), _held(compiled, principal)


def _held(compiled: Compiled, principal: Principal) -> tuple[tuple[str, str], ...]:
    return tuple((role.name, subject) for role, subject in compiled.held_by(principal))
