"""From logits to tokens, for every engine that yields logits.

Owns: sampling, log-probabilities, grammar constraints, and when an order ends. Refuses: where logits come from, and
which sequences run.
"""

from ashore.data.engines.sampling.constraint import PATIENCE_S, Constraint, GrammarCompiler
from ashore.data.engines.sampling.continuation import (
    DISTRIBUTION_ROWS,
    Continuation,
    by_prefix,
    common_prefix,
    log_softmax,
    score_row,
)
from ashore.data.engines.sampling.sampler import Sampler, log_normaliser, top_of
