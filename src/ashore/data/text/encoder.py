"""Text to token ids, by the `tokenizers` library: with all control tokens, with none, or with a template's only."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any, Final

import msgspec
from tokenizers import Tokenizer

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.wanted import check_wanted
from ashore.data.text.guard import MARK, Guard, without_surrogates
from ashore.data.text.tokenizerwork import check_work
from ashore.data.text.vocabulary import Vocabulary, steps_of

COUNTED_CHARS: Final = 131_072
"""Shorter texts are tokenised whole, whatever they come to."""
SAMPLES: Final = 8
SAMPLE_CHARS: Final = 2_048
PIECE_CHARS: Final = 32_768
CUT_TOKENS: Final = 2
"""Added by a cut through a token of any length, such as one for a whole unknown word."""
CUTS_ADD: Final = 1.25
"""By how many tokens the sum of all pieces may exceed the whole."""
MOST_UTF8_BYTES: Final = 4
"""Limit per character; no tokenizer makes more tokens of it."""
PLAIN_NORMALISERS = frozenset({"Prepend", "Replace"})
"""Normalisers of sentencepiece models, which change white space only."""


class Encoder:
    """The tokenizers of one model. They never truncate or pad, whatever `tokenizer.json` says."""

    def __init__(self, spec: dict[str, Any], vocabulary: Vocabulary, guard: Guard) -> None:
        """Build them from a parsed `tokenizer.json`.

        Raises:
            UnsupportedModel: the library rejects it.
        """
        check_work(spec)
        spec = spec | {"padding": None, "truncation": None}
        markup = frozenset(t.id for t in vocabulary.added if t.markup)
        kept = [t for t in spec.get("added_tokens") or () if t["id"] not in markup]
        self._guard = guard
        self._markup = markup - {vocabulary.unknown_id}
        self._full = _build(spec)
        self._plain = _sibling(self._full, spec, kept) if markup else self._full
        inner = _without_first_space(spec)
        self._inner = _sibling(self._full, inner, kept) if inner is not None else self._plain
        self._recount = _may_fold(spec) and any(t.normalized and t.markup for t in vocabulary.added)

    def full(self, text: str) -> list[int]:
        """Return the tokens of text, reading written control tokens as such."""
        return _ids(self._full, without_surrogates(text))

    def plain(self, text: str, *, around: bool = False) -> list[int]:
        """Return the tokens of text, reading control tokens as plain text; `around` adds those of the
        post-processor."""
        text = without_surrogates(text)
        ids = _ids(self._plain, text, around)
        return ids if around or self._markup.isdisjoint(ids) else self._split(self._plain, text)

    def pairs(self, texts: Sequence[str], pairs: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
        """Yield the tokens of texts that are read together, with those of the post-processor around and between them;
        control tokens in them are plain text."""
        before, between, after = self._around_pair
        read = cache(lambda at: self.plain(texts[at]))
        for first, second in pairs:
            yield [*before, *read(first), *between, *read(second), *after]

    @cached_property
    def _around_pair(self) -> tuple[list[int], list[int], list[int]]:
        """The tokens of the post-processor before, between and after two texts."""
        one, other = self.plain("a"), self.plain("b")
        whole: list[int] = self._plain.encode_batch_fast([("a", "b")], add_special_tokens=True)[0].ids
        for at in range(len(whole) - len(one)):
            begins = at + len(one)
            for then in range(begins, len(whole) - len(other) + 1):
                ends = then + len(other)
                if whole[at:begins] == one and whole[then:ends] == other:
                    return whole[:at], whole[begins:then], whole[ends:]
        raise UnsupportedModel(
            "the tokenizer cannot put two texts together, so the model cannot rank",
            hint="save it with tokenizer.save_pretrained of a fast tokenizer",
        )

    def marked(self, text: str) -> list[int]:
        """Return the tokens of rendered template text, in which the guard has marked user text."""
        if MARK not in text:
            ids = _ids(self._full, text)
            if not self._recount or sum(i in self._markup for i in ids) == sum(1 for _ in self._guard.find(text)):
                return ids
        out: list[int] = []
        at, eat_space = 0, False
        for start, end, token in self._guard.find(text):
            between = text[at:start].rstrip() if token.lstrip else text[at:start]
            out += self._between(between.lstrip() if eat_space else between, first=at == 0)
            out.append(token.id)
            at, eat_space = end, token.rstrip
        rest = text[at:]
        return out + self._between(rest.lstrip() if eat_space else rest, first=at == 0)

    def counted(self, text: str, *, beyond: int) -> int:
        """Return a lower bound of a text's tokens if it certainly exceeds `beyond`; otherwise 0.

        A few samples are tokenised first. If they suggest that the whole is too long, it is counted piece by piece, so
        that an oversized text costs no more than one that fits.
        """
        most = beyond * CUTS_ADD
        if len(text) < COUNTED_CHARS or len(text) * MOST_UTF8_BYTES <= most:
            return 0
        places = [random.randrange(len(text) - SAMPLE_CHARS) for _ in range(SAMPLES)]
        looked_at = sum(len(_ids(self._full, text[at : at + SAMPLE_CHARS])) for at in places)
        if looked_at * len(text) <= most * SAMPLES * SAMPLE_CHARS:
            return 0
        found = 0
        for at in range(0, len(text), PIECE_CHARS):
            found += len(_ids(self._full, text[at : at + PIECE_CHARS])) - CUT_TOKENS
            if found > most:
                return int(found / CUTS_ADD)
        return 0

    def decode_words(self, ids: list[int]) -> str:
        """Return the text of word pieces, as the tokenizer's own decoder joins them."""
        return str(self._full.decode(ids, skip_special_tokens=True))

    def _between(self, text: str, *, first: bool) -> list[int]:
        text = text.replace(MARK, "")
        if not text:
            return []
        tokenizer = self._plain if first else self._inner
        ids = _ids(tokenizer, text)
        return ids if self._markup.isdisjoint(ids) else self._split(tokenizer, text)

    def _split(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """Return the tokens of text in which the model's own vocabulary, not its added tokens, contains a control
        token."""
        out: list[int] = []
        pieces = self._guard.shield(text).split(MARK)
        for at, piece in enumerate(pieces):
            ids = _ids(tokenizer if at == 0 else self._inner, piece)
            out += [i for i in ids if i not in self._markup]
        return out


def _build(spec: dict[str, Any]) -> Tokenizer:
    try:
        return Tokenizer.from_buffer(msgspec.json.encode(spec))
    except Exception as fault:
        raise UnsupportedModel(f"tokenizer.json cannot be read: {fault}", hint="pull the model again") from fault


def _sibling(full: Tokenizer, spec: dict[str, Any], added: list[dict[str, Any]]) -> Tokenizer:
    """Return a tokenizer of the same vocabulary with other added tokens and other processing steps.

    It shares the model of `full`, which is nine tenths of the memory and the time. Only ids beyond the model's own
    vocabulary force a second one, since the library assigns those itself.
    """
    if added:
        return _build(spec | {"added_tokens": added})
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    sibling = _build(spec | {"added_tokens": [], "model": empty})
    sibling.model = full.model
    return sibling


def _ids(tokenizer: Tokenizer, text: str, around: bool = False) -> list[int]:
    """Return the tokens of a text. Uses a batch of one: the library releases the interpreter lock for batches only,
    and fast batches skip the offsets, which are not needed."""
    check_wanted()
    with foreign_errors("the tokenizer of the model cannot read this text", UnsupportedModel, hint="change the text"):
        ids: list[int] = tokenizer.encode_batch_fast([text], add_special_tokens=around)[0].ids
    return ids


def _may_fold(spec: dict[str, Any]) -> bool:
    """Return whether the normaliser may turn other characters into those of a control token (`＜` into `<`)."""
    return any(step["type"] not in PLAIN_NORMALISERS for step in steps_of(spec.get("normalizer")))


def _without_first_space(spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return the tokenizer for text after a control token, if it differs from that for the first text."""
    pre_tokenizer = copy.deepcopy(spec.get("pre_tokenizer"))
    first_only = [
        step
        for step in steps_of(pre_tokenizer)
        if step["type"] == "Metaspace" and step.get("prepend_scheme") == "first"
    ]
    for step in first_only:
        step["prepend_scheme"] = "never"
    return spec | {"pre_tokenizer": pre_tokenizer} if first_only else None
