"""The judge of the live trace: each way to break a promise is seen, and an honest trace keeps them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from benchmarks.trace.model import AcceptedJob, Ask, Attempt, Blow, Sample, Trace
from benchmarks.trace.verdicts import Limits, judge

ECHO = Limits(deadline_s=10, back_s=5, echo=True)
REAL = Limits(deadline_s=10, back_s=5, tokens=8)


def attempt(question: str = "why?", **changes: object) -> Attempt:
    whole = Attempt(
        kind="openai whole", question=question, sent_s=1, took_s=0.1, outcome="whole", status=200, text=question
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def honest() -> Trace:
    died = attempt(outcome="error", status=503, code="host_died", text="")
    batch = AcceptedJob(job_id="b", key="kb", kind="batch", question="", accepted_s=2, lines=1, state="completed")
    batch.results["q1"] = ["q1"]
    response = AcceptedJob(
        job_id="r", key="kr", kind="response", question="and?", accepted_s=2, state="completed", text="and?", ids={"r"}
    )
    return Trace(
        asks=[Ask(attempts=(died, attempt())), Ask(attempts=(attempt(kept="hit-exact"),))],
        blows=[Blow(role="envoy", what="SIGKILL", at_s=3, back_s=1.0)],
        jobs=[batch, response],
        memory=[Sample(role="api 0", pid=1, at_s=at, resident_mib=80.0) for at in (0, 11, 20)],
        orphans_gone_s=0.1,
        restarted_s=3.0,
        stopped_code=0,
        webhooks={"r": ["e1", "e1"]},
        stored_jobs={"response kr": 1},
        seconds=30,
    )


def broken(trace: Trace, limits: Limits = ECHO) -> set[str]:
    return {verdict.promise for verdict in judge(trace, limits) if not verdict.kept}


def test_an_honest_trace_keeps_every_promise() -> None:
    assert broken(honest()) == set()


def test_a_new_start_may_take_three_times_the_first_on_a_slow_machine() -> None:
    trace = honest()
    put(started_s=12.0, blows=[Blow(role="supervisor", what="SIGKILL", at_s=3, back_s=35.5)])(trace)
    assert broken(trace) == set()


def add(*attempts: Attempt) -> Callable[[Trace], None]:
    return lambda trace: trace.asks.append(Ask(attempts=attempts))


def put(**changes: object) -> Callable[[Trace], None]:
    def change(trace: Trace) -> None:
        for name, value in changes.items():
            setattr(trace, name, value)

    return change


def job(at: int, **changes: object) -> Callable[[Trace], None]:
    def change(trace: Trace) -> None:
        for name, value in changes.items():
            setattr(trace.jobs[at], name, value)

    return change


CASES: dict[str, tuple[Callable[[Trace], None], str]] = {
    "a short answer": (add(attempt(text="wh")), "no answer that was cut short looks whole"),
    "an end in silence": (
        add(attempt(outcome="silent", text="wh"), attempt()),
        "no answer that was cut short looks whole",
    ),
    "a hanging request": (
        add(attempt(outcome="hung", took_s=15, code="unreachable"), attempt()),
        "every request gets an answer or an error within its deadline",
    ),
    "a late answer": (add(attempt(took_s=12.5)), "every request gets an answer or an error within its deadline"),
    "a client that waits": (
        put(unanswered=["grpc 0"]),
        "every request gets an answer or an error within its deadline",
    ),
    "a strange error": (
        add(attempt(outcome="error", status=500, code="bug"), attempt()),
        "every error is one that says: try again",
    ),
    "nobody served": (
        add(attempt(outcome="error", status=503, code="not_ready")),
        "a client that tries again is served",
    ),
    "another's answer": (
        add(attempt(kept="hit-exact", text="because", kind="embeddings")),
        "a kept answer is the fresh one of the same question",
    ),
    "a lost job": (job(1, state="queued"), "no accepted job is lost"),
    "a job with another's answer": (job(1, text="why?"), "no accepted job is lost"),
    "a lost line": (job(0, lines=2), "no accepted job is lost"),
    "a failed line": (job(0, failed_lines=1), "no accepted job is lost"),
    "a line twice": (job(0, results={"q1": ["q1", "q1"]}), "no job takes effect twice"),
    "two jobs of one key": (job(1, ids={"r", "s"}), "no job takes effect twice"),
    "two rows of one key": (put(stored_jobs={"response kr": 2}), "no job takes effect twice"),
    "two events of one job": (put(webhooks={"r": ["e1", "e2"]}), "no job takes effect twice"),
    "a process that stays away": (
        put(blows=[Blow(role="jobs", what="SIGKILL", at_s=3, back_s=-1)]),
        "every killed process is back within 5 s",
    ),
    "a start longer than the first": (
        put(started_s=12.0, blows=[Blow(role="supervisor", what="SIGKILL", at_s=3, back_s=36.5)]),
        "every killed process is back within 5 s",
    ),
    "an orphan": (put(orphans=["17 envoy"]), "no process outlives the supervisor"),
    "something left": (put(left_over=["17 envoy"]), "no process outlives the supervisor"),
    "no next start": (put(restarted_s=-1.0), "the next start works, and stops cleanly"),
    "a bad stop": (put(stopped_code=1), "the next start works, and stops cleanly"),
    "a leak": (
        put(memory=[Sample(role="api 0", pid=1, at_s=at, resident_mib=80.0 + 5 * at) for at in (0, 11, 30)]),
        "no process in front of the engines grows by more than 64 MiB",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_breaks_a_promise_is_seen(name: str) -> None:
    change, promise = CASES[name]
    trace = honest()
    change(trace)
    assert broken(trace) == {promise}


def test_with_a_real_model_a_short_answer_shows_by_its_tokens_or_as_the_start_of_a_whole_one() -> None:
    whole = attempt(text="one two three", finish="length", tokens=8)
    for short, is_seen in (
        (attempt(text="one two", finish="length", tokens=5), True),
        (attempt(text="one two", finish="stop", tokens=5), True),
        (attempt(text="one four", finish="stop", tokens=5), False),
    ):
        trace = honest()
        trace.jobs.clear()
        trace.asks = [
            Ask(attempts=(whole,)),
            Ask(attempts=(dataclasses.replace(whole, kept="hit-exact"),)),
            Ask(attempts=(short,)),
        ]
        assert ("no answer that was cut short looks whole" in broken(trace, REAL)) is is_seen
