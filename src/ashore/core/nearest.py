"""The known names nearest to one that was mistyped."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Final

MOST_SHOWN: Final = 20
"""Names listed in a hint; it states how many more there are."""
MOST_CHARS: Final = 100
"""Of a mistyped name that are compared: a client chooses how long it is."""


def nearest_names(name: str, known: Iterable[str], *, limit: int = 3) -> tuple[str, ...]:
    """Return up to `limit` known names similar to `name`, best first; empty if there are none."""
    return tuple(difflib.get_close_matches(name[:MOST_CHARS], list(known), n=limit, cutoff=0.55))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `did you mean 'smollm2'?`, or the known names if none is similar."""
    names = sorted(known)
    near = nearest_names(name, names)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return f"known: {', '.join(names[:MOST_SHOWN])}{more}" if names else "there are none yet"
