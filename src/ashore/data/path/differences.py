"""Computes how an answer of a candidate differs from one of the live release. Nothing here waits."""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass
from typing import Final

from ashore.data.authority import Principal
from ashore.data.path.model import GenerationRequest
from ashore.data.path.schemas import Fits
from ashore.data.releases import MUCH_SLOWER, SLOWER, WHOLE

MOST_BESIDE: Final = 32
"""Limit of live answers that are compared with one of a candidate."""
LEAST_PIECES: Final = 5
"""An answer in fewer pieces has no meaningful time per token: ending it takes most of its time."""

_REFUSAL: Final = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry|i can(?:no|')t|i am unable|i'm unable|抱歉|对不起|很抱歉|我无法|我不能)",
    re.IGNORECASE,
)
_EAST_ASIAN: Final = (
    ("Japanese", re.compile("[\u3041-\u30ff]")),
    ("Korean", re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]")),
    ("Chinese", re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")),
)
"""By what no text in another language has: kana before Hangul before Han, which Japanese and Korean have too."""
_SCRIPTS: Final = (
    ("Latin", re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")),
    ("Cyrillic", re.compile("[\u0400-\u052f]")),
    ("Arabic", re.compile("[\u0600-\u06ff\u0750-\u077f]")),
    ("Devanagari", re.compile("[\u0900-\u097f]")),
    ("Greek", re.compile("[\u0370-\u03ff]")),
    ("Hebrew", re.compile("[\u0590-\u05ff]")),
    ("Thai", re.compile("[\u0e00-\u0e7f]")),
)
OTHER_SCRIPTS: Final = "other scripts"
READ_CHARS: Final = 2_000
"""Characters of a question that are read to find its script."""
_SPACE: Final = re.compile(r"\s+")


@dataclass(slots=True, kw_only=True)
class Observation:
    """One observed answer, as the comparison uses it."""

    at_s: float
    failed: bool = False
    per_token_s: float = 0.0
    """0 where it came in fewer than `LEAST_PIECES`."""
    text: str = ""
    """Its content, without reasoning."""
    calls: bool = False
    """Whether it calls tools."""
    cut_off: bool = False
    """Whether it ran into its length limit."""
    tokens: int = 0
    first_token_s: float = 0.0
    """0 where there was none."""
    defect: bool = False
    """Whether it is empty, refuses, is not the requested JSON, or was cut off by its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Outcomes of live answers that are compared with one of a candidate."""

    count: int
    failed: int


class Endings:
    """Outcomes of the latest live answers, until they are compared with one of a candidate."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, bool]] = deque(maxlen=MOST_BESIDE)

    def add(self, at_s: float, failed: bool) -> None:
        """Add one outcome."""
        self._kept.append((at_s, failed))

    def take(self, since_s: float, *, most: int = MOST_BESIDE) -> Beside:
        """Return up to so many of the oldest outcomes since a moment. Each is compared with one answer.

        The rest waits for the next one: with two live answers followed by two of a candidate, each is paired once,
        instead of both with the first.
        """
        while self._kept and self._kept[0][0] < since_s:
            self._kept.popleft()
        fresh = [self._kept.popleft()[1] for _ in range(min(most, len(self._kept)))]
        return Beside(count=len(fresh), failed=sum(fresh))


def beside_each(share: int) -> int:
    """Return how many live answers one canary answer is compared with, by its share in thousandths."""
    return min(MOST_BESIDE, max(1, round((WHOLE - share) / share))) if share else MOST_BESIDE


def compared(live: Observation, other: Observation, *, timed: bool) -> dict[str, float]:
    """Return the differences between a candidate's and a live answer, by measure; failures excluded.

    `timed`: both ran under the same conditions, so their speeds are comparable. For the same request, `exact` is 1 for
    equal texts and `agreement` for equal words. Measures that are not in `BY_NAME` are only shown.
    """
    values: dict[str, float] = {}
    if timed and live.per_token_s and other.per_token_s:
        values["slower"] = slowness(other.per_token_s, live.per_token_s)
    if not other.failed and not live.failed:
        values["defects"] = float(other.defect) - float(live.defect)
        for whose, seen in (("live", live), ("candidate", other)):
            values |= {f"refusals of {whose}": float(is_refusal(seen)), f"cut-offs of {whose}": float(seen.cut_off)}
            values[f"tokens of {whose}"] = seen.tokens
        if timed:
            values |= {"first token of live (ms)": live.first_token_s * 1e3}
            values |= {"first token of candidate (ms)": other.first_token_s * 1e3}
        else:
            values["exact"] = float(live.text == other.text)
            values["agreement"] = float(plain(live.text) == plain(other.text))
    return values


def slowness(per_token_s: float, beside_s: float) -> float:
    """Return how much slower an answer was than its pair, from 0 to 1.

    0.5 at `SLOWER` times the time per token, 1 from 1.48 times on and 0 up to 0.81 times, by the logarithm in between.

    For two equal releases the logarithms are symmetric, so the mean is below 0.5.
    """
    ratio = math.log(per_token_s / beside_s / SLOWER)
    return min(1.0, max(0.0, 0.5 + ratio / (2 * MUCH_SLOWER)))


def is_defect(seen: Observation, fits: Fits | None) -> bool:
    """Return whether an answer is empty, refuses, breaks its required format, or was cut off by its length."""
    if not (seen.text.strip() or seen.calls) or seen.cut_off or is_refusal(seen):
        return True
    return fits is not None and not seen.calls and not fits(seen.text)


def is_refusal(seen: Observation) -> bool:
    """Return whether an answer begins like a refusal, in English or Chinese."""
    return _REFUSAL.match(seen.text) is not None


def plain(text: str) -> str:
    """Return a text normalised for comparison: case-folded, runs of white space as one blank."""
    return _SPACE.sub(" ", text).strip().casefold()


def question_of(request: GenerationRequest) -> str:
    """Return the last question; empty for token ids."""
    if request.prompt is not None:
        return request.prompt if isinstance(request.prompt, str) else ""
    return request.messages[-1].content if request.messages else ""


def slices_of(request: GenerationRequest, principal: Principal) -> tuple[str, ...]:
    """Return the slices that a request belongs to: its tenant, its route, its language or script."""
    language = language_of(question_of(request))
    route = request.arrival.route
    return (f"tenant {principal.tenant}", *((f"route {route}",) if route else ()), language)


def language_of(text: str) -> str:
    """Return the language of a text if its script identifies it, otherwise its main script."""
    text = text[:READ_CHARS]
    for language, letters in _EAST_ASIAN:
        if letters.search(text):
            return language
    counts = {script: len(letters.findall(text)) for script, letters in _SCRIPTS}
    most = max(counts, key=lambda script: counts[script])
    return most if counts[most] else OTHER_SCRIPTS
