"""Long texts are read in pieces, which finds what one look at the whole would, and can be stopped."""

from __future__ import annotations

import pytest

from ashore.core.wanted import WANT, NoLongerWanted, Want
from ashore.data.privacy import Entity, PrivacyPolicy, finder_of
from ashore.data.privacy.detect import Detectors

LINE = "Call 13812345678, mail ada@example.com, card 4111 1111 1111 1111, 今天天气很好。\n"


class Counting:
    """Finds nothing, and remembers how much it was given."""

    kinds, name = ("phone",), "counting"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def find(self, text: str) -> tuple[Entity, ...]:
        self.sizes.append(len(text))
        return ()


@pytest.mark.parametrize("shift", [0, 7, 31])
def test_pieces_find_what_the_whole_has(shift: int) -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0B\n" * 60 + "-----END PRIVATE KEY-----\n"
    text = "x " * shift + LINE * 1000 + key + LINE * 2000 + key
    assert len(text) > 200_000
    assert finder_of(PrivacyPolicy()).find(text) == Detectors().find(text)


def test_a_key_across_the_end_of_a_piece_is_found_whole() -> None:
    key = "-----BEGIN PRIVATE KEY-----\n" + "MIIEvQIBADANBgkqhkiG9w0B\n" * 60 + "-----END PRIVATE KEY-----"
    text = "a " * 32_600 + key + " b" * 60_000
    (found,) = finder_of(PrivacyPolicy()).find(text)
    assert (found.kind, text[found.start : found.end]) == ("private_key", key)


def test_no_finder_is_given_more_than_a_piece_of_a_long_text() -> None:
    from ashore.data.privacy.service import InPieces

    counting = Counting()
    InPieces(counting).find("1-" * 500_000)
    assert max(counting.sizes) < 100_000
    assert len(counting.sizes) == 16


def test_reading_ends_between_pieces_where_nobody_waits() -> None:
    from ashore.data.privacy.service import InPieces

    want = Want()

    class Leaves(Counting):
        def find(self, text: str) -> tuple[Entity, ...]:
            want.give_up()
            return super().find(text)

    finder = Leaves()
    token = WANT.set(want)
    try:
        with pytest.raises(NoLongerWanted):
            InPieces(finder).find("1-" * 500_000)
    finally:
        WANT.reset(token)
    assert len(finder.sizes) == 1
