"""Hints for a name that was mistyped."""

from __future__ import annotations

from ashore.core.nearest import did_you_mean


def test_the_nearest_are_offered_else_what_there_is_and_how_much_more() -> None:
    assert did_you_mean("smolm2", ["smollm2", "other"]) == "did you mean 'smollm2'?"
    assert did_you_mean("serverr", ["egress", "http"]) == "known: egress, http", "what looks little alike is no guess"
    assert did_you_mean("zzz", []) == "there are none yet"
    assert did_you_mean("zzz", ["b", "a"]) == "known: a, b"
    many = did_you_mean("zzz", [f"a{number:02}" for number in range(23)])
    assert many.startswith("known: a00, ") and many.endswith(", a19 and 3 more")
