"""One look: figures that only grow, by name, at one moment. Two looks give rates."""

from __future__ import annotations

import msgspec


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted at one moment. Kept in the home for `--since`; holds no content of requests."""

    at_s: float
    """Seconds since 1970."""
    mono_s: float
    """Of the machine's clock that nobody sets back."""
    boot: str
    """Which start of the machine it belongs to; counters of another one say nothing."""
    numbers: dict[str, float]
    """`cpu.user`, `group.PATH.throttled`, `process.PID@START.cpu`…"""
    page: str = ""
    """The server's page of metrics; empty: it gave none."""
    server: int = 0
    """Process of the supervisor; 0: none runs."""


class Between:
    """What happened between two looks."""

    def __init__(self, before: Look | None, after: Look) -> None:
        """Compare them. Without an earlier look, or with one of another boot, nothing has grown."""
        self.after = after
        self.before = before if before is not None and before.boot == after.boot else None

    @property
    def span_s(self) -> float:
        return 0.0 if self.before is None else max(0.0, self.after.mono_s - self.before.mono_s)

    @property
    def stepped_s(self) -> float:
        """How much further the wall clock went than the other one."""
        if self.before is None:
            return 0.0
        return (self.after.at_s - self.before.at_s) - self.span_s

    @property
    def page_before(self) -> str | None:
        """The earlier page of the same server. None where there is none: then nothing is known to have grown."""
        if self.before is None or self.before.server != self.after.server:
            return None
        return self.before.page or None

    def now(self, name: str) -> float:
        return self.after.numbers.get(name, 0.0)

    def grew(self, name: str) -> float:
        """Return how much a figure grew; 0 where one of the looks lacks it, or it began anew."""
        if self.before is None or name not in self.before.numbers or name not in self.after.numbers:
            return 0.0
        return max(0.0, self.after.numbers[name] - self.before.numbers[name])

    def per_s(self, name: str) -> float:
        return self.grew(name) / self.span_s if self.span_s else 0.0
