"""The vocabulary of a `tokenizer.json`: the bytes of every token, and which tokens are markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

VocabularyKind = Literal["byte_level", "pieces", "word_pieces"]

_MOST_IDS = 1 << 22
"""Sixteen times the largest vocabulary: the table has a place for every id below the highest."""
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_MARKUP_SHAPE = re.compile(r"[<\[].*[>\]]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that the tokenizer splits off the text before everything else."""

    id: int
    text: str
    special: bool
    """True for control tokens, which are not part of an answer's text."""
    lstrip: bool
    rstrip: bool
    normalized: bool

    @property
    def markup(self) -> bool:
        """Whether user text must never become this token: control tokens, and `<think>`, `[INST]`…"""
        return self.special or _MARKUP_SHAPE.fullmatch(self.text) is not None


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a `tokenizer.json`."""

    kind: VocabularyKind
    table: tuple[bytes, ...]
    """Bytes of every token by id; empty for ids that the vocabulary skips."""
    added: tuple[AddedToken, ...]
    strips_first_space: bool
    """The tokenizer puts a space before the first word, which its decoder takes away again."""
    unknown_id: int | None


def read_vocabulary(spec: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary of a parsed `tokenizer.json`. Raises `ValueError`: an id is negative or far too high."""
    added = tuple(
        AddedToken(
            id=int(t["id"]),
            text=str(t["content"]),
            special=bool(t.get("special")),
            lstrip=bool(t.get("lstrip")),
            rstrip=bool(t.get("rstrip")),
            normalized=bool(t.get("normalized")),
        )
        for t in spec.get("added_tokens") or ()
        if t.get("content")
    )
    kind = _kind(spec)
    pieces = dict(_pieces(spec["model"]))
    ids = [*pieces, *(t.id for t in added)]
    if ids and not 0 <= min(ids) <= max(ids) < _MOST_IDS:
        raise ValueError(f"it has the token ids {min(ids)} to {max(ids)}; expected 0 to {_MOST_IDS - 1} at most")
    table = [b""] * (1 + max(ids, default=-1))
    to_bytes = {"byte_level": _from_byte_level, "pieces": _from_piece, "word_pieces": _from_word_piece}[kind]
    for token_id, piece in pieces.items():
        table[token_id] = to_bytes(piece)
    for token in added:
        table[token.id] = token.text.encode("utf-8", "replace")
    return Vocabulary(
        kind=kind,
        table=tuple(table),
        added=added,
        strips_first_space=kind == "pieces" and _strips_first_space(spec.get("decoder")),
        unknown_id=_unknown_id(spec["model"], pieces),
    )


def _pieces(model: dict[str, Any]) -> Iterator[tuple[int, str]]:
    vocab = model.get("vocab") or {}
    if isinstance(vocab, dict):
        for piece, token_id in vocab.items():
            yield int(token_id), piece
    else:  # Unigram: a list of [piece, score]
        for token_id, entry in enumerate(vocab):
            yield token_id, entry[0]


def _unknown_id(model: dict[str, Any], pieces: dict[int, str]) -> int | None:
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    unknown = model.get("unk_token")
    return next((i for i, piece in pieces.items() if piece == unknown), None) if unknown else None


def steps_of(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield the steps of a decoder, normaliser or pre-tokenizer, flattening sequences."""
    if not part:
        return
    if part.get("type") == "Sequence":
        for key in ("decoders", "normalizers", "pretokenizers"):
            for inner in part.get(key) or ():
                yield from steps_of(inner)
    else:
        yield part


def _kind(spec: dict[str, Any]) -> VocabularyKind:
    types = {step["type"] for part in ("decoder", "pre_tokenizer") for step in steps_of(spec.get(part))}
    if "ByteLevel" in types:
        return "byte_level"
    return "word_pieces" if spec["model"].get("type") == "WordPiece" else "pieces"


def _strips_first_space(decoder: dict[str, Any] | None) -> bool:
    for step in steps_of(decoder):
        if step["type"] == "Strip" and step.get("content") == " " and int(step.get("start") or 0) > 0:
            return True
        if step["type"] == "Metaspace" and step.get("prepend_scheme", "always") != "never":
            return True
    return False


def _byte_letters() -> dict[str, int]:
    """Return the letter of each byte in byte-level vocabularies.

    Printable Latin-1 bytes map to themselves, the other 68 to the code points from 256 on, in order. Source: GPT-2's
    released encoder, `bytes_to_unicode`.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_LETTERS = _byte_letters()


def _from_byte_level(piece: str) -> bytes:
    try:
        return bytes([_LETTERS[letter] for letter in piece])
    except KeyError:  # a token that was added to the model's own vocabulary as plain text
        return piece.encode("utf-8", "replace")


def _from_piece(piece: str) -> bytes:
    byte = _BYTE_PIECE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode("utf-8", "replace")


def _from_word_piece(piece: str) -> bytes:
    return (piece[2:] if piece.startswith("##") else " " + piece).encode("utf-8", "replace")
