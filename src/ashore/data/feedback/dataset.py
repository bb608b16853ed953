"""From votes to training examples, each with its provenance. Pure, but for opening sealed texts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ashore.core.errors import CorruptBlob
from ashore.data.feedback.consent import Purpose
from ashore.data.feedback.filters import (
    Filter,
    Held,
    Row,
    bursts,
    caps,
    contradictions,
    disagreement,
    distrust,
    duplicates,
    focus,
    secrets,
    shift,
    sieve,
    source_cap,
    unfit,
)
from ashore.data.feedback.model import Said, Vote
from ashore.data.feedback.texts import SealedTexts, messages_of, opened
from ashore.kit.copied import copied

Kind = Literal["correction", "preferred", "up", "down"]
"""correction, up: learned word for word. preferred: preferred to what the model said. down: made less likely."""
CAP_SHARE: Final = 0.02
CAP_LEAST: Final = 20
SOURCE_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A training example."""

    kind: Kind
    row: Row

    @property
    def messages(self) -> tuple[Said, ...]:
        return self.row.messages

    @property
    def wanted(self) -> str:
        """The target answer; a `down` has none."""
        return "" if self.kind == "down" else self.row.better or self.row.answer

    @property
    def unwanted(self) -> str:
        """The unwanted answer; empty for an `up`."""
        return "" if self.kind == "up" else self.row.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Examples, and the votes held back from them."""

    model: str
    examples: tuple[Example, ...]
    held: tuple[Held, ...]

    @property
    def digest(self) -> str:
        """Identifies exactly these examples, by their votes and contents."""
        lines = sorted(f"{one.kind} {one.row.feedback_id} {one.row.digest} {one.wanted}" for one in self.examples)
        text = "\n".join([self.model, *lines])
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def counts(self) -> dict[str, int]:
        """Examples by kind."""
        return dict(Counter(one.kind for one in self.examples))

    @property
    def held_counts(self) -> dict[str, int]:
        """Held votes by filter."""
        return dict(Counter(one.filter for one in self.held))


def make_dataset(
    model: str,
    rows: Sequence[Row],
    *,
    past: Sequence[Row] = (),
    reference: Mapping[str, str] | None = None,
    filtered: bool = True,
) -> Dataset:
    """Return the data set of some votes.

    Args:
        model: The model that gave the answers.
        rows: The votes.
        past: Earlier votes, used in an earlier data set.
        reference: Right answers by the plain text of their question (`filters.plain`): canaries.
        filtered: Whether to apply the filters on people and patterns; without them (trials only), only unusable votes
            and duplicates are left out.
    """
    chain: list[tuple[str, Filter]] = [("unfit", unfit), ("duplicates", duplicates)]
    if filtered:
        chain += [
            ("secrets", secrets),
            ("bursts", bursts),
            ("contradictions", contradictions),
            ("distrust", distrust(reference or {})),
            ("focus", focus),
            ("shift", shift(past)),
            ("disagreement", disagreement),
            ("caps", caps(share=CAP_SHARE, least=CAP_LEAST)),
            ("source", source_cap(SOURCE_SHARE)),
        ]
    kept, held = sieve(sorted(rows, key=lambda one: (one.created_ms, one.feedback_id)), chain)
    return Dataset(model=model, examples=tuple(map(_example, kept)), held=tuple(held))


def rows_of(votes: Iterable[Vote], texts: SealedTexts, purposes: Mapping[str, Purpose]) -> Iterator[Row]:
    """Yield votes with their texts, except votes without texts, of erased people, and of tenants that do not consent to
    training now.

    Args:
        votes: As stored in the state.
        texts: Opens them.
        purposes: By tenant, of every tenant among them.
    """
    for vote in votes:
        key = texts.find(vote.key_id) if vote.key_id and purposes[vote.tenant] == "train" else None
        if key is None:
            continue
        try:
            yield copied(
                Row,
                vote,
                messages=messages_of(opened(key, vote.question)),
                answer=opened(key, vote.answer),
                correction=opened(key, vote.correction),
                preferred=opened(key, vote.preferred),
            )
        except CorruptBlob:
            continue


def _example(row: Row) -> Example:
    if row.correction:
        return Example(kind="correction", row=row)
    if row.preferred:
        return Example(kind="preferred", row=row)
    return Example(kind="up" if row.rating == "up" else "down", row=row)
