"""What a `tokenizer.json` may ask of the library: expressions that come to an end, and texts that stay about as long as
they were. The library reads without limits and ends the process where memory ends, with the answers of every tenant.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Any, Final

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors

MOST_GROWTH: Final = 64
"""By how much all steps of a normaliser or decoder together may lengthen a text. The most that a published one may do
is 18 times, where one character becomes words (U+FDFA), and twice that with an expression behind it."""
MOST_STEPS: Final = 64
"""Of a normaliser, pre-tokeniser or decoder; published ones have ten."""
MOST_CHARS: Final = 64
"""Of what is put before a text or a piece of a word."""
MOST_WORD_CHARS: Final = 10_000
"""Longest word of word pieces, which take the square of it; published models have 100."""
MOST_AROUND: Final = 64
"""Tokens that a post-processor puts around texts."""
_SYNTAX: Final = re.compile(r"\\.|\[|\]|\(|\)|[*+]|\{[0-9]*,\}", re.DOTALL)
"""What says where an expression repeats: escapes, classes, groups, and repetitions without an end."""


def check_work(spec: dict[str, Any]) -> None:
    """Check that reading a text with a `tokenizer.json` takes time and memory in proportion to the text.

    No expression repeats without end what repeats without end, such as `(a+)+`: the library tries all ways in which
    such a one may match, which nothing can stop, and panics after ten million. No steps lengthen a text by more than
    `MOST_GROWTH`: forty that double it make a terabyte of one letter.

    Raises:
        UnsupportedModel: it may take far more.
    """
    for name in ("normalizer", "pre_tokenizer", "decoder"):
        growth = 1.0
        steps = list(_steps(spec.get(name)))
        if (number := sum("type" in step for step in steps)) > MOST_STEPS:
            raise _refused(f"a {name} of {number} steps; the limit is {MOST_STEPS}")
        for step in steps:
            found = step.get("Regex")
            if isinstance(found, str) and _repeats_repetitions(found):
                raise _refused(f"the expression {found[:80]!r}, which can take for ever to match")
            growth *= _growth(step)
        if growth > MOST_GROWTH:
            raise _refused(f"a {name} that makes texts {growth:.3g} times as long; the limit is {MOST_GROWTH}")
    model = spec["model"]
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        if len(model.get(name) or "") > MOST_CHARS:
            raise _refused(f"a {name} of {len(model[name])} characters; the limit is {MOST_CHARS}")
    if (longest := model.get("max_input_chars_per_word") or 0) > MOST_WORD_CHARS:
        raise _refused(f"words of up to {longest} characters; the limit is {MOST_WORD_CHARS}")
    around = max((_around(step) for step in _steps(spec.get("post_processor"))), default=0)
    if around > MOST_AROUND:
        raise _refused(f"a post_processor of {around} tokens around a text; the limit is {MOST_AROUND}")


def _refused(what: str) -> UnsupportedModel:
    return UnsupportedModel(f"tokenizer.json has {what}", hint="pull the model from another source")


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a part, however deep it lies."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _growth(step: dict[str, Any]) -> float:
    """Return how much longer a step may make a text, at least 1."""
    match step.get("type"):
        case "Prepend" if len(step.get("prepend") or "") > MOST_CHARS:
            return float(len(step["prepend"]))
        case "ByteLevel":  # writes each byte as a character, of two bytes again
            return 2.0
        case "Precompiled":
            return max(1.0, _longest_written(step.get("precompiled_charsmap")))
        case "Replace":
            pattern = step.get("pattern")
            replaced = len(pattern.get("String") or "") if isinstance(pattern, dict) else 0
            content = len(step.get("content") or "")
            return max(1.0, content / replaced if replaced else 1 + content)  # between any two characters, perhaps
    return 1.0


def _longest_written(charsmap: Any) -> int:
    """Return the most characters that a table of SentencePiece writes for one. It is a trie, with its size before it,
    and texts that end with a zero byte."""
    if not isinstance(charsmap, str):
        return 0
    with foreign_errors("the precompiled_charsmap of tokenizer.json is not base64", UnsupportedModel):
        data = base64.b64decode(charsmap)
    texts = data[4 + int.from_bytes(data[:4], "little") :].split(b"\0")
    return max(len(text.decode(errors="replace")) for text in texts)


def _around(step: dict[str, Any]) -> int:
    """Return how many tokens a template may put around texts: the special ones that it names, each with all its ids."""
    if step.get("type") != "TemplateProcessing":
        return 0
    tokens = step.get("special_tokens")
    ids = max((len(one.get("ids") or ()) for one in tokens.values()), default=0) if isinstance(tokens, dict) else 0
    return max(len(step.get("single") or ()), len(step.get("pair") or ())) * max(1, ids)


def _repeats_repetitions(expression: str) -> bool:
    repeats, classes = [False], 0  # for each open group, whether anything in it repeats
    last_group, ended_at = False, -1  # the same for the group that closed last, and where it did
    for found in _SYNTAX.finditer(expression):
        sign = found[0]
        if sign == "[":
            classes += 1
        elif sign == "]":
            classes = max(0, classes - 1)
        elif classes or sign[0] == "\\":
            continue
        elif sign == "(":
            repeats.append(False)
        elif sign == ")" and len(repeats) > 1:
            last_group, ended_at = repeats.pop(), found.end()
            repeats[-1] |= last_group
        elif sign != ")":
            if last_group and found.start() == ended_at:
                return True
            repeats[-1] = True
    return False
