"""Where each alias leads now, for the request path. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ashore.data.releases.model import Book, Sticky


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowing:
    """A release that gets copies of live requests."""

    release: str
    share: int
    """Thousandths of the requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasRoute:
    """Where one alias leads."""

    weights: tuple[tuple[str, int], ...]
    """Releases that answer, in thousandths."""
    sticky: Sticky = "conversation"
    standby: str = ""
    """The release that answers while no host of the others does; empty: there is none."""
    shadow: Shadowing | None = None
    live: str = ""
    """The release that answers, a canary aside."""
    former: str = ""
    """The one before it, to which it is rolled back automatically if it answers worse; empty: it is not."""
    loads_in_place: bool = False
    """Whether what answered has made room for a release that loads now: who asks waits for that."""
    watched: tuple[str, str] | None = None
    """A candidate and its baseline: a canary and the live release."""

    @property
    def is_tried(self) -> bool:
        """Whether a candidate is compared on live requests."""
        return bool(self.candidate)

    @property
    def candidate(self) -> str:
        """The candidate compared on live requests, as shadow or canary; empty: none."""
        if self.watched is not None:
            return self.watched[0]
        return "" if self.shadow is None else self.shadow.release


def routes_of(book: Book) -> Mapping[str, AliasRoute]:
    """Return where every alias leads."""
    routes = {}
    for alias in book.aliases.values():
        standby = book.standby_of(alias.name)
        candidate = book.candidate_of(alias.name)
        shadow = watched = None
        if candidate is not None and candidate.state == "shadow":
            shadow = Shadowing(release=candidate.release, share=candidate.share)
        live = next((c.release for c in book.live_of(alias.name)), "")
        if candidate is not None and candidate.state == "canary" and live:
            watched = (candidate.release, live)
        guarded = book.guarded_of(alias.name)
        routes[alias.name] = AliasRoute(
            weights=alias.weights,
            sticky=alias.sticky,
            standby="" if standby is None or standby.release in alias.releases else standby.release,
            shadow=shadow,
            live=live,
            former="" if guarded is None else guarded.replaced,
            loads_in_place=candidate is not None and candidate.state == "warming" and candidate.cold,
            watched=watched,
        )
    return routes
