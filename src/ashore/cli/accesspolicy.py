"""`ashore access role|policy|can`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import cyclopts
import msgspec

from ashore.cli.calls import HERE, Server, command_of, noun_of, reworded
from ashore.cli.columns import say, table
from ashore.cli.said import said
from ashore.cli.sure import AsJson
from ashore.control.access.calls import policy as c
from ashore.core.errors import InvalidRequest
from ashore.kit.call import Items
from ashore.kit.decode import convert
from ashore.kit.textfile import read_toml

Flag = Annotated[bool, cyclopts.Parameter(negative=())]
DENIED = 5


class PolicyFile(msgspec.Struct, frozen=True, kw_only=True):
    file: Annotated[str, msgspec.Meta(extra={"positional": True, "file": True})]
    """As `policy show` prints it. Its `version` says which version it is based on."""
    comment: str = ""
    """Reason for the change, for the history."""
    dry_run: bool = False
    """Only show the difference."""


def grant(asked: c.BindingBody) -> c.BindingChange:
    """Grant a role to a subject."""
    return c.BindingChange(grant=[asked])


def revoke(asked: c.BindingBody) -> c.BindingChange:
    """Revoke a role from a subject."""
    return c.BindingChange(revoke=[asked])


def read_file(asked: PolicyFile) -> c.PolicyIn:
    """Replace the policy in force with the one in a file.

    Refused when the policy has changed since the version that the file is based on.
    """
    file = Path(asked.file)
    document = read_toml(file, hint="`ashore access policy show` prints one")
    unknown = sorted(set(document) - {"version", "role", "binding"})
    if unknown:
        raise InvalidRequest(
            f"{file} has an unknown key {unknown[0]!r}", hint="only version, [[role]] and [[binding]] are allowed"
        )
    body = {
        "base_version": document.get("version", 0),
        "roles": document.get("role", []),
        "bindings": document.get("binding", []),
        "comment": asked.comment,
        "dry_run": asked.dry_run,
    }
    return convert(body, c.PolicyIn)


def _show_roles(found: Items[c.RoleOut]) -> None:
    rows = ((one.name, "yes" if one.built_in else "no", str(len(one.rules)), said(one.title)) for one in found.items)
    table(("role", "built in", "rules", "what it is for"), rows)


def _show_me(me: c.Whoami) -> None:
    """Print who the caller is, and the actions by what they act on."""
    rows = [
        ("account", f"{me.account} of tenant {me.tenant}"),
        ("groups", ", ".join(me.groups)),
        ("key", me.key),
        ("token of", me.issuer),
        *((f"only {name}", ", ".join(patterns)) for name, patterns in me.limits.items()),
        ("roles", ", ".join(f"{one.role} (by {one.by})" if one.by else one.role for one in me.roles) or "none"),
        ("may", ", ".join(me.may) or "nothing: ask a security officer for a role"),
    ]
    for name, text in rows:
        if text:
            say(text, first=f"{name:<9} ")
    say("`ashore access can USER ACTION RESOURCE --explain` tells whether on a certain resource", first=" " * 10)


def _show_applied(done: c.PolicyApplied) -> None:
    for change in done.changes:
        print(change)
    if not done.changes:
        print(f"nothing to change; the policy stays at version {done.version}")
    elif not done.in_force:
        print(f"this was a dry run; the policy stays at version {done.version}")
    else:
        print(f"the policy is now at version {done.version}")


def _show_policy(policy: c.PolicyOut) -> None:
    """Print a policy as TOML."""
    print("# Custom roles and who has which role. `ashore access policy apply FILE` puts it in force.\n")
    print(f"version = {policy.version}  # the version that this file is based on\n")
    for role in policy.roles:
        title = [f"title = {_quoted(role.title)}"] if role.title else []
        rules = (f"  {_quoted(rule)}," for rule in role.rules)
        print("\n".join(("[[role]]", f"name = {_quoted(role.name)}", *title, "rules = [", *rules, "]\n")))
    for one in policy.bindings:
        print(f"[[binding]]\nsubject = {_quoted(one.subject)}\nrole = {_quoted(one.role)}\n")


def _quoted(text: str) -> str:
    """Return a text as a basic string of TOML."""
    return json.dumps(text, ensure_ascii=False)


role_app = noun_of(
    "access role",
    "Manage roles, sets of `ACTION on RESOURCE`, and who has them.",
    (
        c.LIST_ROLES, c.SHOW_ROLE, c.PUT_ROLE, c.REMOVE_ROLE, c.HOLDERS, c.LIST_ACTIONS,
        reworded(c.BIND, "grant", grant), reworded(c.BIND, "revoke", revoke),
    ),
    {"list": _show_roles, **dict.fromkeys(("put", "remove", "grant", "revoke"), _show_applied)},
)  # fmt: skip
policy_app = noun_of(
    "access policy",
    "Show and replace custom roles and bindings as one versioned file.",
    (c.SHOW_POLICY, c.HISTORY, reworded(c.APPLY_POLICY, "apply", read_file)),
    {"show": _show_policy, "apply": _show_applied},
)
whoami = command_of(c.WHOAMI, _show_me)


def can(
    user: str,
    action: str,
    resource: str,
    /,
    *,
    explain: Flag = False,
    as_json: AsJson = False,
    server: Annotated[Server, cyclopts.Parameter(name="*")] = HERE,
) -> int:
    """Check whether an account may do something. Exits with 0 if it may, and with 5 if not.

    Args:
        user: An account: alice, user/alice, service/app. You may always ask about yourself.
        action: As `ashore access role actions` lists them.
        resource: model/ALIAS, server, tenant/NAME/…
        explain: Print the rule that decides, and every role that applies.
    """
    subject = user if "/" in user else f"user/{user}"
    answer: c.CanOut = server.ask(c.CAN, c.CanIn(subject=subject, action=action, resource=resource))
    word = "yes" if answer.allowed else "no"
    if as_json:
        print(msgspec.json.encode(answer).decode())
    else:
        print(f"{word}: {answer.why}" if explain else word)
    if explain and not as_json:
        for held in answer.roles:
            print(f"  has {held.role}, granted to {held.by}")
    return 0 if answer.allowed else DENIED
