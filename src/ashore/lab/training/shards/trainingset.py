"""A set of shards as examples in memory: read, tokenised and hashed once, before the first step.

A token takes five bytes, so that more than any processor trains on fits into memory. Steps then wait for nothing, and
the step number is all that a run that goes on needs to know.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from ashore.core.bytesize import human_bytes
from ashore.core.errors import AshoreError, BrokenData, InvalidRequest, MemoryFull
from ashore.core.ids import Digest
from ashore.data.text import TextModel
from ashore.kit.store import DataUsed, set_digest
from ashore.lab.training.batches import Corpus
from ashore.lab.training.data import pieces_of
from ashore.lab.training.datalines import FORMS
from ashore.lab.training.shards.places import Say, Shard, open_place, sha256_of
from ashore.lab.training.shards.samples import Sample, read_example, read_field, walk

MOST_TOLD: Final = 5
TOKEN_BYTES: Final = 5

Told = Callable[[str, int, int], None]
"""Hears what is being done, how much of it is, and of how much."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingSet(Corpus):
    """The examples of a set of shards, and what became of the samples."""

    used: DataUsed
    """Of one shard its SHA-256; of several that of their `SHA256SUMS`."""
    num_cut: int
    """Examples that lost their end, because they were longer than allowed; texts are divided, not cut."""
    left_out: tuple[str, ...]
    """The first samples of which nothing to learn was left after cutting."""
    num_left_out: int
    skipped: tuple[str, ...]
    """The first shards and samples that are broken, with what is wrong."""
    num_skipped: int
    people: tuple[str, ...] = field(default=(), repr=False)
    """The person of each example, where the set was read for a field that names one; empty: none."""


def open_set(
    name: str,
    text: TextModel,
    *,
    max_length: int,
    cache: Path | None = None,
    skip_broken: bool = False,
    person: str = "",
    most_bytes: int = 0,
    role: str = "train",
    say: Say = lambda line: None,
    told: Told = lambda stage, done, total: None,
) -> TrainingSet:
    """Read a set and return its examples.

    Args:
        name: A file, a folder, or `s3://BUCKET/PATH`; see `naming`.
        text: Text side of the model that learns it.
        max_length: Most tokens of an example.
        cache: See `open_place`.
        skip_broken: Leave out shards and samples that are broken, and name them, instead of refusing the set.
        person: Field of each document that names a person; empty: nobody is asked for.
        most_bytes: Memory that the examples may take; 0: no limit.
        role: What the data is for, in the recipe.
        say: Called with notes for the user.
        told: Called with shards read.

    Raises:
        InvalidRequest: there is no such data. BrokenData: it is not what it must be, or nothing is left of all.
        SourceUnreachable: a server was away for too long. Conflict, MissingExtra, MemoryFull.
    """
    place = open_place(name, cache, say=say)
    shards = place.shards()
    reading = _Reading(name, text, max_length, person, most_bytes)
    sums = []
    for number, shard in enumerate(shards, start=1):
        with place.open(shard) as file:
            sums.append((shard.name, sha256_of(file)))
            before = "" if len(shards) == 1 else f"{shard.name}, "
            try:
                for sample in walk(file, shard):
                    reading.take(sample, before)
            except BrokenData as error:
                reading.broken(error.message)
        told("read", number, len(shards))
    reading.check(shards, skip_broken)
    return TrainingSet(
        ids=np.frombuffer(reading.ids, np.int32),
        targets=np.frombuffer(reading.targets, np.bool_),
        starts=np.frombuffer(reading.starts, np.int64),
        used=DataUsed(
            role=role,
            digest=Digest(f"sha256:{set_digest(sums)}"),
            num_bytes=sum(shard.num_bytes for shard in shards),
            name=shards[0].name if len(shards) == 1 else name.rstrip("/").rpartition("/")[2],
        ),
        num_cut=reading.num_cut,
        left_out=tuple(reading.left_out),
        num_left_out=reading.num_left_out,
        skipped=tuple(reading.skipped),
        num_skipped=reading.num_skipped,
        people=tuple(reading.people),
    )


class _Reading:
    """What was read so far."""

    def __init__(self, name: str, text: TextModel, max_length: int, person: str, most_bytes: int) -> None:
        self._name, self._text, self._max_length, self._person = name, text, max_length, person
        self._most_tokens = most_bytes // TOKEN_BYTES
        self.ids, self.targets, self.starts = array("i"), bytearray(), array("q", [0])
        self.people: list[str] = []
        self.num_samples = self.num_cut = self.num_left_out = self.num_skipped = 0
        self.left_out: list[str] = []
        self.skipped: list[str] = []

    def take(self, sample: Sample, before: str) -> None:
        self.num_samples += 1
        try:
            pieces = list(pieces_of(read_example(sample), self._text, self._max_length))
        except (ValueError, InvalidRequest) as error:
            self.broken(f"{before}{sample.where}: {error.message if isinstance(error, AshoreError) else error}")
            return
        taught = [piece for piece in pieces if piece.is_taught]
        self.num_cut += sum(piece.is_cut for piece in pieces)
        if len(taught) < len(pieces):
            self.num_left_out += 1
            self.left_out += [before + sample.where] if len(self.left_out) < MOST_TOLD else []
        for piece in taught:
            self.ids.extend(piece.ids)
            self.targets += bytes([False, *piece.targets[1:]])
            self.starts.append(len(self.ids))
        if self._person:
            self.people += [read_field(sample, self._person)] * len(taught)
        if self._most_tokens and len(self.ids) > self._most_tokens:
            raise MemoryFull(
                f"{self._name} has more than {self._most_tokens:,} tokens, "
                f"which take more than {human_bytes(self._most_tokens * TOKEN_BYTES)} of memory",
                hint="train on fewer shards at a time",
            )

    def broken(self, what: str) -> None:
        self.num_skipped += 1
        self.skipped += [what] if len(self.skipped) < MOST_TOLD else []

    def check(self, shards: tuple[Shard, ...], skip_broken: bool) -> None:
        """Raise `BrokenData` if something is broken and was not to be skipped, or nothing is left."""
        if self.num_skipped and not skip_broken:
            more = f"\n(and {self.num_skipped - len(self.skipped)} more)" if self.num_skipped > MOST_TOLD else ""
            what = "lines" if shards[0].form == "jsonl" else "samples"
            raise BrokenData(
                f"{self._name} has {self.num_skipped} broken {what}:\n" + "\n".join(self.skipped) + more,
                hint=f"each line is {FORMS}; --skip-broken leaves broken ones out and names them",
            )
        if not self.num_samples:
            raise BrokenData(f"{self._name} has no examples", hint=f"each line is {FORMS}")
        if not self.ids:
            raise BrokenData(
                f"{self._name}: none of its {self.num_samples} examples has anything to learn within "
                f"{self._max_length} tokens",
                hint="give a larger --max-length, or shorter prompts",
            )


def load_data(path: Path, text: TextModel, *, max_length: int) -> Corpus:
    """Return the examples of a file or a folder. Raises as `open_set` does."""
    return open_set(str(path), text, max_length=max_length)
