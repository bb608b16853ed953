"""The table of commands, and the overview that `ashore --help` prints from it without loading anything."""

from __future__ import annotations

from dataclasses import dataclass

from ashore import __version__
from ashore.listed import LISTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One word after `ashore`."""

    name: str
    target: str
    """`module:object` of a `cyclopts.App`; imported when the word is used."""
    summary: str


COMMANDS = (
    Command(name="up", target="ashore.cli.up:app", summary="Serve models on this machine until Ctrl-C."),
    Command(
        name="status", target="ashore.cli.status:app", summary="Show what the server of this home runs; needs no key."
    ),
    Command(name="doctor", target="ashore.cli.doctor:app", summary="Find what is wrong, why, and what to do."),
    Command(
        name="drill", target="ashore.cli.drill:app", summary="Rehearse failures; report whether the server survived."
    ),
    Command(name="logs", target="ashore.cli.logs:app", summary="Show what the processes of this home log."),
    Command(name="stop", target="ashore.cli.stop:app", summary="Stop the server of this home; running answers finish."),
    Command(name="reload", target="ashore.cli.reload:app", summary="Apply a changed ashore.toml to a running server."),
    Command(name="chat", target="ashore.cli.chat:app", summary="Talk to a model, here or at another address."),
    Command(name="launch", target="ashore.cli.launch:app", summary="Start a coding client, set up for this server."),
    Command(name="model", target="ashore.cli.model:app", summary="Pull, list, verify and move models of this machine."),
    Command(
        name="engine", target="ashore.cli.engine:app", summary="List engines; measure which one suits this machine."
    ),
    Command(
        name="plan",
        target="ashore.cli.plan:app",
        summary="Plan what to buy; simulate a load; divide GPUs.",
    ),
    Command(
        name="optimize", target="ashore.cli.optimize:app", summary="Make models smaller and faster; evaluate; rebuild."
    ),
    Command(name="data", target="ashore.cli.data:app", summary="Write, show and verify shards of training data."),
    Command(name="train", target="ashore.cli.train:app", summary="Fine-tune a model on your own examples."),
    Command(
        name="learn",
        target="ashore.cli.learn:app",
        summary="See what users say of answers; learn from it.",
    ),
    Command(
        name="release", target="ashore.cli.release:app", summary="Roll out a release beside the live one; roll back."
    ),
    Command(name="alias", target="ashore.cli.alias:app", summary="Point the names that clients use at releases."),
    Command(name="cache", target="ashore.cli.cache:app", summary="Show, purge and fill the answer cache."),
    Command(
        name="backup",
        target="ashore.cli.backup:app",
        summary="Keep copies of this home that survive lost disks; restore.",
    ),
    Command(
        name="audit", target="ashore.cli.audit:app", summary="Search, verify and export the audit log of this home."
    ),
    Command(
        name="secret", target="ashore.cli.secret:app", summary="Show which secrets of a home are sealed; seal them."
    ),
    Command(name="privacy", target="ashore.cli.privacy:app", summary="Show and set masking; ask datasets with noise."),
    Command(name="access", target="ashore.cli.access:app", summary="Manage accounts, keys, roles, policy and budgets."),
    Command(name="bench", target="ashore.cli.bench:app", summary="Measure a server under load."),
    Command(name="config", target="ashore.cli.config:app", summary="Show every key of ashore.toml and its value."),
    Command(
        name="deploy",
        target="ashore.cli.deploy:app",
        summary="Render images, containers and Kubernetes objects from ashore.toml.",
    ),
    Command(
        name="fleet", target="ashore.cli.fleet:app", summary="Add engine nodes to a model, drain them and remove them."
    ),
    Command(name="job", target="ashore.cli.job:app", summary="List, show and cancel background work."),
    Command(name="events", target="ashore.cli.events:app", summary="Show what happens to jobs and releases."),
    *(Command(name=one.noun, target=f"ashore.cli.nouns:{one.noun}", summary=one.summary) for one in LISTED if one.noun),
    Command(
        name="server",
        target="ashore.cli.server:app",
        summary="Look at figures over time, logs, configuration and stored models.",
    ),
    Command(name="session", target="ashore.cli.session:app", summary="List and end sessions of the console."),
    Command(name="completion", target="ashore.cli.completion:app", summary="Install completion for your shell."),
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
