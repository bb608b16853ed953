"""Chooses the server for an order: rules of health, load and recovery. Pure; times are seconds of one clock.

A server is `new` until it has reported what it serves, `ready` while it answers, `out` once it does not. An unreachable
one returns when a probe succeeds. One on which orders failed gets one trial order after a pause, since a server may
answer probes and no orders. A draining one gets no new orders, and finishes its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from ashore.data.engines.affinity import Affinity, Turn

State = Literal["new", "ready", "out"]

FAILURES_OUT: Final = 3
"""Orders in a row that may fail on a server before it is put out."""
PROBES_OUT: Final = 2
"""Probes in a row that may fail before it is."""
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 30.0


@dataclass(slots=True, kw_only=True, eq=False)
class Backend:
    """One server."""

    url: str
    state: State = "new"
    drains: bool = False
    """Whether it gets no orders because it is draining."""
    reason: str = "not asked yet"
    """Why it is not ready; empty while it is."""
    last_error: str = ""
    """Its last error, also while it is ready."""
    running: int = 0
    waiting_tokens: float = 0.0
    """Prompt tokens of orders without a first token, less those expected in its prefix cache."""
    sent: int = 0
    """Orders since the start."""
    prompt_tokens: int = 0
    """Of whole answers since the start."""
    cached_tokens: int = 0
    """Those of them that its prefix cache had."""
    times_out: int = 0
    by_orders: bool = False
    """Whether orders broke there, so that a probe alone does not bring it back."""
    failures: int = 0
    probes_failed: int = 0
    kind: str = ""
    """What it is, for people."""
    is_outside: bool = False
    """Whether it lies outside of the operator's own networks."""
    pause_s: float = 0.0
    out_s: float = 0.0
    """When it was put out, of one that is out."""
    due_s: float = 0.0
    """When the next trial may be sent, of one that is out."""

    @property
    def name(self) -> str:
        return self.url


class Pool:
    """Every server of one engine."""

    def __init__(self, urls: Collection[str]) -> None:
        self.backends = tuple(Backend(url=url) for url in urls)
        self.affinity = Affinity()

    def set(self, listed: Mapping[str, bool]) -> None:
        """Set the list of servers. The state of remaining ones is kept.

        Args:
            listed: Whether each drains, by address.
        """
        known = {one.url: one for one in self.backends}
        self.backends = tuple(known.get(url) or Backend(url=url) for url in listed)
        for one in self.backends:
            one.drains = listed[one.url]

    @property
    def ready(self) -> tuple[Backend, ...]:
        """The servers that get orders."""
        return tuple(one for one in self.backends if one.state == "ready" and not one.drains)

    @property
    def lost_s(self) -> float | None:
        """Return when the last server went; None while one is ready, or may be: one that was not asked yet."""
        if any(one.state != "out" for one in self.backends):
            return None
        return max((one.out_s for one in self.backends), default=None)

    def pick(self, now_s: float, tried: Collection[str] = (), turn: Turn | None = None) -> Backend | None:
        """Return the server for an order, None if none is available now.

        By `Affinity` for a `turn` with an opening. Else the least loaded ready one, of equals the one with the fewest
        orders so far. One on which this order failed only if there is no other. One whose trial is due goes first.
        """
        ready = self.ready
        for one in self.backends:
            is_due = self._awaits_trial(one) and one.due_s <= now_s
            if is_due and not (ready and one.url in tried):
                return one
        fresh = [one for one in ready if one.url not in tried] or ready
        if turn is not None and turn.opening and fresh:
            return self.affinity.choose(turn, fresh)
        return min(fresh, key=lambda one: (one.running, one.sent), default=None)

    def next_trial_s(self) -> float | None:
        """Return when the next trial is due; None if none is pending, or all of them run."""
        return min((one.due_s for one in self.backends if self._awaits_trial(one)), default=None)

    @staticmethod
    def _awaits_trial(one: Backend) -> bool:
        return one.state == "out" and one.by_orders and not one.running and not one.drains

    @contextmanager
    def running(self, one: Backend, turn: Turn | None = None) -> Iterator[None]:
        """Count an order that runs on a server; its `turn` as waiting until it begins."""
        one.running += 1
        one.sent += 1
        if turn is not None:
            turn.wait_at(one)
        try:
            yield
        finally:
            one.running -= 1
            if turn is not None:
                turn.begin_at(one)

    def ended(self, one: Backend, turn: Turn, cached_tokens: int) -> None:
        """Count a whole answer whose server reports its prefix cache, and learn from it."""
        one.prompt_tokens += turn.prompt_tokens
        one.cached_tokens += cached_tokens
        self.affinity.learn(turn, cached_tokens)

    def answered(self, one: Backend) -> bool:
        """Record that an order got its first token there; return whether that brought the server back."""
        one.failures = 0
        if one.state == "ready":
            return False
        self._bring_back(one)
        return True

    def failed(self, one: Backend, why: str, now_s: float, *, refused: bool) -> bool:
        """Record that an order without a token failed there; return whether that put the server out. `refused`:
        connection refused, so it is out at once."""
        one.failures += 1
        one.last_error = why
        if one.state == "ready" and not refused and one.failures < FAILURES_OUT:
            return False
        if one.state == "out" and now_s < one.due_s:
            return False  # it was sent before the server was put out
        was_ready = one.state == "ready"
        self._put_out(one, why, now_s, by_orders=not refused)
        return was_ready

    def probed(self, one: Backend, now_s: float, *, why: str = "") -> bool:
        """Record the result of a probe, `why` being its error; return whether that changed the server's state."""
        if why:
            one.probes_failed += 1
            one.last_error = why
            if one.state == "ready" and one.probes_failed < PROBES_OUT:
                return False
            was_ready = one.state == "ready"
            if was_ready or one.state == "new":
                self._put_out(one, why, now_s, by_orders=False)
            else:
                one.reason = why
            return was_ready
        one.probes_failed = 0
        if one.state == "ready" or (one.state == "out" and one.by_orders):
            return False
        self._bring_back(one)
        return True

    def silenced(self, one: Backend, why: str, now_s: float) -> None:
        """Record that a server with orders has gone silent."""
        one.last_error = why
        self._put_out(one, why, now_s, by_orders=False)

    @staticmethod
    def _bring_back(one: Backend) -> None:
        one.state, one.reason, one.by_orders = "ready", "", False
        one.failures = one.probes_failed = 0
        one.pause_s = 0.0

    @staticmethod
    def _put_out(one: Backend, why: str, now_s: float, *, by_orders: bool) -> None:
        one.times_out += one.state == "ready"
        one.out_s = one.out_s if one.state == "out" else now_s
        one.state, one.reason, one.by_orders = "out", why, by_orders
        one.pause_s = min(LONGEST_PAUSE_S, 2 * one.pause_s) if one.pause_s else FIRST_PAUSE_S
        one.due_s = now_s + one.pause_s
