"""What each token of a text costs a model, as its engine serves it."""

from __future__ import annotations

from pathlib import Path

from ashore.data.engines import EngineOptions, ModelFiles, Rounded, Samples, ScoreText, card_reading
from ashore.lab.evaluation import open_hosted

KV_BLOCK = 32
"""Tokens that the CPU engine keeps together: a text takes whole ones."""


def judge_as_served(
    folder: Path, made: Rounded, text: Samples, *, exact: bool = False
) -> tuple[tuple[float, ...], ...]:
    """Return the negative log-likelihood of each token but the first of every sample, in nats, from a host of its own.

    Args:
        folder: Has the model.
        made: Tells its form.
        text: Samples of two tokens or more.
        exact: Compute in single precision instead of as served.
    """
    longest = max(len(ids) for ids in text)
    kind = card_reading(made.format).kind
    files = ModelFiles(name=folder.name, digest="", directory=str(folder), format=made.format, weights=made.weights)
    extra: dict[str, str | int | float | bool] = {"full_precision": True} if exact else {}
    options = EngineOptions(kind=kind, max_sequences=1, kv_tokens=longest + KV_BLOCK, prefix_cache=False, extra=extra)
    with open_hosted(files, options) as subject:
        scored = subject.score([ScoreText(list(ids)) for ids in text])
    return tuple(tuple(-position[0].logprob for position in rows) for rows in scored)
