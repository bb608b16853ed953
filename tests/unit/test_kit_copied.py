"""Records made of other records: no field is forgotten."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest

from ashore.kit.copied import copied


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    name: str
    made_s: int
    secret: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    made_at: int
    note: str = "none"


STORED = Stored(name="a", made_s=3, secret="s")


def test_fields_of_one_name_are_copied_and_the_others_are_given() -> None:
    assert copied(Shown, STORED, made_at=STORED.made_s, note="") == Shown(name="a", made_at=3, note="")
    assert copied(Stored, Shown(name="b", made_at=1), made_s=1, secret="") == Stored(name="b", made_s=1, secret="")


def test_a_field_that_nobody_gives_is_an_error_even_where_it_has_a_default() -> None:
    with pytest.raises(AttributeError, match="note"):
        copied(Shown, STORED, made_at=3)
    with pytest.raises(TypeError, match="other"):
        copied(Shown, STORED, made_at=3, note="", other=1)
