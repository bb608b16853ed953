"""Every action that the authority decides on, the office it belongs to, and its default holders.

An action is `noun:verb`, or one word. The three offices are those of the separation of duties: an account with an
action of one office may have none of another's. Actions without an office may be granted to anybody.

A room declares its own in `actions.json` of its folder; this one declares those of the request path, too. That is read
once, as Python would import it: commands that decide locally need the actions of rooms without importing the rooms.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from ashore.kit.listed import LISTED, PACKAGE

Office = Literal["system", "security", "audit"]

INFER: Final = "infer"
STORED_SHOW: Final = "stored:show"
STORED_REMOVE: Final = "stored:remove"
ACCESS_READ: Final = "access:read"
ACCESS_WRITE: Final = "access:write"
KEY_CREATE_OWN: Final = "key:create-own"
KEY_ROTATE_OWN: Final = "key:rotate-own"
POLICY_READ: Final = "policy:read"
POLICY_WRITE: Final = "policy:write"
ROLE_GRANT: Final = "role:grant"
AUDITOR_CONSENT: Final = "auditor:consent"
FIRST_ADMINISTRATORS: Final = "first-administrators"
"""Resource of the one thing that the first key may administer: `first-administrators/ROLE`."""


class Action(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action."""

    name: str
    protects: str
    """What the action allows, and on which resources."""
    office: Office | None = None
    roles: tuple[str, ...] = ()
    """Built-in roles that may do it, some on certain resources only: `viewer on server`. Not named are the role of its
    office, and those that read everything."""

    @property
    def is_read(self) -> bool:
        """Whether it only reads."""
        return self.name.endswith(":read")


def brought(folder: str) -> tuple[Action, ...]:
    """Return the actions of the room in a folder."""
    file = PACKAGE / folder.replace(".", "/") / "actions.json"
    return msgspec.json.decode(file.read_bytes(), type=tuple[Action, ...]) if file.is_file() else ()


ACTIONS: Final = tuple(action for one in LISTED for action in brought(one.folder))
"""Those of all rooms."""

BY_NAME: Final[Mapping[str, Action]] = MappingProxyType({action.name: action for action in ACTIONS})


def matches_action(pattern: str, name: str) -> bool:
    """Return whether `pattern` (`*`, `noun:*` or a name) matches the action `name`."""
    return pattern == name or (pattern.endswith("*") and name.startswith(pattern[:-1]))


def offices_of(pattern: str) -> frozenset[Office]:
    """Return the offices whose actions `pattern` matches."""
    return frozenset(a.office for a in ACTIONS if a.office is not None and matches_action(pattern, a.name))
