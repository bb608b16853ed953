"""Inputs that are nearly right: real ones changed by a seeded chance, and the one way in which they may be refused."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

from ashore.core.errors import AshoreError

DEEP = "[" * 100_000 + "]" * 100_000
ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 7, 2**31, 2**63, 2**70, 10**400, 1.5, -0.0, float("nan"), float("inf"), 1e308),
    *("", "12", "x" * 5000, "../../etc/passwd", "/etc/passwd", "\0", "\ud800", "a\nb", "config.json/x"),
    *([], {}, [[]], [None], {"": None}, [1] * 300, ["a", "b"], {"a": {"b": [1]}}),
)


@contextlib.contextmanager
def one_clear_error() -> Iterator[None]:
    """Let the block read what it is given, or end in one error of ours that somebody can act on."""
    try:
        yield
    except AshoreError as error:
        assert error.exit_code in (2, 4), error
        assert 10 < len(error.message) < 700 and "\n" not in error.message, error.message
        assert error.message.isprintable(), error.message


def odd_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return `data` with a few bytes changed, lost, repeated or made large."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, len(out)))
        match rng.randrange(6):
            case 0:
                del out[at:]
            case 1:
                out[at : at + 8] = struct.pack("<Q", rng.choice((0, 1 << 20, 1 << 32, 1 << 40, (1 << 64) - 1)))
            case 2:
                out[at : at + 4] = struct.pack("<I", rng.choice((0, 9, 0xFFFF, 0xFFFFFFFF)))
            case 3:
                out[at:at] = out[at : at + rng.randint(1, 64)]
            case 4:
                del out[at : at + rng.randint(1, 16)]
            case _:
                out[at : at + 1] = bytes((rng.randrange(256),))
    return bytes(out)


def odd_document(document: Any, rng: random.Random) -> str:
    """Return JSON with one or two of its values exchanged for odd ones, renamed, or gone."""
    out = copy.deepcopy(document)
    for _ in range(rng.randint(1, 2)):
        places = list(_places(out))
        if not places:
            break
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0 if isinstance(holder, dict):
                holder.pop(key, None)
            case 1 if isinstance(holder, dict):
                holder[rng.choice(("", "../x", "a" * 300))] = holder.pop(key, None)
            case _:
                holder[key] = copy.deepcopy(rng.choice(ODD))
    text = json.dumps(out)
    return text if rng.randrange(20) else text.replace(":", f':{DEEP},"q":' if rng.randrange(2) else ":[", 1)


def _places(node: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Give what holds a value, and under which key; of a long list or table only the first few."""
    items = list(node.items() if isinstance(node, dict) else enumerate(node))[:12]
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list) and depth < 6:
            yield from _places(value, depth + 1)
