"""The built-in roles. The first three are the offices that are kept apart; nothing can change any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ashore.access.actions import ACTIONS, Office
from ashore.access.policy import Role, Rule

SYSTEM_ADMINISTRATOR: Final = "system-administrator"
SECURITY_OFFICER: Final = "security-officer"
AUDITOR: Final = "auditor"
MODEL_OWNER: Final = "model-owner"
DEVELOPER: Final = "developer"
VIEWER: Final = "viewer"
FIRST_KEY: Final = "first-key"
INTERNAL: Final = "internal"
OFFICERS: Final = (SYSTEM_ADMINISTRATOR, SECURITY_OFFICER, AUDITOR)

_OFFICES: Final[Mapping[str, Office]] = {SYSTEM_ADMINISTRATOR: "system", SECURITY_OFFICER: "security", AUDITOR: "audit"}
_READERS: Final = (AUDITOR, FIRST_KEY)
"""Read everything but prompts and answers."""


def _role(name: str, title: str, *, protected: bool = False, grantable: bool = True) -> Role:
    """Return a role with what its office may, and what actions name it for."""
    rules = []
    for action in ACTIONS:
        named = {role: on or "*" for role, _, on in (one.partition(" on ") for one in action.roles)}
        if (action.office is not None and action.office == _OFFICES.get(name)) or (action.is_read and name in _READERS):
            named.setdefault(name, "*")
        if name in named:
            rules.append(Rule("allow", action.name, named[name]))
    return Role(name=name, title=title, rules=tuple(rules), built_in=True, protected=protected, grantable=grantable)


BUILT_IN: Final[tuple[Role, ...]] = (
    _role(SYSTEM_ADMINISTRATOR, "Machines, models, budgets; not who may do what, and not the record."),
    _role(
        SECURITY_OFFICER, "Who there is, what they may do, what is masked; not machines and models, and not the record."
    ),
    _role(AUDITOR, "Reads everything but prompts and answers, and changes nothing.", protected=True),
    _role(MODEL_OWNER, "Asks models, moves their releases, clears their kept answers, and sees what they cost."),
    _role(DEVELOPER, "Asks every model."),
    _role(VIEWER, "Sees how the server does, and what the own tenant uses."),
    _role(
        FIRST_KEY,
        "Until the three administrators exist: asks models, reads what they will change, and makes them.",
        grantable=False,
    ),
    _role(INTERNAL, "Processes of ashore's own, and commands of who owns the home.", grantable=False),
)
