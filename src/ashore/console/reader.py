"""Who reads a page, and how it comes to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ashore.console.acts import Acts, who_may
from ashore.console.model import PAGE_HEADERS, Answer, Asked
from ashore.console.pages import Placed
from ashore.console.rendering import render
from ashore.console.words import Words
from ashore.sessions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One request of somebody who is logged in."""

    asked: Asked
    words: Words
    session: Session
    look: Mapping[str, object]
    acts: Acts

    def offers(self, placed: Placed) -> bool:
        """Return whether a page offers a call to this reader."""
        return self.acts.offers(self.session, placed)

    async def perform(self, placed: Placed, taken: Any) -> Any:
        """Do a call and return its answer; raises as `Acts.perform` does."""
        return await self.acts.perform(self.asked, self.session, placed, taken)

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
