"""Why ashore does not rewrite texts token by token with differential privacy: the arithmetic.

Local differential privacy replaces each token by one drawn from the vocabulary. The best mechanism with epsilon per
token is randomised response over all of them (Kairouz et al. 2016): the token is kept with the probability e^epsilon /
(e^epsilon + V - 1).
"""

from __future__ import annotations

import math
from typing import Final

from ashore.errors import InvalidRequest

VOCABULARY: Final = 50_000
"""Tokens of a small model's vocabulary; those of large ones have three times as many, which is worse."""
READABLE: Final = 0.9
"""Share of tokens that must stay for a text to be read."""


def stays(epsilon: float, vocabulary: int = VOCABULARY) -> float:
    """Return the probability that a token is kept."""
    return 1 / (1 + (vocabulary - 1) * math.exp(-epsilon))


def needed(share: float = READABLE, vocabulary: int = VOCABULARY) -> float:
    """Return the epsilon per token for which this share of them is kept."""
    return math.log(share / (1 - share) * (vocabulary - 1))


def refuse_rewriting(epsilon: float) -> None:
    """Raise `InvalidRequest`, stating how much of a text would be left."""
    raise InvalidRequest(
        f"a text is not rewritten token by token with epsilon {epsilon:g}: with a vocabulary of {VOCABULARY:,}, one in "
        f"{1 / stays(epsilon):,.0f} of its tokens would stay as it is; for {READABLE:.0%} to stay, each token takes "
        f"epsilon {needed():.1f}, and a text of 100 tokens {100 * needed():,.0f}, which protects nobody",
        hint="leave out --epsilon: what identifies people is masked. For statistics: `ashore privacy query`; for "
        "training: `ashore train private`",
    )
