"""Options that every engine has, and what a value may be; what each engine adds is on its card."""

from __future__ import annotations

import re
from typing import Final

OptionValue = str | int | float | bool

LIMITS: Final = ("context_tokens", "kv_tokens", "max_sequences", "prefix_cache", "threads")
"""Fields of `EngineOptions` that stand among the options of a release; they tune on every engine."""

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")


def is_tame(value: OptionValue) -> bool:
    """Return whether a value is a number, a flag or a word: nothing that could be a path or another argument."""
    return not isinstance(value, str) or bool(_WORD.fullmatch(value))
