"""Memory layout of the ledger: the head, the rows of processes, free lists, cells and slots.

All places are in words of eight bytes. A new cell gets a unique birth number, its first word; 0 is a free cell. Its
text describes the count, in JSON, so that any process can report it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import msgspec

from ashore.data.authority.budgets.mapped import START, WORD, MappedWords, Words

AHEAD: Final = START
"""Milliseconds that the wall time was ahead of the monotonic time, at most: time never runs behind that. One word, so
that nobody reads half of it."""
BIRTHS: Final = START + 2
"""Cells that were ever born."""
FREE_CELLS: Final = START + 3
FREE_SLOTS: Final = START + 4
NEXT_OWNER: Final = START + 5
SOURCE: Final = START + 6
LEASE_UNTIL: Final = START + 7
"""Monotonic time until which grants may be used, where several machines share the windows."""
ROW: Final = START + 8
"""Owner numbers of the processes, 0 where a row is free."""
ROWS: Final = 64
_TABLES: Final = ROW + ROWS

CELL: Final = 64
"""Words of a cell; the text begins at `TEXT`."""
KIND, STARTS, ENDS, SETTLED, OPEN, BASE, GRANT, LENGTH = 1, 2, 3, 4, 5, 6, 7, 12
"""Of a count. `BASE`: what ledgers before this one had counted. `GRANT`: what this machine may use of the cap.
`OPEN` of a usage: slots that will add to it."""
REQUESTS, HITS, PROMPT, COMPLETION, CACHED, REFUSED = 4, 6, 7, 8, 9, 10
"""Fields of a usage."""
TEXT: Final = 16
MAX_TEXT: Final = (CELL - TEXT) * WORD
BUDGET: Final = 1
USAGE: Final = 2
GAUGE: Final = 3
"""A count of current use, such as concurrency: nothing is ever settled or reported."""

SLOT: Final = 64
SLOT_OWNER, SLOT_USAGE, SLOT_PROMPT, SLOT_COMPLETION, SLOT_BEGUN, SLOT_NUM_REFS, SLOT_REFS = 0, 1, 2, 3, 4, 5, 8
"""A reference is two words: cell and part in one, the amount in the other. `SLOT_USAGE` -1: none."""
MAX_REFS: Final = (SLOT - SLOT_REFS) // 2

UNBOUNDED: Final = 1 << 62
"""A grant of all there is: this machine is the only one."""
GRACE_MS: Final = 60_000
"""A cell stays so long after its window: a clock may be a little behind."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of cells, slots and births in the ring."""

    cells: int
    slots: int
    ring: int

    @cached_property
    def births(self) -> int:
        return _TABLES

    @cached_property
    def free_cells(self) -> int:
        return self.births + self.ring

    @cached_property
    def free_slots(self) -> int:
        return self.free_cells + self.cells

    @cached_property
    def first_cell(self) -> int:
        return self.free_slots + self.slots

    @cached_property
    def first_slot(self) -> int:
        return self.first_cell + self.cells * CELL

    @cached_property
    def total(self) -> int:
        """Words in total, excluding the bookkeeping of `mapped`."""
        return self.first_slot + self.slots * SLOT - START

    def cell(self, number: int) -> int:
        return self.first_cell + number * CELL

    def slot(self, number: int) -> int:
        return self.first_slot + number * SLOT


DEFAULT: Final = Sizes(32_768, 4_096, 8_192)
"""18 MiB: 32,768 counts, and 4,096 requests with something set aside at one moment."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Content of one cell."""

    birth: int
    kind: int
    starts_ms: int
    ends_ms: int
    numbers: tuple[int, ...]
    """Words `SETTLED` to `REFUSED`, in this order."""
    text: bytes

    @property
    def key(self) -> bytes:
        return key_of(self.text, self.starts_ms)

    @property
    def settled(self) -> int:
        return self.numbers[0]

    @property
    def open(self) -> int:
        return self.numbers[OPEN - SETTLED]

    @property
    def is_empty(self) -> bool:
        """Whether it can be dropped without loss: a count without an end that was never used, and is not in use."""
        return self.kind != USAGE and self.ends_ms == 0 and not any(self.numbers[: BASE - SETTLED + 1])

    @property
    def grant(self) -> int:
        return self.numbers[GRANT - SETTLED]

    @property
    def parts(self) -> list[str]:
        """The parts of its text: a rule and its subject, or day, tenant, user and model."""
        return _decode(self.text)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[str]).decode


def key_of(text: bytes, starts_ms: int) -> bytes:
    """Return the unique key of a cell."""
    return b"%d %b" % (starts_ms, text)


def budget_text(rule_id: str, subject: Sequence[str]) -> bytes:
    """Return the text of a count."""
    return text_of([rule_id, *subject])


def stored_subject(rule_id: str, subject: Sequence[str]) -> list[str]:
    """Return a subject in the form of its count's text."""
    return _decode(budget_text(rule_id, subject))[1:]


def usage_text(day: str, tenant: str, user: str, model: str) -> bytes:
    """Return the text of a usage; it has four parts, unlike a count's."""
    return text_of([day, tenant, user, model])


def text_of(parts: Sequence[str]) -> bytes:
    """Return the parts as JSON that fits a cell: long ones are cut, and distinguished by a digest."""
    parts = [_storable(part) for part in parts]
    text = _encode(parts)
    if len(text) <= MAX_TEXT:
        return text
    most = MAX_TEXT // len(parts) // 6 - 8  # a character takes at most six bytes in JSON
    return _encode([part if len(part) <= most else part[: most - 17] + "~" + _digest(part) for part in parts])


def _storable(part: str) -> str:
    """Return a name that any database accepts: without lone surrogates, and without NUL."""
    return part.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


def _digest(part: str) -> str:
    return hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:16]


def bear(
    words: Words,
    sizes: Sizes,
    text: bytes,
    kind: int,
    starts_ms: int,
    ends_ms: int,
    *,
    base: int = 0,
    grant: int = UNBOUNDED,
    commit: Callable[[Sequence[int]], None] | None = None,
) -> int:
    """Allocate a free cell and return its number; there must be one. Invisible to others until `commit`."""
    free = words[FREE_CELLS] - 1
    number = words[sizes.free_cells + free]
    cell = sizes.cell(number)
    words[cell + KIND], words[cell + STARTS], words[cell + ENDS] = kind, starts_ms, ends_ms
    for word in range(SETTLED, LENGTH):
        words[cell + word] = 0
    if kind != USAGE:
        words[cell + BASE], words[cell + GRANT] = base, grant
    words[cell + LENGTH] = len(text)
    padded = text + bytes(-len(text) % WORD)
    for at in range(0, len(padded), WORD):
        words[cell + TEXT + at // WORD] = int.from_bytes(padded[at : at + WORD], "little", signed=True)
    births = words[BIRTHS]
    writes = (cell, births + 1, BIRTHS, births + 1, FREE_CELLS, free, sizes.births + births % sizes.ring, number)
    if commit is not None:
        commit(writes)
    else:
        for at in range(0, len(writes), 2):
            words[writes[at]] = writes[at + 1]
    return number


def cell_at(memory: MappedWords, sizes: Sizes, number: int) -> Cell:
    """Return the content of a cell."""
    words, cell = memory.words, sizes.cell(number)
    return Cell(
        words[cell],
        words[cell + KIND],
        words[cell + STARTS],
        words[cell + ENDS],
        tuple(words[cell + word] for word in range(SETTLED, REFUSED + 1)),
        memory.bytes_at(cell + TEXT, words[cell + LENGTH]),
    )


def cells(memory: MappedWords, sizes: Sizes) -> Iterator[tuple[int, Cell]]:
    """Yield the number and content of every cell that is not free."""
    words = memory.words
    for number in range(sizes.cells):
        if words[sizes.cell(number)]:
            yield number, cell_at(memory, sizes, number)
