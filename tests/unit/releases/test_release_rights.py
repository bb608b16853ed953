"""Which rights a move of releases wants: one table of cases."""

from __future__ import annotations

import pytest

from ashore.control.releases import resources_of
from ashore.core.errors import NotFound
from ashore.data.engines import EngineOptions, ModelPlan
from ashore.data.releases import WHOLE, Alias, Book, Course, Release, ReleaseState


def release(name: str, alias: str) -> Release:
    plan = ModelPlan(
        alias=alias, release=name, name="fake:echo", variant="", options=EngineOptions(kind="fake"), replicas=1,
        embedder=False, in_store=True,
    )  # fmt: skip
    return Release(name=name, alias=alias, plan=plan, parts={}, content="")


def book(**states: ReleaseState) -> Book:
    """Return a book of the alias `chat`, at the release that is live, with a release `mine-1` meant for it."""
    names = {name.replace("_", "-"): state for name, state in states.items()}
    live = next(name for name, state in names.items() if state == "live")
    return Book(
        releases={name: release(name, "chat") for name in names},
        courses={name: Course(release=name, state=state) for name, state in names.items()},
        aliases={"chat": Alias(name="chat", weights=((live, WHOLE),), before="chat-1")},
    )


QUIET = book(chat_1="retired", chat_2="live", mine_1="created")
BUSY = book(chat_1="standby", chat_2="live", mine_1="canary")


@pytest.mark.parametrize(
    ("move", "at", "named", "wanted"),
    [
        ("create", QUIET, {"alias": "chat", "release": "mine-2"}, {"alias/chat", "release/mine-2"}),
        ("shadow", QUIET, {"release": "mine-1"}, {"release/mine-1", "alias/chat"}),
        ("canary", QUIET, {"release": "mine-1"}, {"release/mine-1", "alias/chat"}),
        ("promote", QUIET, {"release": "mine-1"}, {"release/mine-1", "alias/chat"}),
        ("standby", QUIET, {"release": "mine-1"}, {"release/mine-1", "alias/chat"}),
        ("retire", QUIET, {"release": "mine-1"}, {"release/mine-1", "alias/chat"}),
        ("rollback", QUIET, {"alias": "chat"}, {"alias/chat", "release/chat-1"}),
        ("rollback", BUSY, {"alias": "chat"}, {"alias/chat", "release/mine-1"}),
        ("rollback", BUSY, {"alias": "chat", "release": "chat-1"}, {"alias/chat", "release/chat-1", "release/mine-1"}),
        ("set", QUIET, {"alias": "mine", "releases": ("chat-2",)}, {"alias/mine", "release/chat-2"}),
        ("set", BUSY, {"alias": "chat", "releases": ("chat-1", "chat-2")},
         {"alias/chat", "release/chat-1", "release/chat-2"}),
        ("remove", QUIET, {"alias": "mine"}, {"alias/mine"}),
    ],
)  # fmt: skip
def test_a_move_wants_the_alias_and_each_release_that_it_moves(
    move: str, at: Book, named: dict[str, str], wanted: set[str]
) -> None:
    assert set(resources_of(move, at, **named)) == wanted  # type: ignore[arg-type]


def test_what_the_caller_named_comes_first_and_what_is_not_there_is_told() -> None:
    assert resources_of("promote", QUIET, release="mine-1")[0] == "release/mine-1"
    assert resources_of("rollback", QUIET, alias="chat")[0] == "alias/chat"
    with pytest.raises(NotFound):
        resources_of("promote", QUIET, release="gone")
    with pytest.raises(NotFound):
        resources_of("rollback", QUIET, alias="gone")
