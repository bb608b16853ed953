"""Divergence of a model's next-token distributions from its parent's, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.core.errors import InvalidRequest
from ashore.data.engines import ScoreText, TokenLogprob
from ashore.lab.evaluation.perplexity import cut_texts, fitted
from ashore.lab.evaluation.ports import Subject, Told, untold
from ashore.lab.evaluation.statistics import Estimate, ratio

TOP: Final = 20
"""Likeliest tokens that engines tell where they do not tell all."""
WINDOW_TOKENS: Final = 512
STRIDE_TOKENS: Final = 256
"""Shorter than those of perplexity: two windows of 512 rows of 150,000 numbers are 614 MB."""
MOST_WINDOWS: Final = 64
"""Of longer texts so many windows are taken, spread evenly: 16,384 tokens, every one with a whole vocabulary."""
_ROWS: Final = 64
"""Rows worked on at once: two arrays of 64 rows of 150,000 numbers in double precision are 154 MB."""


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """Kullback-Leibler divergence of a model from its parent, in nats a token, over positions of texts."""

    kl: Estimate
    kl_p50: float
    kl_p99: float
    same_top: Estimate
    """Share of positions at which both find the same token likeliest."""
    num_tokens: int
    method: Literal["exact", "top_k"]
    """`exact` over the vocabulary; `top_k` from the likeliest tokens with all others as one, which is never more than
    the exact figure."""
    top_k: int = 0


def divergence(
    subject: Subject,
    parent: Subject,
    texts: Sequence[str],
    *,
    window: int = WINDOW_TOKENS,
    stride: int = STRIDE_TOKENS,
    told: Told = untold,
) -> Divergence:
    """Return the divergence of `subject` from `parent` on `texts`: exact if both engines report whole distributions.

    Of long texts `MOST_WINDOWS` windows are taken, spread evenly.

    Raises:
        InvalidRequest: they tokenise the texts differently, or there is nothing to score.
        UnsupportedByEngine: an engine does not score.
    """
    context = min((subject.info, parent.info), key=lambda info: info.context_tokens)
    window, stride = fitted(window, stride, context)
    cut = [one for _, one in cut_texts(texts, subject.text, window=window, stride=stride)]
    theirs = [one for _, one in cut_texts(texts, parent.text, window=window, stride=stride)]
    if cut != theirs:
        raise InvalidRequest(
            f"{subject.name} and {parent.name} tokenize the same text differently, so their divergence is not defined",
            hint="compare them by bits_per_byte and by task scores",
        )
    cut = spread(cut, MOST_WINDOWS)
    exact = all("distributions" in one.info.features for one in (subject, parent))
    if exact:
        values, same = _exact(subject, parent, cut, told)
    else:
        values, same = _from_top(subject, parent, cut, told)
    everything = np.concatenate(values)
    lengths = np.array([len(v) for v in values], np.float64)
    return Divergence(
        kl=ratio(np.array([v.sum() for v in values]), lengths),
        kl_p50=float(np.quantile(everything, 0.5)),
        kl_p99=float(np.quantile(everything, 0.99)),
        same_top=ratio(np.array([s.sum() for s in same], np.float64), lengths),
        num_tokens=everything.size,
        method="exact" if exact else "top_k",
        top_k=0 if exact else _top(subject, parent),
    )


def spread(cut: list[ScoreText], most: int) -> list[ScoreText]:
    """Return at most `most` windows, spread evenly over all."""
    if len(cut) <= most:
        return cut
    return [cut[place * len(cut) // most] for place in range(most)]


def exact_kl(parent_NV: NDArray[np.float32], child_NV: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the divergence of each row of log-probabilities. Where one vocabulary is padded, its rest is one token."""
    parent_NV, child_NV = _same_width(parent_NV, child_NV)
    found = []
    for at in range(0, len(parent_NV), _ROWS):
        p = parent_NV[at : at + _ROWS].astype(np.float64)
        q = child_NV[at : at + _ROWS].astype(np.float64)
        weights = np.exp(p)
        found.append(np.where(weights > 0, weights * (p - q), 0.0).sum(axis=1))
    kl_N: NDArray[np.float64] = np.maximum(np.concatenate(found), 0.0)
    return kl_N


def top_kl(parent: Sequence[tuple[int, float]], child: Sequence[tuple[int, float]]) -> float:
    """Return the divergence over the tokens that both report, with all others as one: never more than the exact one."""
    theirs = dict(child)
    pairs = [(p, theirs[token_id]) for token_id, p in dict(parent).items() if token_id in theirs]
    p_rest = max(0.0, 1.0 - sum(np.exp(p) for p, _ in pairs))
    q_rest = max(1e-12, 1.0 - sum(np.exp(q) for _, q in pairs))
    known = sum(np.exp(p) * (p - q) for p, q in pairs)
    rest = p_rest * np.log(p_rest / q_rest) if p_rest > 1e-12 else 0.0
    return max(0.0, float(known + rest))


def _exact(
    subject: Subject, parent: Subject, cut: Sequence[ScoreText], told: Told
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]]:
    values, same = [], []
    for number, text in enumerate(cut):
        parent_NV, child_NV = parent.distributions(text), subject.distributions(text)
        values.append(exact_kl(parent_NV, child_NV))
        same.append(parent_NV.argmax(axis=1) == child_NV.argmax(axis=1))
        told(number + 1, len(cut))
    return values, same


def _from_top(
    subject: Subject, parent: Subject, cut: Sequence[ScoreText], told: Told
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.bool_]]]:
    top = _top(subject, parent)
    before = parent.score(cut, top_logprobs=top, told=lambda done, total: told(done, 2 * total))
    after = subject.score(cut, top_logprobs=top, told=lambda done, total: told(done + total, 2 * total))
    values, same = [], []
    for one, other in zip(before, after, strict=True):
        values.append(np.array([top_kl(_pairs(p), _pairs(q)) for p, q in zip(one, other, strict=True)]))
        same.append(np.array([p[1].token_id == q[1].token_id for p, q in zip(one, other, strict=True)]))
    return values, same


def _top(subject: Subject, parent: Subject) -> int:
    return max(1, min(TOP, subject.info.max_top_logprobs, parent.info.max_top_logprobs))


def _pairs(row: tuple[TokenLogprob, ...]) -> list[tuple[int, float]]:
    return [(one.token_id, one.logprob) for one in row]


def _same_width(
    one_NV: NDArray[np.float32], other_NV: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    width = min(one_NV.shape[1], other_NV.shape[1])
    if one_NV.shape[1] == other_NV.shape[1]:
        return one_NV, other_NV
    return _folded(one_NV, width), _folded(other_NV, width)


def _folded(rows_NV: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    rest_N = np.exp(rows_NV[:, width:].astype(np.float64)).sum(axis=1)
    last_N1 = np.log(np.maximum(rest_N, 1e-12)).astype(np.float32)[:, None]
    return np.concatenate([rows_NV[:, :width], last_N1], axis=1)
