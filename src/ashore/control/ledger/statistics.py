"""Statistics with noise over the rows of a dataset: what a question costs, and its answer.

Each unit counts with at most `rows_per_unit` rows, so that adding or removing one changes a sum by a bounded amount
(the sensitivity). Noise is drawn on whole numbers: a column is counted in millionths of its bound.

Noise without a seed: exact samples of the discrete Gaussian (Canonne, Kamath and Steinke 2020), and of the
exponential mechanism (McSherry and Talwar 2007).

Whole numbers and the system's randomness alone; no floating point, whose gaps would tell the value (Mironov 2012).
"""

from __future__ import annotations

import csv
import json
import math
import secrets
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

import msgspec

from ashore.core.errors import BrokenData, InvalidRequest, NotFound

What = Literal["count", "sum", "mean", "histogram", "quantile"]
Row = Mapping[str, object]
STEPS: Final = 1_000_000
"""In which the bound of a column is counted."""
MOST_BYTES: Final = 256 << 20
MOST_GROUPS: Final = 200
MOST_BOUND: Final = 1e15
MOST_QUANTILES: Final = 20
CANDIDATES: Final = 2_001
"""Values between the bounds among which a quantile is chosen."""
PER_MILLE: Final = 1_000
"""In which quantiles are counted."""
SURE: Final = 1.959964
"""Standard deviations to each side that hold 95 %."""


def discrete_gaussian(variance: Fraction) -> int:
    """Return a whole number drawn with a probability that is proportional to exp(-x² / (2 variance))."""
    scale = math.isqrt(variance.numerator // variance.denominator) + 1
    while True:
        drawn = _discrete_laplace(scale)
        off = abs(drawn) - variance / scale
        if _bernoulli_exp(off * off / (2 * variance)):
            return drawn


def exponential_choice(scores: Sequence[Fraction], epsilon: Fraction) -> int:
    """Return the index of a candidate, drawn with a probability proportional to exp(epsilon score / 2).

    Args:
        scores: Score of each candidate, at least one; whole or with small denominators. A unit changes none by more
            than 1.
        epsilon: Privacy loss of the choice.
    """
    best = max(scores)
    while True:
        drawn = secrets.randbelow(len(scores))
        if _bernoulli_exp((best - scores[drawn]) * epsilon / 2):
            return drawn


def _discrete_laplace(scale: int) -> int:
    while True:
        low = secrets.randbelow(scale)
        if not _bernoulli_exp(Fraction(low, scale)):
            continue
        high = 0
        while _bernoulli_exp(Fraction(1)):
            high += 1
        size = low + scale * high
        negative = secrets.randbelow(2)
        if negative and not size:
            continue
        return -size if negative else size


def _bernoulli_exp(gamma: Fraction) -> bool:
    """Return true with the probability exp(-gamma)."""
    while gamma > 1:
        if not _bernoulli_exp(Fraction(1)):
            return False
        gamma -= 1
    count = 1
    while secrets.randbelow(gamma.denominator * count) < gamma.numerator:
        count += 1
    return count % 2 == 1


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question, independent of the amount of noise."""

    what: What
    column: str = ""
    low: float = 0.0
    high: float = 0.0
    groups: tuple[str, ...] = ()
    by: str = ""
    """Column whose values, `groups`, a sum or a mean is told apart by."""
    quantiles: tuple[float, ...] = ()

    def checked(self) -> Question:
        """Check it and return it.

        Raises:
            InvalidRequest: a bound or a column is missing.
        """
        if self.what == "count":
            return self
        if not self.column:
            raise InvalidRequest(f"{self.what} of which column?", hint="name it: --column NAME")
        if self.by and self.what not in ("sum", "mean"):
            raise InvalidRequest(f"{self.what} by {self.by}", hint="only a sum and a mean are told apart by groups")
        is_grouped = self.what == "histogram" or bool(self.by)
        if is_grouped and not 0 < len(self.groups) == len(set(self.groups)) <= MOST_GROUPS:
            raise InvalidRequest(
                f"a {self.what} of {len(self.groups)} groups",
                hint=f"name 1 to {MOST_GROUPS} different values: --groups cardiology,surgery. Which values there "
                "are must not come from the data: that a rare one is there tells of a person",
            )
        if self.what == "quantile":
            steps = [one * PER_MILLE for one in self.quantiles]
            if not 1 <= len(steps) <= MOST_QUANTILES or not all(
                0 <= one <= PER_MILLE and one % 1 == 0 for one in steps
            ):
                raise InvalidRequest(
                    f"quantiles {', '.join(f'{one:g}' for one in self.quantiles) or '(none)'}",
                    hint=f"name 1 to {MOST_QUANTILES} between 0 and 1, in thousandths: --quantiles 0.5,0.95",
                )
        if self.what != "histogram" and not -MOST_BOUND <= self.low < self.high <= MOST_BOUND:
            raise InvalidRequest(
                f"{self.what} of {self.column} between {self.low:g} and {self.high:g}",
                hint="say what a value can be: --low 0 --high 100. Values beyond count as the bound",
            )
        return self

    @property
    def cells(self) -> tuple[str, ...]:
        """Groups of the answer; a single unnamed one without grouping."""
        return self.groups if self.what == "histogram" or self.by else ("",)

    @property
    def parts(self) -> int:
        """Number of noisy sums or choices that share epsilon. Groups share nothing: a row is in one of them."""
        return len(self.quantiles) if self.what == "quantile" else 2 if self.what == "mean" else 1


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One noisy figure."""

    group: str = ""
    value: float
    """With noise; a count may be below 0."""
    low: float | None = None
    high: float | None = None
    """Between these lies the figure without noise, in 95 of 100 questions; null: not known, for a quantile."""
    rows_off: float = 0.0
    """Of a quantile: so many rows at most lie between it and the one without noise, in 95 of 100 questions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Noise for a sensitivity of 1: the standard deviation of each noisy sum of a question."""

    multiplier: float
    rows_per_unit: int
    epsilon: float = 0.0
    """Of each quantile; noise of another kind goes by the multiplier."""

    def on(self, value: int, bound: int) -> tuple[int, float]:
        """Return a sum with noise, and its standard deviation. `bound`: largest change of it by one row."""
        spread = self.multiplier * self.rows_per_unit * bound
        return value + discrete_gaussian(Fraction(spread) ** 2), spread


def answer(question: Question, rows: Iterable[Row], unit: str, noise: Noise) -> list[Cell]:
    """Return the answer with noise. Only the noisy figures depend on rows: one without the unit, without the column, or
    with a non-numeric value is ignored, since an error would reveal its presence.

    Args:
        question: The question.
        rows: Rows of the dataset.
        unit: Column with the unit of a row.
        noise: Amount of noise.
    """
    if question.what == "quantile":
        return _quantiles(question, _bounded(rows, unit, noise.rows_per_unit), noise)
    counts, totals = Counter[str](), Counter[str]()
    middle = (question.low + question.high) / 2 if question.what == "mean" else 0.0
    reach = max(abs(question.low - middle), abs(question.high - middle))
    for row in _bounded(rows, unit, noise.rows_per_unit):
        group = _word(row, question.column if question.what == "histogram" else question.by)
        if question.what in ("count", "histogram"):
            counts[group] += 1
        elif (number := _number(row, question.column)) is not None:
            counts[group] += 1
            value = min(question.high, max(question.low, number))
            totals[group] += round((value - middle) / reach * STEPS)
    return [_noisy(question, counts[group], totals[group], middle, reach, noise, group) for group in question.cells]


def _noisy(question: Question, count: int, total: int, middle: float, reach: float, noise: Noise, group: str) -> Cell:
    if question.what in ("count", "histogram"):
        return _shown(*noise.on(count, 1), group=group)
    summed, spread = noise.on(total, STEPS)
    if question.what == "sum":
        return _shown(summed * reach / STEPS, spread * reach / STEPS, group=group)
    counted, count_spread = noise.on(count, 1)
    rows_seen = max(1.0, float(counted))
    off = summed * reach / STEPS / rows_seen
    doubt = math.hypot(spread * reach / STEPS, off * count_spread) / rows_seen
    value = min(question.high, max(question.low, middle + off))
    return _shown(value, doubt, group=group, least=question.low, most=question.high)


def _quantiles(question: Question, rows: Iterable[Row], noise: Noise) -> list[Cell]:
    """Return values that split the rows approximately as requested, each chosen by the exponential mechanism among
    values that do not depend on the data. A value's score: how many rows it is off, divided by the sensitivity."""
    numbers = sorted(one for row in rows if (one := _number(row, question.column)) is not None)
    width = (question.high - question.low) / (CANDIDATES - 1)
    candidates = [question.low + width * number for number in range(CANDIDATES)]
    below = [bisect_right(numbers, one) for one in candidates[:-1]] + [len(numbers)]
    found = []
    for quantile in question.quantiles:
        share = Fraction(round(quantile * PER_MILLE), PER_MILLE)
        change = max(share, 1 - share) * noise.rows_per_unit
        scores = [-abs(one - share * len(numbers)) / change for one in below]
        chosen = candidates[exponential_choice(scores, Fraction(noise.epsilon))]
        # With probability 19/20 the score of the choice is at most this far below the best.
        off = 2 / noise.epsilon * (math.log(CANDIDATES) + math.log(1 / (1 - 0.95))) * float(change)
        found.append(Cell(group=f"{quantile:g}", value=chosen, rows_off=off))
    return found


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
    """Check names against a dataset's columns: those of its header or its SELECT, never those of a row.

    Raises:
        BrokenData: one is missing.
    """
    for name in wanted:
        if name and name not in there:
            raise BrokenData(f"the dataset has no column {name[:60]!r}; it has {', '.join(there)[:200]}")


def read_rows(path: Path, wanted: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV or JSONL file, as names to values.

    Args:
        path: The file.
        wanted: Columns that a CSV must have. In JSONL names belong to rows, so a missing one is not reported.

    Raises:
        NotFound: the file is missing. BrokenData: it is too large, or of another format.
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
