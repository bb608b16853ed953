"""What a client accepts as an answer, given as HTTP header or gRPC metadata: precision, and the model that gives it."""

from __future__ import annotations

from typing import Final

from ashore.core.errors import InvalidRequest

MIN_PRECISION: Final = "x-ashore-min-precision"
FALLBACK: Final = "x-ashore-fallback"
MOST_CHARS: Final = 16


def min_precision(given: str) -> str:
    """Return the precision in `x-ashore-min-precision`, empty if it is not given.

    Raises:
        InvalidRequest: it is not the name of a precision.
    """
    if given and (len(given) > MOST_CHARS or not (given.isascii() and given.isalnum())):
        raise InvalidRequest(
            f"the header {MIN_PRECISION} is {given[:40]!r}; expected a precision of the model, such as fp16",
            hint="correct the header, or omit it",
            param=MIN_PRECISION,
        )
    return given


def may_fall_back(given: str) -> bool:
    """Return whether another alias may answer in place of the asked one: yes, unless `x-ashore-fallback` is `off`.

    Raises:
        InvalidRequest: it is another word.
    """
    if given not in ("", "on", "off"):
        raise InvalidRequest(
            f"the header {FALLBACK} is {given[:40]!r}; expected on or off",
            hint="correct the header, or omit it",
            param=FALLBACK,
        )
    return given != "off"
