"""The rules of releases: which moves exist, which request gets which release, whether memory suffices for two. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from types import MappingProxyType
from typing import Final, Literal

from ashore.core.bytesize import human_bytes
from ashore.core.errors import Conflict, InvalidRequest, MemoryFull
from ashore.data.releases.model import WHOLE, ReleaseState

Verb = Literal["warm", "shadow", "canary", "promote", "standby", "retire", "fail"]

MOVES: Final[Mapping[Verb, frozenset[ReleaseState]]] = MappingProxyType(
    {
        "warm": frozenset({"created", "retired"}),
        "shadow": frozenset({"warming", "shadow", "canary", "standby"}),
        "canary": frozenset({"warming", "shadow", "canary", "standby"}),
        "promote": frozenset({"warming", "shadow", "canary", "standby"}),
        "standby": frozenset({"warming", "shadow", "canary", "live", "standby"}),
        "retire": frozenset({"created", "warming", "shadow", "canary", "standby", "live"}),
        "fail": frozenset({"warming", "shadow", "canary", "live", "standby"}),
    }
)
"""From which states each move may be made. A live release is retired only where another one answers in its place, which
`changes.py` sees to; a failed one goes nowhere: what failed is tried again as a new release."""

LEADS_TO: Final[Mapping[Verb, ReleaseState]] = MappingProxyType(
    {
        "warm": "warming",
        "shadow": "shadow",
        "canary": "canary",
        "promote": "live",
        "standby": "standby",
        "retire": "retired",
        "fail": "failed",
    }
)
SPARE_BYTES: Final = 256 << 20
"""Left free beside a second release: buffers of its engine, and what the system needs to breathe."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:?=&%@/+~-]{0,199}")


def after(release: str, state: ReleaseState, verb: Verb) -> ReleaseState:
    """Return the state that a move leads to.

    Raises:
        Conflict: the move is not allowed from this state; the message names the states that allow it.
    """
    allowed = MOVES[verb]
    if state not in allowed:
        raise Conflict(
            f"release {release} is {state}; {verb} needs a release that is {' or '.join(sorted(allowed))}",
            hint="create a new release to try again: `ashore release create`"
            if state == "failed"
            else f"see `ashore release show {release}`",
        )
    return LEADS_TO[verb]


def check_name(name: str, what: str) -> str:
    """Return a name that is safe in a header, a path and a file.

    Raises:
        InvalidRequest: it is not.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:60]!r} is not a valid name for {what}",
            hint="use at most 200 letters, digits and . _ : - @ / and begin with a letter or digit",
            param="name",
        )
    return name


def next_name(alias: str, taken: Iterable[str]) -> str:
    """Return the name of the next release of an alias: `chat-3` after `chat-2`; gaps are not filled."""
    numbers = [0]
    for name in taken:
        stem, _, number = name.rpartition("-")
        if stem == alias and number.isdigit():
            numbers.append(int(number))
    return f"{alias}-{max(numbers) + 1}"


def check_share(share: int, what: str) -> int:
    """Return a share in thousandths.

    Raises:
        InvalidRequest: it is not a share, or zero.
    """
    if not 1 <= share <= WHOLE:
        raise InvalidRequest(
            f"{what} is {share / 10:g} %; expected 0.1 to 100", hint="--share 10 is ten percent", param="share"
        )
    return share


def check_steps(share: int, steps: Sequence[int]) -> tuple[int, ...]:
    """Return the later shares of a canary.

    Raises:
        InvalidRequest: they do not rise.
    """
    line = (share, *(check_share(step, "a step") for step in steps))
    if any(a >= b for a, b in pairwise(line)):
        told = ", ".join(f"{step / 10:g}" for step in line)
        raise InvalidRequest(
            f"the steps are {told} %: each must be higher than the one before",
            hint=f"{share / 10:g} % is the share that the canary begins with; --share changes it",
            param="steps",
        )
    return tuple(steps)


def check_weights(alias: str, weights: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Return the weights of an alias, sorted.

    Raises:
        InvalidRequest: they do not come to 1000, or one is zero.
    """
    if not weights or any(weight < 1 for weight in weights.values()) or sum(weights.values()) != WHOLE:
        told = ", ".join(f"{name}={weight / 10:g}" for name, weight in weights.items()) or "nothing"
        raise InvalidRequest(
            f"alias {alias} would point to {told}; the shares add up to {sum(weights.values()) / 10:g} %, expected 100",
            hint=f"give one release, or shares that add up to 100: `ashore alias set {alias} RELEASE=90 OTHER=10`",
            param="weights",
        )
    return tuple(sorted(weights.items()))


def with_share(weights: Sequence[tuple[str, int]], release: str, share: int) -> tuple[tuple[str, int], ...]:
    """Return weights in which a release has `share` thousandths; the others keep their proportions.

    A share of 0 removes it. A release without others always has everything.
    """
    others = [(name, weight) for name, weight in weights if name != release]
    if not others:
        return ((release, WHOLE),)
    if share >= WHOLE:
        return ((release, WHOLE),)
    rest, total = WHOLE - share, sum(weight for _, weight in others)
    scaled = [(name, weight * rest // total) for name, weight in others]
    short = rest - sum(weight for _, weight in scaled)
    scaled[0] = (scaled[0][0], scaled[0][1] + short)
    kept = [(name, weight) for name, weight in scaled if weight > 0]
    return tuple(sorted([*kept, *([(release, share)] if share else [])]))


def choose(weights: Sequence[tuple[str, int]], key: bytes) -> str:
    """Return the release that `key` gets. The same key gets the same release while the weights are unchanged.

    When a weight grows, keys come to its release and none leaves it: each release draws a number from the key, and the
    largest of `weight / -ln(draw)` wins. Source: weighted rendezvous hashing (Schindelhauer and Schomaker 2005).
    """
    if len(weights) == 1:
        return weights[0][0]
    best, winner = -1.0, weights[0][0]
    for name, weight in weights:
        digest = blake2b(key, digest_size=8, key=name.encode()[:64]).digest()
        draw = (int.from_bytes(digest, "big") + 0.5) / 2**64
        score = weight / -math.log(draw)
        if score > best:
            best, winner = score, name
    return winner


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFigures:
    """The memory that a second release needs, and what is free."""

    needed_bytes: int
    free_bytes: int

    @property
    def fits(self) -> bool:
        return self.needed_bytes == 0 or self.needed_bytes + SPARE_BYTES <= self.free_bytes


def check_memory(release: str, figures: MemoryFigures, *, cold: bool, gives_back_bytes: int = 0) -> None:
    """Check that a release can be loaded: beside the loaded releases or, with `cold`, in their place.

    Args:
        release: For the message.
        figures: Of the machine now.
        cold: Whether what is warm for the alias ends first.
        gives_back_bytes: What that frees.

    Raises:
        MemoryFull: it cannot; the message has both figures.
    """
    free = figures.free_bytes + (gives_back_bytes if cold else 0)
    if MemoryFigures(needed_bytes=figures.needed_bytes, free_bytes=free).fits:
        return
    beside = "in place of the loaded releases" if cold else "beside the loaded releases"
    raise MemoryFull(
        f"release {release} needs {human_bytes(figures.needed_bytes)} and {human_bytes(SPARE_BYTES)} to spare "
        f"{beside}; {human_bytes(free)} are free",
        hint="use a smaller variant or fewer replicas, or free memory"
        if cold
        else f"`--cold-standby` ends the loaded release first, which frees {human_bytes(gives_back_bytes)}: requests "
        "wait while the new one loads, and again during a rollback; or run `ashore release retire` on a standby",
    )
