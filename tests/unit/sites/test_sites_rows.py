"""Budgets and curated pairs of a centre in a site's state: set once, never over the site's own, taken away alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ashore.control.sites import checked, merged
from ashore.control.sites.rows import SITE, SiteRows
from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidSpec, PermissionDenied
from ashore.data.authority.budgets import BudgetRule, SqlAuthority
from ashore.data.cache import load_pairs, read_pairs, save_pairs
from ashore.kit.recorder import MemoryRecorder
from ashore.kit.state import open_scratch

BUDGETS = """
[[budget]]
kind = "tokens"
cap = 9
window = "day"
tenant = "acme"
user = "*"
[[budget]]
kind = "concurrency"
cap = 4
"""
PAIRS = """
[[pair]]
question = "When are you open?"
answer = "From nine."
expires = 2027-01-31
[[pair]]
question = "Who are you?"
answer = "North."
tenant = "acme"
model = "chat"
"""
PARTS = {"budgets": BUDGETS, "pairs": PAIRS, "cache": "ttl_s = 1"}


@pytest.fixture
def rows() -> Iterator[SiteRows]:
    database = open_scratch()
    yield SiteRows(database, MemoryRecorder(), ManualClock())
    database.close()


def kept(rows: SiteRows) -> tuple[dict[str, int], dict[str, str]]:
    """Return caps by quantity, and answers by question."""
    with rows.database.read() as connection:
        pairs = {one.question: one.text for one in load_pairs(connection)}
    return {one.kind: one.cap for one in SqlAuthority(rows.database).rules()}, pairs


def acts(rows: SiteRows) -> list[tuple[str, str]]:
    assert isinstance(rows.recorder, MemoryRecorder)
    assert all(one.actor == SITE.principal.id for one in rows.recorder.acts)
    return [(one.action, one.reason or one.resource) for one in rows.recorder.acts]


def test_rows_are_set_and_recorded_once_and_taken_away_without_the_site_s_own(rows: SiteRows) -> None:
    SqlAuthority(rows.database).put_rule(BudgetRule(kind="requests", window="total", cap=1))
    with rows.database.write() as connection:
        save_pairs(connection, read_pairs([b'{"question": "own", "answer": "ours"}'], now_s=0))
    own = kept(rows)
    rows.check(PARTS)
    for _ in range(2):  # the second after a kill: parts.json had been written
        rows.apply(PARTS, PARTS, {})
    assert kept(rows) == (
        {**own[0], "tokens": 9, "concurrency": 4},
        {**own[1], "When are you open?": "From nine.", "Who are you?": "North."},
    )
    wrote = [("budget:write", "set for the centre")] * 2
    assert acts(rows) == [*wrote, ("cache:import", "cache/centre")]
    fewer = {"budgets": BUDGETS.partition('[[budget]]\nkind = "concurrency')[0].replace("9", "7")}
    rows.apply(fewer, PARTS)
    assert kept(rows) == ({**own[0], "tokens": 7}, own[1])
    rows.apply({}, fewer)
    rows.apply({}, fewer)
    assert kept(rows) == own
    assert acts(rows)[3:] == [
        ("budget:write", "set for the centre"), ("budget:write", "removed for the centre"),
        ("cache:import", "cache/centre"), ("budget:write", "removed for the centre"),
    ]  # fmt: skip


def test_a_row_of_the_site_s_own_is_never_replaced(rows: SiteRows) -> None:
    SqlAuthority(rows.database).put_rule(BudgetRule(kind="concurrency", window="now", cap=1))
    with pytest.raises(InvalidSpec, match="a budget of its own for everyone together"):
        rows.check(PARTS)
    rows.check(PARTS, {"budgets": BUDGETS})  # what the centre set before is the centre's
    with rows.database.write() as connection:
        save_pairs(connection, read_pairs([b'{"question": "when are you open", "answer": "ours"}'], now_s=0))
    with pytest.raises(InvalidSpec, match="an answer of its own to 'when are you open'"):
        rows.check({"pairs": PAIRS})


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ("budgets", '[[budget]]\nkind = "tokens"\ncap = -1'),
        ("budgets", '[[budget]]\nkind = "tokens"\ncap = 1\ntennant = "acme"'),
        ("budgets", '[[budget]]\nkind = "tokens"\ncap = 1\nwindow = "now"'),
        ("budgets", "budget = 3"),
        ("pairs", '[[pair]]\nquestion = "a"'),
        ("pairs", '[[pair]]\nquestion = "a"\nanswer = " "'),
        ("pairs", "pair = [1]"),
        ("pairs", "[[pair"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_as_a_whole(section: str, part: str) -> None:
    with pytest.raises(InvalidSpec, match=rf"the centre's part \[{section}\]"):
        checked({"cache": "ttl_s = 1", section: part}, ("cache", section))


def test_rows_need_the_word_of_the_officer_and_are_no_part_of_ashore_toml() -> None:
    with pytest.raises(PermissionDenied, match="not allowed at this site"):
        checked(PARTS, ("cache",))
    with pytest.raises(PermissionDenied):
        checked({"budgets": "[[grant]]"}, ("budgets",))
    assert merged({"sites": {"takes": ["budgets", "pairs"]}}, PARTS) == {"sites": {"takes": ["budgets", "pairs"]}}
