"""The built-in roles. The first three are the separated offices; none of them can be changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ashore.data.authority.actions import ACTIONS, BY_NAME, Office
from ashore.data.authority.policy import Role, Rule

SYSTEM_ADMINISTRATOR: Final = "system-administrator"
SECURITY_OFFICER: Final = "security-officer"
AUDITOR: Final = "auditor"
MODEL_OWNER: Final = "model-owner"
DEVELOPER: Final = "developer"
VIEWER: Final = "viewer"
PROVISIONER: Final = "provisioner"
ALERTER: Final = "alerter"
FIRST_KEY: Final = "first-key"
INTERNAL: Final = "internal"
OFFICERS: Final = (SYSTEM_ADMINISTRATOR, SECURITY_OFFICER, AUDITOR)

_OFFICES: Final[Mapping[str, Office]] = {SYSTEM_ADMINISTRATOR: "system", SECURITY_OFFICER: "security", AUDITOR: "audit"}
_READERS: Final = (AUDITOR, FIRST_KEY)
"""Read everything but prompts and answers."""


def office_role(action: str) -> str:
    """Return the role whose office an action belongs to; empty: it belongs to none."""
    office = BY_NAME[action].office if action in BY_NAME else None
    return next((role for role, own in _OFFICES.items() if own == office), "")


def _role(name: str, title: str, *, protected: bool = False, grantable: bool = True) -> Role:
    """Return a role with the actions of its office, and the actions that name it."""
    rules = []
    for action in ACTIONS:
        named = {role: on or "*" for role, _, on in (one.partition(" on ") for one in action.roles)}
        if (action.office is not None and action.office == _OFFICES.get(name)) or (action.is_read and name in _READERS):
            named.setdefault(name, "*")
        if name in named:
            rules.append(Rule("allow", action.name, named[name]))
    return Role(name=name, title=title, rules=tuple(rules), built_in=True, protected=protected, grantable=grantable)


BUILT_IN: Final[tuple[Role, ...]] = (
    _role(SYSTEM_ADMINISTRATOR, "Manages machines, models and budgets; not access rights, and not the audit log."),
    _role(
        SECURITY_OFFICER, "Manages accounts, access rights and masking; not machines and models, and not the audit log."
    ),
    _role(AUDITOR, "Reads everything but prompts and answers, and changes nothing.", protected=True),
    _role(
        MODEL_OWNER, "Uses models, manages their releases, purges their cached answers, and sees their usage and cost."
    ),
    _role(DEVELOPER, "Uses every model."),
    _role(PROVISIONER, "Creates and disables people of one issuer by SCIM, and nothing else."),
    _role(ALERTER, "Hands in alerts of an Alertmanager, and nothing else."),
    _role(VIEWER, "Sees the state of the server, and the usage of their own tenant."),
    _role(
        FIRST_KEY,
        "Uses models, reads the settings, and creates the three administrators. Valid until they exist.",
        grantable=False,
    ),
    _role(INTERNAL, "ashore's own processes, and commands of the owner of the home.", grantable=False),
)
