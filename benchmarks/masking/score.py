"""What was found against what is there: recall, precision, and the classes that go wrong."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from benchmarks.masking.kinds import same_family
from benchmarks.masking.pieces import Document, Span

_Z: Final = 1.959964  # 95 %, two sides


class Found(NamedTuple):
    """One finding of the detectors, under the name that this set gives its kind."""

    kind: str
    start: int
    end: int


def wilson(hits: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion. Source: Wilson 1927; Brown, Cai and DasGupta 2001."""
    if not total:
        return 0.0, 1.0
    share, square = hits / total, _Z * _Z
    middle = (share + square / (2 * total)) / (1 + square / total)
    reach = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    return max(0.0, middle - reach), min(1.0, middle + reach)


@dataclass(slots=True)
class Tally:
    """Counts of one kind."""

    there: int = 0
    found: int = 0
    """Every letter and digit lies in findings of this kind or of its family."""
    hidden: int = 0
    """The same with findings of any kind: nothing would have been shown."""
    right: int = 0
    wrong: int = 0

    def __iadd__(self, other: Tally) -> Tally:
        for name in ("there", "found", "hidden", "right", "wrong"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def recall(self) -> float:
        return self.found / self.there if self.there else math.nan

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else math.nan


class Miss(NamedTuple):
    """One thing that went wrong, for whoever mends it."""

    what: str
    kind: str
    form: str
    field: str
    around: str


@dataclass(slots=True)
class Score:
    """All counts of a run."""

    kinds: dict[str, Tally] = field(default_factory=dict)
    misses: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(kind, form, field) of what was not found."""
    inventions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """(kind, what lay there, field) of what was found and is none."""
    seen: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    examples: list[Miss] = field(default_factory=list)
    documents: int = 0
    characters: int = 0

    def tally(self, kind: str) -> Tally:
        return self.kinds.setdefault(kind, Tally())

    def total(self, kinds: Iterable[str]) -> Tally:
        whole = Tally()
        for kind in kinds:
            if kind in self.kinds:
                whole += self.kinds[kind]
        return whole


def _marks(text: str, start: int, end: int) -> frozenset[int]:
    """Return the places of letters and digits: a finding may take blanks and brackets along, or leave them."""
    return frozenset(place for place in range(start, min(end, len(text))) if text[place].isalnum())


def judge(score: Score, document: Document, findings: Sequence[Found], *, keep_examples: int = 0) -> None:
    """Add one document to the score."""
    text = document.text
    score.documents += 1
    score.characters += len(text)
    claimed = [(found, _marks(text, found.start, found.end)) for found in findings]
    owned = [(span, _marks(text, span.start, span.end)) for span in document.identifiers]
    for span, needed in owned:
        tally = score.tally(span.kind)
        tally.there += 1
        score.seen[span.kind, span.form, document.field] += 1
        covered = frozenset[int]().union(*(marks for found, marks in claimed if same_family(found.kind, span.kind)))
        if needed <= covered:
            tally.found += 1
        else:
            score.misses[span.kind, span.form, document.field] += 1
            _keep(score, document, "missed", span.kind, span.form, span.start, span.end, keep_examples)
        tally.hidden += needed <= frozenset[int]().union(*(marks for _, marks in claimed))
    free = frozenset[int]().union(*(_marks(text, span.start, span.end) for span in document.free))
    for found, marks in claimed:
        reached = [span for span, needed in owned if needed & marks]
        if not reached and marks and marks <= free:
            continue
        allowed = free.union(*(needed for span, needed in owned if same_family(span.kind, found.kind)))
        if marks <= allowed and any(same_family(span.kind, found.kind) for span in reached):
            score.tally(found.kind).right += 1
            continue
        score.tally(found.kind).wrong += 1
        there = _what_lies_there(document, found, reached)
        score.inventions[found.kind, there, document.field] += 1
        _keep(score, document, "invented", found.kind, there, found.start, found.end, keep_examples)


def _what_lies_there(document: Document, found: Found, reached: Sequence[Span]) -> str:
    if any(same_family(span.kind, found.kind) for span in reached):
        return f"too wide: {reached[0].form}"
    if reached:
        return f"a {reached[0].kind}: {reached[0].form}"
    for trap in document.traps:
        if trap.start < found.end and found.start < trap.end:
            return f"trap: {trap.form}"
    return "plain words"


def _keep(score: Score, document: Document, what: str, kind: str, form: str, start: int, end: int, limit: int) -> None:
    if document.part == "open" and sum(miss[:3] == (what, kind, form) for miss in score.examples) < limit:
        around = (
            document.text[max(0, start - 24) : start]
            + "⟦"
            + document.text[start:end]
            + "⟧"
            + document.text[end : end + 24]
        )
        score.examples.append(Miss(what, kind, form, document.field, around))
