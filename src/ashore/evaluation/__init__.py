"""Is it still good: how likely a model finds text, how well it does tasks, how it compares, and the gate it must pass.

Owns: perplexity, divergence, tasks, statistics, reports, gates. Refuses: how a model was made, where it is stored, and
which of them is released. A model under test is a `Subject`, behind the engine that serves it.
"""

from ashore.evaluation.divergence import Divergence, divergence
from ashore.evaluation.hosted import open_hosted
from ashore.evaluation.local import LocalSubject
from ashore.evaluation.perplexity import Block, Perplexity, perplexity, perplexity_increase
from ashore.evaluation.ports import Generated, Subject, Told, untold
from ashore.evaluation.statistics import Difference, Estimate, mean, mean_difference, ratio, ratio_change

__all__ = [
    "Block",
    "Difference",
    "Divergence",
    "Estimate",
    "Generated",
    "LocalSubject",
    "Perplexity",
    "Subject",
    "Told",
    "divergence",
    "mean",
    "mean_difference",
    "open_hosted",
    "perplexity",
    "perplexity_increase",
    "ratio",
    "ratio_change",
    "untold",
]
