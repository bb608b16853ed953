"""The built-in roles. The first three are the offices that are kept apart; nothing can change any of them."""

from __future__ import annotations

from typing import Final

from ashore.access.actions import ACTIONS
from ashore.access.policy import Role, Rule

SYSTEM_ADMINISTRATOR: Final = "system-administrator"
SECURITY_OFFICER: Final = "security-officer"
AUDITOR: Final = "auditor"
MODEL_OWNER: Final = "model-owner"
DEVELOPER: Final = "developer"
VIEWER: Final = "viewer"
FIRST_KEY: Final = "first-key"
INTERNAL: Final = "internal"
FIRST_ADMINISTRATORS: Final = "first-administrators"
"""Resource of the one thing that the first key may administer: `first-administrators/ROLE`."""
OFFICERS: Final = (SYSTEM_ADMINISTRATOR, SECURITY_OFFICER, AUDITOR)

_OWN_USAGE: Final = Rule("allow", "usage:read", "server")
"""What the own tenant used; of another one it takes `tenant/NAME`."""
_READS: Final = tuple(action.name for action in ACTIONS if action.is_read)


def _role(
    name: str, title: str, *actions: str, protected: bool = False, grantable: bool = True, only: tuple[Rule, ...] = ()
) -> Role:
    rules = (*(Rule("allow", action, "*") for action in actions), *only)
    return Role(name=name, title=title, rules=rules, built_in=True, protected=protected, grantable=grantable)


BUILT_IN: Final[tuple[Role, ...]] = (
    _role(
        SYSTEM_ADMINISTRATOR,
        "Machines, models, budgets; not who may do what, and not the record.",
        *(action.name for action in ACTIONS if action.office == "system"),
        "budget:read", "usage:read", "metrics:read", "cache:read", "cache:purge", "job:read", "access:read",
        "policy:read", "privacy:read", "release:read", "key:rotate-own",
    ),
    _role(
        SECURITY_OFFICER,
        "Who there is, what they may do, what is masked; not machines and models, and not the record.",
        *(action.name for action in ACTIONS if action.office == "security"),
        "access:read", "policy:read", "privacy:read", "privacy:detect", "usage:read", "budget:read", "key:rotate-own",
    ),
    _role(
        AUDITOR,
        "Reads everything but prompts and answers, and changes nothing.",
        *(action.name for action in ACTIONS if action.office == "audit"),
        *_READS, "key:rotate-own",
        protected=True,
    ),
    _role(
        MODEL_OWNER,
        "Asks models, moves their releases, clears their kept answers, and sees what they cost.",
        "infer", "cache:read", "cache:purge", "release:read", "release:write",
        "budget:read", "metrics:read", "key:rotate-own",
        only=(_OWN_USAGE, Rule("allow", "release:pairs", "release/*")),
    ),
    _role(DEVELOPER, "Asks every model.", "infer", "privacy:detect", "key:rotate-own"),
    _role(
        VIEWER, "Sees how the server does, and what the own tenant uses.", "metrics:read", "key:rotate-own",
        only=(_OWN_USAGE, Rule("allow", "cache:read", "server")),
    ),
    _role(
        FIRST_KEY, "Until the three administrators exist: asks models, reads what they will change, and makes them.",
        "infer", *_READS,
        grantable=False,
        only=(Rule("allow", "access:write", f"{FIRST_ADMINISTRATORS}/*"),),
    ),
    _role(
        INTERNAL, "Processes of ashore's own, and commands of who owns the home.", "metrics:read", "cache:read",
        grantable=False,
    ),
)  # fmt: skip
