"""One TOML table that knows the place it stands at, so that every message can name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from ashore.core import did_you_mean
from ashore.errors import InvalidSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table:
    """Typed reads of one table; what is wrong is named with its place."""

    values: Mapping[str, object]
    where: str

    def known(self, *names: str) -> None:
        """Refuse every key but these."""
        for key in self.values:
            if key not in names:
                raise InvalidSpec(f"{self.where} has an unknown key {key[:100]!r}", hint=did_you_mean(key, names))

    def get(self, key: str, kind: type[T], default: T) -> T:
        """Return the value of a key, checked for its type; whole numbers are floats too."""
        value = self.values.get(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return cast(T, float(value))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self._wrong(key, kind.__name__, value)
        return value

    def number(self, key: str, default: int, *, lowest: int, highest: int = 2**40) -> int:
        """Return a whole number within bounds."""
        value = self.get(key, int, default)
        if not lowest <= value <= highest:
            raise InvalidSpec(f"{self.where} {key} = {value}; expected {lowest} to {highest}", hint="correct that line")
        return value

    def seconds(self, key: str, default: float, *, highest: float = 366 * 86_400.0) -> float:
        """Return a time in seconds above zero."""
        value = self.get(key, float, default)
        if not 0 < value <= highest:
            raise InvalidSpec(
                f"{self.where} {key} = {value:g}; expected seconds above 0, at most {highest:g}",
                hint="correct that line",
            )
        return value

    def choice(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        """Return one of the words allowed."""
        value = self.get(key, str, default)
        if value not in allowed:
            raise InvalidSpec(f"{self.where} {key} = {value!r}", hint=did_you_mean(value, allowed))
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(key, "list of texts", value)
        return tuple(value)

    def table(self, key: str) -> Table:
        """Return the table under a key, an empty one where there is none."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self._wrong(key, "table", value)
        return Table(value, f"{self.where} [{key}]")

    def tables(self, key: str) -> tuple[Table, ...]:
        """Return the list of tables under a key."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise InvalidSpec(f"{self.where} {key} is not a list of tables", hint=f"write [[{key}]] with two brackets")
        return tuple(Table(item, f"{self.where} [[{key}]] number {i}") for i, item in enumerate(value, start=1))

    def _wrong(self, key: str, expected: str, value: object) -> InvalidSpec:
        return InvalidSpec(
            f"{self.where} {key} is {value!r}, a {type(value).__name__}; expected a {expected}",
            hint="correct that line",
        )
