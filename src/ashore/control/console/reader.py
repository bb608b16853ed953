"""The reader of a page, and how the page is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from ashore.control.console.acts import Acts, who_may
from ashore.control.console.kit import Act, act
from ashore.control.console.model import PAGE_HEADERS, Answer, Asked
from ashore.control.console.pages import BY_NAME, VIEWED, Placed
from ashore.control.console.present import Shown
from ashore.control.console.rendering import render
from ashore.control.console.words import Words
from ashore.control.sessions import Session
from ashore.core.errors import NotReady, PermissionDenied

CELLS_IN_LOOP: Final = 150
"""A cell of a table takes about ten microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One request of a logged-in person."""

    asked: Asked
    words: Words
    session: Session
    look: Mapping[str, object]
    acts: Acts

    def offers(self, placed: Placed) -> bool:
        """Return whether a page offers a call to this reader."""
        return self.acts.offers(self.session, placed)

    async def perform(self, placed: Placed, taken: Any) -> Any:
        """Make a call and return its answer; raises as `Acts.perform`."""
        return await self.acts.perform(self.asked, self.session.principal, placed, taken)

    async def ask(self, key: str, **values: Any) -> Any:
        """Return the answer of a call by noun and word, `job list`; None where this reader may not make it, or this
        server has not got it.

        Raises:
            AshoreError: the call failed for another reason.
        """
        placed = self.acts.atlas.by_key.get(key)
        if placed is None or not self.offers(placed):
            return None
        try:
            return await self.perform(placed, placed.call.takes(**values))
        except (PermissionDenied, NotReady):
            return None

    def may(self, key: str, /, word: str = "", **fields: str) -> tuple[Act, ...]:
        """Return the act that opens the page of a call, with fields filled in; nothing if the reader may not do it."""
        placed = self.acts.atlas.by_key.get(key)
        return (act(placed, fields, word=word),) if placed is not None and self.offers(placed) else ()

    def tabs(self, page: str) -> list[tuple[str, str]]:
        """Return address and noun of the tabs of a page that this reader has; of what a view shows, the view's."""
        found: dict[str, str] = {}
        for noun in self.acts.atlas.tabs(BY_NAME[page]):
            if self.derived(page, noun):
                view, key = VIEWED.get(noun, ("", ""))
                found.setdefault(view if self.may(key) else f"{page}?{urlencode({'_tab': noun})}", noun)
        return list(found.items())

    def derived(self, page: str, *nouns: str) -> list[str]:
        """Return those subjects of a page whose derived tab this reader has."""
        return [one for one in nouns if any(self.offers(call) for call in self.acts.atlas.on(page, one))]

    def page(self, template: str, page: str, *, status: int = 200, **content: Any) -> Answer:
        """Return a page of the console.

        Args:
            template: Its template.
            page: Its entry in the navigation; empty: none.
            status: HTTP status.
            content: What the template shows.
        """
        frame = {
            **self.look,
            "session": self.session,
            "csrf": self.session.csrf,
            "page": page,
            "shown_id": self.asked.visit.request_id,
            "here": f"{self.asked.visit.prefix}/console/{self.asked.path}",
            "who_may": who_may,
            "nav": self.acts.navigation(self.session) if self.asked.part == "page" else (),
            "jumps": self._jumps() if self.asked.part == "page" else (),
        }
        return Answer(
            status=status, headers=PAGE_HEADERS, body=render(template, self.asked, self.words, {**frame, **content})
        )

    def _jumps(self) -> list[Act]:
        """Return the acts that the palette offers: those that need no row."""
        holds, whole = self.acts.authority.holds, self.session.whole
        free = (one for one in self.acts.atlas.placed if not one.call.in_path or one.call.method == "PUT")
        known = (one for one in free if one.call.changes and self.offers(one))
        return [act(one) for one in known if not one.call.own or holds(whole, one.call.own)]

    async def large_page(self, template: str, page: str, shown: Shown | None, **content: Any) -> Answer:
        """Return a page with an answer in it. A large one is rendered on the thread for long texts, in its owner's
        queue.
        """
        if shown is None or shown.num_cells <= CELLS_IN_LOOP:
            return self.page(template, page, shown=shown, **content)
        work = partial(self.page, template, page, shown=shown, **content)
        answer: Answer = await self.aside(work)
        return answer

    async def aside(self, work: Callable[[], Any]) -> Any:
        """Return the result of `work`, run on the thread for long texts."""
        return await self.acts.serving.read_aside(self.session.principal, work)
