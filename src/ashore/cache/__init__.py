"""Answers worth keeping: of the same question, or of one that is only worded otherwise; here, then shared with others.

Owns: addresses of answers, the tiers, what is evicted, curated pairs.
Refuses: to generate, to render, to decide who may ask.
"""

from ashore.cache.curated import CuratedAnswers
from ashore.cache.embedded import valkey_command
from ashore.cache.memory import FixedEpochs, MemoryTier
from ashore.cache.model import Ask, Directive, Found, KeptAnswer, KeptChoice, Pair, Question, Ready, ShareStats
from ashore.cache.pairsfile import read_pairs
from ashore.cache.ports import SharedTier
from ashore.cache.rules import CURATED_EPOCH, directive_of, hidden_by
from ashore.cache.section import CachePolicy, RedisSection, RoutePolicy, check_shared_url
from ashore.cache.service import AnswerCache
from ashore.cache.sql import cache_secret, load_pairs, purge, save_pairs

__all__ = [
    "CURATED_EPOCH",
    "AnswerCache",
    "Ask",
    "CachePolicy",
    "CuratedAnswers",
    "Directive",
    "FixedEpochs",
    "Found",
    "KeptAnswer",
    "KeptChoice",
    "MemoryTier",
    "Pair",
    "Question",
    "Ready",
    "RedisSection",
    "RoutePolicy",
    "ShareStats",
    "SharedTier",
    "cache_secret",
    "check_shared_url",
    "directive_of",
    "hidden_by",
    "load_pairs",
    "purge",
    "read_pairs",
    "save_pairs",
    "valkey_command",
]
