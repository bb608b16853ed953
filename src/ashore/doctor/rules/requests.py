"""Requests and the queue: what clients feel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

LEAST_ANSWERS: Final = 10
REFUSED_SHARE: Final = 0.01
FAILED_SHARE: Final = 0.01
CUT_SHARE: Final = 0.5
CANCELLED_SHARE: Final = 0.3
QUEUE_SHARE: Final = 0.5
QUEUE_S: Final = 0.5
UNEVEN: Final = 4.0
UNEVEN_S: Final = 0.1
LOOKUPS: Final = 1000
HIT_SHARE: Final = 0.02
STARVED: Final = 0.3
"""Of the time, in which a worker that says nothing was ready to work and had no processor."""


@rule("D600", "serving", "Does the server not answer every request?", needs=("server.answers",))
def not_ready(seen: Readings) -> Iterator[Finding]:
    if not seen.server.answers:
        is_silent = seen.server.is_silent
        starved = is_silent and any(one.role == "api" and one.waits_share > STARVED for one in seen.processes)
        yield Finding(
            severity="warning" if starved else "critical",
            what=f"not every request is answered: {seen.server.why_not or 'the server is not ready'}",
            cause="the worker is ready to answer and gets no processor"
            if starved
            else "the worker is stopped, hangs, or gets no processor"
            if is_silent
            else "a model has no engine host that is ready, the audit log cannot be written, or the server still "
            "starts",
            evidence=(evidence("/readyz", seen.server.why_not or "not ready", "ready"),),
            sure="certain",
            remedy="see the newest file in logs/ of the home",
            commands=("ashore logs",),
        )


@rule(
    "D607",
    "serving",
    "Do tokens come unevenly?",
    needs=("models",),
    source="the source's handbook: `nvidia-smi -lgc 1350`; arXiv 2605.11999",
)
def jitter(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.answers >= LEAST_ANSWERS and one.token_slow_s > max(UNEVEN * one.token_s, UNEVEN_S):
            idle = [gpu for gpu in seen.gpus if "idle" in gpu.reasons]
            wrong = (
                "locking the clock of the GPU lower (nvidia-smi -lgc 1350) makes every prompt up to a third slower; it "
                "cures only clocks that fall between bursts, and none of this server's GPUs says that of itself"
                if not idle
                else "locking the clock at 1350 MHz is 32% below the highest of an H100: lock it near that, and "
                "measure the first token before and after"
            )
            yield Finding(
                severity="warning",
                what=f"one in twenty answers of {one.alias} takes {1e3 * one.token_slow_s:.0f} ms a token, the "
                "middle one "
                f"{1e3 * one.token_s:.0f} ms",
                cause="long prompts are read between the tokens of others, the batch is larger at times, or something "
                "stops the engine: see the findings about processors and memory",
                evidence=(
                    evidence("95th percentile", f"{1e3 * one.token_slow_s:.0f} ms", f"{UNEVEN:g} times the median"),
                    evidence("median", f"{1e3 * one.token_s:.0f} ms"),
                    evidence("GPUs whose clock falls when idle", len(idle)),
                ),
                sure="possible",
                remedy="mend what is found beside this; if nothing is, let fewer answers run at once",
                commands=(
                    f"# [model.engine] of {one.alias}: max_sequences",
                    "ashore bench serve --concurrency 16  # before and after",
                ),
                wrong_remedy=wrong,
            )


@rule(
    "D608",
    "serving",
    "Do requests wait longer for a slot than they are computed?",
    needs=("models",),
    explains=("D609",),
    source="ashore_queue_seconds against ashore_ttft_seconds",
)
def queue(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.answers >= LEAST_ANSWERS and one.queue_s > max(QUEUE_S, QUEUE_SHARE * one.first_token_s):
            yield Finding(
                severity="warning",
                what=f"requests to {one.alias} wait {one.queue_s:.1f} s for a slot, of {one.first_token_s:.1f} s to "
                "their "
                "first token",
                cause="more is asked than this machine can do; it is overloaded, not slow",
                evidence=(
                    evidence("waiting in the queue", f"{one.queue_s:.2f} s", f"{QUEUE_S:g} s"),
                    evidence("waiting now", one.waiting),
                    evidence("answers", one.answers),
                ),
                sure="certain",
                remedy="add replicas or machines, use a smaller variant, or set budgets so that few do not take all",
                commands=("ashore engine tune NAME", "ashore access usage --by tenant,day"),
            )


@rule("D609", "serving", "Are requests refused for want of capacity?", needs=("models",))
def refused(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        asked = one.answers + one.refused
        if one.refused >= 3 and one.refused > REFUSED_SHARE * asked:
            yield Finding(
                severity="warning",
                what=f"{one.refused} of {asked} requests to {one.alias} were refused ({one.refused_why})",
                cause="the queue is full or a deadline could not be met",
                evidence=(
                    evidence("refused", f"{one.refused / asked:.0%}", f"{REFUSED_SHARE:.0%}"),
                    evidence("idle processors", f"{seen.cpu.idle_share:.0%}"),
                ),
                sure="certain",
                remedy="raise [admission] where processors are idle; otherwise add capacity",
                commands=("# in ashore.toml, [admission] max_waiting", "ashore reload --dry-run"),
            )


@rule("D612", "serving", "Do many answers end by their length?", needs=("models",))
def cut(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.answers >= 5 * LEAST_ANSWERS and one.ended_by_length > CUT_SHARE * one.answers:
            yield Finding(
                severity="advice",
                what=f"{one.ended_by_length} of {one.answers} answers of {one.alias} ended at their limit of tokens",
                cause="clients ask for short answers, or the chat template does not end them",
                evidence=(evidence("ended by length", f"{one.ended_by_length / one.answers:.0%}", f"{CUT_SHARE:.0%}"),),
                sure="possible",
                remedy="raise max_tokens in the clients; see that the template is that of the model",
                commands=(f"ashore model show {one.alias}",),
            )


@rule("D613", "serving", "Do requests fail?", needs=("server.failed",))
def failing(seen: Readings) -> Iterator[Finding]:
    if seen.server.failed >= 2 and seen.server.failed > FAILED_SHARE * seen.server.requests:
        codes = sorted(seen.server.errors.items(), key=lambda one: -one[1])[:3]
        yield Finding(
            severity="critical" if seen.server.failed > 0.1 * seen.server.requests else "warning",
            what=f"{seen.server.failed} of {seen.server.requests} requests failed",
            cause="the most frequent codes: " + (", ".join(f"{code} ({times})" for code, times in codes) or "not told"),
            evidence=(
                evidence("failed", f"{seen.server.failed / max(1, seen.server.requests):.1%}", f"{FAILED_SHARE:.0%}"),
            ),
            sure="certain",
            remedy="docs/reference/errors.md says of each code what to do; the logs have the requests by their id",
            commands=("ashore logs", "ashore audit search --since 1h"),
        )


@rule("D614", "serving", "Do clients go away before their answer?", needs=("models",))
def cancelled(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        total = one.answers + one.cancelled
        if one.cancelled >= LEAST_ANSWERS and one.cancelled > CANCELLED_SHARE * total:
            yield Finding(
                severity="advice",
                what=f"clients cancelled {one.cancelled} of {total} answers of {one.alias}",
                cause="they wait shorter than an answer takes, or a proxy in front cuts them",
                evidence=(
                    evidence("cancelled", f"{one.cancelled / total:.0%}", f"{CANCELLED_SHARE:.0%}"),
                    evidence("first token", f"{one.first_token_s:.1f} s"),
                ),
                sure="possible",
                remedy="compare the time limits of clients and proxies with the time of an answer; let clients stream",
                commands=("ashore bench serve --concurrency 4",),
            )


@rule("D617", "serving", "Do prompts exceed the context?", needs=("server.errors",))
def too_long(seen: Readings) -> Iterator[Finding]:
    number = sum(
        times for code, times in seen.server.errors.items() if code in ("context_too_long", "context_length_exceeded")
    )
    if number >= 3 and number > 0.01 * seen.server.requests:
        yield Finding(
            severity="advice",
            what=f"{number} of {seen.server.requests} requests had a longer prompt than the model takes",
            cause="clients send whole documents or long conversations",
            evidence=(evidence("too long", f"{number / max(1, seen.server.requests):.0%}", "1%"),),
            sure="certain",
            remedy="raise context_tokens where the model and the memory allow, or let clients shorten",
            commands=("# [model.engine] context_tokens", "ashore reload --dry-run"),
        )


@rule("D620", "serving", "Are fields that clients send left out?", needs=("server.ignored_fields",))
def left_out(seen: Readings) -> Iterator[Finding]:
    if seen.server.ignored_fields > max(20, seen.server.requests // 10):
        yield Finding(
            severity="advice",
            what=f"{seen.server.ignored_fields} fields of {seen.server.requests} requests were left out",
            cause="clients set what this server does not have",
            evidence=(evidence("left out", seen.server.ignored_fields, max(20, seen.server.requests // 10)),),
            sure="certain",
            remedy="see which ones, and whether the answers miss something",
            commands=("curl -s ADDRESS/metrics | grep ashore_ignored_fields_total",),
        )


@rule("D624", "serving", "Does the answer cache find nothing?", needs=("models",))
def useless_cache(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.lookups >= LOOKUPS and one.hits < HIT_SHARE * one.lookups:
            yield Finding(
                severity="advice",
                what=f"{one.hits} of {one.lookups} questions to {one.alias} were in the answer cache",
                cause="no two clients ask the same, or temperatures above [cache] max_temperature keep answers out",
                evidence=(evidence("hits", f"{one.hits / one.lookups:.1%}", f"{HIT_SHARE:.0%}"),),
                sure="likely",
                remedy="set the temperature of repeated questions to 0, or switch the cache off for this model",
                commands=("ashore cache stats",),
            )
