"""A document before it is text: pieces that know what they are, so that spans are right by construction."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text."""

    text: str
    kind: str | None = None
    """What it identifies; None: nothing."""
    form: str = "plain"
    """How an identifier is written, or which trap this is."""
    trap: bool = False
    free: bool = False
    """A finding may reach over this without being right or wrong: a title beside a name, a port behind an address."""


@dataclass(frozen=True, slots=True)
class Span:
    """Where a piece lies in the text, in characters."""

    start: int
    end: int
    kind: str
    form: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A text and the truth about it."""

    text: str
    identifiers: tuple[Span, ...]
    traps: tuple[Span, ...]
    free: tuple[Span, ...]
    language: str
    field: str
    part: str
    """`open`, whose misses may be looked at, or `unseen`."""


def escaped(pieces: Sequence[Piece], *, ascii_only: bool) -> list[Piece]:
    """Return the pieces as they stand inside a JSON string."""
    return [replace(piece, text=json.dumps(piece.text, ensure_ascii=ascii_only)[1:-1]) for piece in pieces]


def assemble(pieces: Sequence[Piece], *, language: str, field: str, part: str) -> Document:
    """Return the document that the pieces make."""
    identifiers, traps, free, at = [], [], [], 0
    for piece in pieces:
        span = Span(at, at + len(piece.text), piece.kind or "", piece.form)
        if piece.kind is not None:
            identifiers.append(span)
        elif piece.trap:
            traps.append(span)
        elif piece.free:
            free.append(span)
        at = span.end
    return Document(
        text="".join(piece.text for piece in pieces),
        identifiers=tuple(identifiers),
        traps=tuple(traps),
        free=tuple(free),
        language=language,
        field=field,
        part=part,
    )
