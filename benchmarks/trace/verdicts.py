"""From what was seen to what it means: each promise with the number of times it was broken."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from benchmarks.trace.model import Attempt, Trace

EXPECTED = frozenset(
    (
        "not_ready", "worker_died", "host_died", "draining", "overloaded", "deadline_exceeded", "unreachable",
        "severed", "audit_unavailable",
    )
)  # fmt: skip
"""What a client may be told while processes are killed: it may try again. The last one says that the disk held up a
record for two seconds, as disks of shared machines do."""
MARGIN_S = 2.0
GROWTH_MIB = 64.0
"""What the caches and the books of one worker may come to during a trace. An engine host is not judged by it: the KV
cache that it is given from the start becomes resident as it is first written to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is promised."""

    deadline_s: float
    back_s: float
    """Within which every killed process does its work again. The supervisor may take three times its first start, where
    that is longer: clients and jobs use the processors meanwhile."""
    tokens: int = 0
    """Exact length of every answer; 0: answers end where they end."""
    echo: bool = False
    """Every answer repeats its question."""
    jobs_done_s: float = 120.0
    """After the next start, until every accepted job has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One promise."""

    promise: str
    kept: bool
    detail: str
    broken: list[str] = field(default_factory=list)
    """The first cases, in words."""


def judge(trace: Trace, limits: Limits) -> list[Verdict]:
    """Return every promise with whether it was kept."""
    found = [
        _whole(trace, limits),
        _in_time(trace, limits),
        _told(trace),
        _served(trace),
        _kept_answers(trace, limits),
        _back(trace, limits),
        _orphans(trace),
        _next_start(trace),
        _memory(trace),
    ]
    if trace.jobs:
        found[4:4] = [_jobs_lost(trace, limits), _jobs_twice(trace)]
    return found


def _verdict(promise: str, broken: Iterable[str], detail: str) -> Verdict:
    cases = list(broken)
    return Verdict(promise=promise, kept=not cases, detail=detail, broken=cases[:8])


def _says(one: Attempt) -> str:
    return f"{one.kind} at {one.sent_s:.1f} s: {one.outcome} {one.status or ''} {one.code} {one.text[:60]!r}"


def is_short(one: Attempt, others: Callable[[str], set[str]], limits: Limits) -> bool:
    """Return whether an answer that ended as a whole one is not whole."""
    if limits.echo and one.kind != "embeddings":
        return one.text != one.question
    if one.finish in ("length", "max_tokens") and limits.tokens and one.tokens >= 0:
        return one.tokens != limits.tokens
    return any(text != one.text and text.startswith(one.text) for text in others(one.question))


def _whole(trace: Trace, limits: Limits) -> Verdict:
    texts = _fresh(trace)
    ended = [one for one in trace.attempts if one.outcome == "whole"]
    broken = [_says(one) for one in trace.attempts if one.outcome == "silent"]
    broken += [_says(one) for one in ended if is_short(one, lambda q: texts[q], limits)]
    cut = sum(one.outcome == "cut" for one in trace.attempts)
    return _verdict(
        "no answer that was cut short looks whole", broken, f"{len(ended)} whole, {cut} cut short and said so"
    )


def _in_time(trace: Trace, limits: Limits) -> Verdict:
    late = [one for one in trace.attempts if one.outcome == "hung" or one.took_s > limits.deadline_s + MARGIN_S]
    longest = max((one.took_s for one in trace.attempts), default=0.0)
    return _verdict(
        "every request gets an answer or an error within its deadline",
        [*map(_says, late), *trace.unanswered],
        f"{len(trace.attempts)} requests, the longest took {longest:.1f} s of {limits.deadline_s:g} s",
    )


def _told(trace: Trace) -> Verdict:
    errors = [one for one in trace.attempts if one.outcome in ("error", "cut")]
    counted = Counter(one.code for one in errors)
    detail = ", ".join(f"{number} {code}" for code, number in counted.most_common()) or "no errors"
    return _verdict(
        "every error is one that says: try again",
        [_says(one) for one in errors if one.code not in EXPECTED],
        detail,
    )


def _served(trace: Trace) -> Verdict:
    again = [ask for ask in trace.asks if len(ask.attempts) > 1]
    most = max((len(ask.attempts) for ask in trace.asks), default=0)
    return _verdict(
        "a client that tries again is served",
        [_says(ask.attempts[-1]) for ask in trace.asks if not ask.served],
        f"{len(trace.asks)} wishes, {len(again)} needed more than one attempt, none more than {most}",
    )


def _fresh(trace: Trace) -> dict[str, set[str]]:
    """Return the texts of whole answers that no cache gave, by question."""
    found: dict[str, set[str]] = defaultdict(set)
    for one in trace.attempts:
        if one.outcome == "whole" and not one.kept.startswith("hit"):
            found[one.question].add(one.text)
    return found


def _kept_answers(trace: Trace, limits: Limits) -> Verdict:
    fresh = _fresh(trace)
    hits = [one for one in trace.attempts if one.outcome == "whole" and one.kept.startswith("hit")]
    wrong = [
        one for one in hits if one.text not in fresh[one.question] and not (limits.echo and one.text == one.question)
    ]
    broken = [_says(one) for one in wrong] or ([] if hits else ["no answer came from the cache"])
    questions = len({one.question for one in hits})
    return _verdict(
        "a kept answer is the fresh one of the same question",
        broken,
        f"{len(hits)} kept answers to {questions} questions",
    )


def _jobs_lost(trace: Trace, limits: Limits) -> Verdict:
    broken, lines = [], 0
    for job in trace.jobs:
        if job.state != "completed":
            broken.append(f"{job.kind} {job.job_id} accepted at {job.accepted_s:.1f} s is {job.state or 'gone'}")
        elif job.kind == "batch":
            lines += job.lines
            if len(job.results) != job.lines or job.failed_lines:
                broken.append(
                    f"batch {job.job_id}: {len(job.results)} of {job.lines} lines, {job.failed_lines} of them failed"
                )
            if limits.echo:
                wrong = [key for key, texts in job.results.items() if any(text != key for text in texts)]
                broken += [f"batch {job.job_id}: line {key!r} says {job.results[key]}" for key in wrong]
        elif limits.echo and job.text != job.question:
            broken.append(f"{job.kind} {job.job_id} says {job.text[:60]!r} to {job.question[:60]!r}")
    counted = Counter(job.kind for job in trace.jobs)
    detail = ", ".join(f"{number} {kind}" for kind, number in sorted(counted.items()))
    return _verdict("no accepted job is lost", broken, f"{detail} accepted; {lines} lines of batches")


def _jobs_twice(trace: Trace) -> Verdict:
    broken = [f"key {job.key} was given {sorted(job.ids)}" for job in trace.jobs if len(job.ids) > 1]
    broken += [f"key {key} has {rows} rows" for key, rows in trace.stored_jobs.items() if rows > 1]
    for job in trace.jobs:
        broken += [
            f"batch {job.job_id}: line {line} is there {len(n)} times" for line, n in job.results.items() if len(n) > 1
        ]
    broken += [f"{job}: {len(set(events))} events" for job, events in trace.webhooks.items() if len(set(events)) > 1]
    repeated = sum(len(events) - len(set(events)) for events in trace.webhooks.values())
    told = f"{len(trace.webhooks)} webhooks, {repeated} of them delivered again under the same id"
    return _verdict("no job takes effect twice", broken, told)


def _back(trace: Trace, limits: Limits) -> Verdict:
    allowed_s = {"supervisor": max(limits.back_s, 3 * trace.started_s)}
    by_role: dict[str, list[float]] = defaultdict(list)
    for blow in trace.blows:
        by_role[blow.role].append(blow.back_s)
    broken = [
        f"{blow.role} after {blow.what} at {blow.at_s:.1f} s: {'never' if blow.back_s < 0 else f'{blow.back_s:.1f} s'}"
        for blow in trace.blows
        if not 0 <= blow.back_s <= allowed_s.get(blow.role, limits.back_s)
    ]
    detail = ", ".join(f"{role} {max(times):.1f} s" for role, times in sorted(by_role.items()))
    return _verdict(f"every killed process is back within {limits.back_s:g} s", broken, detail or "nobody was killed")


def _orphans(trace: Trace) -> Verdict:
    return _verdict(
        "no process outlives the supervisor",
        [*trace.orphans, *trace.left_over],
        f"all gone {trace.orphans_gone_s:.2f} s after its SIGKILL; {len(trace.left_over)} left after the last stop",
    )


def _next_start(trace: Trace) -> Verdict:
    broken = [] if trace.restarted_s >= 0 else ["it did not become ready"]
    broken += [] if trace.stopped_code == 0 else [f"the last stop ended with {trace.stopped_code}"]
    return _verdict("the next start works, and stops cleanly", broken, f"ready after {trace.restarted_s:.1f} s")


def growth(trace: Trace, role: str) -> float | None:
    """Return the most MiB that one process of this role grew by after its first 10 s; None: none lived long enough."""
    by_pid: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for sample in trace.memory:
        if sample.role == role:
            by_pid[sample.pid].append((sample.at_s, sample.resident_mib))
    grown = []
    for samples in by_pid.values():
        settled = [mib for at_s, mib in samples if at_s >= samples[0][0] + 10]
        if len(settled) >= 2:
            grown.append(settled[-1] - settled[0])
    return max(grown, default=None)


def _memory(trace: Trace) -> Verdict:
    roles = sorted({sample.role for sample in trace.memory})
    grown = {role: growth(trace, role) for role in roles}
    broken = [
        f"{role} grew by {mib:.0f} MiB"
        for role, mib in grown.items()
        if mib is not None and mib > GROWTH_MIB and not role.startswith("engine host")
    ]
    parts = []
    for role in roles:
        mine = [sample.resident_mib for sample in trace.memory if sample.role == role]
        parts.append(f"{role} {mine[0]:.0f} → {mine[-1]:.0f} MiB (most {max(mine):.0f})")
    promise = f"no process in front of the engines grows by more than {GROWTH_MIB:g} MiB"
    return _verdict(promise, broken, ", ".join(parts))
