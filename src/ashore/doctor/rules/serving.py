"""Requests, queues, caches of keys and values: what clients feel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted, human_bytes
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import Rule, rule

LEAST_ANSWERS: Final = 10
REFUSED_SHARE: Final = 0.01
FAILED_SHARE: Final = 0.01
CUT_SHARE: Final = 0.5
CANCELLED_SHARE: Final = 0.3
KV_FULL: Final = 0.95
QUEUE_SHARE: Final = 0.5
QUEUE_S: Final = 0.5
UNEVEN: Final = 4.0
UNEVEN_S: Final = 0.1
MANY_LOADS: Final = 6
PREFIX_TOKENS: Final = 20_000
PREFIX_SHARE: Final = 0.1
LOOKUPS: Final = 1000
HIT_SHARE: Final = 0.02
STARVED: Final = 0.3
"""Of the time, in which a worker that says nothing was ready to work and had no processor."""
STALL_S: Final = 0.5
WIDE: Final = ("fp32", "fp16", "bf16")
HALF_FLAGS: Final = frozenset(("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "bf16", "asimdhp"))
"""Flags of processors that compute with 16 bits."""


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


@rule("D602", "serving", "Was the machine never measured for a model?", needs=("models.tuned",))
def not_tuned(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if not one.tuned:
            yield Finding(
                severity="advice",
                what=f"{one.alias} runs with settings that nobody measured on this machine",
                cause="engine, precision and threads were chosen by rule",
                evidence=(evidence("record of `engine tune`", "none", "1"),),
                sure="certain",
                remedy="measure them once; it takes some minutes",
                commands=(f"ashore engine tune {one.alias}",),
            )


@rule(
    "D603",
    "serving",
    "Do prompts that begin alike never share their beginning?",
    needs=("hosts",),
    source="a date or an id in front of the system prompt makes every prefix a new one",
)
def no_shared_prefix(seen: Readings) -> Iterator[Finding]:
    for one in seen.hosts:
        if one.prompt_tokens > PREFIX_TOKENS and one.cached_tokens < PREFIX_SHARE * one.prompt_tokens:
            yield Finding(
                severity="advice",
                what=f"{one.alias} read {one.prompt_tokens} tokens of prompts, {one.cached_tokens} of them from its "
                "cache",
                cause="prompts have nothing in common, or differ in their first lines: a date, a name, an id",
                evidence=(
                    evidence(
                        "from the prefix cache", f"{one.cached_tokens / one.prompt_tokens:.0%}", f"{PREFIX_SHARE:.0%}"
                    ),
                ),
                sure="possible",
                remedy="put what is the same for all in front, and what changes behind it",
            )


@rule(
    "D604",
    "serving",
    "Is the cache of keys and values too small for the load?",
    needs=("hosts",),
    explains=("D607", "D608"),
    source="a sequence that is set back is computed again; vLLM reports 1.9 s against 11.4 s p99",
)
def kv_full(seen: Readings) -> Iterator[Finding]:
    for one in seen.hosts:
        full = one.kv_used_share > KV_FULL and one.waiting > 0
        if one.kv_tokens and (one.preemptions or full):
            yield Finding(
                severity="warning",
                what=f"the KV cache of {one.alias} is {one.kv_used_share:.0%} full; {one.preemptions} sequences were "
                "set back",
                cause=f"{one.running} sequences want more than {one.kv_tokens} tokens at once",
                evidence=(
                    evidence("in use", f"{one.kv_used_share:.0%}", f"{KV_FULL:.0%}"),
                    evidence("set back", one.preemptions, 0),
                    evidence("capacity", f"{one.kv_tokens} tokens"),
                ),
                sure="certain" if one.preemptions else "likely",
                remedy="raise kv_tokens where there is memory, or lower max_sequences so that fewer run at once",
                commands=(
                    f"# [model.engine] of {one.alias}: kv_tokens = {2 * one.kv_tokens}",
                    "ashore reload --dry-run",
                ),
            )


@rule(
    "D605",
    "serving",
    "Is a cache of keys and values too small for one long prompt?",
    needs=("hosts",),
    explains=("D604",),
)
def kv_tiny(seen: Readings) -> Iterator[Finding]:
    for one in seen.hosts:
        if 0 < one.kv_tokens < 1024 and not one.is_a_server:
            yield Finding(
                severity="warning",
                what=f"the KV cache of {one.alias} holds {one.kv_tokens} tokens",
                cause="prompts that are longer are refused, and two short ones do not fit together",
                evidence=(evidence("capacity", f"{one.kv_tokens} tokens", "1024 tokens"),),
                sure="certain",
                remedy="raise kv_tokens, or leave it out: the plan then takes what memory allows",
                commands=(f"# [model.engine] of {one.alias}: leave out kv_tokens", "ashore reload --dry-run"),
            )


@rule(
    "D606",
    "serving",
    "Do requests wait although the engine could take more?",
    needs=("models", "hosts", "server.running_limit"),
)
def limit_too_low(seen: Readings) -> Iterator[Finding]:
    waiting = sum(one.waiting for one in seen.models)
    running = sum(one.running for one in seen.models)
    if waiting and 0 < seen.server.running_limit <= running and seen.cpu.idle_share > 0.4:
        yield Finding(
            severity="warning",
            what=f"{waiting} requests wait at the limit of {seen.server.running_limit} running ones",
            cause=f"[admission] max_running is lower than what this machine can do: {seen.cpu.idle_share:.0%} of it "
            "is idle",
            evidence=(
                evidence("running", running, seen.server.running_limit),
                evidence("idle processors", f"{seen.cpu.idle_share:.0%}", "40%"),
            ),
            sure="likely",
            remedy="raise max_running, or leave it out",
            commands=("# in ashore.toml, [admission] max_running", "ashore reload"),
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


@rule("D610", "serving", "Do replicas split a batch that one could take?", needs=("hosts", "models"))
def split_batch(seen: Readings) -> Iterator[Finding]:
    for model in seen.models:
        own = [one for one in seen.hosts if one.alias == model.alias and one.computes_here]
        running = sum(one.running for one in own)
        if len(own) > 2 and running > len(own) and max(one.running for one in own) <= 2 and seen.cpu.idle_share < 0.2:
            yield Finding(
                severity="advice",
                what=f"{len(own)} replicas of {model.alias} share {running} sequences",
                cause="each replica reads all weights for one or two sequences; one replica would read them once for "
                "all",
                evidence=(evidence("sequences a replica", f"{running / len(own):.1f}", "more than 2"),),
                sure="possible",
                remedy="serve fewer replicas",
                commands=(f"# [[model]] {model.alias}: replicas = 1", "ashore bench serve --concurrency 16"),
            )


@rule(
    "D611",
    "serving",
    "Is a model computed in a precision that is slower than need be?",
    needs=("hosts", "cpu", "stored.references"),
    explains=("D602", "D608", "D609"),
    source="docs/how-to/shrink-a-model.md: INT8 against FP16; a token reads every weight",
)
def wrong_precision(seen: Readings) -> Iterator[Finding]:
    told: set[str] = set()
    converts = bool(seen.cpu.flags) and not HALF_FLAGS & frozenset(seen.cpu.flags)
    for one in seen.hosts:
        if not one.computes_here or one.alias in told:
            continue
        told.add(one.alias)
        if one.slower:
            yield Finding(
                severity="warning",
                what=f"{one.alias} is told to compute more exactly than its weights are: {', '.join(one.slower)}",
                cause="the processor's products of bytes, or of 16 bits, are not used; tokens take longer, and prompts "
                "up to four times as long",
                evidence=(evidence("options of the engine", ", ".join(one.slower), "none of these"),),
                sure="certain",
                remedy="leave them out, unless an answer must not depend on what else is computed beside it",
                commands=(f"# [model.engine] of {one.alias}: options without these", "ashore reload --dry-run"),
            )
        smaller = [
            reference
            for reference in seen.stored.references
            if reference.partition("@")[0] == one.name.partition("@")[0] and "@int" in reference
        ]
        if one.weights in WIDE and (smaller or converts):
            yield Finding(
                severity="warning",
                what=f"{one.alias} has {one.weights} weights"
                + (f", and {smaller[0]} is in the store" if smaller else ", and this processor has no units for them"),
                cause="a token reads every weight: those of 16 bits are twice as many bytes as those of 8"
                + ("; and every one is converted at every step" if converts else ""),
                evidence=(
                    evidence("weights", one.weights, "int8 or int4"),
                    evidence("units for 16 bits", "none" if converts else "there"),
                ),
                sure="likely",
                remedy="release the smaller variant, and see that it is as good"
                if smaller
                else "make an INT8 variant, see that it is as good, and release it",
                commands=(
                    *(() if smaller else (f"ashore optimize quantize {one.alias} --to int8",)),
                    f"ashore release create {one.alias} {smaller[0] if smaller else '…@int8'}",
                ),
            )


@rule(
    "D627",
    "serving",
    "May a long prompt hold up the answers of others?",
    needs=("hosts", "models"),
    explains=("D607", "D622"),
    source="an answer of ten tokens a second stands still for as long as one step with prompts takes",
)
def long_steps(seen: Readings) -> Iterator[Finding]:
    told: set[str] = set()
    at_once = {one.alias: one.running for one in seen.models}  # a host in a long step does not say what it does
    for one in seen.hosts:
        if one.alias not in told and one.stall_s > STALL_S and at_once.get(one.alias, 0) > 1:
            told.add(one.alias)
            yield Finding(
                severity="warning",
                what=f"a prompt may hold up the other answers of {one.alias} for {one.stall_s:g} s at a time",
                cause=f"{one.stall} is {1e3 * one.stall_s:g}: a step takes as many tokens of prompts as fit into that",
                evidence=(
                    evidence(one.stall, f"{1e3 * one.stall_s:g}", f"{1e3 * STALL_S:g}"),
                    evidence("answers at once", at_once[one.alias]),
                ),
                sure="likely",
                remedy="leave the option out: prompts are then read in pieces, between the tokens of others",
                commands=(f"# [model.engine] of {one.alias}: options without {one.stall}", "ashore reload --dry-run"),
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


@rule("D615", "serving", "Were requests sent again because a host died?", needs=("models",))
def sent_again(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.retries:
            yield Finding(
                severity="warning",
                what=f"{counted(one.retries, 'request')} of {one.alias} went to another replica because a host ended",
                cause="an engine host crashed, was killed, or hung",
                evidence=(evidence("sent again", one.retries, 0),),
                sure="certain",
                remedy="read the end of the host's log",
                commands=("ashore logs",),
            )


@rule(
    "D616",
    "serving",
    "Does a model have fewer replicas than it should?",
    needs=("models", "hosts", "server.restarts"),
    explains=("D600",),
)
def fewer_replicas(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.replicas_ready < one.replicas:
            releases = {f"{host.release}/{host.replica}" for host in seen.hosts if host.alias == one.alias}
            again = sum(times for name, times in seen.server.restarts.items() if name.rpartition(" ")[2] in releases)
            yield Finding(
                severity="critical" if not one.replicas_ready else "warning",
                what=f"{one.replicas_ready} of {counted(one.replicas, 'replica')} of {one.alias} are ready",
                cause=f"a host ended or hung {counted(again, 'time')} in ten minutes, was started again, and loads"
                if again
                else "a host loads, has ended, or hangs",
                evidence=(
                    evidence("ready", one.replicas_ready, one.replicas),
                    evidence("restarts in ten minutes", again, 0),
                ),
                sure="certain",
                remedy="see its state and its log",
                commands=("ashore status", "ashore logs"),
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


@rule(
    "D618", "serving", "Are models on demand loaded and unloaded all the time?", needs=("models",), explains=("D608",)
)
def thrash(seen: Readings) -> Iterator[Finding]:
    loads = sum(one.loads for one in seen.models)
    per_hour = 3600 * loads / max(seen.span_s, 600.0)
    if loads >= MANY_LOADS and per_hour > 30:
        yield Finding(
            severity="warning",
            what=f"models on demand were loaded {loads} times in {seen.span_s / 60:.0f} minutes",
            cause="the models that are asked for do not fit into memory together",
            evidence=(evidence("loads", f"{per_hour:.0f} an hour", "30 an hour"),),
            sure="certain",
            remedy="pin the one that is asked for most, use smaller variants, or add memory",
            commands=("ashore model ps", "ashore model pin NAME"),
        )


@rule("D619", "serving", "Can a model on demand not be loaded?", needs=("models",))
def cannot_load(seen: Readings) -> Iterator[Finding]:
    for one in seen.models:
        if one.failed_loads:
            yield Finding(
                severity="critical",
                what=f"{one.alias} could not be loaded {counted(one.failed_loads, 'time')}",
                cause="its files, its engine or memory; the log of its host says which",
                evidence=(evidence("failed loads", one.failed_loads, 0),),
                sure="certain",
                remedy="read the log, then load it by hand",
                commands=("ashore logs", f"ashore model warm {one.alias}"),
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


@rule("D621", "serving", "Is an engine chosen that computes nothing?", needs=("hosts", "server.requests"))
def fake_model(seen: Readings) -> Iterator[Finding]:
    made_up = {one.alias for one in seen.hosts if one.is_made_up}
    if made_up and not all(one.is_made_up for one in seen.hosts):
        names = ", ".join(sorted(made_up))
        yield Finding(
            severity="advice",
            what=f"{names} answers with made-up text, beside real models",
            cause="the fake engine is for trials",
            evidence=(evidence("models with made-up answers", len(made_up), "none beside real ones"),),
            sure="certain",
            remedy="remove it from ashore.toml before clients find it",
            commands=("ashore reload --dry-run",),
        )


@rule("D622", "serving", "Does the server take long to say how it is?", needs=("server.answered_in_s",))
def slow_to_say(seen: Readings) -> Iterator[Finding]:
    if seen.server.answers and seen.server.answered_in_s > 1.0:
        yield Finding(
            severity="warning",
            what=f"the server took {seen.server.answered_in_s:.1f} s to say that it is ready",
            cause="its API worker is busy, stopped for a while, or waits for the disk",
            evidence=(evidence("/readyz", f"{seen.server.answered_in_s:.2f} s", "1 s"),),
            sure="likely",
            remedy="see the findings about processors, disks and workers",
        )


@rule("D623", "serving", "Did background work fail for good?", needs=("server.jobs_dead",))
def dead_jobs(seen: Readings) -> Iterator[Finding]:
    if seen.server.jobs_dead:
        yield Finding(
            severity="warning",
            what=f"{counted(seen.server.jobs_dead, 'job')} failed for good",
            cause="they were tried as often as [jobs] max_attempts allows",
            evidence=(evidence("dead jobs", seen.server.jobs_dead, 0),),
            sure="certain",
            remedy="see why, then start them again or cancel them",
            commands=("ashore job list --state dead",),
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
                commands=("ashore cache status",),
            )


@rule("D625", "serving", "Do many jobs wait?", needs=("server.jobs_queued",))
def job_backlog(seen: Readings) -> Iterator[Finding]:
    if seen.server.jobs_queued > 10_000:
        yield Finding(
            severity="advice",
            what=f"{seen.server.jobs_queued} jobs wait",
            cause="batches bring more than the machine has left beside live requests",
            evidence=(evidence("queued", seen.server.jobs_queued, 10_000),),
            sure="likely",
            remedy="raise [jobs] concurrency at night, or add replicas",
            commands=("ashore job list --state queued",),
        )


@rule(
    "D626",
    "serving",
    "Is a share of memory for models smaller than one of them?",
    needs=("hosts", "memory.total_bytes"),
)
def larger_than_machine(seen: Readings) -> Iterator[Finding]:
    needed = sum(one.needed_bytes for one in seen.hosts)
    if needed > seen.memory.total_bytes > 0:
        yield Finding(
            severity="warning",
            what=f"the models were planned for {human_bytes(needed)}, and the machine has "
            f"{human_bytes(seen.memory.total_bytes)}",
            cause="memory was taken from the machine since the start, or a group above bounds it",
            evidence=(evidence("planned", human_bytes(needed), human_bytes(seen.memory.total_bytes)),),
            sure="likely",
            remedy="plan again with what is there",
            commands=("ashore up --dry-run",),
        )


RULES: Final[tuple[Rule, ...]] = (
    not_ready,
    not_tuned,
    no_shared_prefix,
    kv_full,
    kv_tiny,
    limit_too_low,
    jitter,
    queue,
    refused,
    split_batch,
    wrong_precision,
    long_steps,
    cut,
    failing,
    cancelled,
    sent_again,
    fewer_replicas,
    too_long,
    thrash,
    cannot_load,
    left_out,
    fake_model,
    slow_to_say,
    dead_jobs,
    useless_cache,
    job_backlog,
    larger_than_machine,
)
