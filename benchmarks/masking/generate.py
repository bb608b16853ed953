"""Seeded documents from templates, values, forms and traps.

python -m benchmarks.masking.generate --count 5 [--seed 1]     # look at some
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from benchmarks.masking import forms, traps
from benchmarks.masking.pieces import Document, Piece, assemble, escaped
from benchmarks.masking.templates_en import ENGLISH, MIXED
from benchmarks.masking.templates_fresh import FRESH
from benchmarks.masking.templates_machine import ARGUMENTS, CODE, JSON, LOGS, TABLES
from benchmarks.masking.templates_zh import CHINESE

PARTS: Final = ("open", "unseen")
_SLOT: Final = re.compile("«([^»]+)»")
_ALONE: Final = frozenset({"cn_id", "cn_mobile", "bank_card", "cn_uscc", "email", "iban"})
# What stands between two texts of a document.
_JOINTS: Final = {"zh": ("", "。", "\n", "；", "\n\n", " "), "en": (" ", "\n", "\n\n"), "mixed": ("\n", "。", " ")}


@dataclass(frozen=True, slots=True)
class Template:
    """One text with slots, and the part that it belongs to."""

    language: str
    field: str
    text: str
    part: str
    escapes: int = 0


def templates() -> list[Template]:
    """Return all templates; in each field every second one is of the unseen part."""
    found = []
    for language, fields in (("zh", CHINESE), ("en", ENGLISH), ("mixed", MIXED)):
        for field, texts in fields.items():
            found += [Template(language, field, text, PARTS[place % 2]) for place, text in enumerate(texts)]
    for field, texts, escapes in (
        ("json", JSON, 1),
        ("arguments", ARGUMENTS, 2),
        ("log", LOGS, 0),
        ("table", TABLES, 0),
        ("code", CODE, 0),
    ):
        found += [Template("machine", field, text, PARTS[place % 2], escapes) for place, text in enumerate(texts)]
    for (language, field), texts in FRESH.items():
        found += [Template(language, field, text, "fresh") for text in texts]
    return found


def filled(random: Random, template: Template, *, ascii_only: bool) -> list[Piece]:
    """Return the template with every slot filled."""
    pieces: list[Piece] = []
    at = 0
    for slot in _SLOT.finditer(template.text):
        pieces.append(Piece(template.text[at : slot.start()]))
        inner = _slot(random, slot[1])
        for _ in range(template.escapes):
            inner = escaped(inner, ascii_only=ascii_only)
        pieces += inner
        at = slot.end()
    pieces.append(Piece(template.text[at:]))
    return [piece for piece in pieces if piece.text]


def _slot(random: Random, name: str) -> list[Piece]:
    if name.startswith("="):
        return [Piece(random.choice(name[1:].split("|")))]
    if name.startswith("~"):
        trap = name[1:].removesuffix("_json")
        text = traps.TRAPS[trap](random)
        while name.endswith("_json") and not (text.isdigit() and text[0] != "0"):
            text = traps.TRAPS[trap](random)
        return [Piece(text, form=trap, trap=True)]
    return forms.written(random, name)


def documents(*, seed: int, count: int, part: str | None = None) -> Iterator[Document]:
    """Yield `count` documents; the same seed gives the same ones.

    A document is one to four texts of one language, or one text of a program. Some are cut so that an identifier
    stands at the very start or the very end.
    """
    random = Random(seed)
    pool = [one for one in templates() if one.part == part or (part is None and one.part != "fresh")]
    by_place: dict[tuple[str, str], list[Template]] = {}
    for template in pool:
        by_place.setdefault((template.language, template.part), []).append(template)
    for _ in range(count):
        yield _document(random, random.choice(pool), by_place)


def _document(random: Random, first: Template, by_place: dict[tuple[str, str], list[Template]]) -> Document:
    ascii_only = random.random() < 0.3
    pieces = filled(random, first, ascii_only=ascii_only)
    if first.language == "machine":
        if first.field == "log" and random.random() < 0.5:
            pieces += [Piece("\n"), *filled(random, first, ascii_only=False)]
    else:
        neighbours = by_place[first.language, first.part]
        for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
            joint = random.choice(_JOINTS[first.language])
            following = filled(random, random.choice(neighbours), ascii_only=False)
            if not joint.strip() and _would_run_together(pieces[-1], following[0], joint):
                joint = "\n\n"
            pieces += [Piece(joint), *following]
        if random.random() < 0.1:
            pieces = _cut(random, pieces)
    return assemble(pieces, language=first.language, field=first.field, part=first.part)


def _would_run_together(before: Piece, after: Piece, joint: str) -> bool:
    """Return whether nobody could tell two numbers, or two words, apart across such a joint."""
    if before.kind or before.trap or after.kind or after.trap:
        return True
    left, right = before.text[-1], after.text[0]
    return any(char.isdigit() for char in (left, right)) or (joint == "" and left.isascii() and right.isascii())


def _cut(random: Random, pieces: list[Piece]) -> list[Piece]:
    """Cut what stands before the first identifier, or behind the last one, of those that need no words to announce
    them."""
    places = [place for place, piece in enumerate(pieces) if piece.kind in _ALONE]
    if not places:
        return pieces
    if random.random() < 0.5:
        return pieces[: places[-1] + 1]
    first = places[0]
    while first and pieces[first - 1].free:
        first -= 1
    return pieces[first:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for document in documents(seed=given.seed, count=given.count, part="open"):
        print(f"--- {document.language} {document.field}\n{document.text}")
        for span in document.identifiers:
            print(f"    {span.kind:12} {span.form:24} {document.text[span.start : span.end]!r}")


if __name__ == "__main__":
    main()
