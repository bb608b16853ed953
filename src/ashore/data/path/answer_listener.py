"""Observes one answer for a comparison with another."""

from __future__ import annotations

from dataclasses import dataclass, field

from ashore.data.authority import Principal
from ashore.data.path.differences import LEAST_PIECES, Observation, is_defect
from ashore.data.path.model import ChoiceEnded, Delta, GenerationRequest, Scored, ServingEvent, Usage
from ashore.data.path.models import LoadedModel
from ashore.data.path.schemas import Fits


@dataclass(slots=True, kw_only=True)
class Trial:
    """Observer of one answer."""

    request: GenerationRequest
    principal: Principal
    model: LoadedModel
    began_s: float
    level: int = 0
    """Level of load at its start, see `Arrivals`."""
    copied: bool = False
    """Whether a shadow gets a copy of the request once the answer has ended."""
    keeps_text: bool = True
    fits: Fits | None = None
    """Checks its text against the request's format; None: it does not ask for JSON."""
    first_s: float = 0.0
    last_s: float = 0.0
    content: list[str] = field(default_factory=list)
    """Generated text without reasoning."""
    scored: Scored | None = None
    events: int = 0
    tokens: int = 0
    calls: bool = False
    ended: bool = False
    cut_off: bool = False
    lowered: bool = False
    """Whether it was computed less exactly than the release does at its best, and so is not comparable."""
    partner: Trial | None = None
    """The paired request of the other release, with a canary."""
    seen: Observation | None = None
    """Set when it has ended, with a canary."""

    def hear(self, event: ServingEvent, now_s: float) -> None:
        """Process the next event of a fresh answer."""
        if isinstance(event, Delta):
            if not self.events:
                self.first_s = now_s
            self.last_s = now_s
            self.events += 1
            if self.keeps_text:
                self.content.append(event.text)
            self.calls = self.calls or bool(event.tool_calls)
        elif isinstance(event, ChoiceEnded):
            self.ended, self.cut_off = True, self.cut_off or event.reason == "length"
        elif isinstance(event, Usage):
            self.tokens, self.scored, self.lowered = event.completion_tokens, event.scored, event.lowered

    def observation(self, *, failed: bool) -> Observation:
        """Return the observation for the comparison."""
        span = self.last_s - self.first_s
        seen = Observation(
            at_s=self.last_s or self.began_s,
            failed=failed,
            per_token_s=span / (self.events - 1) if self.events >= LEAST_PIECES else 0.0,
            text="".join(self.content),
            calls=self.calls,
            cut_off=self.cut_off,
            tokens=self.tokens,
            first_token_s=max(0.0, self.first_s - self.began_s),
        )
        seen.defect = self.keeps_text and not failed and is_defect(seen, self.fits)
        return seen
