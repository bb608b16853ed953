"""The policy: roles as sets of `action on resource-pattern`, and bindings of roles to subjects. Data and its checks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from ashore.core.errors import InvalidRequest
from ashore.core.nearest import did_you_mean, nearest_names
from ashore.core.visible import check_line
from ashore.data.authority.actions import ACTIONS, FIRST_ADMINISTRATORS, Office, matches_action, offices_of

Effect = Literal["allow", "deny"]

MAX_RULES: Final = 100_000
"""Limit of a whole policy."""
MAX_TITLE_CHARS: Final = 200

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+|-]{0,127}")
_RESOURCE: Final = re.compile(r"[A-Za-z0-9._@:+|/?=&,-]{0,255}\*?")
"""A fake model is called with its options: `model/fake:echo?tok_per_s=20`."""
_ACTION: Final = re.compile(r"\*|[a-z]+(:([a-z-]+|\*))?")
_RULE: Final = re.compile(r"(?:(allow|deny) +)?(\S+) +on +(\S+)")
_RESERVED: Final = frozenset({"system", "internal", "nobody", "everyone", "anonymous"})
_RESERVED_BEGINNINGS: Final = ("first-key", "os:")
RESOURCE_KINDS: Final = (
    "alias", "budget", "dataset", "drill", FIRST_ADMINISTRATORS, "group", "key", "model", "release", "role", "tenant",
    "tool",
)  # fmt: skip
"""Before the slash in what ashore asks about. Users, service accounts, jobs and stored files are below their tenant."""
WHOLE: Final = ("policy", "server")
"""Resources without a slash."""
_BEGINNINGS: Final = tuple(f"{kind}/" for kind in RESOURCE_KINDS)
_BELOW_TENANT: Final = ("user", "service", "job", "stored")
SUBJECT_KINDS: Final = ("user", "service", "group", "tenant")
EVERYONE: Final = "everyone"


@dataclass(frozen=True, slots=True)
class Rule:
    """`allow` or `deny` an action on resources that match a pattern: `*`, a name, or a prefix, `model/*`."""

    effect: Effect
    action: str
    resource: str

    def __str__(self) -> str:
        words = f"{self.action} on {self.resource}"
        return words if self.effect == "allow" else f"deny {words}"

    def covers(self, other: Rule) -> bool:
        """Return whether this rule covers everything that `other` covers; ignores effects."""
        return matches_action(self.action, other.action) and _within(other.resource, self.resource)

    def overlaps(self, other: Rule) -> bool:
        """Return whether the two rules overlap; ignores effects."""
        actions = matches_action(self.action, other.action) or matches_action(other.action, self.action)
        return actions and (_within(other.resource, self.resource) or _within(self.resource, other.resource))


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A named set of rules."""

    name: str
    title: str = ""
    rules: tuple[Rule, ...] = ()
    built_in: bool = False
    protected: bool = False
    """Its rights cannot be denied by any rule of another role."""
    grantable: bool = True
    """False: it comes with a credential and cannot be granted."""
    offices: frozenset[Office] = field(init=False, repr=False, compare=False)
    """The offices whose powers it has. Cached: it is read for each binding of a policy."""

    def __post_init__(self) -> None:
        actions = {rule.action for rule in self.rules if rule.effect == "allow"}
        object.__setattr__(self, "offices", frozenset(office for one in actions for office in offices_of(one)))


@dataclass(frozen=True, slots=True)
class Binding:
    """A subject with a role. Subjects: `user/ID`, `service/ID`, `group/NAME`, `tenant/NAME`, `everyone`."""

    subject: str
    role: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Custom roles and all bindings. The built-in roles always exist and are not part of it."""

    roles: tuple[Role, ...] = ()
    bindings: tuple[Binding, ...] = ()
    version: int = 0


def parse_rule(text: str) -> Rule:
    """Parse a rule: `infer on model/chat`, `deny infer on model/deepseek-*`.

    Raises:
        InvalidRequest: it is malformed, or names an unknown action.
    """
    found = _RULE.fullmatch(text.strip())
    if found is None or not _ACTION.fullmatch(found[2]) or not _RESOURCE.fullmatch(found[3]):
        raise InvalidRequest(
            f"{text[:200]!r} is not a rule",
            hint='write "ACTION on RESOURCE" or "deny ACTION on RESOURCE"; * ends a pattern',
        )
    if not _means_an_action(found[2]):
        raise InvalidRequest(
            f"{text[:200]!r} names no action", hint=did_you_mean(found[2], [action.name for action in ACTIONS])
        )
    return Rule("deny" if found[1] == "deny" else "allow", found[2], found[3])


def check_resource(resource: str) -> str:
    """Check a resource, or a pattern of resources, and return it.

    For new input: a policy already in the state may name unknown kinds, which have no effect.

    Raises:
        InvalidRequest: there is no such kind; the hint suggests the nearest one.
    """
    kind, _, name = resource.partition("/")
    if resource in WHOLE or (kind in RESOURCE_KINDS and name):
        return resource
    if resource.endswith("*") and any(one.startswith(resource[:-1]) for one in (*_BEGINNINGS, *WHOLE)):
        return resource
    raise InvalidRequest(f"{resource[:200]!r} is not a resource", hint=_meant(resource[:200]), param="resource")


def _meant(resource: str) -> str:
    kind, slash, name = resource.partition("/")
    if kind in WHOLE:
        meant = kind
    elif kind in RESOURCE_KINDS:
        meant = f"{kind}/*"
    elif kind in _BELOW_TENANT:
        meant = f"tenant/NAME/{kind}/{name or '*'}"
    elif slash:
        near = nearest_names(kind, RESOURCE_KINDS, limit=1)
        meant = f"{near[0]}/{name or '*'}" if near else ""
    else:
        meant = next(iter(difflib.get_close_matches(resource, WHOLE, n=1, cutoff=0.8)), f"model/{resource}")
    kinds = ", ".join((*WHOLE, *(f"{one}NAME" for one in _BEGINNINGS)))
    return f"did you mean {meant!r}?" if meant else f"write one of {kinds}"


@lru_cache(maxsize=256)
def _means_an_action(pattern: str) -> bool:
    """Cached: a policy has up to 100,000 rules, which name few actions."""
    return any(matches_action(pattern, action.name) for action in ACTIONS)


def check_name(name: str, what: str) -> str:
    """Check a name of the access room and return it.

    Raises:
        InvalidRequest: it has other characters than letters, digits and `._@:+|-`, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:100]!r} is not a valid name for a {what}",
            hint="use at most 128 letters, digits and ._@:+|-",
            param=what,
        )
    return name


def check_account_id(name: str, kind: str) -> str:
    """Check an account id and return it.

    Raises:
        InvalidRequest: it is malformed, or is reserved in the audit log for ashore itself or a user of the machine.
    """
    check_name(name, kind)
    if name in _RESERVED or name.startswith(_RESERVED_BEGINNINGS):
        raise InvalidRequest(
            f"no {kind} can be called {name!r}: the audit log uses that name for ashore itself",
            hint="choose another name",
            param=kind,
        )
    return name


def check_title(title: str) -> str:
    """Check a title and return it.

    Raises:
        InvalidRequest: it is too long, or has invisible characters.
    """
    return check_line(title, "the title", most=MAX_TITLE_CHARS, param="title")


def check_subject(subject: str) -> str:
    """Check a subject and return it.

    Raises:
        InvalidRequest: it is not a subject.
    """
    kind, _, name = subject.partition("/")
    if subject != EVERYONE and (kind not in SUBJECT_KINDS or not _NAME.fullmatch(name)):
        raise InvalidRequest(
            f"{subject[:100]!r} is not a subject", hint="write user/ID, service/ID, group/NAME, tenant/NAME or everyone"
        )
    return subject


def check_role(role: Role) -> Role:
    """Check a custom role and return it.

    Raises:
        InvalidRequest: its name is malformed, or it gives powers of two offices.
    """
    check_name(role.name, "role")
    if len(role.offices) > 1:
        raise InvalidRequest(
            f"the role {role.name!r} would grant rights of the offices {' and '.join(sorted(role.offices))}; "
            "nobody may hold two of them",
            hint="create one role for each office",
        )
    return role


def check_policy(policy: Policy, built_in: Iterable[Role]) -> Policy:
    """Check a policy and return it.

    Raises:
        InvalidRequest: names are malformed or duplicated, a binding names an unknown role, or a subject gets two
            offices.
    """
    fixed = {role.name: role for role in built_in}
    known = dict(fixed)
    for role in policy.roles:
        check_role(role)
        if role.name in known:
            raise InvalidRequest(
                f"the policy has two roles called {role.name!r}"
                if role.name not in fixed
                else f"the role {role.name!r} is built in",
                hint="choose another name",
            )
        known[role.name] = role
    if sum(len(role.rules) for role in policy.roles) > MAX_RULES:
        raise InvalidRequest(f"the policy has more than {MAX_RULES:,} rules", hint="use patterns")
    held: dict[str, set[str]] = {}
    for binding in policy.bindings:
        check_subject(binding.subject)
        if binding.role not in known:
            raise InvalidRequest(
                f"the role {binding.role[:100]!r} of {binding.subject} does not exist",
                hint=did_you_mean(binding.role[:100], known),
            )
        if not known[binding.role].grantable:
            raise InvalidRequest(f"the role {binding.role} comes with a credential and cannot be granted")
        if known[binding.role].offices and binding.subject.partition("/")[0] in ("tenant", EVERYONE):
            raise InvalidRequest(
                f"{binding.role} is a role of one of the three offices and cannot be granted to {binding.subject}",
                hint="grant it to a user, a service account or a group",
            )
        held.setdefault(binding.subject, set()).add(binding.role)
    for subject, names in held.items():
        check_separation(subject, [known[name] for name in sorted(names)])
    return policy


def check_separation(subject: str, roles: Sequence[Role]) -> None:
    """Check that `roles` together have the powers of at most one office.

    Raises:
        InvalidRequest: they have those of two.
    """
    offices = {office: role.name for role in roles for office in role.offices}
    if len(offices) > 1:
        both = " and ".join(f"{office} (by {role})" for office, role in sorted(offices.items()))
        raise InvalidRequest(
            f"{subject} would hold the offices {both}",
            hint="grant them to different people; nobody may hold two of the three offices",
        )


def _within(inner: str, outer: str) -> bool:
    """Return whether the pattern `outer` covers every resource of `inner`."""
    return inner == outer or (outer.endswith("*") and inner.removesuffix("*").startswith(outer[:-1]))
