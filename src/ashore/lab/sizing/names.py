"""Resolves published names: `A100-80G-PCIe`, `RTX 6000 Ada 48GB`, `meta-llama/Llama-3.1-70B`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache


def plain(name: str) -> str:
    """Return a name in lower case, with one dash between words."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def best_match(name: str, aliases: Mapping[str, str]) -> str | None:
    """Return the entry whose longest alias is in `name`, or None.

    Args:
        name: As a publication prints it.
        aliases: Entry by alias; aliases are in lower case without dashes, which may stand anywhere in the name. One
            that begins or ends with a digit is not cut out of a longer number: `l4` is not in `l40`.
    """
    told = plain(name)
    found = [alias for alias in aliases if _pattern(alias).search(told)]
    return aliases[max(found, key=len)] if found else None


@cache
def _pattern(alias: str) -> re.Pattern[str]:
    bare = alias.replace("-", "")
    before = r"(?<![0-9.])" if bare[0].isdigit() else r"(?<![a-z])" if len(bare) <= 3 else ""
    after = r"(?![0-9])" if bare[-1].isdigit() else ""
    return re.compile(before + "-?".join(re.escape(letter) for letter in bare) + after)
