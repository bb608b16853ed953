"""A hit as a line of text, and as JSON. No text of a record can forge a line or a word, or reverse it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ashore.data.audit import Record, shown_moment
from ashore.data.audit.canonical import printable
from ashore.data.audit.search import Hit

_PLACE: Final = ("at", "chain", "segment")
_ONE_WORD: Final = re.compile(r"[^\s=()\"]+")


def hit_json(hit: Hit) -> dict[str, Any]:
    """Return a hit in JSON types: the record, its time as text, and its place."""
    told: dict[str, Any] = msgspec.to_builtins(hit.record)
    place = hit.place
    return {"at": shown_moment(hit.record.at_us), "chain": place.chain, "segment": place.segment, **told}


def hit_line(told: Mapping[str, Any]) -> str:
    """Return the output of `hit_json` as one line. Anything but a single plain word is quoted: it may come from a
    client.

    Raises:
        msgspec.ValidationError: it is not a hit; another server forged it.
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
