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
    "model list": "server models",
    "model show": "server models",
    "status": "server history",
}
"""Commands that do what a call of another name does, or show it in another way."""

ONLY_HERE: Final[Mapping[str, str]] = {
    "access revive": NO_SERVER,
    "audit archive": FILES,
    "audit content": SECRETS,
    "audit erase": SECRETS,
    "audit rotate-key": SECRETS,
    "backup confirm": SECRETS,
    "backup init": SECRETS,
    "backup rekey": SECRETS,
    "backup replace": FILES,
    "backup restore": NO_SERVER,
    "bench serve": CLIENT,
    "cache import": FILES,
    "chat": CLIENT,
    "completion install": CLIENT,
    "completion show": CLIENT,
    "config example": COMPUTES,
    "data pack": FILES,
    "data show": FILES,
    "data verify": FILES,
    "deploy check k8s": CLIENT,
    "deploy render bundle": FILES,
    "deploy render compose": FILES,
    "deploy render envoy": FILES,
    "deploy render helm": FILES,
    "deploy render image": FILES,
    "deploy render k8s": FILES,
    "deploy render quadlet": FILES,
    "deploy render systemd": FILES,
    "doctor bundle": FILES,
    "drill run": PROGRAMS,
    "drill schedule": PROGRAMS,
    "drill stop": PROGRAMS,
    "engine list": COMPUTES,
    "engine serve": NO_SERVER,
    "engine tune": PROGRAMS,
    "fleet certificate": SECRETS,
    "fleet ray": FILES,
    "job webhook-secret": SECRETS,
    "launch": CLIENT,
    "learn dataset": NO_SERVER,
    "model catalog": COMPUTES,
    "model export": FILES,
    "model fetch": NO_SERVER,
    "model gc": DESTROYS,
    "model import": FILES,
    "model push": FILES,
    "model rekey": SECRETS,
    "model unseal": SECRETS,
    "optimize compare": NO_SERVER,
    "optimize rebuild": FILES,
    "plan": COMPUTES,
    "plan calibrate": COMPUTES,
    "plan check": COMPUTES,
    "plan gpus": COMPUTES,
    "plan size": COMPUTES,
    "privacy mask": COMPUTES,
    "privacy policy reset": NO_SERVER,
    "reload": NO_SERVER,
    "secret list": SECRETS,
    "secret seal": SECRETS,
    "secret unseal": SECRETS,
    "session link": SECRETS,
    "stop": NO_SERVER,
    "train log": FILES,
    "train private": FILES,
    "up": NO_SERVER,
}
"""Commands without a call, and why."""
