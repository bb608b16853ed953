"""What the search box of the page Audit understands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ashore.control.audit.calls import RecordsIn
from ashore.control.console.auditing import FILTERS, understood

TODAY = datetime(2026, 12, 2, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "filters"),
    [
        ("", {}),
        ("alice", {"actor": "alice"}),
        ("corp:alice denied 3h", {"actor": "corp:alice", "outcome": "denied", "since": "3h"}),
        ("key:create yesterday", {"action": "key:create", "since": "2026-12-01", "until": "2026-12-02"}),
        ("today", {"since": "2026-12-02", "until": "2026-12-03"}),
        ("2026-02-31", {"since": "2026-02-31"}),
        ("9999-12-31", {"since": "9999-12-31"}),
        ("model=chat req_0a1b", {"model": "chat", "request_id": "req_0a1b"}),
        ("ash_0a1b2c3d 10.0.0.0/8", {"key": "ash_0a1b2c3d", "origin": "10.0.0.0/8"}),
        ("model/chat who=bob evil words", {"resource": "model/chat", "actor": "bob", "text": "evil words"}),
        ('alice "two words"', {"actor": "alice", "text": "two words"}),
        ("::1 access:*", {"origin": "::1", "action": "access:*"}),
        ("nofield=x", {"actor": "nofield=x"}),
        ("it's", {"actor": "it's"}),
    ],
)
def test_a_text_becomes_filters(said: str, filters: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for one in understood(said, TODAY):
        found[one.name] = f"{found[one.name]} {one.value}" if one.name in found else one.value
    assert found == filters


def test_each_filter_can_be_left_out_alone() -> None:
    without = {one.name: one.without for one in understood("alice 'model/my chat' denied", TODAY)}
    assert without == {
        "actor": "'model/my chat' denied", "resource": "alice denied", "outcome": "alice 'model/my chat'",
    }  # fmt: skip


def test_every_filter_is_one_of_the_search() -> None:
    assert set(FILTERS) <= set(RecordsIn.__struct_fields__)
