"""A page of metrics, read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_SAMPLE: Final = re.compile(r"^(ashore_[a-z_]+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


class Samples:
    """The samples of ashore's own metrics on a page; and, against an earlier page, how much counters grew."""

    def __init__(self, page: str, before: str | None = None) -> None:
        """Read a page. `before`: an earlier one of the same server; None: counters count from their start."""
        self._all = [(name, dict(_LABEL.findall(labels)), float(value)) for name, labels, value in _read(page)]
        self._before = {(name, labels): float(value) for name, labels, value in _read(before or "")}
        self._now = {(name, labels): float(value) for name, labels, value in _read(page)}

    @property
    def is_empty(self) -> bool:
        return not self._all

    def each(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield the labels and the value of each sample of a name that has these labels."""
        yield from ((has, value) for one, has, value in self._all if one == name and labels.items() <= has.items())

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of these, None where there is none."""
        found = [value for _, value in self.each(name, **labels)]
        return sum(found) if found else None

    def grown(self, name: str, **labels: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield the labels of each counter and how much it grew. One that began anew counts from 0."""
        for (one, text), value in self._now.items():
            if one == name:
                has = dict(_LABEL.findall(text))
                if labels.items() <= has.items():
                    before = self._before.get((one, text), 0.0)
                    yield has, value - before if value >= before else value

    def growth(self, name: str, **labels: str) -> float:
        """Return the sum of how much these counters grew."""
        return sum(value for _, value in self.grown(name, **labels))

    def mean(self, name: str, **labels: str) -> float:
        """Return the mean of what a histogram took in between the pages; 0 where that was nothing."""
        number = self.growth(f"{name}_count", **labels)
        return self.growth(f"{name}_sum", **labels) / number if number else 0.0

    def quantile(self, name: str, share: float, **labels: str) -> float:
        """Return the upper bound of the bucket below which `share` of what came in between the pages lies; 0: nothing
        came. Of the last bucket, the bound before it."""
        buckets: dict[float, float] = {}
        for has, value in self.grown(f"{name}_bucket", **labels):
            bound = float(has["le"])
            buckets[bound] = buckets.get(bound, 0.0) + value
        number = buckets.get(float("inf"), 0.0)
        last = 0.0
        for bound in sorted(buckets):
            if bound == float("inf"):
                break
            last = bound
            if number and buckets[bound] >= share * number:
                return bound
        return last if number else 0.0


def _read(page: str) -> list[tuple[str, str, str]]:
    return _SAMPLE.findall(page)
