"""The table of commands, and the overview that `ashore --help` prints from it without loading anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ashore import __version__
from ashore.kit.listed import LISTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One word after `ashore`."""

    name: str
    target: str
    """`module:object` of a `cyclopts.App`; imported when the word is used."""
    summary: str


_OWN = {
    "up": "Serve models on this machine until Ctrl-C.",
    "status": "Show what the server of this home runs; needs no key.",
    "doctor": "Find what is wrong, why, and what to do.",
    "drill": "Rehearse failures; report whether the server survived.",
    "logs": "Show what the processes of this home log.",
    "stop": "Stop the server of this home; running answers finish.",
    "reload": "Apply a changed ashore.toml to a running server.",
    "chat": "Talk to a model, here or at another address.",
    "launch": "Start a coding client, set up for this server.",
    "model": "Pull, list, verify and move models of this machine.",
    "engine": "List engines; measure which one suits this machine.",
    "plan": "Plan what to buy; simulate a load; divide GPUs.",
    "optimize": "Make models smaller and faster; evaluate.",
    "data": "Write, show and verify shards of training data.",
    "train": "Fine-tune a model on your own examples.",
    "learn": "See what users say of answers; learn from it.",
    "release": "Roll out a release beside the live one; roll back.",
    "alias": "Point the names that clients use at releases.",
    "cache": "Show, purge and fill the answer cache.",
    "backup": "Keep copies of this home that survive lost disks; restore.",
    "audit": "Search, verify and export the audit log of this home.",
    "feed": "Send the audit log to a SIEM; prove what it has.",
    "secret": "Show which secrets of a home are sealed; seal them.",
    "privacy": "Show and set masking; ask datasets with noise.",
    "access": "Manage accounts, keys, roles, policy and budgets.",
    "account": "Manage who logs in to the console, and how.",
    "directory": "Follow LDAP and Active Directory: people, groups, log-in.",
    "bench": "Measure a server under load.",
    "example": "Run an application built on ashore; write its report.",
    "config": "Show every key of ashore.toml and its value.",
    "deploy": "Render images, containers and Kubernetes objects from ashore.toml.",
    "bundle": "Check a stick with a new release before it is installed.",
    "fleet": "Add engine nodes to a model, drain them and remove them.",
    "site": "Serve models at branch offices: assign, roll out, watch.",
    "assistant": "Manage your assistants: a model with a system prompt.",
    "job": "List, show and cancel background work.",
    "events": "Show what happens to jobs and releases.",
    "mcp": "Approve tools of other servers, which agents reach through this one.",
}
"""Nouns with a module of their own, and what they do."""
_LAST = {
    "server": "Look at figures over time, logs, configuration and stored models.",
    "session": "List and end sessions of the console.",
    "completion": "Install completion for your shell.",
}


def _own(rows: Mapping[str, str]) -> Iterator[Command]:
    yield from (Command(name=noun, target=f"ashore.cli.{noun}:app", summary=summary) for noun, summary in rows.items())


COMMANDS = (
    *_own(_OWN),
    *(Command(name=one.noun, target=f"ashore.cli.nouns:{one.noun}", summary=one.summary) for one in LISTED if one.noun),
    *_own(_LAST),
)
USUAL_ELSEWHERE = {
    "serve": "ashore up",
    "run": "ashore up",
    "start": "ashore up",
    "down": "ashore stop",
    "ask": "ashore chat",
    "pull": "ashore model pull",
    "push": "ashore model push",
    "list": "ashore model list",
    "ls": "ashore model list",
    "show": "ashore model show",
    "rm": "ashore model remove",
    "ps": "ashore model ps",
    "benchmark": "ashore bench serve",
    "quantize": "ashore optimize quantize",
    "batch": "ashore job list",
    "key": "ashore access key",
    "keys": "ashore access key list",
    "user": "ashore access user",
    "users": "ashore access user list",
    "models": "ashore model list",
    "limits": "ashore access budget",
}
"""What other servers call their commands, and what that is here."""
USUAL_VERBS = {
    "ls": ("list",),
    "rm": ("remove", "revoke", "end", "cancel"),
    "delete": ("remove", "revoke", "end", "cancel"),
    "get": ("show", "list"),
    "describe": ("show", "explain"),
    "info": ("show",),
    "add": ("create", "put", "set"),
    "new": ("create",),
    "ps": ("ps", "list", "status"),
    "run": ("run", "serve", "sft"),
    "start": ("run", "serve"),
    "serve": ("serve", "run"),
    "stop": ("cancel", "end"),
}
"""What other programs call the verbs of a noun, and what may be its verb here: the first that the noun has."""


def overview() -> str:
    """Return the text of `ashore --help`."""
    width = max(len(c.name) for c in COMMANDS)
    lines = [f"  {c.name.ljust(width)}  {c.summary}" for c in COMMANDS]
    return "\n".join(
        (
            f"ashore {__version__} brings DeepSeek models onto your own machines and keeps them there.",
            "",
            "Usage: ashore COMMAND [OPTIONS]",
            "",
            "Commands:",
            *lines,
            "",
            "  --help     Show this text; after a command, show its options and examples.",
            "  --version  Show the version.",
            "",
            "Start here: ashore up",
        )
    )
