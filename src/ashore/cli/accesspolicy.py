"""`ashore access role|policy|can`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from ashore.cli.accessask import Server, moment
from ashore.cli.columns import table
from ashore.errors import InvalidRequest

role_app = cyclopts.App(name="role", help="Roles: sets of `ACTION on RESOURCE`, and who has them.")
policy_app = cyclopts.App(name="policy", help="Custom roles and who has which role, as one versioned file.")

Json = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON.")]
Where = Annotated[Server, cyclopts.Parameter(name="*")]
Many = Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), consume_multiple=True)]
Flag = Annotated[bool, cyclopts.Parameter(negative=())]
HERE = Server()
DENIED = 5


@role_app.command(name="list")
def list_roles(*, json_: Json = False, server: Where = HERE) -> None:
    """List roles, the built-in ones too."""
    answer = server.ask("GET", "/roles")
    if server.printed(answer, json_):
        return
    for role in answer["items"]:
        print(f"{role['name']}{'  (built in)' if role['built_in'] else ''}  {role['title']}".rstrip())
        for rule in role["rules"]:
            print(f"  {rule}")


@role_app.command(name="put")
def put_role(name: str, /, *, rule: Many, title: str = "", json_: Json = False, server: Where = HERE) -> None:
    """Make a custom role, or give it other rules.

    Args:
        name: The role.
        rule: "infer on model/chat", "deny infer on model/deepseek-*"; may be given several times.
        title: What it is for.
        json_: Print JSON.
        server: The server to ask.
    """
    _told(server.ask("PUT", f"/roles/{server.part(name)}", {"rules": rule, "title": title}), json_, server)


@role_app.command(name="remove")
def remove_role(name: str, /, *, json_: Json = False, server: Where = HERE) -> None:
    """Remove a custom role that nobody has.

    Args:
        name: The role.
        json_: Print JSON.
        server: The server to ask.
    """
    _told(server.ask("DELETE", f"/roles/{server.part(name)}"), json_, server)


@role_app.command(name="grant")
def grant(subject: str, role: str, /, *, json_: Json = False, server: Where = HERE) -> None:
    """Give a role to a subject.

    Args:
        subject: user/ID, service/ID, group/NAME, tenant/NAME or everyone.
        role: The role.
        json_: Print JSON.
        server: The server to ask.
    """
    _told(server.ask("POST", "/bindings", {"grant": [{"subject": subject, "role": role}]}), json_, server)


@role_app.command(name="revoke")
def revoke(subject: str, role: str, /, *, json_: Json = False, server: Where = HERE) -> None:
    """Take a role away from a subject.

    Args:
        subject: user/ID, service/ID, group/NAME, tenant/NAME or everyone.
        role: The role.
        json_: Print JSON.
        server: The server to ask.
    """
    _told(server.ask("POST", "/bindings", {"revoke": [{"subject": subject, "role": role}]}), json_, server)


@role_app.command(name="holders")
def holders(*, json_: Json = False, server: Where = HERE) -> None:
    """List who has which role."""
    answer = server.ask("GET", "/bindings")
    if not server.printed(answer, json_):
        table(("subject", "role"), [(one["subject"], one["role"]) for one in answer["items"]])


@role_app.command(name="actions")
def actions(*, json_: Json = False, server: Where = HERE) -> None:
    """List the actions of which rules speak, and what they protect."""
    answer = server.ask("GET", "/actions")
    if not server.printed(answer, json_):
        rows = [(one["name"], one["office"] or "-", one["protects"]) for one in answer["items"]]
        table(("action", "office", "protects"), rows)


@policy_app.command(name="show")
def show(*, version: int | None = None, json_: Json = False, server: Where = HERE) -> None:
    """Print the policy as a file that `apply` takes.

    Args:
        version: An older one.
        json_: Print JSON.
        server: The server to ask.
    """
    answer = server.ask("GET", "/policy" + (f"?version={version}" if version is not None else ""))
    if not server.printed(answer, json_):
        print(render(answer), end="")


@policy_app.command(name="apply")
def apply(
    file: Path, /, *, comment: str = "", dry_run: Flag = False, json_: Json = False, server: Where = HERE
) -> None:
    """Put the policy in a file in force, in place of the version that the file began from.

    Args:
        file: As `policy show` prints it. Its `version` says from which it began.
        comment: Why, for the history.
        dry_run: Only show the difference.
        json_: Print JSON.
        server: The server to ask.
    """
    body = read(file) | {"comment": comment, "dry_run": dry_run}
    answer = server.ask("PUT", "/policy", body)
    _told(answer, json_, server, dry_run=dry_run)


@policy_app.command(name="history")
def history(*, limit: int = 20, json_: Json = False, server: Where = HERE) -> None:
    """List the versions of the policy, the newest first.

    Args:
        limit: At most so many.
        json_: Print JSON.
        server: The server to ask.
    """
    answer = server.ask("GET", f"/policy/history?limit={limit}")
    if server.printed(answer, json_):
        return
    rows = [(one["version"], moment(one["created_at"]), one["author"], one["comment"]) for one in answer["items"]]
    table(("version", "when", "by", "why"), rows)


def can(
    user: str, action: str, resource: str, /, *, explain: Flag = False, json_: Json = False, server: Where = HERE
) -> int:
    """Tell whether somebody may do something. The exit code is 0 when they may, and 5 when not.

    Args:
        user: An account: alice, user/alice, service/app. Everybody may ask about themselves.
        action: As `ashore access role actions` lists them.
        resource: model/ALIAS, server, tenant/NAME/…
        explain: Say which rule decides, and every role that counts.
        json_: Print JSON.
        server: The server to ask.
    """
    from urllib.parse import urlencode

    subject = user if "/" in user else f"user/{user}"
    answer = server.ask("GET", "/can?" + urlencode({"subject": subject, "action": action, "resource": resource}))
    if not server.printed(answer, json_):
        print(
            f"{'yes' if answer['allowed'] else 'no'}: {answer['why']}"
            if explain
            else (answer["allowed"] and "yes") or "no"
        )
        if explain:
            for held in answer["roles"]:
                print(f"  has {held['role']}, given to {held['by']}")
    return 0 if answer["allowed"] else DENIED


def render(policy: dict[str, Any]) -> str:
    """Return a policy as TOML."""
    lines = ["# Custom roles and who has which role. `ashore access policy apply FILE` puts it in force.", ""]
    lines += [f"version = {policy['version']}  # the one this began from", ""]
    for role in policy["roles"]:
        lines += ["[[role]]", f"name = {_quoted(role['name'])}"]
        if role["title"]:
            lines.append(f"title = {_quoted(role['title'])}")
        lines += ["rules = [", *(f"  {_quoted(rule)}," for rule in role["rules"]), "]", ""]
    for one in policy["bindings"]:
        lines += ["[[binding]]", f"subject = {_quoted(one['subject'])}", f"role = {_quoted(one['role'])}", ""]
    return "\n".join(lines)


def read(file: Path) -> dict[str, Any]:
    """Return what a policy file says, as the server takes it.

    Raises:
        InvalidRequest: it cannot be read, is not TOML, or has something else in it.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as fault:
        raise InvalidRequest(f"{file}: {fault.strerror}", hint="`ashore access policy show` prints one") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise InvalidRequest(f"{file} is not TOML: {fault}", hint="correct that line") from fault
    unknown = sorted(set(document) - {"version", "role", "binding"})
    if unknown:
        raise InvalidRequest(f"{file} has {unknown[0]!r}", hint="version, [[role]] and [[binding]] are taken")
    return {
        "base_version": document.get("version", 0),
        "roles": document.get("role", []),
        "bindings": document.get("binding", []),
    }


def _told(answer: dict[str, Any], json_: bool, server: Server, *, dry_run: bool = False) -> None:
    if server.printed(answer, json_):
        return
    for change in answer["changes"]:
        print(change)
    if not answer["changes"]:
        print(f"nothing differs; the policy stays at version {answer['version']}")
    elif dry_run:
        print(f"this was a dry run; the policy stays at version {answer['version']}")
    else:
        print(f"the policy is at version {answer['version']}")


def _quoted(text: str) -> str:
    """Return a text as a basic string of TOML."""
    import json

    return json.dumps(text, ensure_ascii=False)
