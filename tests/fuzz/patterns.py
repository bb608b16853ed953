"""Every compiled expression of ashore on texts that repeat one piece: time in proportion to the length.

`re` holds the interpreter while it searches, so one that takes the square of a long text stops all requests. Run by
`make fuzz ARGS=patterns`, which prints the worst; `test_fuzz.py` runs a sample.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import ashore

PIECES: Final = (
    "a", "A", "0", " ", "\n", "\t", "[", "]", "{", "}", "(", ")", "<", ">", '"', "'", "\\", "/", "-", ".", "_",
    ":", "=", ",", "@", "#", "%", "|", "&", ";", "$", "*", "+", "!", "?", "`", "~", "^", "é", "中", "a ", "a.",
    "a-", "1.", "1-", "1 ", "a@", "@a", "a.b", "\r\n", "[[", "{{", "{%", "```", "<a", "<|", "a:", "a=", "0a",
    '"a', '\\"', "//", "/*", "a/", "a,", "::", " \n", "ab ", "AB", "x=", "-----BEGIN ", "1234 ", "12-", "(1)",
    "a_", "</", "key: ", "http://a", "a@b",
)  # fmt: skip
AROUND: Final = (("", ""), ("x", "\x00"), ("[", ""), ('"', ""), ("a", ""), ("http://", ""), ("{", ""), ("<", ""))
CHARS: Final = 2_000
GROWS: Final = 8.0
"""Times that four times the text may take: 4 in proportion, 16 the square."""
SHORT_S: Final = 0.004
"""What takes less for `CHARS` takes less than a second for the longest text that anything here is searched in."""
HANGS_S: Final = 3.0
TRIES: Final = 3
AT_ONE_PLACE: Final = frozenset(("match", "fullmatch"))
OWN: Final = {
    "ashore.data.authority.policy": "rules of the security officer",
    "ashore.data.http.vllmnames": "metrics of our own",
    "ashore.core.outward": "errors of our own",
    "ashore.control.doctor.bundle": "logs of our own",
    "ashore.control.doctor.samples": "metrics of our own",
    "ashore.data.engines.openvino.products": "names in a graph that was made here",
    "ashore.data.privacy.page._WORD_BEFORE": "25 characters in front of a place",
    "ashore.kit.store.meant": "names that an operator types",
}
"""Modules and expressions that see only short texts, or texts that no request brings."""
STARTS_WORK: Final = ("__main__", ".main", "grammarchild", "guard")
"""Modules that do their work when they are imported."""


class _Hangs(Exception):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """The text on which an expression took the longest."""

    where: str
    pattern: str
    piece: tuple[str, str, str]
    took_s: float
    """For `CHARS`."""
    grows: float
    """Times that four times the text took."""

    @property
    def is_bad(self) -> bool:
        return self.grows > GROWS

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.took_s * 1000:.1f} ms for {CHARS} characters, {self.grows:.0f} times that for four "
            f"times as many, of {self.piece!r}: {self.pattern[:90]!r}"
        )


def expressions() -> dict[str, re.Pattern[Any]]:
    """Return every compiled expression of a module or class of ashore that a request may bring text to, by place."""
    found: dict[tuple[Any, int], tuple[str, re.Pattern[Any]]] = {}

    def look(where: str, value: object, depth: int = 0) -> None:
        if isinstance(value, re.Pattern):
            found.setdefault((value.pattern, value.flags), (where, value))
        elif depth < 3 and isinstance(value, dict):
            for key, one in list(value.items()):
                look(f"{where}[{key!r}]"[:200], one, depth + 1)
        elif depth < 3 and isinstance(value, tuple | list | set | frozenset):
            for one in value:
                look(where, one, depth + 1)
        elif depth < 2 and isinstance(value, type) and value.__module__.startswith("ashore"):
            for name, one in list(vars(value).items()):
                look(f"{where}.{name}", one, depth + 1)

    for module in sorted(one.name for one in pkgutil.walk_packages(ashore.__path__, "ashore.")):
        if any(word in module for word in STARTS_WORK):
            continue
        with suppress(ImportError):  # of an extra that is not installed
            for name, value in list(vars(importlib.import_module(module)).items()):
                if not name.startswith("__"):
                    look(f"{module}.{name}", value)
    return {where: pattern for where, pattern in found.values() if not where.startswith(tuple(OWN))}


def uses_of(where: str) -> frozenset[str]:
    """Return how a module uses its own expression: to match at one place takes less than to search everywhere."""
    module, _, name = where.partition("[")[0].rpartition(".")
    source = inspect.getsource(sys.modules[module]) if name.startswith("_") and module in sys.modules else ""
    used = frozenset(re.findall(rf"\b{name}\.(\w+)\(", source))
    return used if used and used <= AT_ONE_PLACE else frozenset(("search", *AT_ONE_PLACE))


def took_s(pattern: re.Pattern[Any], text: str, uses: frozenset[str]) -> float:
    """Return the time of these uses; `HANGS_S` if it takes longer."""
    subject: Any = text.encode() if isinstance(pattern.pattern, bytes) else text
    began = time.perf_counter()
    signal.setitimer(signal.ITIMER_REAL, HANGS_S)
    try:
        if "search" in uses:
            for _ in pattern.finditer(subject):
                pass
        for use in AT_ONE_PLACE & uses:
            getattr(pattern, use)(subject)
    except _Hangs:
        return HANGS_S
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return time.perf_counter() - began


def slowest(
    patterns: dict[str, re.Pattern[Any]], pieces: Iterable[str] = PIECES, around: Iterable[tuple[str, str]] = AROUND
) -> Iterator[Worst]:
    """Yield the worst text of each expression that takes noticeable time. Only in the main thread of a process."""

    def hangs(*_: object) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, hangs)
    try:
        texts = [(start, piece, end) for piece, (start, end) in product(pieces, around)]
        for where, pattern in patterns.items():
            uses = uses_of(where)
            took, text = max((took_s(pattern, _text(CHARS, *one), uses), one) for one in texts)
            if took < SHORT_S:
                continue
            short, long = _text(CHARS, *text), _text(4 * CHARS, *text)
            took = min(took, *(took_s(pattern, short, uses) for _ in range(TRIES)))  # other processes run beside
            if took < SHORT_S:
                continue
            longer = HANGS_S if took >= HANGS_S else min(took_s(pattern, long, uses) for _ in range(TRIES))
            grows = longer / took if longer < HANGS_S else float("inf")
            yield Worst(where=where, pattern=str(pattern.pattern), piece=text, took_s=took, grows=grows)
    finally:
        signal.signal(signal.SIGALRM, before)


def _text(chars: int, start: str, piece: str, end: str) -> str:
    return start + piece * (chars // len(piece)) + end


def main() -> int:
    """Print the ten worst, and each that grows with the square."""
    patterns = expressions()
    print(f"{len(patterns)} expressions, {len(PIECES) * len(AROUND)} texts each", flush=True)
    found = sorted(slowest(patterns), key=lambda one: one.grows, reverse=True)
    for number, one in enumerate(found):
        if one.is_bad or number < 10:
            print(one, flush=True)
    return int(any(one.is_bad for one in found))


if __name__ == "__main__":
    sys.exit(main())
