"""Moves of releases where no server answers: straight on the state of this home, through the same use cases."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ashore.access import Actor, Principal
from ashore.core import TenantId
from ashore.errors import InvalidRequest, NotReady, SourceUnreachable
from ashore.settings import read_settings

if TYPE_CHECKING:
    from ashore.releases import ReleaseOffice, Standing

HERE: Final = Actor(principal=Principal(id="command line", tenant=TenantId(""), kind="internal"))
"""Who acts: whoever may write the state of the home."""


def ask_or_do(
    url: str | None,
    ask: Callable[[], list[dict[str, Any]]],
    here: Callable[[ReleaseOffice], tuple[Standing, ...]],
) -> tuple[list[dict[str, Any]], bool]:
    """Have the server make a move; where nobody answers for this home, make it `here`.

    Returns the releases that it is about, and whether a server made it.

    Raises:
        AshoreError: the move cannot be made; or the server that `url` names does not answer.
    """
    try:
        return ask(), True
    except SourceUnreachable:
        if url:
            raise
    except NotReady:
        if url or read_settings().home.topology.is_file():  # a server that answers said so
            raise
    return do_here(here), False


def do_here(here: Callable[[ReleaseOffice], tuple[Standing, ...]]) -> list[dict[str, Any]]:
    """Make a move on the state of this home, and return the releases that it is about."""
    from ashore.bootstrap import releases_of_home

    settings = read_settings()
    print(f"no server answers; done in the state of {settings.home.root}", file=sys.stderr)
    with releases_of_home(settings) as office:
        return [release_line(one) for one in here(office)]


def release_line(one: Standing) -> dict[str, Any]:
    """Return a release by the names that the server gives its fields, as far as a line of it needs them."""
    plan, course = one.release.plan, one.course
    return {
        "name": one.release.name,
        "alias": one.release.alias,
        "model": plan.reference,
        "engine": plan.options.kind,
        "state": course.state,
        "goal": course.goal,
        "why": course.why,
        "load_s": course.load_s or None,
        "weights_percent": {alias: weight / 10 for alias, weight in one.weights.items()},
    }


def only_alias(office: ReleaseOffice) -> str:
    """Return the one alias that there is.

    Raises:
        InvalidRequest: there is another number of them.
    """
    return one_of([alias.name for alias in office.aliases(HERE)])


def one_of(names: list[str]) -> str:
    """Return the only name.

    Raises:
        InvalidRequest: it is not the only one.
    """
    if len(names) != 1:
        raise InvalidRequest(f"there are {len(names)} aliases: {', '.join(names)}", hint="name the one that you mean")
    return names[0]
