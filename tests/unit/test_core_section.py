"""A part of ashore.toml that is declared as a struct: what is read, what is refused, what a reload takes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import pytest
from msgspec import Meta, field

from ashore.core.errors import InvalidRequest, InvalidSpec
from ashore.core.timespan import parse_seconds, seconds_in
from ashore.kit.section import Kept, Seconds, Section, keys_of, read_section, toml


class Shelf(Section, frozen=True, kw_only=True):
    """A shelf."""

    name: Annotated[str, Meta(min_length=1, examples=['"fiction"'])]
    """What it is called."""
    width: Annotated[int, Meta(ge=1, le=9)] = 3
    """Books side by side."""


class Library(Section, frozen=True, kw_only=True):
    """A library."""

    colour: Literal["red", "blue"] = "red"
    """Of the door."""
    open_s: Seconds = 60.0
    """How long it is open."""
    loan_days: Kept[Annotated[int, Meta(ge=7, le=365)]] = 30
    """How long a book may be away."""
    loans_per_s: Annotated[int, Meta(ge=1)] = 5
    """Loans a second."""
    shelves: Annotated[tuple[Shelf, ...], toml("shelf")] = ()
    wings: dict[str, Shelf] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    """Numbers without bounds, by name."""
    places_s: dict[str, str] = field(default_factory=dict)
    """Where things are, by name."""

    def checked(self, where: str) -> Self:
        if self.colour == "blue" and not self.shelves:
            raise InvalidSpec(f"{where} is blue and empty")
        return self


def test_a_table_becomes_the_struct_with_its_defaults() -> None:
    found = read_section(
        Library,
        {"open_s": 5, "shelf": [{"name": "a"}, {"name": "b", "width": 9}], "wings": {"east": {"name": "e"}}},
        "lib.toml",
    )
    assert found == Library(
        open_s=5.0, shelves=(Shelf(name="a"), Shelf(name="b", width=9)), wings={"east": Shelf(name="e")}
    )


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"color": "red"}, "lib.toml has an unknown key 'color'", "'colour'"),
        ({"colour": "rde"}, "lib.toml colour = 'rde'; expected red or blue", "'red'"),
        ({"colour": "blue"}, "lib.toml is blue and empty", ""),
        ({"shelf": {"name": "a"}}, "lib.toml shelf is not a list of tables", "[[shelf]] with two brackets"),
        ({"shelf": [{"name": "a"}, {"width": 1}]}, "lib.toml [[shelf]] number 2 has no name", 'name = "fiction"'),
        ({"shelf": [{"name": ""}]}, "lib.toml [[shelf]] number 1 name = ''; expected text", "correct"),
        ({"shelves": []}, "unknown key 'shelves'", "'shelf'"),
        ({"wings": {"east": {"name": "e", "width": 10}}}, "lib.toml [wings] [east] width = 10; expected 1 to 9", ""),
        ({"wings": {"east": 3}}, "lib.toml [wings] east = 3; expected a table", "[wings.east]"),
        ({"open_s": 0}, "lib.toml open_s = 0; expected above 0, at most 31622400 seconds", ""),
        ({"open_s": float("nan")}, "lib.toml open_s = nan; expected above 0", ""),
        ({"open_s": float("inf")}, "lib.toml open_s = inf; expected above 0", ""),
        ({"ratios": {"shelf": float("nan")}}, "lib.toml [ratios] shelf = nan; expected a number", ""),
        ({"open_s": True}, "lib.toml open_s = true; expected a number, above 0", ""),
        ({"open_s": "soon"}, "lib.toml open_s: 'soon' is not a duration", "90s, 15m, 2h"),
        ({"loan_days": "36h"}, "lib.toml loan_days = '36h'; expected 7 to 365 days", ""),
        ({"loan_days": "6d"}, "lib.toml loan_days = '6d'; expected 7 to 365 days", ""),
        ({"loans_per_s": "5s"}, "lib.toml loans_per_s = '5s'; expected a whole number", ""),
    ],
)
def test_a_mistake_is_named_with_its_place(values: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read_section(Library, values, "lib.toml")
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("15m", 900.0), ("2h", 7200.0), ("1.5h", 5400.0), ("30d", 2_592_000.0)]
)
def test_a_duration_may_be_written_with_its_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds
    assert read_section(Library, {"open_s": text}, "lib.toml").open_s == seconds


def test_days_may_be_written_as_a_duration_and_paths_are_none() -> None:
    found = read_section(Library, {"loan_days": "48d", "places_s": {"door_s": "90s"}}, "lib.toml")
    assert (found.loan_days, found.places_s) == (48, {"door_s": "90s"})


@pytest.mark.parametrize("text", ["", "s", "90", "1h30m", "-5s", "1e3s", "5 s", "٣s"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a duration"):
        parse_seconds(text)


def test_on_the_command_line_only_0_needs_no_unit() -> None:
    assert (seconds_in("0"), seconds_in("0s"), seconds_in("90s"), seconds_in("2h")) == (0, 0, 90, 7200)
    for text in ("90", "00", "1.5"):
        with pytest.raises(InvalidRequest, match="is not a duration") as refused:
            seconds_in(text)
        assert refused.value.hint == "write 90s, 15m, 2h or 30d"


def test_a_reload_takes_what_is_not_kept() -> None:
    said = Library(colour="blue", loan_days=60, shelves=(Shelf(name="a"),))
    assert Library().kept() == {"loan_days": 30}
    assert Library().reloaded(said) == Library(colour="blue", loan_days=30, shelves=said.shelves)
    assert [key.name for key in keys_of(Library) if key.kept] == ["loan_days"]
