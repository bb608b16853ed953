"""Engine hosts: their caches of keys and values, precision, replicas and loads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ashore.core import counted
from ashore.doctor.model import Finding, evidence
from ashore.doctor.readings import Readings
from ashore.doctor.rule import rule

PREFIX_TOKENS: Final = 20_000
PREFIX_SHARE: Final = 0.1
STALL_S: Final = 0.5
WIDE: Final = ("fp32", "fp16", "bf16")
HALF_FLAGS: Final = frozenset(("avx512_bf16", "amx_bf16", "avx512_fp16", "amx_fp16", "bf16", "asimdhp"))
"""Flags of processors that compute with 16 bits."""


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
    "D605",
    "serving",
    "Is a cache of keys and values too small for one long prompt?",
    needs=("hosts",),
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
    explains=("D607",),
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
