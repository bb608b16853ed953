"""What a room provides from its own folder, and the rooms that are open in a process.

A room is a folder with a line in `listed.py`. It contains:

- `room.py`: `ROOM = Room(...)`, its calls, metrics, section of ashore.toml, and what it opens: in every process, in
  API workers alone, in the control process alone;
- the module that `listed.py` names as `data`: what API workers open, where there is something; it imports no calls;
- `actions.json`: its actions, and the built-in roles that include them;
- `tables/0018.sql`: a schema step that adds its tables, named by the resulting version of the state.

The worker, HTTP, the command line, ashore.toml, the policy and the state read them from there, and name no room.
"""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

from ashore.core.behind import Behind, nothing_behind
from ashore.core.clock import Clock
from ashore.kit.call import Call, Rights
from ashore.kit.listed import LISTED
from ashore.kit.metrics import Metric, Metrics
from ashore.kit.recorder import Recorder
from ashore.kit.section import Section
from ashore.kit.state import Database, EpochWatch

T = TypeVar("T")
S = TypeVar("S", bound=Section)

Stage = Literal["record", "state", "serving"]
"""When a room opens: before the state, over the state, or beside the request path."""
Part = Literal["serve", "administer"]
"""What a process does: an API worker serves, the control process administers."""
SERVE: Final[tuple[Part, ...]] = ("serve",)
ADMINISTER: Final[tuple[Part, ...]] = ("administer",)
Work = Callable[[], Awaitable[None]]


class Workers(Protocol):
    """The API workers of this machine, as another process of it asks them."""

    async def ask(self, path: str, *, timeout_s: float = 1.0) -> Sequence[bytes]:
        """Return the reports of those that answer in time."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a room may use to open itself in a process."""

    told: Callable[[str], Any] = lambda name: None
    """Gives what the supervisor told the worker: a field of the topology, or a section of ashore.toml, by its name."""
    gives: Mapping[Any, Any] = field(default_factory=dict)
    """What the rooms before and the process give, by the type or Protocol that it is asked for by."""
    process: str = "api-0"
    """Which of the machine's processes this is: `api-0`, `control`. The name of its audit chain."""
    worker: int = 0
    """Which of the machine's API workers this is."""
    behind: Behind = nothing_behind
    """Gives the models behind an alias, from the first request on."""
    names: Callable[[], Collection[str]] = frozenset
    """Gives the names that clients may ask for, from the first request on. May wait on the database."""

    def section(self, name: str, kind: type[S]) -> S:
        """Return the section of ashore.toml that belongs to a room."""
        return msgspec.convert(self.told(name), kind)

    def find(self, kind: type[T]) -> T | None:
        """Return what was provided as `kind`; None if nothing was."""
        found: T | None = self.gives.get(kind)
        return found

    def need(self, kind: type[T]) -> T:
        """Return what was provided as `kind`: something every worker has."""
        found = self.find(kind)
        assert found is not None, f"nobody gives {kind.__name__}"
        return found

    @property
    def clock(self) -> Clock:
        return self.need(Clock)

    @property
    def metrics(self) -> Metrics:
        return self.need(Metrics)

    @property
    def recorder(self) -> Recorder:
        return self.need(Recorder)

    @property
    def rights(self) -> Rights:
        """Checks the rights of principals; available from the room `access` on."""
        return self.need(Rights)

    @property
    def database(self) -> Database | None:
        """The database of the state; None if the worker has none, and before it is open."""
        return self.find(Database)

    @property
    def watch(self) -> EpochWatch | None:
        """Notifies of changes of the state. Register before reading, so that no change is missed."""
        return self.find(EpochWatch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What a room does and provides in one process."""

    desk: object | None = None
    """What does its calls; None: this server cannot."""
    off: str = ""
    """What to set in ashore.toml, where the room opened without a desk because it is switched off."""
    gives: Mapping[Any, Any] = field(default_factory=dict)
    """What the request path and later rooms may ask the context for."""
    over_state: Callable[[Context], object] | None = None
    """What a room that opens before the state does once that is open, on a thread."""
    reload: tuple[Callable[[Context], Awaitable[None]], ...] = ()
    """Each takes what the supervisor says after a reload; one that cannot keeps none of the others from it."""
    background: Mapping[str, Work] = field(default_factory=dict)
    """What goes on until the process ends, by what the log calls it."""
    measure: Work | None = None
    """Brings gauges up to date before a page of metrics is made."""
    close: Work | None = None


async def open_nothing(context: Context) -> Opened:
    """Open a room that does nothing in this process."""
    return Opened()


Open = Callable[[Context], Awaitable[Opened]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What a room provides."""

    name: str
    """The tag of its calls in the OpenAPI document, in lower case."""
    calls: tuple[Call, ...] = ()
    acts: tuple[str, ...] = ()
    """What its records name beside the rights in `actions.json`: `key:create`."""
    metrics: tuple[Metric, ...] = ()
    section: type[Section] | None = None
    """Its part of ashore.toml, which `listed.py` gives a name."""
    open: Open = open_nothing
    """Opens what every process needs: who a caller is and what they may do, the audit log."""
    serve: Open = open_nothing
    """Opens what only the request path of an API worker needs. After `open`."""
    administer: Open = open_nothing
    """Opens the desk that does the calls, and work that one process of a machine does: in the control process. After
    `open`."""
    stage: Stage = "state"


def room_in(folder: str) -> Room:
    """Import a room and return it."""
    room: Room = import_module(f"ashore.{folder}.room").ROOM
    return room


def rooms() -> Iterator[Room]:
    """Import the listed rooms and yield them in order."""
    return (room_in(one.folder) for one in LISTED)


def data_rooms() -> Iterator[Room]:
    """Import what API workers open of the listed rooms, without calls and sections, and yield it in order."""
    for one in LISTED:
        if one.data:
            room: Room = import_module(f"ashore.{one.data}").ROOM
            yield room


class Rooms:
    """The rooms that are open in one process."""

    def __init__(
        self,
        context: Context | None = None,
        *,
        gives: Mapping[Any, Any] = MappingProxyType({}),
        listed: Callable[[], Iterable[Room]] = rooms,
        parts: Collection[Part] = (*SERVE, *ADMINISTER),
    ) -> None:
        """Start with none. `gives`: provided to others, in addition to the context. `parts`: what this process does."""
        self.context = context or Context()
        self.desks: Final[dict[str, object]] = {}
        """What does the calls of each room, by the room's name; one that this server lacks is left out."""
        self.off: Final[dict[str, str]] = {}
        """What switches a room on, by its name, where ashore.toml does not."""
        self.measures: Final[list[Work]] = []
        self.opened: Final[list[Opened]] = []
        self._listed = listed
        self._parts = parts
        self._closing: list[Work] = []
        self.give(gives)

    def find(self, kind: type[T]) -> T | None:
        """Return what was provided as `kind`; None if nothing was."""
        return self.context.find(kind)

    def give(self, gives: Mapping[Any, Any]) -> None:
        """Provide this to rooms that open from now on and to the request path."""
        self.context = replace(self.context, gives={**self.context.gives, **gives})

    def before_closing(self, work: Work) -> None:
        """Have `close` run `work` after it has closed everything that opens from now on."""
        self._closing.append(work)

    async def open(self, stage: Stage) -> None:
        """Open the rooms of a stage.

        Raises:
            AshoreError: one cannot be opened; the process must not serve without it.
        """
        for room in self._listed():
            if room.stage != stage:
                continue
            self._take(room, await room.open(self.context))
            if "serve" in self._parts:
                self._take(room, await room.serve(self.context))
            if "administer" in self._parts:
                self._take(room, await room.administer(self.context))

    def _take(self, room: Room, opened: Opened) -> None:
        self.opened.append(opened)
        self.give(opened.gives)
        if opened.desk is not None:
            self.desks[room.name] = opened.desk
        if opened.off:
            self.off[room.name] = opened.off
        if opened.measure is not None:
            self.measures.append(opened.measure)
        if opened.close is not None:
            self._closing.append(opened.close)

    async def go_over_state(self) -> None:
        """Run the rooms' steps over the state, which is open now.

        Raises:
            AshoreError: one cannot.
        """
        for opened in self.opened:
            if opened.over_state is not None:
                await to_thread(opened.over_state, self.context)

    def background(self) -> Iterator[tuple[str, Work]]:
        """Yield the background tasks with their log names."""
        for opened in self.opened:
            yield from opened.background.items()

    def reloads(self, told: Callable[[str], Any]) -> list[Work]:
        """Return the reload hook of each room, to be called once `told` returns the new values."""
        self.context = replace(self.context, told=told)
        return [partial(part, self.context) for opened in self.opened for part in opened.reload]

    async def close(self) -> None:
        """Close them in the reverse order."""
        while self._closing:
            await self._closing.pop()()
