"""Membership attacks on an adapter, and what they prove: which examples was it trained on?

Two attacks. With *answers*, the attacker queries the model, and compares the likelihood of an example with and without
the adapter. With *weights*, the attacker has the adapter's file, and measures how far it moved along the example's
gradient: the stronger attack, which a privacy claim must withstand.

A fair coin decides for each canary whether it is trained on. One run with many canaries gives a lower bound on epsilon
(Steinke, Nasr and Jagielski 2023), which holds whatever the mechanism is: where it lies above the epsilon that was
claimed, the claim is wrong. A bound below it proves nothing; a better attack may find more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ashore.core.errors import InvalidRequest
from ashore.lab.training.attention import packed_attention
from ashore.lab.training.batches import Batch, Corpus
from ashore.lab.training.losses import answer_loss

CONFIDENCE: Final = 0.95
FEWEST: Final = 20
"""Scores on each side; with fewer, nothing could be shown."""
SHARES: Final = (1, 2, 4, 8, 16, 32)
"""One in so many canaries is guessed: the surest ones. Each share is a test; the doubt is divided among them."""
MOST_EPSILON: Final = 50.0
FALSE_ALARMS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Result of an attack with known truth."""

    members: int
    """That were trained on."""
    others: int
    least_epsilon: float
    """Nats: with `confidence`, epsilon is at least this."""
    most_provable: float
    """The bound if every guess had been right: more canaries can prove more."""
    guesses: int
    right: int
    """Of the guesses that proved most."""
    confidence: float
    area: float
    """Probability that a member has the higher score of the two, one of each kind: 0.5 is chance."""
    area_low: float
    area_high: float
    """Where 95 of 100 attacks on a model that learned nothing of its members would find it: around 0.5."""
    exposure_bits: float
    """Median over members of log2 of (others / rank among them): 1 is chance."""
    found_at_one_percent: float
    """Share of members above all but one in a hundred of the others: 0.01 is chance."""

    @property
    def at_chance(self) -> bool:
        """Whether the scores separate members from others no better than chance."""
        return self.area_low <= self.area <= self.area_high


def judge(members: Sequence[float], others: Sequence[float], delta: float) -> Verdict:
    """Return what the scores prove.

    Args:
        members: Scores of canaries that were trained on.
        others: Scores of those that were not; a fair coin decided for each.
        delta: Delta for which epsilon is reported.

    Raises:
        InvalidRequest: there are too few.
    """
    if min(len(members), len(others)) < FEWEST:
        raise InvalidRequest(
            f"{len(members)} members and {len(others)} others", hint=f"at least {FEWEST} of each; 200 show much more"
        )
    inside, outside = np.asarray(members, np.float64), np.asarray(others, np.float64)
    scores = np.concatenate([inside, outside])
    truth = np.concatenate([np.ones(len(inside), np.bool_), np.zeros(len(outside), np.bool_)])
    # Order equal scores independently of the truth.
    order = np.lexsort((np.random.default_rng(0).permutation(len(scores)), scores))
    best, guesses, right = 0.0, 0, 0
    for share in SHARES:
        half = len(scores) // share // 2
        if half < 1:
            continue
        hits = int(truth[order[-half:]].sum() + (~truth[order[:half]]).sum())
        found = least_epsilon(len(scores), 2 * half, hits, delta, (1 - CONFIDENCE) / len(SHARES))
        if found > best or not guesses:
            best, guesses, right = found, 2 * half, hits
    whole = 2 * (len(scores) // 2)
    ranks = 1 + (outside[None, :] > inside[:, None]).sum(axis=1)
    spread = 1.96 * math.sqrt((len(inside) + len(outside) + 1) / (12 * len(inside) * len(outside)))
    return Verdict(
        members=len(inside),
        others=len(outside),
        least_epsilon=best,
        most_provable=least_epsilon(len(scores), whole, whole, delta, (1 - CONFIDENCE) / len(SHARES)),
        guesses=guesses,
        right=right,
        confidence=CONFIDENCE,
        area=float((inside[:, None] > outside).mean() + (inside[:, None] == outside).mean() / 2),
        area_low=0.5 - spread,
        area_high=0.5 + spread,
        exposure_bits=float(np.median(np.log2((len(outside) + 1) / ranks))),
        found_at_one_percent=float((inside > np.quantile(outside, 1 - FALSE_ALARMS)).mean()),
    )


def least_epsilon(canaries: int, guesses: int, right: int, delta: float, doubt: float) -> float:
    """Return the largest epsilon that so many correct guesses rule out, except with probability `doubt`; 0: none."""
    if _probability(canaries, guesses, right, 0.0, delta) >= doubt:
        return 0.0
    low, high = 0.0, MOST_EPSILON
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if _probability(canaries, guesses, right, middle, delta) < doubt else (low, middle)
    return low


def _probability(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the highest probability of so many correct guesses under (epsilon, delta): theorem 5.2 there."""
    from scipy.stats import binom

    accuracy = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, accuracy))
    below = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, accuracy))
    alpha = float((below / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, beta + 2 * canaries * delta * alpha)


def scores_by_answers(peft_model: Any, corpus: Corpus) -> Iterator[float]:
    """Yield by how many nats the adapter raises the likelihood of each example's targets, on average."""
    import torch

    model = peft_model.get_base_model()
    model.eval()
    for one in _singly(corpus):
        with torch.no_grad(), packed_attention(model):
            after = float(answer_loss(model, one))
            with peft_model.disable_adapter():
                before = float(answer_loss(model, one))
        yield (before - after) / one.num_targets


def scores_by_weights(peft_model: Any, corpus: Corpus) -> Iterator[float]:
    """Yield how far the adapter moved along each example's own gradient.

    That is the gradient for the second matrices of the adapter where they are 0, as a fresh adapter has them; the first
    ones carry none there.
    """
    model = peft_model.get_base_model()
    model.eval()
    seconds = {name: one for name, one in model.named_parameters() if "lora_B" in name}
    for name, one in model.named_parameters():
        one.requires_grad_("lora_B" in name)
        one.grad = None
    with _emptied(seconds) as kept:
        for example in _singly(corpus):
            with packed_attention(model):
                answer_loss(model, example).backward()
            along = size = 0.0
            for name, one in seconds.items():
                slope = one.grad.double()
                along -= float((slope * kept[name]).sum())
                size += float(slope.square().sum())
                one.grad = None
            yield along / max(size**0.5, 1e-30)


@contextmanager
def _emptied(parameters: dict[str, Any]) -> Iterator[dict[str, Any]]:
    import torch

    kept = {name: one.detach().clone() for name, one in parameters.items()}
    with torch.no_grad():
        for one in parameters.values():
            one.zero_()
    try:
        yield kept
    finally:
        with torch.no_grad():
            for name, one in parameters.items():
                one.copy_(kept[name])


def _singly(corpus: Corpus) -> Iterator[Batch]:
    return (corpus.batch((number,)) for number in range(corpus.num_examples))
