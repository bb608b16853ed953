"""The decisions of tuning, as pure functions: the frontier, which rows deserve more time, the choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, assert_never

import msgspec

from ashore.data.engines.cards import card_of
from ashore.data.engines.tuning.model import GOALS, Candidate, Goal, Machine, Measured, TunedChoice

NOISE: Final = 0.03
"""Figures closer than this share are taken as equal. An assumption: medians of several rounds differ by about a third
of what single rounds do."""

ROUND_NOISE: Final = 0.10
"""How far a single round may be off, as a share: what rounds of one setting differed by on a quiet machine."""

_KV_OPTION: Final = "KV_CACHE_PRECISION"
_KV_BITS: Final = {"u4": 4, "u8": 8, "f16": 16, "bf16": 16, "f32": 32}

Figures = tuple[float, float]
"""One-stream and sixteen-stream tokens per second."""

_MERIT: Final[dict[Goal, Callable[[Figures], float]]] = {
    "latency": lambda point: point[0],
    "throughput": lambda point: point[1],
    "balanced": lambda point: point[0] * point[1],
}
"""What each goal wants most of."""


def figures(row: Measured) -> Figures:
    """Return the coordinates of `row` in latency and throughput."""
    typical = row.typical
    return typical.one_tok_per_s, typical.sixteen_tok_per_s


def frontier(points: Sequence[Figures]) -> tuple[int, ...]:
    """Return the indices of points that no other dominates, fastest single stream first. Equal points all stay."""
    order = sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1]))
    kept: list[int] = []
    best_many = float("-inf")
    for i in order:
        one, many = points[i]
        if many > best_many or (kept and points[kept[-1]] == (one, many)):
            kept.append(i)
            best_many = many
    return tuple(kept)


def cautious(row: Measured) -> Figures:
    """Return a lower bound of the figures of `row`: the fewer the measurements, the lower.

    Among many candidates measured once, the luckiest looks best. It must not beat one that was measured often, except
    by more than chance.
    """
    trust = 1 - ROUND_NOISE / len(row.rounds) ** 0.5
    one, many = figures(row)
    return one * trust, many * trust


def hopeful(row: Measured) -> Figures:
    """Return an upper bound of the figures of `row`: the fewer the measurements, the higher."""
    hope = 1 + ROUND_NOISE / len(row.rounds) ** 0.5
    one, many = figures(row)
    return one * hope, many * hope


def choose(rows: Sequence[Measured], goal: Goal, *, by: Callable[[Measured], Figures] = cautious) -> Measured:
    """Return the best row for `goal`, on the frontier of the figures from `by`. `rows` must not be empty.

    Latency and throughput take the best on their axis; among those within `NOISE` of it, the best on the other axis, so
    that a difference within the noise does not cost a real one. Balanced takes the largest product of both figures.
    """
    points = [by(row) for row in rows]
    match goal:
        case "latency":
            best = _best_with_band(points, along=0)
        case "throughput":
            best = _best_with_band(points, along=1)
        case "balanced":
            best = max(range(len(points)), key=lambda i: (points[i][0] * points[i][1], points[i]))
        case _:
            assert_never(goal)
    return rows[best]


def _best_with_band(points: Sequence[Figures], *, along: int) -> int:
    floor = max(p[along] for p in points) * (1 - NOISE)
    band = [i for i, p in enumerate(points) if p[along] >= floor]
    return max(band, key=lambda i: (points[i][1 - along], points[i][along]))


def leaner(rows: Sequence[Measured], best: Measured) -> Measured:
    """Return a row like `best` with a smaller KV cache and equal speed within the noise; else `best`.

    Half the bytes per token means twice the conversations in the same memory, which the figures do not show.
    """
    floor_one, floor_many = (figure * (1 - NOISE) for figure in cautious(best))
    fits = [best]
    for row in rows:
        one, many = cautious(row)
        if _but_for_kv(row.candidate) == _but_for_kv(best.candidate) and one >= floor_one and many >= floor_many:
            fits.append(row)
    return min(fits, key=lambda r: _KV_BITS.get(str(r.candidate.options.extra.get(_KV_OPTION)), 16))


def _but_for_kv(candidate: Candidate) -> Candidate:
    extra = {key: value for key, value in candidate.options.extra.items() if key != _KV_OPTION}
    return msgspec.structs.replace(candidate, options=msgspec.structs.replace(candidate.options, extra=extra))


def by_promise(rows: Sequence[Measured]) -> tuple[Measured, ...]:
    """Return the rows, most promising first: the best for each goal in turn, then the second best, and so on."""
    left = list(rows)
    ordered: list[Measured] = []
    while left:
        for goal in GOALS:
            if left:
                best = choose(left, goal, by=figures)
                left.remove(best)
                ordered.append(best)
    return tuple(ordered)


def contenders(rows: Sequence[Measured]) -> tuple[Measured, ...]:
    """Return the rows that may still become the best for a goal, including the current best.

    A row is out for a goal once its upper bound is below the lower bound of the best: more rounds would change nothing.
    `rows` may be empty.
    """
    return tuple(row for row in rows if any(_may_win(row, rows, goal) for goal in GOALS))


def _may_win(row: Measured, rows: Sequence[Measured], goal: Goal) -> bool:
    measure = _MERIT[goal]
    return measure(hopeful(row)) >= max(measure(cautious(other)) for other in rows)


def thread_counts(cores: int) -> tuple[int, ...]:
    """Return the thread counts worth trying, most first: every one up to 4 cores, then halves. With hyper-threads or
    limited memory bandwidth fewer than all may be best; more than the cores never is."""
    if cores <= 4:
        return tuple(range(cores, 0, -1))
    counts = []
    while cores >= 1:
        counts.append(cores)
        cores //= 2
    return tuple(counts)


def with_threads(candidate: Candidate, threads: int) -> Candidate:
    """Return `candidate` with another number of threads."""
    return msgspec.structs.replace(candidate, options=msgspec.structs.replace(candidate.options, threads=threads))


def fewer_threads(best: Sequence[Measured], known: Sequence[str], *, cores: int) -> tuple[Candidate, ...]:
    """Return the next candidates: the best rows with fewer threads, unless the label is `known`.

    Only engines whose speed depends on threads are varied; most promising candidates first, and the largest thread
    counts first, to use limited time well.
    """
    found: dict[str, Candidate] = {}
    for threads in thread_counts(cores)[1:]:
        for row in best:
            candidate = with_threads(row.candidate, threads)
            if not card_of(candidate.kind).tuning.why_not and candidate.label not in known:
                found.setdefault(candidate.label, candidate)
    return tuple(found.values())


def tokens_for(tok_per_s: float, *, target_s: float, least: int = 8, most: int = 64) -> int:
    """Return how many tokens a stream must generate, so that a slow model is not measured for minutes, nor a fast
    one with too few tokens to time."""
    return max(least, min(most, round(tok_per_s * target_s)))


def explain(row: Measured, goal: Goal, rows: Sequence[Measured]) -> str:
    """Return in one sentence why `row` was chosen for `goal` among `rows`."""
    one, many = figures(row)
    best_one = max(figures(r)[0] for r in rows)
    best_many = max(figures(r)[1] for r in rows)
    alone = f"{one:.0f} tok/s alone ({one / best_one:.0%} of the best)"
    seen = f"{alone}, {many:.0f} at 16 streams ({many / best_many:.0%})"
    match goal:
        case "latency":
            return f"fastest single stream (within {NOISE:.0%} noise): {seen}"
        case "throughput":
            return f"highest throughput at 16 streams (within {NOISE:.0%} noise): {seen}"
        case "balanced":
            return f"largest product of both speeds: {seen}"
        case _:
            assert_never(goal)


def unlike(recorded: Machine, here: Machine) -> str:
    """Return why a record from `recorded` does not apply to `here`, or an empty text if it does."""
    if recorded.cpu != here.cpu:
        return f"it was measured on another processor ({recorded.cpu}; here {here.cpu})"
    if recorded.cores != here.cores:
        return f"it was measured with {recorded.cores} cores (here {here.cores})"
    for name in sorted(recorded.versions.keys() | here.versions.keys()):
        then, now = recorded.versions.get(name, "absent"), here.versions.get(name, "absent")
        if then != now:
            return f"{name} was {then} when it was measured and is {now} here"
    return ""


def stale(choice: TunedChoice, *, model_digest: str, here: Machine) -> str:
    """Return why `choice` must not be used for this model on this machine, or an empty text if it may."""
    if choice.model_digest != model_digest:
        return f"the model has changed since it was measured ({choice.model_digest[:19]} then, {model_digest[:19]} now)"
    return unlike(choice.machine, here)
