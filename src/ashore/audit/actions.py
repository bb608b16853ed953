"""The actions that records can have: of rights that were decided on, and of what was done."""

from __future__ import annotations

from typing import Final

import msgspec

from ashore.listed import LISTED, PACKAGE

_BY_NOUN: Final = {
    "access": "authenticate lock-out read use write",
    "account": "create disable enable lock reset unlock",
    "alias": "remove set",
    "audit": "anchor archive erase rotate-key settings tampered",
    "auditor": "consent",
    "backup": "confirm init rehearse rekey repair replace restore run scrub",
    "budget": "refuse",
    "cache": "import",
    "clock": "jump",
    "deployment": "reload",
    "doctor": "undo",
    "drill": "report run",
    "factor": "enrol remove",
    "first-key": "revive",
    "fleet": "drain join leave undrain",
    "group": "create members remove",
    "key": "create create-own revoke rotate rotate-own",
    "metrics": "read",
    "model": "begin cool export gc import infer open pin pull push rekey remove seal unpin unseal warm",
    "optimize": "evaluate",
    "password": "change set",
    "policy": "apply check read write",
    "release": "adopt automatic-rollback canary clock-jumped create fell on-time promote retire rollback shadow warmed",
    "role": "grant put remove revoke",
    "secret": "rekey seal unseal",
    "segment": "close open",
    "server": "reload",
    "service": "change create remove",
    "session": "link open prove refuse",
    "state": "begin-anew",
    "stored": "remove show",
    "tenant": "change create",
    "user": "change create remove",
    "writer": "start stop",
}
_RIGHTS: Final = frozenset(
    action["name"]
    for one in LISTED
    if (file := PACKAGE / one.folder.replace(".", "/") / "actions.json").is_file()
    for action in msgspec.json.decode(file.read_bytes())
)
"""What rooms bring in `actions.json`: a right that was decided on is an action, and so is what it allows."""
ACTIONS: Final = _RIGHTS | frozenset(
    ("infer", *(f"{noun}:{verb}" for noun, verbs in _BY_NOUN.items() for verb in verbs.split()))
)
"""What an auditor may ask for by name. Records of another version of ashore may have others: what the log holds is
found, whatever stands here."""


def is_known(action: str) -> bool:
    """Return whether there is such an action; `noun:*` is any of a noun."""
    if action.endswith("*"):
        return any(one.startswith(action[:-1]) for one in ACTIONS)
    return action in ACTIONS
