"""The actions that records can have: of rights that were decided on, and of what was done."""

from __future__ import annotations

from typing import Final

_BY_NOUN: Final = {
    "access": "authenticate lock-out read use write",
    "account": "create disable enable lock reset unlock",
    "alias": "remove set",
    "audit": "anchor archive content erase export rotate-key search settings tampered verify",
    "auditor": "consent",
    "backup": "confirm init rekey repair replace restore run scrub",
    "budget": "read refuse write",
    "cache": "import purge read",
    "clock": "jump",
    "deployment": "reload",
    "factor": "enrol",
    "first-key": "revive",
    "fleet": "drain join leave read undrain write",
    "group": "create members remove",
    "job": "cancel read",
    "key": "create revoke rotate rotate-own",
    "metrics": "read",
    "model": "begin cool export gc import infer load open pin pull push read rekey remove seal unpin unseal warm",
    "optimize": "evaluate",
    "password": "change set",
    "policy": "apply check read write",
    "privacy": "detect read write",
    "privacy-budget": "grant read spend",
    "release": "adopt automatic-rollback canary clock-jumped create fell on-time pairs promote read retire rollback "
    "shadow warmed write",
    "role": "grant put remove revoke",
    "secret": "rekey seal unseal",
    "segment": "close open",
    "server": "reload",
    "session": "end link open prove read refuse",
    "service": "change create remove",
    "state": "begin-anew",
    "stored": "remove show",
    "tenant": "change create",
    "usage": "read",
    "user": "change create remove",
    "writer": "start stop",
}
ACTIONS: Final = frozenset(("infer", *(f"{noun}:{verb}" for noun, verbs in _BY_NOUN.items() for verb in verbs.split())))
"""What an auditor may ask for by name. Records of another version of ashore may have others: what the log holds is
found, whatever stands here."""


def is_known(action: str) -> bool:
    """Return whether there is such an action; `noun:*` is any of a noun."""
    if action.endswith("*"):
        return any(one.startswith(action[:-1]) for one in ACTIONS)
    return action in ACTIONS
