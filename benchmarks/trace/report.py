"""A trace as text for people, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from benchmarks.trace.model import AcceptedJob, Attempt, Trace
from benchmarks.trace.verdicts import Limits, Verdict


def lines(verdicts: list[Verdict]) -> str:
    """Return the verdicts for a terminal."""
    found = []
    for one in verdicts:
        found.append(f"{'pass' if one.kept else 'FAIL'}  {one.promise}: {one.detail}")
        found += [f"        {case}" for case in one.broken]
    return "\n".join(found)


def quantile(times: list[float], share: float) -> float:
    """Return the value below which a share of the times lie."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def by_kind(trace: Trace) -> list[dict[str, object]]:
    """Return what each form of client saw."""
    groups: dict[str, list[Attempt]] = defaultdict(list)
    for one in trace.attempts:
        groups[one.kind].append(one)
    rows: list[dict[str, object]] = []
    for kind, attempts in sorted(groups.items()):
        outcomes = Counter(one.outcome for one in attempts)
        times = [one.took_s * 1000 for one in attempts if one.outcome == "whole"]
        rows.append(
            {
                "client": kind,
                "requests": len(attempts),
                "whole": outcomes["whole"],
                "kept": sum(one.kept.startswith("hit") for one in attempts),
                "error": outcomes["error"],
                "cut, and said so": outcomes["cut"],
                "cut in silence": outcomes["silent"],
                "hung": outcomes["hung"],
                "p50 ms": round(quantile(times, 0.5), 1),
                "p99 ms": round(quantile(times, 0.99), 1),
                "longest ms": round(max(times, default=0.0), 1),
            }
        )
    return rows


def around(trace: Trace, blow_at_s: float, until_s: float) -> Counter[str]:
    """Return the errors of requests that ended between a blow and a moment."""
    return Counter(
        f"{one.code} ({one.outcome})"
        for one in trace.attempts
        if one.outcome != "whole" and blow_at_s - 0.05 <= one.sent_s + one.took_s < until_s
    )


def table(rows: list[dict[str, object]]) -> list[str]:
    """Return rows as a Markdown table."""
    names = list(rows[0])
    found = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return found + ["| " + " | ".join(str(row[name]) for name in names) + " |" for row in rows]


def section(title: str, trace: Trace, limits: Limits, verdicts: list[Verdict]) -> list[str]:
    """Return the part of the report that one trace fills."""
    promises: list[dict[str, object]] = [
        {"promise": one.promise, "verdict": "kept" if one.kept else "BROKEN", "seen": one.detail.replace("|", "/")}
        for one in verdicts
    ]
    ends = [*(blow.at_s for blow in trace.blows[1:]), trace.seconds]
    blows = []
    for blow, end_s in zip(trace.blows, ends, strict=True):
        seen = ", ".join(f"{n} {what}" for what, n in around(trace, blow.at_s, end_s).most_common())
        blows.append(
            {
                "at s": blow.at_s,
                "process": blow.role,
                "blow": blow.what,
                "back after s": blow.back_s,
                "errors until the next": seen,
            }
        )
    broken = [f"- {one.promise}: {case}" for one in verdicts for case in one.broken]
    num_lines, failed_lines = sum(job.lines for job in trace.jobs), sum(job.failed_lines for job in trace.jobs)
    jobs = Counter((job.kind, job.state) for job in trace.jobs)
    return [
        f"## {title}",
        "",
        f"{trace.seconds:.0f} s, deadline of a request {limits.deadline_s:g} s.",
        "",
        *table(promises),
        "",
        *(["What was broken:", "", *broken, ""] if broken else []),
        "### Requests by client",
        "",
        *table(by_kind(trace)),
        "",
        "### Blows",
        "",
        *table(blows),
        "",
        "### Jobs",
        "",
        *[f"- {kind}: {number} {state}" for (kind, state), number in sorted(jobs.items())],
        f"- lines of batches: {num_lines}, of which {failed_lines} failed",
        *[f"- not tried: {what}" for what in trace.skipped],
        "",
    ]


def plain(trace: Trace, verdicts: list[Verdict]) -> dict[str, object]:
    """Return a trace for JSON: every request that did not end whole at once, and counts of the others."""
    return {
        "seconds": trace.seconds,
        "verdicts": [asdict(one) for one in verdicts],
        "clients": by_kind(trace),
        "blows": [asdict(one) for one in trace.blows],
        "jobs": [_job(job) for job in trace.jobs],
        "memory_mib": {
            f"{role} {pid}": [[s.at_s, s.resident_mib] for s in trace.memory if s.pid == pid][::5]
            for role, pid in sorted({(s.role, s.pid) for s in trace.memory})
        },
        "requests_tried_again": [
            [[one.kind, one.sent_s, one.took_s, one.outcome, one.status, one.code] for one in ask.attempts]
            for ask in trace.asks
            if len(ask.attempts) > 1 or not ask.served
        ],
    }


def _job(job: AcceptedJob) -> dict[str, object]:
    return {
        "id": job.job_id,
        "kind": job.kind,
        "state": job.state,
        "lines": job.lines,
        "failed_lines": job.failed_lines,
        "accepted_s": round(job.accepted_s, 2),
        "finished_s": round(job.finished_s, 2),
    }


def write(path: Path, parts: list[str], facts: dict[str, object], traces: dict[str, object], notes: list[str]) -> None:
    """Write the Markdown to `path`, and the JSON beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [f"# A live trace with kills of every process, {facts['date']}", "", *parts, "## Where and how", ""]
    text += [f"- {key}: {json.dumps(value) if isinstance(value, dict) else value}" for key, value in facts.items()]
    text += ["", "## Not measured", "", *[f"- {note}" for note in notes]]
    path.write_text("\n".join(text) + "\n")
    path.with_suffix(".json").write_text(
        json.dumps({"about": facts, "traces": traces}, indent=1, ensure_ascii=False) + "\n"
    )
