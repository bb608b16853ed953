"""What the question words of a text ask for, wherever they stand: `boiler cold, who comes` asks for a person.

A reading has one kind, which the first clause decides. Of two questions that share no answer here, one asks who where
the other asks when, whatever their first clauses say.
"""

from __future__ import annotations

import re
from typing import Final

from ashore.cache.semantic.model import Language

_ENGLISH: Final = (
    (re.compile(r"\b(?:whom?|whose|who'(?:s|d|ll|re))\b"), ("person",)),
    (re.compile(r"\bwhen(?:'s)?\b"), ("day", "hour")),
    (re.compile(r"\b(?:what|which) time\b"), ("hour",)),
    (re.compile(r"\b(?:what|which) (?:date|day|month|year)\b"), ("day",)),
    (re.compile(r"\bwhere(?:'s)?\b"), ("place",)),
    (re.compile(r"\bwhy(?:'s)?\b"), ("reason",)),
    (re.compile(r"\bhow (?:many|much|long|often|far|old|big|high|tall|deep|heavy|hot|fast|late|soon)\b"), ("measure",)),
)
_CHINESE: Final = (
    (re.compile("谁|哪位|何人|哪个人"), ("person",)),
    (re.compile("什么时候|何时|啥时候|几时|什么时间|多会儿"), ("day", "hour")),
    (re.compile("几点"), ("hour",)),
    (re.compile("几号|哪天|哪一天|哪日|几月|哪年|哪一年"), ("day",)),
    (re.compile("哪里|哪儿|何处|什么地方|啥地方|[在去到]哪(?![个些一种位家天年])"), ("place",)),
    (re.compile("为什么|为何|为啥|怎么会"), ("reason",)),
    (re.compile("多少|多久|多长|多大|多高|多远|多重|几[个天次年周小分名位件张份元块度]"), ("measure",)),
)


def asked_in(text: str, language: Language) -> frozenset[str]:
    """Return what is asked for by every question word of a plain text; nothing for `what`, `how` and keywords."""
    known = {"en": _ENGLISH, "zh": _CHINESE, "other": ()}[language]
    lowered = text.lower()
    return frozenset(name for pattern, names in known for name in names if pattern.search(lowered))
