"""`ashore bench`: load tests of a server."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts

from ashore.cli.columns import table
from ashore.cli.target import find_target
from ashore.core.errors import InvalidRequest
from ashore.core.visible import on_a_screen

app = cyclopts.App(name="bench", help="Measure a server under load.")


@app.command
def serve(
    url: str | None = None,
    /,
    *,
    model: str = "",
    api: Literal["chat", "completions"] = "chat",
    rate: float | None = None,
    concurrency: int | None = None,
    requests: int | None = None,
    duration: float | None = None,
    workload: Literal["edit", "rag", "extract", "chat"] | None = None,
    prompt_tokens: int = 32,
    output_tokens: int = 64,
    system_tokens: int = 0,
    slo_ttft_ms: float | None = None,
    slo_tpot_ms: float | None = None,
    seed: int = 0,
    key: str | None = None,
    extra: str = "{}",
    json_: Annotated[Path | None, cyclopts.Parameter(name="--json", allow_leading_hyphen=True)] = None,
) -> int:
    """Load-test an OpenAI-compatible server, and report the latency and throughput that its users see.

    Args:
        url: Address, `http://host:port` with or without `/v1`; default: the server of this home.
        model: Model to use; default: the first that the server offers.
        api: Route to use: chat or completions.
        rate: Open loop: requests per second, arriving at random (Poisson), however slowly the server answers.
        concurrency: Closed loop: number of users; each sends a request when its last one is answered. Default: 16,
            unless --rate is given.
        requests: Requests to send; default: four for each user, or 100. With --workload, as many of each kind.
        duration: Seconds after which no new request is sent.
        workload: Ask for what people ask for, once with looked-up tokens and once without, and report the ratio. Kinds:
            edited code, quoted passages, extracted fields, and stories, where nothing is copied. Another --seed gives
            other prompts. An answer ends by itself; it has --output-tokens at most.
        prompt_tokens: Length of a prompt, template included, as the server counts it.
        output_tokens: Length of an answer.
        system_tokens: Length of a system prompt that all requests share.
        slo_ttft_ms: Objective: first token within this many milliseconds. Adds goodput to the report.
        slo_tpot_ms: Objective: at most this many milliseconds per token after the first.
        seed: Seed of prompts and arrivals.
        key: API key; default: ASHORE_API_KEY, or this home's first key for loopback addresses.
        extra: More fields for each request body, as a JSON object, such as {"temperature": 1}. A value of null leaves a
            field out: {"ignore_eos": null} for servers that refuse it.
        json_: File for the report as JSON; `-` for stdout.
    """
    import asyncio

    from ashore.lab.bench import LoadPlan, LoadReport, LookupReport, Slo, report_json, run_load
    from ashore.lab.bench import run_with_and_without_lookup as run_compared

    if rate is None and concurrency is None:
        concurrency = 16
    if requests is None and duration is None:
        requests = 4 * concurrency if concurrency else 100
    if workload is not None and (requests is None or concurrency is None):
        raise InvalidRequest(
            "--workload compares answers to a number of users", hint="--concurrency 8 --requests 64, and no --rate"
        )
    target = find_target(url, key=key)
    plan = LoadPlan(
        url=target.url,
        key=target.key,
        ca_file=target.ca_file,
        model=model,
        api=api,
        rate_per_s=rate,
        concurrency=concurrency,
        requests=requests,
        duration_s=duration,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        system_tokens=system_tokens,
        slo=Slo(ttft_ms=slo_ttft_ms, tpot_ms=slo_tpot_ms),
        seed=seed,
        workload=workload,
        ignore_eos=workload is None,
        extra_body=_json_object(extra),
    )
    report: LoadReport | LookupReport
    with Counter(2 * requests if requests and workload else requests) as counter:
        if workload is None:
            report = asyncio.run(run_load(plan, progress=counter.show))
        else:
            report = asyncio.run(run_compared(plan, progress=counter.show))
    if json_ is not None:
        written = report_json(report)
        if str(json_) == "-":
            print(written.decode())
        else:
            json_.write_bytes(written + b"\n")
    if json_ is None or str(json_) != "-":
        if isinstance(report, LookupReport):
            _print_compared(report)
        else:
            _print(report)
    sides = [report] if isinstance(report, LoadReport) else [side for pair in report.rounds for side in pair]
    return 0 if all(side.succeeded for side in sides) else 4


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as fault:
        raise InvalidRequest(f"--extra is not valid JSON: {fault}", param="extra") from fault
    if not isinstance(value, dict):
        raise InvalidRequest(f"--extra is {text!r}; expected a JSON object", param="extra")
    return value


class Counter:
    """Progress on stderr, drawn at most ten times a second: a livelier bar would take from what is measured."""

    def __init__(self, total: int | None) -> None:
        self._total = f"/{total}" if total else ""
        self._next = 0.0
        self._shown = False

    def __enter__(self) -> Counter:
        return self

    def show(self, done: int) -> None:
        """Draw, if it is time."""
        import time

        if sys.stderr.isatty() and time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            self._shown = True
            print(f"\r{done}{self._total} requests", end="", file=sys.stderr, flush=True)

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _print_compared(report: Any) -> None:
    first = report.rounds[0][0]
    print(f"{first.model} at {first.url}: {first.load}, workload {report.workload}, tokens looked up and not, in turns")
    rows = [
        (
            str(number),
            *(f"{side.tok_per_s:,.1f}" for side in pair),
            f"{ratio:.2f}",
            *(f"{side.tpot_ms.p50:,.1f}" for side in pair),
            f"{pair[0].accepted_tokens:,} of {pair[0].accepted_tokens + pair[0].rejected_tokens:,}",
            f"{pair[0].completion_tokens:,}",
        )
        for number, (pair, ratio) in enumerate(zip(report.rounds, report.ratios, strict=True), 1)
    ]
    heads = ("round", "tok/s with", "without", "ratio", "ms/token with", "without", "accepted", "tokens")
    table(heads, rows)
    print(f"median: {report.ratio:.2f} times the tokens/s with look-up")
    for pair in report.rounds:
        for side in pair:
            for name, count in side.errors.items():
                print(on_a_screen(f"{count} failed: {name}"))


def _print(report: Any) -> None:
    print(f"{report.model} at {report.url}: {report.load}, {report.api}, {report.wall_s:.1f} s")
    figures = {
        "time to first token, ms": report.ttft_ms,
        "time per token after it, ms": report.tpot_ms,
        "gap between events, ms": report.gap_ms,
        "longest gap of a stream, ms": report.worst_gap_ms,
        "whole answer, ms": report.e2e_ms,
    }
    columns = ("mean", "p50", "p90", "p95", "p99", "max")
    rows = [(name, *(f"{getattr(one, column):,.1f}" for column in columns)) for name, one in figures.items()]
    table(("", *columns), rows, names=1)
    print(
        f"{report.succeeded} of {report.sent} answered, {report.requests_per_s:.2f}/s; "
        f"{report.tok_per_s:,.1f} tokens/s ({report.completion_tokens:,} out, "
        f"{report.prompt_tokens:,} in, {report.cached_tokens:,} of these from cache)"
    )
    print(f"{report.stalled_streams} streams stalled for more than {report.stall_ms:g} ms")
    print(
        f"first token of the first request after {report.first_ttft_ms:,.1f} ms, "
        f"of later ones after {report.later_ttft_ms.p50:,.1f} ms (p50)"
    )
    if report.goodput is not None:
        good = report.goodput
        print(
            f"goodput: {good.requests_per_s:.2f} requests/s, {good.tok_per_s:,.1f} tokens/s; "
            f"{good.share:.1%} within the objectives"
        )
    for name, count in report.errors.items():
        print(on_a_screen(f"{count} failed: {name}"))
    print(f"the load client took {report.client_cpu_s / report.wall_s:.1%} of one core")
