"""Options common to all engines, and their allowed values; engine-specific ones are on the card."""

from __future__ import annotations

import re
from typing import Final

from ashore.core.bytesize import human_bytes
from ashore.core.errors import KvCacheExhausted

OptionValue = str | int | float | bool

LIMITS: Final = ("context_tokens", "kv_tokens", "max_sequences", "prefix_cache", "threads")
"""Fields of `EngineOptions` that stand among the options of a release; they tune on every engine."""

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")


def check_kv_tokens(kv_tokens: int, *, bytes_per_token: int, free_bytes: int, alias: str = "") -> None:
    """Check that a KV cache of so many tokens fits into memory: in the plan before loading, and in the engine while
    loading.

    Raises:
        KvCacheExhausted: it does not fit.
    """
    needed = kv_tokens * bytes_per_token
    if needed > free_bytes:
        raise KvCacheExhausted(
            f"{alias}{': ' if alias else ''}{kv_tokens:,} tokens of KV cache need {human_bytes(needed)}; "
            f"{human_bytes(max(0, free_bytes))} are free",
            hint=f"leave a tenth free: set kv_tokens to at most {max(0, free_bytes) * 9 // 10 // bytes_per_token}",
        )


def is_tame(value: OptionValue) -> bool:
    """Return whether a value is a number, a flag or a word: not a path and not another argument."""
    return not isinstance(value, str) or bool(_WORD.fullmatch(value))
