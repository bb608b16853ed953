"""Decides whether a principal may do an action: a compiled table of the policy, on the hot path of every request.

Deny by default; a deny rule overrides every allow rule, except that nothing takes from an auditor what the auditor role
gives. A holder of two of the three offices has neither, but an auditor stays an auditor. Tokens never grant an office:
neither by a claimed role nor by a group. Nor does a group that a directory gave to an account.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from ashore.core.errors import PermissionDenied
from ashore.core.principal import WIDE, KeyScope, Principal
from ashore.data.authority.actions import ACTIONS, matches_action
from ashore.data.authority.policy import Policy, Role, Rule
from ashore.data.authority.roles import BUILT_IN, office_role

MAX_REMEMBERED: Final = 2_048
"""Limit of memoised decisions; above it, all are dropped."""
MAX_RESOURCE_CHARS: Final = 300
"""Decisions about longer ones are made each time: a client names models as it likes."""
NO_RULE: Final = "no rule allows it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision and its reason."""

    allowed: bool
    action: str
    resource: str
    why: str
    """In words, for people."""
    rule: str = ""
    """The rule that decided, `infer on model/*`; empty where none did."""
    role: str = ""
    """The role it is in."""
    subject: str = ""
    """The subject to which that role was given; `credential` where it came with the key or token."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A rule, and where the principal has it from."""

    rule: Rule
    text: str
    """The rule in words."""
    origin: str
    """The role it is in and who it was given to, in words."""
    role: str
    subject: str
    protected: bool = False


class _Table:
    """The rules of one principal for one action, indexed by resource in constant time."""

    __slots__ = ("_by_length", "_exact", "_lengths")

    def __init__(self, grants: Iterable[Grant]) -> None:
        self._exact: dict[str, Grant] = {}
        self._by_length: dict[str, Grant] = {}
        for grant in grants:
            pattern = grant.rule.resource
            if pattern.endswith("*"):
                self._by_length.setdefault(pattern[:-1], grant)
            else:
                self._exact.setdefault(pattern, grant)
        self._lengths = sorted({len(prefix) for prefix in self._by_length}, reverse=True)

    def find(self, resource: str) -> Grant | None:
        """Return the grant with the longest matching pattern."""
        found = self._exact.get(resource)
        if found is None:
            for length in self._lengths:
                found = self._by_length.get(resource[:length])
                if found is not None:
                    break
        return found

    @property
    def is_empty(self) -> bool:
        return not self._exact and not self._by_length


class _View:
    """Rights of one set of subjects and roles. Tables are built for each action on first use."""

    __slots__ = ("_grants", "_tables", "disqualified")

    def __init__(self, grants: tuple[Grant, ...], disqualified: str) -> None:
        self._grants = grants
        self._tables: dict[str, tuple[_Table, _Table, _Table]] = {}
        self.disqualified = disqualified
        """Why some of the roles do not count; empty where all do."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        return self._grants

    def tables(self, action: str) -> tuple[_Table, _Table, _Table]:
        """Return undeniable, denied and allowed grants for one action."""
        found = self._tables.get(action)
        if found is None:
            mine = [grant for grant in self._grants if matches_action(grant.rule.action, action)]
            found = (
                _Table(g for g in mine if g.protected and g.rule.effect == "allow"),
                _Table(g for g in mine if g.rule.effect == "deny"),
                _Table(g for g in mine if g.rule.effect == "allow"),
            )
            self._tables[action] = found
        return found


class Compiled:
    """One compiled policy. Immutable; safe on any thread."""

    def __init__(self, policy: Policy, built_in: Iterable[Role] = BUILT_IN) -> None:
        self.policy: Final = policy
        self._roles: Final[Mapping[str, Role]] = {role.name: role for role in (*built_in, *policy.roles)}
        self._bound: Final[dict[str, list[str]]] = {}
        for binding in policy.bindings:
            self._bound.setdefault(binding.subject, []).append(binding.role)
        self._views: dict[tuple[tuple[str, ...], frozenset[str], frozenset[str], frozenset[str], bool], _View] = {}
        self._view_of: dict[Principal, _View] = {}
        self._decided: dict[tuple[Principal, str, str], Decision] = {}

    def roles_of(self, principal: Principal) -> tuple[tuple[Role, str], ...]:
        """Return every effective role of a principal, and the subject it was given to."""
        return self._qualified(principal)[0]

    def held_by(self, principal: Principal) -> tuple[tuple[Role, str], ...]:
        """Return every role of a principal, including those that have no effect because two offices come together."""
        held = {name: "credential" for name in sorted(principal.roles) if name in self._roles}
        for subject in principal.subjects:
            for name in self._bound.get(subject, ()):
                if name not in held or _is_lent(principal, held[name]):
                    held[name] = subject
        return tuple(
            (_without_office(self._roles[name]) if _is_lent(principal, subject) else self._roles[name], subject)
            for name, subject in held.items()
        )

    def grants_of(self, principal: Principal) -> tuple[Grant, ...]:
        """Return every effective rule of a principal."""
        return self._view(principal).grants

    def decide(self, principal: Principal, action: str, resource: str) -> Decision:
        """Return the decision, its rule and its reason."""
        key = (principal, action, resource)
        decision = self._decided.get(key)
        if decision is None:
            decision = self._decide(principal, action, resource)
            if len(self._decided) >= MAX_REMEMBERED:
                self._decided.clear()
            if len(resource) <= MAX_RESOURCE_CHARS:
                self._decided[key] = decision
        return decision

    def holds(self, principal: Principal, action: str) -> bool:
        """Return whether the principal may do the action on anything at all."""
        if not _in_scope(principal.scope.actions, action):
            return False
        protected, _, allowed = self._view(principal).tables(action)
        return not (protected.is_empty and allowed.is_empty)

    def _decide(self, principal: Principal, action: str, resource: str) -> Decision:
        narrowed = "" if principal.scope is WIDE else _outside(principal.scope, action, resource)
        if narrowed:
            return Decision(allowed=False, action=action, resource=resource, why=narrowed)
        view = self._view(principal)
        protected, denied, allowed = view.tables(action)
        grant = protected.find(resource)
        if grant is not None:
            return _decided(grant, True, action, resource, "the auditor's rights cannot be denied: ")
        grant = denied.find(resource)
        if grant is not None:
            return _decided(grant, False, action, resource, "denied by ")
        grant = allowed.find(resource)
        if grant is not None:
            return _decided(grant, True, action, resource, "allowed by ")
        why = view.disqualified or NO_RULE
        return Decision(allowed=False, action=action, resource=resource, why=why)

    def _view(self, principal: Principal) -> _View:
        view = self._view_of.get(principal)
        if view is None:
            lent = principal.token_groups, principal.given_groups
            key = (principal.subjects, principal.roles, *lent, bool(principal.issuer))
            view = self._views.get(key) or self._make_view(principal)  # several keys of one account share one
            if max(len(self._views), len(self._view_of)) >= MAX_REMEMBERED:
                self._views.clear()
                self._view_of.clear()
            self._views[key] = self._view_of[principal] = view
        return view

    def _make_view(self, principal: Principal) -> _View:
        roles, disqualified = self._qualified(principal)
        grants = []
        for role, subject in roles:
            origin = f"of the role {role.name}, granted to {subject}"
            grants += [Grant(rule, str(rule), origin, role.name, subject, role.protected) for rule in role.rules]
        return _View(tuple(grants), disqualified)

    def _qualified(self, principal: Principal) -> tuple[tuple[tuple[Role, str], ...], str]:
        """Return the effective roles, and why others have no effect. Separation of duties is checked here again:
        groups and claims of an issuer may combine offices that no single binding could."""
        roles = self.held_by(principal)
        offices = sorted({office for role, _ in roles for office in role.offices})
        if len(offices) < 2:
            return roles, ""
        names = ", ".join(sorted(role.name for role, _ in roles if role.offices))
        # The auditor keeps the office: otherwise a second office, given to a group, would silence the auditor.
        kept = tuple((role, subject) for role, subject in roles if role.protected or not role.offices)
        rest = (
            "only the auditor's role counts"
            if any(role.protected for role, _ in kept)
            else "none of these roles counts"
        )
        return kept, f"nobody may hold two of the three offices, so {rest}: {names}"


class PolicyAuthority:
    """An `Authority` over the current policy."""

    def __init__(self, policy: Policy | None = None, *, built_in: Iterable[Role] = BUILT_IN) -> None:
        self._built_in = tuple(built_in)
        self._compiled = Compiled(policy or Policy(), self._built_in)

    @property
    def compiled(self) -> Compiled:
        """The policy in force."""
        return self._compiled

    def take(self, policy: Policy) -> None:
        """Replace the policy. May be called from any thread; a running decision uses either the old or the new one."""
        self._compiled = Compiled(policy, self._built_in)

    def decide(self, principal: Principal, action: str, resource: str) -> Decision:
        return self._compiled.decide(principal, action, resource)

    def holds(self, principal: Principal, action: str) -> bool:
        return self._compiled.holds(principal, action)

    def require(self, principal: Principal, action: str, resource: str) -> None:
        decision = self._compiled.decide(principal, action, resource)
        if not decision.allowed:
            raise refusal(principal, decision)


def refusal(principal: Principal, decision: Decision, *, hint: str = "") -> PermissionDenied:
    """Return the error with principal, action, resource and rule."""
    resource = shown(decision.resource)
    if principal.kind == "first-key":
        hint = hint or (
            "the first key may only use models, read, and create the three administrators: "
            "`ashore access user create NAME --role system-administrator`, then security-officer and auditor"
        )
    owner = office_role(decision.action) if decision.why == NO_RULE else ""  # else its holders are refused as well
    if owner:
        hint = hint or f"this belongs to the {owner}; ask one of them"
    return PermissionDenied(
        f"{principal.id} may not {decision.action} on {resource}: {decision.why}",
        hint=hint
        or f"a security officer can grant it; `ashore access can {principal.subjects[0]} {decision.action} "
        f"{resource} --explain` shows the rules",
        action=decision.action,
        resource=resource,
        rule=decision.rule,
    )


def shown(resource: str) -> str:
    """Return a resource in the form for messages and the audit log: on one line, and bounded."""
    text = resource if resource.isprintable() else ascii(resource)[1:-1]
    return text if len(text) <= MAX_RESOURCE_CHARS else text[:MAX_RESOURCE_CHARS] + "…"


def raised_by(before: Compiled, after: Compiled, principal_before: Principal, principal_after: Principal) -> str:
    """Return a description of rights that a change adds to a principal; empty if it adds none.

    Compares the meaning of rules, not decisions: moving a right from one role to another raises nothing. Nor does
    removing a deny rule that blocks nothing allowed elsewhere.
    """
    old, new = before.grants_of(principal_before), after.grants_of(principal_after)
    had = [g.rule for g in old if g.rule.effect == "allow"]
    for grant in new:
        if grant.rule.effect == "allow" and not any(rule.covers(grant.rule) for rule in had):
            return f"the role {grant.role} would add `{grant.rule}`"
    denies = [g.rule for g in new if g.rule.effect == "deny"]
    allows = [g.rule for g in new if g.rule.effect == "allow"]
    for grant in old:
        if (
            grant.rule.effect == "deny"
            and not any(rule.covers(grant.rule) for rule in denies)
            and any(rule.overlaps(grant.rule) for rule in allows)
        ):
            return f"`{grant.rule}` of the role {grant.role} would no longer apply"
    return ""


class Holds(Protocol):
    """Part of `Authority`."""

    def holds(self, principal: Principal, action: str) -> bool: ...


def withheld(authority: Holds, principal: Principal) -> str:
    """Return a description of the rights that a key or session withholds from its owner's roles; empty if none."""
    scope = principal.scope
    for what in ("models", "networks"):
        if getattr(scope, what):
            return f"{what} other than {', '.join(getattr(scope, what))}"
    whole = replace(principal, scope=WIDE)
    return next(
        (a.name for a in ACTIONS if not _in_scope(scope.actions, a.name) and authority.holds(whole, a.name)), ""
    )


def _decided(grant: Grant, allowed: bool, action: str, resource: str, why: str) -> Decision:
    return Decision(
        allowed=allowed,
        action=action,
        resource=resource,
        why=f"{why}`{grant.text}` {grant.origin}",
        rule=grant.text,
        role=grant.role,
        subject=grant.subject,
    )


def _is_lent(principal: Principal, subject: str) -> bool:
    """Return whether a role of this subject comes only with a token of an issuer, or with a group of a directory."""
    if subject == "credential":
        return bool(principal.issuer)
    kind, _, name = subject.partition("/")
    return kind == "group" and (name in principal.token_groups or name in principal.given_groups)


def _without_office(role: Role) -> Role:
    """Return a role as a token or a directory may grant it: from one with powers of an office only the deny rules
    remain."""
    if not role.offices:
        return role
    return replace(role, rules=tuple(rule for rule in role.rules if rule.effect == "deny"), protected=False)


def _in_scope(patterns: tuple[str, ...], name: str) -> bool:
    return not patterns or any(matches_action(pattern, name) for pattern in patterns)


def _outside(scope: KeyScope, action: str, resource: str) -> str:
    """Return why a key is too narrow for this; empty if it is not."""
    if not _in_scope(scope.actions, action):
        return f"the key allows only the actions {', '.join(scope.actions)}"
    kind, _, name = resource.partition("/")
    name = f"mcp/{name}" if kind == "tool" else name
    if scope.models and kind in ("model", "alias", "tool") and not _in_scope(scope.models, name):
        return f"the key allows only the models {', '.join(scope.models)}"
    return ""
