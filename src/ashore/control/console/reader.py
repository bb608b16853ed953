"""The reader of a page, and how the page is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from ashore.control.console.acts import Acts, who_may
from ashore.control.console.model import PAGE_HEADERS, Answer, Asked
from ashore.control.console.pages import Placed
from ashore.control.console.present import Shown
from ashore.control.console.rendering import render
from ashore.control.console.words import Words
from ashore.control.sessions import Session

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
        }
        return Answer(
            status=status, headers=PAGE_HEADERS, body=render(template, self.asked, self.words, {**frame, **content})
        )

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
