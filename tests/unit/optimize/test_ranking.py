"""Which layers keep eight bits: on invented losses, the answer is known."""

from __future__ import annotations

from ashore.data.engines.openvino.fourbits import keep_worst

WEIGHTS = {"dear": 10, "cheap": 100, "lucky": 5, "large": 85}


def test_those_that_lose_most_for_a_weight_keep_eight_bits_up_to_the_share() -> None:
    losses = {"dear": 0.01, "cheap": 0.01, "lucky": -0.1, "large": 0.06}
    assert keep_worst(losses, WEIGHTS, 0.05) == {"cheap", "lucky", "large"}
    assert keep_worst(losses, WEIGHTS, 0.5) == {"cheap"}, "what does not fit is passed over for a smaller one"
    assert keep_worst(losses, WEIGHTS, 0) == set(WEIGHTS) and not keep_worst(losses, WEIGHTS, 1)
