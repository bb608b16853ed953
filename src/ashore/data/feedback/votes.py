"""The content of a vote, from any API. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

import msgspec

from ashore.core.errors import InvalidRequest, Overloaded

Rating = Literal["up", "down"]
MOST_CORRECTION_CHARS: Final = 65_536
PER_S: Final = 10.0
"""Votes of one voter, in each worker."""
AT_ONCE: Final = 100
"""Votes that a voter may give before that counts: one request of Langfuse's clients brings so many."""
MOST_VOTERS: Final = 10_000
"""Voters that are remembered before those are forgotten who may give `AT_ONCE` again."""
MOST_TAGS: Final = 16
MOST_ID_CHARS: Final = 200

_PREFIX: Final = re.compile(r"\A(?:chatcmpl-|cmpl-|msg_|req_)")
_UP: Final = frozenset(("up", "positive", "good", "like", "liked", "thumbs_up", "true", "yes"))
_DOWN: Final = frozenset(("down", "negative", "bad", "dislike", "disliked", "thumbs_down", "false", "no"))

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_ID_CHARS)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Feedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vote on one answer. The last one of a voter counts."""

    id: Id
    """Id of the answer: `chatcmpl-…`, `resp_…` or `msg_…`."""
    rating: Rating | msgspec.UnsetType | None = msgspec.UNSET
    """`up` or `down`; null takes the whole vote back."""
    score: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """How good the answer is, from 0 to 1. Without `rating`, 0.5 or more counts as `up`."""
    correction: Annotated[str, msgspec.Meta(max_length=MOST_CORRECTION_CHARS)] | None = None
    """What the answer should have been."""
    preferred: Id | None = None
    """Id of another answer to the same question, which is better."""
    tags: Annotated[list[Tag], msgspec.Meta(max_length=MOST_TAGS)] = []
    user: Annotated[str, msgspec.Meta(max_length=200)] = ""
    """Who got the answer, where that was not the caller. Needs the right `feedback:review`."""

    @property
    def takes_back(self) -> bool:
        """Whether it removes the earlier vote."""
        return self.rating is None

    def verdict(self) -> Rating | Literal[""]:
        """Return the rating, also if implied by a score, a correction or a better answer; empty if there is none."""
        if isinstance(self.rating, str):
            return self.rating
        if self.score is not None:
            return "up" if self.score >= 0.5 else "down"
        return "down" if self.correction is not None or self.preferred is not None else ""

    def check(self) -> None:
        """Check that the vote has content.

        Raises:
            InvalidRequest: it says nothing, or contradicts itself.
        """
        said = (self.score, self.correction, self.preferred)
        if self.takes_back:
            if any(one is not None for one in said) or self.tags:
                raise InvalidRequest(
                    "rating null takes the vote back, and the other fields give one",
                    hint='send {"id": "…", "rating": null} alone to take a vote back',
                    param="rating",
                )
            return
        if not self.verdict() and not self.tags:
            raise InvalidRequest(
                "the vote says nothing", hint='send rating ("up", "down"), score, correction, preferred or tags'
            )
        if self.correction is not None and not self.correction.strip():
            raise InvalidRequest("the correction is empty", hint="leave it out, or send a text", param="correction")
        if self.rating == "up" and self.preferred is not None:
            raise InvalidRequest(
                "rating up and preferred contradict each other: preferred names a better answer",
                hint="send the vote up for the better answer",
                param="preferred",
            )


class Score(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A score as Langfuse clients send it. Langfuse fields that do not describe an answer are ignored."""

    trace_id: Id
    """Id of the answer."""
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    value: float | bool | str
    data_type: Literal["NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION"] | None = None
    comment: str | None = None
    """With the name `correction`, or a value that is one: what the answer should have been."""
    id: str | None = None
    observation_id: str | None = None


def feedback_of_score(score: Score) -> Feedback:
    """Return a score as a vote.

    Booleans and numbers from 0 to 1 are a score; known words are a rating; the name `correction` has a text. Anything
    else becomes the tag `name=value`, so that nothing is lost.

    Raises:
        InvalidRequest: the correction is longer than that of a vote may be.
    """
    value = score.value
    if score.data_type == "CORRECTION" or (score.name == "correction" and isinstance(value, str)):
        return Feedback(id=score.trace_id, correction=_short(str(value)))
    tag = f"{score.name}={_shown(value)}"[:64]
    if isinstance(value, str):
        word = value.strip().lower().replace("-", "_")
        rating: Any = "up" if word in _UP else "down" if word in _DOWN else msgspec.UNSET
        return Feedback(id=score.trace_id, rating=rating, tags=[tag])
    number = float(value)
    if 0 <= number <= 1:
        return Feedback(id=score.trace_id, score=number, tags=[tag])
    return Feedback(id=score.trace_id, tags=[tag])


def _short(correction: str) -> str:
    check_correction(correction, MOST_CORRECTION_CHARS, param="value")
    return correction


def check_correction(correction: str, most_chars: int, *, param: str = "correction") -> None:
    """Check that a correction is no longer than an answer may be.

    Raises:
        InvalidRequest: it is longer.
    """
    if len(correction) > most_chars:
        raise InvalidRequest(
            f"the correction has {len(correction):,} characters; an answer of this model has at most {most_chars:,}",
            hint="send what the answer should have been, and nothing else",
            param=param,
        )


class VotePace:
    """Rate limit of a voter: `AT_ONCE` votes, and `PER_S` more each second. Used on one event loop."""

    def __init__(self) -> None:
        self._left: dict[tuple[str, str], tuple[float, float]] = {}
        """Of each tenant and voter: how many were left, and when that was."""

    @property
    def num_voters(self) -> int:
        """Voters that are remembered."""
        return len(self._left)

    def take(self, voter: tuple[str, str], now_s: float) -> None:
        """Count one vote.

        Raises:
            Overloaded: the voter has no votes left.
        """
        if len(self._left) >= MOST_VOTERS:
            self._left = {who: one for who, one in self._left.items() if _left(one, now_s) < AT_ONCE}
        left = _left(self._left.get(voter, (AT_ONCE, now_s)), now_s)
        if left < 1:
            raise Overloaded(
                f"{voter[1]} has given more than {AT_ONCE} votes in the last seconds",
                hint=f"send at most {PER_S:g} votes a second",
                retry_after_s=1,
            )
        self._left[voter] = left - 1, now_s


def _left(before: tuple[float, float], now_s: float) -> float:
    return min(AT_ONCE, before[0] + PER_S * (now_s - before[1]))


def answer_key(answer_id: str) -> str:
    """Return the key that stores an answer: its id without the prefix of its route."""
    return _PREFIX.sub("", answer_id, count=1)


def _shown(value: float | bool | str) -> str:
    return value if isinstance(value, str) else f"{value:g}" if not isinstance(value, bool) else str(int(value))
