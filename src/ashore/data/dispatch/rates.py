"""Rates of a back end, learned from its answers.

Each rate is tokens over seconds, summed over answers with decaying weights. So a long answer counts for more than a
short one, and the actual mix sets the rate. The rate of a full device can be observed only when it is full. Until then
it is estimated as the sum of its streams: an estimate that is too high attracts more requests, which correct it; one
that is too low would never be tested.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FORGET: Final = 0.05
"""Weight of each further answer."""
LEARNED: Final = 3
"""Answers after which the rates of a back end are taken for true."""
ALONE: Final = 1.5
"""Up to this many concurrent requests, an answer shows the single-stream rate."""
SLOWED: Final = 0.7
"""A stream below this share of its single-stream rate shows that the device is full."""
SPEAKING_TOKENS: Final = 16
"""Shorter prompts and answers say more about everything else."""
BATCH: Final = 16
"""Streams that a device is taken to answer at their whole rate before it was seen to be slower."""


@dataclass(slots=True)
class _Rate:
    """Tokens over seconds."""

    tokens: float
    seconds: float

    @property
    def per_s(self) -> float:
        return self.tokens / self.seconds

    def take(self, tokens: float, seconds: float, *, first: bool) -> None:
        kept = 0.0 if first else 1.0 - FORGET
        self.tokens = kept * self.tokens + tokens
        self.seconds = kept * self.seconds + max(1e-6, seconds)


@dataclass(slots=True)
class Rates:
    """The rates of one device of a back end; a guess until there are observations."""

    answers: int = 0
    """That were learned from."""
    prefill: _Rate = field(default_factory=lambda: _Rate(500.0, 1.0))
    stream: _Rate = field(default_factory=lambda: _Rate(20.0, 1.0))
    full_per_s: float = 0.0
    """Tokens a second of all streams of a full device together; 0: it was not seen full."""
    _seen: set[str] = field(default_factory=set)

    def decode_per_s(self, max_running: int) -> float:
        """Return the total tokens per second of a device that runs so many streams at once."""
        return max(self.stream.per_s, self.full_per_s or self.stream.per_s * min(max_running, BATCH))

    def learn(self, *, prompt_tokens: int, first_s: float, output_tokens: int, decode_s: float, at_once: float) -> None:
        """Learn from one answer.

        Args:
            prompt_tokens: Prompt tokens computed for it, without prefix cache hits.
            first_s: From its beginning to its first token.
            output_tokens: Generated tokens.
            decode_s: From the first to the last of them.
            at_once: Mean number of requests that the device answered meanwhile, this one included.
        """
        self.answers += 1
        is_alone = at_once <= ALONE
        if prompt_tokens >= SPEAKING_TOKENS and (is_alone or prompt_tokens / max(1e-6, first_s) > self.prefill.per_s):
            self._take("prefill", self.prefill, prompt_tokens, first_s)
        if output_tokens < SPEAKING_TOKENS or decode_s <= 0:
            return
        per_s = (output_tokens - 1) / decode_s
        if is_alone or per_s > self.stream.per_s:
            self._take("stream", self.stream, output_tokens - 1, decode_s)
            return
        together = per_s * at_once
        if per_s < SLOWED * self.stream.per_s:
            known = self.full_per_s or together
            self.full_per_s = known + 4 * FORGET * (together - known)
        elif self.full_per_s:
            self.full_per_s = max(self.full_per_s, together)

    def _take(self, name: str, rate: _Rate, tokens: float, seconds: float) -> None:
        rate.take(tokens, seconds, first=name not in self._seen)
        self._seen.add(name)
