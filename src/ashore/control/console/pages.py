"""The pages of the console, and the page of each call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ashore.kit.call import Call, Download, struct_fields
from ashore.kit.rooms import Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One entry of the navigation."""

    name: str
    """Also its address, `/console/NAME`, and the key of its words, `page.NAME`."""
    nouns: tuple[str, ...] = ()
    """What its tabs are about, in their order."""
    calls: tuple[str, ...] = ()
    """Calls that it shows although their noun stands elsewhere, `access usage`."""
    icon: str = ""
    group: str = ""
    """Key of the words above it in the navigation, `group.NAME`; empty: it stands first or at the foot."""


PAGES: Final = (
    Page(name="home", icon="home"),
    Page(name="chat", icon="chat", nouns=("conversation", "assistant")),
    Page(name="connect", icon="plug"),
    Page(name="models", icon="cube", group="serve", nouns=("model", "optimize", "train", "engine", "fleet")),
    Page(name="sites", icon="pin", group="serve", nouns=("site", "site rollout", "site keys")),
    Page(name="releases", icon="branch", group="serve", nouns=("release", "alias", "learn")),
    Page(name="jobs", icon="jobs", group="serve", nouns=("job", "events")),
    Page(name="usage", icon="gauge", group="serve", nouns=("access budget",), calls=("access usage",)),
    Page(
        name="people", icon="people", group="govern",
        nouns=(
            "access key", "access user", "access service", "access group", "access role", "account", "session",
            "access tenant", "access policy", "access", "directory",
        ),
    ),
    Page(
        name="privacy", icon="shield", group="govern",
        nouns=("privacy policy", "privacy", "privacy budget", "guard", "mcp"),
    ),
    Page(name="audit", icon="scroll", group="govern", nouns=("audit", "feed")),
    Page(name="doctor", icon="pulse", group="operate", nouns=("doctor",)),
    Page(name="alerts", icon="bell", group="operate", nouns=("alert",)),
    Page(name="drills", icon="drill", group="operate", nouns=("drill",)),
    Page(name="server", icon="server", group="operate", nouns=("server", "backup", "cache")),
    Page(name="me", icon="me"),
)  # fmt: skip
VIEWED: Final[Mapping[str, tuple[str, str]]] = {
    "access key": ("people", "access key list"),
    "access user": ("people/accounts", "access user list"),
    "access service": ("people/accounts", "access user list"),
    "account": ("people/accounts", "access user list"),
    "access group": ("people/groups", "access group list"),
    "access role": ("people/roles", "access role list"),
    "access usage": ("usage", "access usage"),
    "access budget": ("usage", "access usage"),
    "job": ("jobs", "job list"),
    "model": ("models", "model ps"),
    "release": ("releases", "release list"),
    "alias": ("releases", "release list"),
    "doctor": ("doctor", "doctor findings"),
    "alert": ("alerts", "alert list"),
    "drill": ("drills", "drill list"),
    "privacy policy": ("privacy", "privacy policy show"),
    "privacy": ("privacy", "privacy policy show"),
    "mcp": ("privacy/tools", "mcp list"),
    "server": ("server", "server history"),
}
"""Subjects that a designed page shows: its address, and the call without which a reader gets the derived tab."""
BY_NAME: Final = {page.name: page for page in PAGES}
REST: Final = "server"
"""The page of nouns that no other names."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A call, with the room that does it and the page that it stands on."""

    room: str
    call: Call
    page: str
    tab: str

    @property
    def address(self) -> str:
        """Its address below `/console/`."""
        return f"call/{self.call.noun.replace(' ', '-')}/{self.call.word}"

    @property
    def key(self) -> str:
        return f"{self.call.noun} {self.call.word}"


class Atlas:
    """Every call of the rooms, by page and by address."""

    def __init__(self, rooms: Iterable[Room]) -> None:
        self.placed: Final = tuple(_place(room.name, call) for room in rooms for call in room.calls if not call.streams)
        self.by_address: Final = {one.address: one for one in self.placed}
        self.by_key: Final = {one.key: one for one in self.placed}

    def tabs(self, page: Page) -> tuple[str, ...]:
        """Return the nouns of a page's tabs."""
        own = {one.tab for one in self.placed if one.page == page.name}
        listed = [*page.calls, *page.nouns]
        return (*(tab for tab in listed if tab in own), *sorted(own - set(listed)))

    def on(self, page: str, tab: str) -> tuple[Placed, ...]:
        """Return the calls of one tab."""
        return tuple(one for one in self.placed if one.page == page and one.tab == tab)


def _place(room: str, call: Call) -> Placed:
    key = f"{call.noun} {call.word}"
    for page in PAGES:
        if key in page.calls:
            return Placed(room, call, page.name, key)
    page_name = next((page.name for page in PAGES if call.noun in page.nouns), REST)
    return Placed(room, call, page_name, call.noun)


def is_list(call: Call) -> bool:
    """Return whether a call is a list that needs no input."""
    if call.changes or call.gives is Download or call.in_path:
        return False
    return not any(one.required for one in struct_fields(call.takes))


def lead_of(calls: Sequence[Placed]) -> Placed | None:
    """Return the call whose answer a tab opens with: its list, or the call that shows everything."""
    able = [one for one in calls if is_list(one.call)]
    for one in able:
        if one.call.word in ("list", "ps", "search"):
            return one
    return next((one for one in able if "items" in getattr(one.call.gives, "__struct_fields__", ())), None) or next(
        iter(able), None
    )


def on_row(call: Call, lead: Call, values: dict[str, Any], *, of_list: bool = True) -> dict[str, str] | None:
    """Return the input that a call takes from a row of an answer; None if the call is not about one row.

    Args:
        call: The act.
        lead: The call that returned the answer.
        values: The row.
        of_list: Whether it is a row of the list of the act's noun. A row of another table must have the same field.
    """
    if len(call.in_path) != 1:
        return None
    (place,) = call.in_path
    for name in (place, f"{place}_id", "id", "name", "alias", "server") if of_list else (place,):
        value = values.get(name)
        if isinstance(value, str) and value:
            return {place: value}
    return None


def row_calls(calls: Iterable[Placed], lead: Placed) -> Iterator[Placed]:
    """Yield the calls about one row of a list."""
    for one in calls:
        if one is not lead and len(one.call.in_path) == 1 and one.call.noun == lead.call.noun and not _begins(one.call):
            yield one


def _begins(call: Call) -> bool:
    """Return whether a call about one thing creates something that the list does not have yet."""
    return call.word == "create"


BY_ID: Final = ("audit request",)
"""Calls about one thing that people look up by an id, whether or not a list shows it."""


def needs_no_row(call: Call) -> bool:
    """Return whether a call about one thing needs no row: it creates one or looks one up."""
    return call.method == "PUT" or f"{call.noun} {call.word}" in BY_ID
