"""From logits to tokens, for every engine that yields logits.

Owns: the choice of a token, log-probabilities, grammars at work, and when an order ends. Refuses: where logits come
from, and which sequences run.
"""

from ashore.engines.sampling.constraint import Constraint, GrammarCompiler
from ashore.engines.sampling.continuation import Continuation, common_prefix, score_row
from ashore.engines.sampling.sampler import Sampler, log_normaliser, top_of

__all__ = [
    "Constraint",
    "Continuation",
    "GrammarCompiler",
    "Sampler",
    "common_prefix",
    "log_normaliser",
    "score_row",
    "top_of",
]
