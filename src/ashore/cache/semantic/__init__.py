"""The semantic tier of the answer cache: the same question in other words.

Owns the reading of questions, their agreement, the vectors of the entries and what each entry has learnt. It holds
no answers (the caller keeps them under the entry's key) and does not know how a question is embedded.
"""

from ashore.cache.semantic.apart import MeaningDistance
from ashore.cache.semantic.index import SemanticIndex
from ashore.cache.semantic.model import EntryKey, IndexStats, Match
from ashore.cache.semantic.ports import Embedder, Vector
from ashore.cache.semantic.tier import MeaningTier

__all__ = ["Embedder", "EntryKey", "IndexStats", "Match", "MeaningDistance", "MeaningTier", "SemanticIndex", "Vector"]
