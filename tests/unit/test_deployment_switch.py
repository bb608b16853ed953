"""When an API worker has taken a change of the deployment."""

from __future__ import annotations

import pytest

from ashore.machine.deployment.front import has_switched


@pytest.mark.parametrize(
    ("releases", "taken"),
    [
        ({"chat": "chat-2", "new": "new-1"}, True),
        ({"chat": "chat-9", "new": "new-1", "prod": "chat-1"}, True),  # aliases that somebody set by hand
        ({"chat": "chat-1", "new": "new-1"}, False),  # still by the release that goes
        ({"chat": "chat-2"}, False),
        ({}, False),
    ],
)
def test_a_change_is_taken_when_what_is_new_answers_and_what_goes_does_not(
    releases: dict[str, str], taken: bool
) -> None:
    assert has_switched(releases, {"chat", "new"}, {("chat", "chat-1")}) == taken


def test_where_nothing_changes_there_is_nothing_to_wait_for() -> None:
    assert has_switched({"anything": "else-3"}, set(), set()) and has_switched({}, set(), set())
