"""A hit as a line for people, and as JSON. No text of a record can forge a line, a word of one, or turn one around."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ashore.audit.canonical import printable
from ashore.audit.model import Record
from ashore.audit.query import shown_moment
from ashore.audit.search import Hit

_PLACE: Final = ("at", "chain", "segment")
_ONE_WORD: Final = re.compile(r"[^\s=()\"]+")


def hit_json(hit: Hit) -> dict[str, Any]:
    """Return a hit in JSON's types: the record, its time as text, and where it lies."""
    told: dict[str, Any] = msgspec.to_builtins(hit.record)
    place = hit.place
    return {"at": shown_moment(hit.record.at_us), "chain": place.chain, "segment": place.segment, **told}


def hit_line(told: Mapping[str, Any]) -> str:
    """Return a hit, as `hit_json` tells it, in one line. What is not plainly one word stands in quotes: it may have
    come from a client.

    Raises:
        msgspec.ValidationError: it is no hit; another server made it up.
    """
    record = msgspec.convert({name: value for name, value in told.items() if name not in _PLACE}, Record)
    place = f"{told.get('chain', '')}#{record.seq}"
    words = [shown_moment(record.at_us), place, _word(record.actor), _word(record.action)]
    if record.resource or record.model:
        words.append(_word(record.resource or record.model))
    words.append(record.outcome)
    facts: dict[str, object] = {
        "tenant": record.tenant,
        "key": record.key,
        "from": record.origin,
        "release": record.release,
        "cache": record.cache,
        "error": record.error,
        "request": record.request_id,
        **record.detail,
        **{f"masked.{kind}": number for kind, number in record.masked.items()},
    }
    if record.kind == "request":
        facts["tokens"] = f"{record.prompt_tokens}+{record.completion_tokens}"
        facts["ms"] = f"{record.latency_ms:g}"
    words += [f"{name}={_word(str(value))}" for name, value in facts.items() if value not in ("", 0)]
    if record.reason:
        words.append(f"({record.reason})")
    return printable(" ".join(words))


def _word(text: str) -> str:
    return text if _ONE_WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)
