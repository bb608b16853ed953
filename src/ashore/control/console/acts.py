"""What the console offers its reader, and how acts run: through the same authority and desks as HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final

from ashore.control.console.model import Asked
from ashore.control.console.pages import PAGES, Atlas, Placed
from ashore.control.console.ports import Serving
from ashore.control.sessions import Session
from ashore.core.errors import NotReady
from ashore.core.principal import Principal
from ashore.data.authority import BUILT_IN, Authority
from ashore.data.authority.actions import matches_action
from ashore.kit.call import Actor, perform
from ashore.kit.recorder import Recorder
from ashore.kit.rights import check_call, lacks
from ashore.kit.rooms import Room

Settle = Callable[[], Awaitable[None]]
HIDDEN: Final = ("first-key", "internal")
OWN: Final = ("home", "chat", "connect", "me")
"""Pages that every logged-in person has."""


class Acts:
    """Every call of the rooms, who may make it, and the desk that runs it."""

    def __init__(
        self,
        rooms: Iterable[Room],
        desks: Mapping[str, object],
        *,
        authority: Authority,
        serving: Serving,
        recorder: Recorder,
        settle: Settle | None = None,
        slow: asyncio.Semaphore | None = None,
    ) -> None:
        """Create it. `desks`: the desk of each room by name; may be filled later. `settle`, `slow`: see `perform`."""
        self.atlas: Final = Atlas(rooms)
        self.authority: Final = authority
        self.serving: Final = serving
        self._recorder = recorder
        self._settle, self._slow = settle, slow
        self._desks = desks

    async def perform(self, asked: Asked, principal: Principal, placed: Placed, taken: Any) -> Any:
        """Run a call on behalf of a person, exactly as HTTP would for their key, and return its answer.

        Raises:
            AshoreError: the call is refused, or this server has no desk for it.
        """
        call = placed.call
        check_call(self.authority, principal, call)
        desk = self._desks.get(placed.room)
        if desk is None:
            raise NotReady(f"{placed.room} does not run on this server", hint="start the server with `ashore up`")
        actor = Actor(principal=principal, origin=asked.visit.origin, request_id=asked.visit.request_id)
        return await perform(
            call, desk, actor, taken, aside=self.serving.read_aside, recorder=self._recorder, settle=self._settle,
            slow=self._slow,
        )  # fmt: skip

    def offers(self, session: Session, placed: Placed) -> bool:
        """Return whether a page offers a call: whether the authority would allow it, after a fresh log-in where one is
        required.
        """
        return not lacks(self.authority, session.whole, placed.call)

    def sees(self, session: Session, page: str) -> bool:
        """Return whether a person has a page."""
        return page in OWN or any(self.offers(session, one) for one in self.atlas.placed if one.page == page)

    def navigation(self, session: Session) -> list[str]:
        """Return the pages that a person has."""
        return [page.name for page in PAGES if self.sees(session, page.name)]


@cache
def who_may(action: str) -> tuple[str, ...]:
    """Return the built-in roles that allow an action on an object, to show to people who lack it."""
    return tuple(
        role.name
        for role in BUILT_IN
        if role.name not in HIDDEN
        and any(rule.effect == "allow" and matches_action(rule.action, action) for rule in role.rules)
    )
