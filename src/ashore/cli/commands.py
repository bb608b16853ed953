"""The table of commands, and the overview that `ashore --help` prints from it without loading anything."""

from __future__ import annotations

from collections.abc import Mapping
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


_GROUPS: Mapping[str, Mapping[str, str]] = {
    "Serve": {
        "up": "Serve models on this machine until Ctrl-C.",
        "status": "Show what the server of this home runs; needs no key.",
        "reload": "Apply a changed ashore.toml to a running server.",
        "stop": "Stop the server of this home; running answers finish.",
        "config": "Show every key of ashore.toml and its value.",
        "chat": "Talk to a model, here or at another address.",
        "launch": "Start a coding client, set up for this server.",
    },
    "Models": {
        "model": "Pull, list, verify and move models of this machine.",
        "engine": "List engines; measure which one suits this machine.",
        "plan": "Plan what to buy; simulate a load; divide GPUs.",
        "release": "Roll out a release beside the live one; roll back.",
        "alias": "Point the names that clients use at releases.",
        "cache": "Show, purge and fill the answer cache.",
        "assistant": "Manage your assistants: a model with a system prompt.",
        "optimize": "Make models smaller and faster; evaluate.",
        "data": "Write, show and verify shards of training data.",
        "train": "Fine-tune a model on your own examples.",
        "learn": "See what users say of answers; learn from it.",
    },
    "People and keys": {
        "access": "Manage accounts, keys, roles, policy and budgets.",
        "account": "Manage who logs in to the console, and how.",
        "session": "List and end sessions of the console.",
        "directory": "Follow LDAP and Active Directory: people, groups, log-in.",
    },
    "Protect and prove": {
        "audit": "Search, verify and export the audit log of this home.",
        "feed": "Send the audit log to a SIEM; prove what it has.",
        "privacy": "Show and set masking; ask datasets with noise.",
        "guard": "",
        "mcp": "Approve tools of other servers, which agents use here.",
        "conversation": "",
        "secret": "Show which secrets of a home are sealed; seal them.",
        "backup": "Copy this home to places that survive lost disks; restore.",
    },
    "Watch": {
        "doctor": "Find what is wrong, why, and what to do.",
        "logs": "Show what the processes of this home log.",
        "alert": "",
        "events": "Show what happens to jobs and releases.",
        "job": "List, show and cancel background work.",
        "server": "Look at figures over time, logs, settings and stored models.",
        "bench": "Measure a server under load.",
        "drill": "Rehearse failures; report whether the server survived.",
    },
    "More machines": {
        "deploy": "Render images, containers and Kubernetes objects.",
        "fleet": "Add engine nodes to a model, drain them and remove them.",
        "site": "Serve models at branch offices: assign, roll out, watch.",
        "bundle": "Check a stick with a new release before it is installed.",
    },
    "This command": {
        "example": "Run an application built on ashore; write its report.",
        "completion": "Install completion for your shell.",
    },
}
"""Nouns by what one wants to do, and what they do. Empty: the noun's calls belong to a room, whose line in
`kit/listed.py` says that. Nouns of rooms that are in no group come last."""
_ROOMS = {one.noun: one.summary for one in LISTED if one.noun}
_PLACED = {name for rows in _GROUPS.values() for name in rows}
_MORE = {name: "" for name in _ROOMS if name not in _PLACED}


def _command(name: str, summary: str) -> Command:
    if name in _ROOMS:
        return Command(name=name, target=f"ashore.cli.nouns:{name}", summary=summary or _ROOMS[name])
    return Command(name=name, target=f"ashore.cli.{name}:app", summary=summary)


GROUPS = {
    group: tuple(_command(name, summary) for name, summary in rows.items())
    for group, rows in {**_GROUPS, "More": _MORE}.items()
    if rows
}
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
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
    width = max(len(one.name) for one in COMMANDS)
    lines = (
        line
        for group, commands in GROUPS.items()
        for line in (f"{group}:", *(f"  {one.name.ljust(width)}  {one.summary}" for one in commands), "")
    )
    return "\n".join(
        (
            f"ashore {__version__} serves open models on your own machines.",
            "",
            "Usage: ashore COMMAND [OPTIONS]",
            "",
            *lines,
            "  --help     Show this text; after a command, show its options and examples.",
            "  --version  Show the version.",
            "",
            "Start here: ashore up",
        )
    )
