"""What every finder promises: the own detectors, with kinds of the operator's, and Presidio where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest

from ashore.core.errors import MissingExtra
from ashore.data.privacy import Expression, Finder, PrivacyPolicy, finder_of

HAS_PRESIDIO = importlib.util.find_spec("presidio_analyzer") is not None
ID = "11010519491231002X"

FINDERS: dict[str, Callable[[], Finder]] = {
    "own": lambda: finder_of(PrivacyPolicy()),
    "custom": lambda: finder_of(PrivacyPolicy(expressions=(Expression(kind="staff", pattern="EMP-[0-9]{6}"),))),
    "presidio": lambda: finder_of(PrivacyPolicy(detector="presidio")),
}


@pytest.fixture(params=sorted(FINDERS))
def finder(request: pytest.FixtureRequest) -> Finder:
    if request.param == "presidio" and not HAS_PRESIDIO:
        pytest.skip("NOT TESTED: presidio-analyzer is not installed; install ashore[presidio] to run this")
    return FINDERS[request.param]()


def test_what_only_our_own_detectors_know_is_found_by_every_finder(finder: Finder) -> None:
    text = f"身份证{ID}，卡4111111111111111，电话13812345678，a.b@example.org"
    found = {(one.kind, text[one.start : one.end]) for one in finder.find(text)}
    assert {("id_card", ID), ("bank_card", "4111111111111111"), ("phone", "13812345678")} <= found
    assert ("email", "a.b@example.org") in found


def test_entities_are_ordered_inside_the_text_and_of_kinds_that_are_named(finder: Finder) -> None:
    text = f"😀{ID} and {ID}, call 212-555-0123 or +44 20 7946 0958. EMP-123456 "
    end = 0
    for one in finder.find(text):
        assert end <= one.start < one.end <= len(text)
        assert one.kind in finder.kinds
        end = one.end
    assert end


def test_the_same_text_gives_the_same_entities(finder: Finder) -> None:
    text = f"{ID} 13812345678"
    assert finder.find(text) == finder.find(text)
    assert finder.find("") == ()


@pytest.mark.skipif(HAS_PRESIDIO, reason="presidio-analyzer is installed")
def test_a_detector_that_is_not_installed_says_so() -> None:
    with pytest.raises(MissingExtra, match="presidio"):
        finder_of(PrivacyPolicy(detector="presidio"))
