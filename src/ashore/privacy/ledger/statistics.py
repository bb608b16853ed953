"""Statistics with noise over the rows of a dataset: what a question costs, and its answer.

Each unit counts with at most `rows_per_unit` rows, so that one who comes or goes changes a sum by a bounded amount (the
sensitivity). Noise is drawn on whole numbers: a column is counted in millionths of its bound.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import msgspec

from ashore.errors import BrokenData, InvalidRequest, NotFound
from ashore.privacy.ledger.noise import discrete_gaussian

What = Literal["count", "sum", "mean", "histogram"]
Row = Mapping[str, object]
STEPS: Final = 1_000_000
"""In which the bound of a column is counted."""
MOST_BYTES: Final = 256 << 20
MOST_GROUPS: Final = 200
MOST_BOUND: Final = 1e15
SURE: Final = 1.959964
"""Standard deviations to each side that hold 95 %."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, apart from how much noise is taken."""

    what: What
    column: str = ""
    low: float = 0.0
    high: float = 0.0
    groups: tuple[str, ...] = ()

    def checked(self) -> Question:
        """Return it when it can be answered.

        Raises:
            InvalidRequest: a bound or a column is missing.
        """
        if self.what == "count":
            return self
        if not self.column:
            raise InvalidRequest(f"{self.what} of which column?", hint="name it: --column NAME")
        if self.what == "histogram":
            if not self.groups or len(self.groups) > MOST_GROUPS or len(set(self.groups)) != len(self.groups):
                raise InvalidRequest(
                    f"a histogram of {len(self.groups)} groups",
                    hint=f"name 1 to {MOST_GROUPS} different values: --groups cardiology surgery. Which values there "
                    "are must not come from the data: that a rare one is there tells of a person",
                )
        elif not -MOST_BOUND <= self.low < self.high <= MOST_BOUND:
            raise InvalidRequest(
                f"{self.what} of {self.column} between {self.low:g} and {self.high:g}",
                hint="say what a value can be: --low 0 --high 100. Values beyond count as the bound",
            )
        return self

    @property
    def parts(self) -> int:
        """Over how many noisy sums the noise of the question is shared."""
        return 2 if self.what == "mean" else 1


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One noisy figure."""

    group: str = ""
    value: float
    """With noise; a count may be below 0."""
    low: float
    high: float
    """Between these lies the figure without noise, in 95 of 100 questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Noise for a sensitivity of 1: the standard deviation of each noisy sum of a question."""

    multiplier: float
    rows_per_unit: int

    def on(self, value: int, bound: int) -> tuple[int, float]:
        """Return a sum with noise, and the standard deviation of it. `bound`: most that one row changes it."""
        spread = self.multiplier * self.rows_per_unit * bound
        return value + discrete_gaussian(Fraction(spread) ** 2), spread


def answer(question: Question, rows: Iterable[Row], unit: str, noise: Noise) -> list[Cell]:
    """Return the answer with noise. Nothing but the noisy figures depends on a row: one without the unit, without the
    column, or with a value that is no number, counts for nothing, since an error would tell that it is there.

    Args:
        question: What is asked.
        rows: Of the dataset.
        unit: Column that says whose row it is.
        noise: How much.
    """
    count, total, groups = 0, 0, Counter[str]()
    middle = (question.low + question.high) / 2 if question.what == "mean" else 0.0
    reach = max(abs(question.low - middle), abs(question.high - middle))
    for row in _bounded(rows, unit, noise.rows_per_unit):
        if question.what == "count":
            count += 1
        elif question.what == "histogram":
            groups[_word(row, question.column)] += 1
        elif (number := _number(row, question.column)) is not None:
            count += 1
            value = min(question.high, max(question.low, number))
            total += round((value - middle) / reach * STEPS)
    match question.what:
        case "count":
            return [_shown(*noise.on(count, 1))]
        case "histogram":
            return [_shown(*noise.on(groups[name], 1), group=name) for name in question.groups]
        case "sum":
            value, spread = noise.on(total, STEPS)
            return [_shown(value * reach / STEPS, spread * reach / STEPS)]
        case "mean":
            summed, spread = noise.on(total, STEPS)
            counted, count_spread = noise.on(count, 1)
            rows_seen = max(1.0, float(counted))
            off = summed * reach / STEPS / rows_seen
            doubt = math.hypot(spread * reach / STEPS, off * count_spread) / rows_seen
            return [
                _shown(
                    min(question.high, max(question.low, middle + off)), doubt, least=question.low, most=question.high
                )
            ]


def _shown(value: float, spread: float, *, group: str = "", least: float = -math.inf, most: float = math.inf) -> Cell:
    off = SURE * spread
    return Cell(group=group, value=float(value), low=max(least, value - off), high=min(most, value + off))


def _bounded(rows: Iterable[Row], unit: str, most: int) -> Iterator[Row]:
    seen = Counter[str]()
    for row in rows:
        if whose := _word(row, unit):
            seen[whose] += 1
            if seen[whose] <= most:
                yield row


def _word(row: Row, column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _number(row: Row, column: str) -> float | None:
    try:
        number = float(_word(row, column))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def check_columns(there: Sequence[str], wanted: Iterable[str]) -> None:
    """Check names against those that a dataset has: of its line of names or its SELECT, and never of a row.

    Raises:
        BrokenData: one is not there.
    """
    for name in wanted:
        if name and name not in there:
            raise BrokenData(f"the dataset has no column {name[:60]!r}; it has {', '.join(there)[:200]}")


def read_rows(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV or JSONL file, as names to values.

    Args:
        path: The file.
        wanted: Columns that a CSV must have. Names in JSONL are those of rows: whether one is there is not told.

    Raises:
        NotFound: it is not there. BrokenData: it is too large, or no such file.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BrokenData(f"{path} is larger than {MOST_BYTES >> 20} MiB", hint="leave out columns")
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix != ".jsonl":
                reader = csv.DictReader(file)
                check_columns(reader.fieldnames or (), wanted)
                yield from (_full(row, path) for row in reader)
                return
            for number, line in enumerate(file, start=1):
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise BrokenData(f"line {number} of {path} is no object")
                yield row
    except (FileNotFoundError, IsADirectoryError, PermissionError) as fault:
        raise NotFound(f"the dataset {path} cannot be read: {fault.strerror}", hint="see [statistics]") from fault
    except (ValueError, RecursionError, csv.Error) as fault:
        raise BrokenData(f"{path} is neither CSV nor JSONL in UTF-8: {fault}"[:300]) from fault


def _full(row: Mapping[str | None, object], path: Path) -> Row:
    if None in row or None in row.values():
        raise BrokenData(f"a line of {path} has another number of columns than the first")
    return {str(name): value for name, value in row.items()}
