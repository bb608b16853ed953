"""The toy language of the fake engine: a next-token distribution cheap enough for thousands of tokens a second.

At each place a few candidates of a small alphabet, chosen by a hash of the place, have fixed logits; every other token
of the vocabulary shares one low logit. So probabilities, sampling, penalties and biases behave as in a real model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Final

from ashore.core.sampling import Sampling
from ashore.data.engines.model import TokenLogprob

_ALPHABET: Final = b" etaoinshrdlucmfwypvbgkqjxz.,ETAOINS"
_STRIDE: Final = 11
"""Shares no factor with the alphabet's length, so that candidates differ."""
_NUM_CANDIDATES: Final = 24
_LOGITS: Final = tuple(3.0 - 0.45 * rank for rank in range(_NUM_CANDIDATES))
_FLOOR: Final = -12.0
_CERTAIN: Final = 30.0
"""Added to the token that an echo or the end of an answer calls for."""
_MASK: Final = (1 << 64) - 1


def mix(salt: int, place: int, previous: int) -> int:
    """Return 64 well-stirred bits. Source: the finaliser of MurmurHash3 over a linear combination."""
    x = (salt + place * 0x9E3779B97F4A7C15 + previous * 0xC2B2AE3D27D4EB4F) & _MASK
    x ^= x >> 33
    x = (x * 0xFF51AFD7ED558CCD) & _MASK
    return x ^ (x >> 29)


def favourite(salt: int, place: int, previous: int) -> int:
    """Return the likeliest token, as greedy decoding does, without computing the distribution."""
    return _ALPHABET[mix(salt, place, previous) % len(_ALPHABET)]


def logits(salt: int, place: int, previous: int, *, certain: int | None = None) -> dict[int, float]:
    """Return the candidates with their logits, the likeliest first unless `certain` is one of the others."""
    start = mix(salt, place, previous)
    found = {_ALPHABET[(start + rank * _STRIDE) % len(_ALPHABET)]: logit for rank, logit in enumerate(_LOGITS)}
    if certain is not None:
        found[certain] = found.get(certain, _FLOOR) + _CERTAIN
    return found


def logprobs(candidates: Mapping[int, float], vocab_size: int, chosen: int, top: int) -> tuple[TokenLogprob, ...]:
    """Return the log-probability of `chosen` first, then the `top` best; ties and the rest by token id."""
    log_total = _log_total(candidates, vocab_size)
    best = sorted(candidates.items(), key=lambda item: (-item[1], item[0]))[:top]
    first = TokenLogprob(chosen, candidates.get(chosen, _FLOOR) - log_total)
    return (first, *(TokenLogprob(token_id, logit - log_total) for token_id, logit in best))


def every_logprob(candidates: Mapping[int, float], vocab_size: int) -> list[float]:
    """Return the log-probability of every token, by token id."""
    log_total = _log_total(candidates, vocab_size)
    row = [_FLOOR - log_total] * vocab_size
    for token_id, logit in candidates.items():
        row[token_id] = logit - log_total
    return row


def _log_total(candidates: Mapping[int, float], vocab_size: int) -> float:
    rest = (vocab_size - len(candidates)) * math.exp(_FLOOR)
    return math.log(sum(math.exp(logit) for logit in candidates.values()) + rest)


def choose(
    candidates: Mapping[int, float],
    sampling: Sampling,
    prompt_counts: Mapping[int, int],
    counts: Mapping[int, int],
    rng: random.Random,
) -> int:
    """Return the next token under `sampling`: biases and penalties, then temperature, then the cuts, then a draw."""
    shifted = dict(candidates)
    for token_id, bias in sampling.logit_bias.items():
        shifted[token_id] = shifted.get(token_id, _FLOOR) + bias
    for token_id, logit in shifted.items():
        seen = counts.get(token_id, 0)
        if sampling.repetition_penalty != 1.0 and (seen or token_id in prompt_counts):
            penalty = sampling.repetition_penalty
            logit = logit / penalty if logit > 0 else logit * penalty
        shifted[token_id] = logit - seen * sampling.frequency_penalty - bool(seen) * sampling.presence_penalty
    ranked = sorted(shifted.items(), key=lambda item: (-item[1], item[0]))
    if sampling.temperature <= 0 or sampling.top_k == 1:
        return ranked[0][0]
    best = ranked[0][1]
    weights = [(token_id, math.exp((logit - best) / sampling.temperature)) for token_id, logit in ranked]
    return _draw(weights, sampling, rng)


def _draw(weights: list[tuple[int, float]], sampling: Sampling, rng: random.Random) -> int:
    """Draw from weights (the first is 1 and the largest) after top-k, top-p and min-p."""
    if sampling.top_k:
        weights = weights[: sampling.top_k]
    kept: list[tuple[int, float]] = []
    budget = sampling.top_p * sum(weight for _, weight in weights)
    for token_id, weight in weights:
        if kept and (budget <= 0 or weight < sampling.min_p):
            break
        kept.append((token_id, weight))
        budget -= weight
    at = rng.random() * sum(weight for _, weight in kept)
    for token_id, weight in kept:
        at -= weight
        if at < 0:
            return token_id
    return kept[-1][0]
