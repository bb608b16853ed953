"""Acts that exist on the command line alone, each with its reason. Everything else is a call, for HTTP, the command
line and the console alike; a test holds this table to the commands, and the reference shows the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NO_SERVER: Final = "it must work where no server runs, or is how one is started and stopped"
SECRETS: Final = "it shows, makes or moves keys, which do not travel over the API"
FILES: Final = "it reads or writes files of the caller's choice on this machine, which a request may not"
CLIENT: Final = "it is a client: a program on the user's own machine"
PROGRAMS: Final = "it starts programs or processes with the rights of its user"
COMPUTES: Final = "it only computes from files and tables, and needs no server"
DESTROYS: Final = "it deletes for good what releases of another server may still need; who owns the home decides"

INSTEAD: Final[Mapping[str, str]] = {
    "access group add": "access group members",
    "access group drop": "access group members",
    "access role grant": "access role bind",
    "access role revoke": "access role bind",
    "access service disable": "access service change",
    "access service enable": "access service change",
    "access tenant disable": "access tenant change",
    "access tenant enable": "access tenant change",
    "access user disable": "access user change",
    "access user enable": "access user change",
    "config show": "server config",
    "doctor": "doctor findings",
    "events": "events list",
    "learn revert": "release rollback",
    "logs": "server tail",
    "model show": "model list",
    "status": "server history",
}
"""Commands that do what a call of another name does, or show it in another way."""

_COMMANDS: Final = {
    NO_SERVER: (
        "access revive, backup restore, engine serve, learn dataset, model fetch, optimize compare, privacy "
        "policy reset, reload, site hold, site join, site leave, site status, site sync, stop, up"
    ),
    FILES: (
        "audit archive, backup replace, bundle verify, cache import, data pack, data verify, deploy render "
        "bundle, deploy render compose, deploy render envoy, deploy render helm, deploy render image, deploy "
        "render k8s, deploy render quadlet, deploy render systemd, doctor bundle, feed verify, "
        "fleet ray, model export, "
        "model import, model push, site collect, site export, site import, site publish, site "
        "verify, train log, train private"
    ),
    SECRETS: (
        "audit content, audit erase, audit rotate-key, backup confirm, backup init, backup rekey, fleet "
        "certificate, job webhook-secret, model rekey, model unseal, secret list, secret seal, secret unseal, "
        "session link, site keys create, site keys install, site keys rotate, site keys sign, site keys stage"
    ),
    CLIENT: "bench serve, chat, completion install, completion show, deploy check k8s, example run, launch",
    COMPUTES: (
        "config example, engine list, example list, plan, plan calibrate, plan check, plan gpus, "
        "plan size, privacy mask"
    ),
    PROGRAMS: "drill run, drill schedule, drill stop, engine selftest, engine tune",
    DESTROYS: "model gc",
}
ONLY_HERE: Final[Mapping[str, str]] = {one: why for why, words in _COMMANDS.items() for one in words.split(", ")}
"""Commands without a call, and why."""
