"""Runs the calls of the access room: its use cases, and the wait until a change is in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec

from ashore.control.access.book import PolicyBook
from ashore.control.access.keyring import Keyring
from ashore.control.access.people import People
from ashore.core.clock import Clock
from ashore.core.names import EVERY_NAME
from ashore.core.names import Names as KnownNames
from ashore.data.authority import Acts
from ashore.kit.recorder import Recorder

if TYPE_CHECKING:
    from ashore.kit.state import Database


Name = Annotated[str, msgspec.Meta(max_length=128)]
Argument = Annotated[Name, msgspec.Meta(extra={"positional": True})]
Title = Annotated[str, msgspec.Meta(max_length=200)]
Names = Annotated[list[Annotated[str, msgspec.Meta(max_length=300)]], msgspec.Meta(max_length=1000)]
Several = Annotated[Names, msgspec.Meta(extra={"several": True})]
Search = Annotated[str, msgspec.Meta(max_length=200)]
Page = Annotated[int, msgspec.Meta(ge=1, le=1000, extra={"page": True})]


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """What was removed."""

    removed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessDesk:
    """The use cases of the access room."""

    people: People
    keyring: Keyring
    book: PolicyBook
    names: KnownNames = EVERY_NAME
    """Which models there are, for a note about a key that is limited to others."""


def open_desk(
    database: Database,
    clock: Clock,
    recorder: Recorder,
    *,
    names: KnownNames = EVERY_NAME,
) -> AccessDesk:
    """Return the use cases of the access room on a state."""
    acts = Acts(database, recorder, clock)
    return AccessDesk(people=People(acts), keyring=Keyring(acts), book=PolicyBook(acts), names=names)
