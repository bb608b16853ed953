"""`ashore privacy policy`: show the policy, and replace it on a running server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
import msgspec

from ashore.cli.calls import HERE, Server
from ashore.cli.sure import AsJson
from ashore.core.errors import InvalidRequest
from ashore.data.privacy.calls import CHANGE, SHOW, PolicyChange, PolicyOut
from ashore.kit.call import Nothing
from ashore.kit.settings import read_settings
from ashore.kit.textfile import read_toml

if TYPE_CHECKING:
    from ashore.data.privacy import PrivacyPolicy

policy_app = cyclopts.App(name="policy", help="Show and change the policy.")

Flag = Annotated[bool, cyclopts.Parameter(negative=())]
Where = Annotated[Server, cyclopts.Parameter(name="*")]


@policy_app.command
def show(*, config: Path | None = None, toml: Flag = False, json_: AsJson = False, server: Where = HERE) -> None:
    """Print the policy in force.

    Args:
        config: An ashore.toml with the policy; default: the policy in this home's state, else the built-in one.
        toml: Ask a server, and print its policy as a file that `set` takes.
        server: The server that `--toml` asks.
    """
    if toml:
        answer: PolicyOut = server.ask(SHOW, Nothing())
        print(msgspec.json.encode(answer).decode() if json_ else render(answer), end="\n" if json_ else "")
        return
    if server != HERE:
        raise InvalidRequest("--url and --key name a server, and only --toml asks one", hint="add --toml")
    from ashore.cli.bootstrap import open_privacy
    from ashore.data.privacy import rules_for

    privacy, source = open_privacy(read_settings(), config)
    held, kinds = privacy.now.policy, privacy.now.finder.kinds
    if json_:
        told = {"source": source, "policy": msgspec.to_builtins(held), "kinds": list(kinds)}
        print(json.dumps(told, ensure_ascii=False))
        return
    print(f"from {source}; detector {held.detector}; label {held.label}")
    for tenant, alias in _places(held):
        rules = rules_for(held, tenant, alias, kinds)
        print(f"tenant {tenant}, model {alias}:")
        for kind in kinds:
            print(f"  {kind:<14} prompt {rules.prompts[kind]:<13} answer {rules.answers[kind]}")


@policy_app.command(name="set")
def set_(
    file: Path,
    /,
    *,
    replaces: int | None = None,
    dry_run: Flag = False,
    json_: AsJson = False,
    server: Where = HERE,
) -> None:
    """Apply the policy in a file to a server. Takes effect within one second, and overrides ashore.toml.

    Refused if somebody else changed the policy after the file was printed; the audit log shows who changed it.

    Args:
        file: `[privacy]` as in ashore.toml, and `version`, as `policy show --toml` prints them.
        replaces: The version that was read before the change; default: `version` of the file.
        dry_run: Only show the difference.
    """
    version, policy = read(file)
    version = version if replaces is None else replaces
    if version is None:
        raise InvalidRequest(
            f"{file} has no `version`, so a change by somebody else could be overwritten unnoticed",
            hint="start from `ashore privacy policy show --toml`, or give --replaces VERSION",
        )
    _change(version, policy, dry_run=dry_run, as_json=json_, server=server)


@policy_app.command
def reset(*, replaces: int, dry_run: Flag = False, json_: AsJson = False, server: Where = HERE) -> None:
    """Return to the policy of ashore.toml.

    Args:
        replaces: The version in force, as `policy show --toml` prints it.
        dry_run: Only check whether it could be done.
    """
    _change(replaces, None, dry_run=dry_run, as_json=json_, server=server)


def render(shown: PolicyOut) -> str:
    """Return a policy, as the server shows it, as TOML."""
    policy = msgspec.to_builtins(shown.policy)
    masked = [kind for kind, action in shown.in_prompts.items() if action != "allow"]
    left = [kind for kind, action in shown.in_prompts.items() if action == "allow"]
    lines = [
        "# What is masked, for whom. `ashore privacy policy set FILE` puts it in force.",
        f"# In prompts, where no route says otherwise, masked or blocked: {', '.join(masked) or 'nothing'}",
        f"# In prompts, where no route says otherwise, left as they are: {', '.join(left) or 'nothing'}",
        f"version = {shown.version}  # the version that this file is based on",
        "",
        "[privacy]",
        f"detector = {_toml(policy['detector'])}",
        f"label = {_toml(policy['label'])}",
        *(f"{side} = {_toml(policy[side])}" for side in ("prompts", "answers") if policy[side]),
    ]
    for name, plural in (("route", "routes"), ("expression", "expressions"), ("dictionary", "dictionaries")):
        for one in policy[plural]:
            lines += ["", f"[[privacy.{name}]]"]
            lines += [f"{key} = {_toml(value)}" for key, value in one.items() if value is not None and value != {}]
    return "\n".join(lines) + "\n"


def read(file: Path) -> tuple[int | None, PrivacyPolicy]:
    """Return the version that a file began from, None where it does not say, and its policy.

    Raises:
        InvalidRequest: it has something else in it.
        InvalidSpec: it cannot be read, is not TOML, or the policy cannot be used.
    """
    from ashore.data.privacy import PrivacyPolicy, check_policy
    from ashore.kit.section import read_section

    document = read_toml(file, hint="`ashore privacy policy show --toml` prints one")
    unknown = sorted(set(document) - {"version", "privacy"})
    if unknown or "privacy" not in document:
        seen = f"has {unknown[0]!r}" if unknown else "has no [privacy]"
        raise InvalidRequest(f"{file} {seen}", hint="only `version` and [privacy] are allowed")
    version = document.get("version")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool) or version < 0):
        raise InvalidRequest(f"{file}: version is {version!r}", hint="expected a number, as the server showed it")
    privacy = document["privacy"]
    if not isinstance(privacy, dict):
        raise InvalidRequest(f"{file}: privacy is not a table", hint="write [privacy] on a line of its own")
    policy = read_section(PrivacyPolicy, privacy, f"{file} [privacy]")
    check_policy(policy)
    return version, policy


def differences(before: PrivacyPolicy, after: PrivacyPolicy) -> list[str]:
    """Return what changes from one policy to another, a line for each rule."""
    from ashore.data.privacy import KINDS, rules_for

    lines = [
        f"{name}: {old} -> {new}"
        for name, old, new in (
            ("detector", before.detector, after.detector),
            ("label", before.label, after.label),
        )
        if old != new
    ]
    kinds = tuple(dict.fromkeys((*KINDS, *before.custom_kinds(), *after.custom_kinds())))
    for tenant, alias in dict.fromkeys((*_places(before), *_places(after))):
        was, will = (rules_for(one, tenant, alias, kinds) for one in (before, after))
        for side, old, new in (("prompt", was.prompts, will.prompts), ("answer", was.answers, will.answers)):
            lines += [
                f"tenant {tenant}, model {alias}: {kind} in {side}s: {old[kind]} -> {new[kind]}"
                for kind in kinds
                if old[kind] != new[kind]
            ]
        if was.label != will.label and (tenant, alias) != ("*", "*"):
            lines.append(f"tenant {tenant}, model {alias}: label: {was.label} -> {will.label}")
    for what, olds, news in (
        ("expression", before.expressions, after.expressions),
        ("dictionary", before.dictionaries, after.dictionaries),
    ):
        lines += [f"{what} of {one.kind}: removed or changed" for one in olds if one not in news]
        lines += [f"{what} of {one.kind}: new or changed" for one in news if one not in olds]
    return lines


def _change(version: int, policy: PrivacyPolicy | None, *, dry_run: bool, as_json: bool, server: Server) -> None:
    before: PolicyOut = server.ask(SHOW, Nothing())
    answer: PolicyOut = server.ask(CHANGE, PolicyChange(replaces=version, policy=policy, dry_run=dry_run))
    changes = differences(before.policy, answer.policy)
    if as_json:
        told = {**msgspec.to_builtins(answer), "changes": changes, "dry_run": dry_run}
        print(json.dumps(told, ensure_ascii=False))
        return
    for change in changes:
        print(change)
    if answer.version == before.version:
        print(f"nothing to change; the policy stays at version {answer.version}")
    elif dry_run:
        print(f"this was a dry run; the policy stays at version {before.version}")
    else:
        print(f"the policy is now at version {answer.version}, from {answer.source}")


def _places(policy: PrivacyPolicy) -> list[tuple[str, str]]:
    return list(dict.fromkeys([("*", "*"), *((one.tenant, one.alias) for one in (*policy.routes, *policy.floors))]))


def _toml(value: Any) -> str:
    """Return a value of a policy as TOML: texts, switches, lists of texts, tables of texts."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_toml(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
