"""The answer cache: answers to the same or a reworded question, in this process and in a shared tier.

Owns: addresses of answers, the tiers, eviction, curated pairs. Refuses: generation, rendering, authorisation.

Where to add what:

- What may be cached: the question in data/cache/rules.py and data/path/cached_answers.py (`find_question`), the answer
  in `AnswerRecorder` there and in the masker's `may_keep`, repeated bytes by `Route.repeats`.
- A tier: a class with the methods of data/cache/ports.py, opened in data/cache/room.py, and a parameter of
  tests/contract/test_cache_shared_tier.py.
- A column of `ashore cache stats`: `_show_shares` in cli/cache.py. A new count goes through `Share`
  (data/cache/shares.py) and `ShareOut` (data/cache/report.py), which are added up over workers.
"""

from ashore.data.cache.curated import CuratedAnswers, plain
from ashore.data.cache.embedded import valkey_command, valkey_program
from ashore.data.cache.model import Ask, Directive, Found, KeptAnswer, KeptChoice, Pair, Question, Ready
from ashore.data.cache.pairsfile import read_pairs
from ashore.data.cache.ports import FixedEpochs, SharedTier
from ashore.data.cache.rules import directive_of
from ashore.data.cache.section import OF_A_FILE, CachePolicy, RedisSection, RoutePolicy, check_shared_url
from ashore.data.cache.service import AnswerCache
from ashore.data.cache.sql import cache_secret, load_pairs, purge, remove_pairs, save_pairs
