"""The arithmetic of a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ashore.lab.bench.model import Distribution, Goodput, LoadPlan, LoadReport, LookupReport, RequestRecord, Slo


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which `share` (0 to 1) of `ordered` lies, interpolating between neighbours."""
    if not ordered:
        return 0.0
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def distribution_ms(values_s: Iterable[float]) -> Distribution:
    """Return the distribution in milliseconds of observations in seconds."""
    ordered = sorted(v * 1e3 for v in values_s)
    if not ordered:
        return Distribution()
    return Distribution(
        count=len(ordered),
        mean=sum(ordered) / len(ordered),
        p50=percentile(ordered, 0.50),
        p90=percentile(ordered, 0.90),
        p95=percentile(ordered, 0.95),
        p99=percentile(ordered, 0.99),
        max=ordered[-1],
    )


def meets(record: RequestRecord, slo: Slo) -> bool:
    """Return whether the answer was complete and within the service level."""
    if record.error or record.ttft_s is None:
        return False
    if slo.ttft_ms is not None and record.ttft_s * 1e3 > slo.ttft_ms:
        return False
    return slo.tpot_ms is None or record.tpot_s is None or record.tpot_s * 1e3 <= slo.tpot_ms


def goodput(records: Sequence[RequestRecord], slo: Slo, wall_s: float) -> Goodput | None:
    """Return the goodput, or None without a service level."""
    if slo.ttft_ms is None and slo.tpot_ms is None:
        return None
    good = [r for r in records if meets(r, slo)]
    return Goodput(
        requests_per_s=len(good) / wall_s,
        tok_per_s=sum(r.completion_tokens for r in good) / wall_s,
        share=len(good) / len(records) if records else 0.0,
    )


def describe_load(plan: LoadPlan) -> str:
    """Return the kind of load in words."""
    if plan.rate_per_s is not None:
        return f"open loop, {plan.rate_per_s:g} requests/s"
    return f"closed loop, {plan.concurrency} user{'' if plan.concurrency == 1 else 's'}"


def summarise(plan: LoadPlan, records: Sequence[RequestRecord], *, wall_s: float, client_cpu_s: float) -> LoadReport:
    """Return the report of one measurement. Latencies are those of complete answers; failures are counted
    separately.
    """
    wall_s = max(wall_s, 1e-9)
    ordered = sorted(records, key=lambda r: r.index)
    whole = [r for r in ordered if not r.error]
    worst = [max(r.gaps_s) for r in whole if r.gaps_s]
    ttft = [r.ttft_s for r in whole if r.ttft_s is not None]
    tokens = sum(r.completion_tokens for r in ordered)
    return LoadReport(
        url=plan.url,
        model=plan.model,
        api=plan.api,
        load=describe_load(plan),
        wall_s=wall_s,
        sent=len(ordered),
        succeeded=len(whole),
        errors=dict(Counter(r.error for r in ordered if r.error).most_common()),
        prompt_tokens=sum(r.prompt_tokens for r in ordered),
        cached_tokens=sum(r.cached_tokens for r in ordered),
        completion_tokens=tokens,
        accepted_tokens=sum(r.accepted_tokens for r in ordered),
        rejected_tokens=sum(r.rejected_tokens for r in ordered),
        requests_per_s=len(whole) / wall_s,
        tok_per_s=tokens / wall_s,
        ttft_ms=distribution_ms(ttft),
        tpot_ms=distribution_ms(r.tpot_s for r in whole if r.tpot_s is not None),
        gap_ms=distribution_ms(gap for r in whole for gap in r.gaps_s),
        e2e_ms=distribution_ms(r.e2e_s for r in whole),
        worst_gap_ms=distribution_ms(worst),
        stall_ms=plan.stall_ms,
        stalled_streams=sum(1 for gap in worst if gap * 1e3 > plan.stall_ms),
        first_ttft_ms=ttft[0] * 1e3 if ttft else 0.0,
        later_ttft_ms=distribution_ms(ttft[1:]),
        goodput=goodput(ordered, plan.slo, wall_s),
        client_cpu_s=client_cpu_s,
        records=tuple(ordered),
    )


def report_json(report: LoadReport | LookupReport) -> bytes:
    """Return the report as indented JSON, without its records."""
    if isinstance(report, LoadReport):
        plain = _plain(report)
    else:
        rounds = [{"with_lookup": _plain(on), "without": _plain(off)} for on, off in report.rounds]
        plain = {"workload": report.workload, "ratio": report.ratio, "ratios": report.ratios, "rounds": rounds}
    return msgspec.json.format(msgspec.json.encode(plain), indent=2)


def _plain(report: LoadReport) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(report)
    del plain["records"]
    return plain
