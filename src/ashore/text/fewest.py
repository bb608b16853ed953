"""How few tokens a text can have, by its length alone: what never fits is refused before anybody tokenises it."""

from __future__ import annotations

from typing import Any, Final

from ashore.text.vocabulary import Vocabulary, steps_of

NFC_SHRINKS: Final = 3
"""Canonical composition makes three bytes of nine at most (three letters of Hangul to a syllable). ASCII it leaves."""
_UTF8_BYTES: Final = frozenset(range(0xF5)) - {0xC0, 0xC1}
"""Bytes that valid UTF-8 has."""
MOST_LACKING: Final = 32
"""Rare bytes that a vocabulary may lack: to count each takes a moment."""
_KEEP_ALL: Final = frozenset({"ByteLevel", "Digits", "Punctuation", "Split", "Metaspace"})
"""Pre-tokenizers that drop nothing, unless their behaviour says so."""


class FewestTokens:
    """A bound from below on the tokens of texts, for one tokenizer. Where nothing is certain, it is 0.

    A vocabulary of bytes writes no more of them in one token than its longest has; those that it lacks it may drop, so
    they are not counted. Word pieces give a token at least to each word, but one token may stand for a word of any
    length, so there words are counted.
    """

    def __init__(self, spec: dict[str, Any], vocabulary: Vocabulary) -> None:
        """Read it off a parsed `tokenizer.json`."""
        self._longest = self._shrinks = 0
        self._lacks: tuple[bytes, ...] = ()
        self._words = False
        if any(token.lstrip or token.rstrip for token in vocabulary.added):  # they take any number of spaces along
            return
        if vocabulary.kind == "word_pieces":
            splits = [step["type"] for step in steps_of(spec.get("pre_tokenizer"))]
            self._words = splits == ["BertPreTokenizer"] and not any(
                " " in token.text for token in vocabulary.added if not token.markup
            )
        elif (lacks := _lacks(spec, vocabulary)) is not None:
            self._lacks = tuple(bytes((byte,)) for byte in sorted(lacks))
            self._shrinks = _shrinks(spec)
            self._longest = _longest(spec, vocabulary)

    def may_exceed(self, num_chars: int, beyond: int) -> bool:
        """Return whether so many characters are worth a look: of four bytes each, they could have more tokens."""
        return self._words or (self._shrinks > 0 and 4 * num_chars > beyond * self._longest)

    def tokens(self, text: str, *, beyond: int) -> int:
        """Return how few tokens a text can have. May stop counting where there are more than `beyond`."""
        if self._words:
            words = text.split(" ", beyond + 1)[: beyond + 1]
            return sum(1 for word in words if word and word.isascii() and word.isprintable())
        if not self._shrinks or len(text) <= beyond:
            return 0
        text = text.strip()
        most_bytes = self._longest if text.isascii() else self._longest * self._shrinks
        raw = text.encode("utf-8", "surrogatepass")
        fewest = -(-len(raw) // most_bytes)
        if fewest <= beyond or not self._lacks:
            return fewest
        return -(-(len(raw) - sum(map(raw.count, self._lacks))) // most_bytes)


def _lacks(spec: dict[str, Any], vocabulary: Vocabulary) -> frozenset[int] | None:
    """Return the bytes of which a text may lose some, where it is written in tokens whole but for those; None: it is
    not, or nobody knows."""
    model = spec["model"]
    if model.get("type") != "BPE":
        return None
    for step in steps_of(spec.get("pre_tokenizer")):
        if step["type"] not in _KEEP_ALL or step.get("behavior") == "Removed":
            return None
    vocab = model.get("vocab") or {}
    if vocabulary.kind == "byte_level":
        splits = {step["type"] for step in steps_of(spec.get("pre_tokenizer"))}
        single = {table[0] for piece in vocab.values() if len(table := vocabulary.table[piece]) == 1}
        lacks = _UTF8_BYTES - single
        return lacks if "ByteLevel" in splits and len(lacks) <= MOST_LACKING else None
    whole = bool(model.get("byte_fallback")) and all(f"<0x{byte:02X}>" in vocab for byte in _UTF8_BYTES)
    return frozenset() if whole else None


def _shrinks(spec: dict[str, Any]) -> int:
    """Return how many bytes of a text beyond ASCII the normaliser makes one of, at most; 0: nobody knows."""
    factor = 1
    for step in steps_of(spec.get("normalizer")):
        pattern = step.get("pattern") or {}
        match step["type"]:
            case "Prepend":
                pass
            case "NFC":
                factor = NFC_SHRINKS
            case "Replace" if len(str(step.get("content")).encode()) >= len(pattern.get("String", "")) > 0:
                if len(str(pattern["String"]).encode()) > len(str(step["content"]).encode()):
                    return 0
            case _:
                return 0
    return factor


def _longest(spec: dict[str, Any], vocabulary: Vocabulary) -> int:
    """Return the bytes of the longest token, as a text has them: a piece may write a space with three."""
    longest = max(map(len, vocabulary.table), default=1)
    if vocabulary.kind == "pieces":
        longest = max(longest, *(len(piece.encode("utf-8", "surrogatepass")) for piece in spec["model"]["vocab"]))
    return longest
