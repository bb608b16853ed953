"""Log-probabilities of the prompt (`echo` with `logprobs`): checks and conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ashore.core.errors import UnsupportedByEngine
from ashore.data.engines import TokenLogprob
from ashore.data.path.model import GenerationRequest, TokenText
from ashore.data.path.ports import ServedText
from ashore.data.path.topology import ServedModel

ENTRY_CHARS: Final = 8
"""A log-probability takes as long to tell as so many characters of a prompt to read."""

Scores = Sequence[tuple[TokenLogprob, ...]]
"""For each token but the first: its own log-probability, then the best ones at its place."""


def wants_scores(request: GenerationRequest) -> bool:
    """Return whether the answer holds log-probabilities of the prompt."""
    return request.echo and request.top_logprobs is not None


def check_scores(request: GenerationRequest, served: ServedModel) -> None:
    """Check that the prompt can be scored, if that is requested.

    Raises:
        UnsupportedByEngine: the model is an adapter; engines score with the base model only.
    """
    if served.adapter and wants_scores(request):
        raise UnsupportedByEngine(
            f"the engine {served.kind!r} tells the log-probabilities of a prompt without adapters only, "
            f"and {request.model!r} is one",
            hint="leave echo or logprobs out, or merge the adapter into a model of its own",
            param="echo",
        )


def prompt_tokens_told(ids: Sequence[int], scores: Scores, text: ServedText) -> tuple[TokenText, ...]:
    """Return the tokens of a prompt with their log-probabilities. The first has none: no token precedes it."""

    scored = [TokenText(text=text.token_text(ids[0]), raw=text.token_bytes(ids[0]), logprob=0.0, first=True)]
    for token_id, (own, *best) in zip(ids[1:], scores, strict=True):
        scored.append(
            TokenText(
                text=text.token_text(token_id),
                raw=text.token_bytes(token_id),
                logprob=own.logprob,
                top=tuple((text.token_text(b.token_id), text.token_bytes(b.token_id), b.logprob) for b in best),
            )
        )
    return tuple(scored)
