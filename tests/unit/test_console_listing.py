"""Lists of views: what is shown of them, in which order, and how far a job is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ashore.control.console.kit import NONE, Row, Table, figure, number, text
from ashore.control.console.listing import chosen, narrowed
from ashore.control.console.working import about, progress_of
from ashore.data.jobs.operations.model import Progress


def table(*names: str) -> Table:
    rows = tuple(
        Row(cells=(text(name, note=f"of {name}"), number(len(name)), NONE), values={"size": len(name)})
        for name in names
    )
    return Table(columns=("name", "size", "empty"), rows=rows, total=len(rows))


def names(shown: Table) -> list[str]:
    return [row.cells[0].text for row in shown.rows]


def test_a_list_is_looked_through_and_ordered_by_what_its_rows_are_worth() -> None:
    whole = table("a" * 9, "b" * 10, "c")
    assert names(narrowed(whole, {"_sort": "size"})) == ["c", "a" * 9, "b" * 10], "as numbers"
    assert names(narrowed(whole, {"_sort": "-size"}))[0] == "b" * 10
    assert names(narrowed(whole, {"_match": "OF C"})) == ["c"], "the second line is looked through, too"
    assert narrowed(whole, {}).columns == ("name", "size"), "a column without a value goes"
    assert narrowed(whole, {"_sort": "nothing", "_first": "x"}).total == 3


def test_a_long_list_is_cut_into_pages() -> None:
    last = narrowed(table(*(f"n{at:03}" for at in range(120))), {"_first": "100"})
    assert (len(last.rows), last.first, last.total) == (20, 100, 120)
    assert narrowed(table("a"), {"_first": "9" * 400}).first == 0


def test_parts_that_have_nothing_are_not_offered() -> None:
    tests = {"odd": lambda one: one % 2 == 1, "large": lambda one: one > 9, "even": lambda one: one % 2 == 0}
    shown, choices = chosen([1, 2, 3], tests, "large or so")
    assert shown == [1, 3] and [(one.name, one.count, one.on) for one in choices] == [
        ("odd", 2, True),
        ("even", 1, False),
    ]
    shown, choices = chosen([1], tests, "even")
    assert shown == [] and [one.name for one in choices] == ["odd", "even"], "what is chosen stays, empty as it is"
    assert chosen([1], tests, "")[1] == (), "of one part none is chosen"


def job(**fields: Any) -> Any:
    return SimpleNamespace(**{"state": "running", "children": None, "operation": None, "progress": "", **fields})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (job(children=SimpleNamespace(succeeded=3, failed=1, total=8)), "50 %"),
        (job(operation=Progress(done=1, total=4, unit="bytes")), "25 %"),
        (job(operation=Progress(done=9, total=4)), "100 %"),
        (job(operation=Progress(stage="looks"), progress="looks"), "looks"),
        (job(state="succeeded", operation=Progress(done=4, total=4)), ""),
    ],
)
def test_a_job_says_how_far_it_is_while_it_runs(given: Any, said: str) -> None:
    assert progress_of(given).text == said


def test_a_job_is_about_a_model_by_its_name() -> None:
    assert about(job(operation=Progress(subject="model/tiny"))) == "tiny" and about(job()) == ""


def test_large_counts_are_short() -> None:
    assert [figure(one, "n") for one in (7, 9_999, 36_800, 999_600, 36_800_000)] == [
        "7",
        "9,999",
        "36.8 k",
        "1 M",
        "36.8 M",
    ]
