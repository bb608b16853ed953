"""What is timed of one stream."""

from ashore.data.engines.tuning.hostbench import Timed


def test_a_stream_is_judged_behind_its_first_token() -> None:
    assert Timed(first_s=0.5, last_s=1.5, tokens=101).per_s == 100
    assert Timed(first_s=0.5, last_s=0.5, tokens=1).per_s == 2
