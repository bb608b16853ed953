"""One form of a moment for people, one for programs."""

from ashore.core.timespan import human_moment, written_moment


def test_a_moment_is_utc_to_the_second_in_both_forms() -> None:
    assert human_moment(1_796_306_706.9) == "2026-12-03 14:05:06 UTC"
    assert written_moment(1_796_306_706) == "2026-12-03T14:05:06Z"
