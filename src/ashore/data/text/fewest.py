"""Lower bound of a text's tokens by its length alone, to refuse oversized text before tokenising it."""

from __future__ import annotations

from typing import Any, Final

from ashore.data.text.vocabulary import Vocabulary, steps_of

NFC_SHRINKS: Final = 3
"""Canonical composition makes three bytes of nine at most (three letters of Hangul to a syllable). ASCII it leaves."""
_UTF8_BYTES: Final = frozenset(range(0xF5)) - {0xC0, 0xC1}
"""Bytes that valid UTF-8 has."""
MOST_LACKING: Final = 32
"""Rare bytes that a vocabulary may lack: to count each takes a moment."""
_KEEP_ALL: Final = frozenset({"ByteLevel", "Digits", "Punctuation", "Split", "Metaspace"})
"""Pre-tokenizers that drop nothing, unless their `behavior` is to remove text."""


class FewestTokens:
    """Lower bound of the tokens of texts, for one tokenizer. 0 if no bound is certain.

    In a byte vocabulary no token has more bytes than the longest one; bytes missing from the vocabulary may be dropped,
    so they do not count. With word pieces each word has at least one token, but a token may stand for a word of any
    length, so words are counted.
    """

    def __init__(self, spec: dict[str, Any], vocabulary: Vocabulary) -> None:
        """Derive it from a parsed `tokenizer.json`."""
        self._longest = self._shrinks = 0
        self._lacks: tuple[bytes, ...] = ()
        self._words = False
        if any(token.lstrip or token.rstrip for token in vocabulary.added):  # they absorb any number of spaces
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
        """Return whether so many characters are worth counting: at four bytes each, they could exceed the limit."""
        return self._words or (self._shrinks > 0 and 4 * num_chars > beyond * self._longest)

    def tokens(self, text: str, *, beyond: int) -> int:
        """Return a lower bound of a text's tokens. May stop counting above `beyond`."""
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
    """Return the bytes that a text may lose, if it is otherwise tokenised completely; None: it is not, or unknown."""
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
    """Return how many bytes beyond ASCII the normaliser turns into one, at most; 0: unknown."""
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
    """Return the bytes of the longest token, as in a text: a piece may write a space with three."""
    longest = max(map(len, vocabulary.table), default=1)
    if vocabulary.kind == "pieces":
        longest = max(longest, *(len(piece.encode("utf-8", "surrogatepass")) for piece in spec["model"]["vocab"]))
    return longest
