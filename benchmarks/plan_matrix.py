"""The hardware matrix that ashore began with, row by row: what it would have to mean to be true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ashore.lab.sizing.chips import chips
from ashore.lab.sizing.choose import Choice, Figure, Option, capacity, choose
from ashore.lab.sizing.networks import Network, networks
from ashore.lab.sizing.wish import Level, Load

LENGTHS: Final = ((128, 128), (225, 233), (778, 128), (1024, 512))
"""Prompt and answer: the benchmarks of 2023, ShareGPT, MLPerf's summaries, a document with a question."""
LEVEL: Final = Level(first_s=2.0, token_s=0.1, percentile=95)
CHEAPER: Final = ("A100-80G", "H100", "H200", "H20-96G", "B200", "L40S", "RTX-4090")
_NAMED: Final = 1
"""Place in LENGTHS of the one at which alternatives are looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One row of the matrix, as printed."""

    words: str
    model: str
    chip: str
    devices: int
    requests_per_s: float
    ram_gb: int
    measured: str
    """What others measured, with where."""


CLAIMS: Final = (
    Claim(
        words="7B: 2 x A100-80G, 256 GB, 120 requests/s",
        model="deepseek-llm-7b",
        chip="A100-80G",
        devices=2,
        requests_per_s=120,
        ram_gb=256,
        measured="LMDeploy 2024: one A100 answers 14.6 ShareGPT requests/s of Llama-2-7B in FP16, 29 on two",
    ),
    Claim(
        words="13B: 4 x A100-80G, 512 GB, 85 requests/s",
        model="llama-2-13b",
        chip="A100-80G",
        devices=4,
        requests_per_s=85,
        ram_gb=512,
        measured="LMDeploy 2024: one A100 answers 7.95 ShareGPT requests/s of Llama-2-13B, 31.8 on four",
    ),
    Claim(
        words="70B: 8 x H100, 1,024 GB, 35 requests/s",
        model="llama-2-70b",
        chip="H100",
        devices=8,
        requests_per_s=35,
        ram_gb=1024,
        measured="MLPerf Inference v4.1: eight H100 answer 71 to 82 requests/s of Llama-2-70B in FP8 (290 tokens, p99)",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Throughput of a claim's devices at one length."""

    isl: int
    osl: int
    requests_per_s: Figure | None
    layout: str
    is_reachable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Verdict on a row."""

    claim: str
    verdict: str
    reach: tuple[Reach, ...]
    longest_answer: int
    """Tokens of an answer, with prompts of 128, up to which the claim holds; 0: it holds at none."""
    cached_share: float
    """Share of requests that the answer cache must answer for the claim to hold at ShareGPT's lengths; 0: none."""
    ram_bytes: int
    cheaper: tuple[Option, ...]
    lines: tuple[str, ...]


def judge_matrix() -> tuple[Judgement, ...]:
    """Return the judgement of every row of the matrix, at LENGTHS and LEVEL: the matrix itself has neither."""
    return tuple(_judge(claim) for claim in CLAIMS)


def _judge(claim: Claim) -> Judgement:
    network, chip = networks()[claim.model], chips()[claim.chip]
    reach = tuple(_reach(claim, network, isl, osl) for isl, osl in LENGTHS)
    here = reach[_NAMED]
    answered = here.requests_per_s.value if here.requests_per_s else 0.0
    longest = next((osl for osl in (512, 384, 256, 192, 128, 96, 64, 48, 32, 16) if _holds(claim, network, osl)), 0)
    load = Load(requests_per_s=claim.requests_per_s, isl=here.isl, osl=here.osl)
    found = choose(network, load, LEVEL, model=claim.model, catalogue=[chips()[name] for name in CHEAPER])
    same = [one for one in found.options if one.chip.name == chip.name]
    holding = [one for one in reach if one.is_reachable]
    if answered >= 1.5 * claim.requests_per_s:
        verdict = "wasteful"
    elif len(holding) == len(reach):
        verdict = "reachable"
    elif holding:
        verdict = "reachable with short answers only"
    else:
        verdict = "unreachable"
    ram = same[0].ram_bytes if same else 0
    return Judgement(
        claim=claim.words,
        verdict=verdict,
        reach=reach,
        longest_answer=longest,
        cached_share=max(0.0, 1 - answered / claim.requests_per_s),
        ram_bytes=ram,
        cheaper=found.options[:3],
        lines=tuple(_lines(claim, reach, longest, answered, ram, same, found)),
    )


def _reach(claim: Claim, network: Network, isl: int, osl: int) -> Reach:
    load = Load(requests_per_s=claim.requests_per_s, isl=isl, osl=osl)
    found = capacity(network, load, LEVEL, model=claim.model, chip=chips()[claim.chip], devices=claim.devices)
    if isinstance(found, str):
        return Reach(isl=isl, osl=osl, requests_per_s=None, layout=found, is_reachable=False)
    rate, option = found
    layout = f"{claim.devices // option.tp} replicas of {option.tp} in {option.precision.name}"
    return Reach(isl=isl, osl=osl, requests_per_s=rate, layout=layout, is_reachable=rate.value >= claim.requests_per_s)


def _holds(claim: Claim, network: Network, osl: int) -> bool:
    return _reach(claim, network, 128, osl).is_reachable


def _lines(
    claim: Claim,
    reach: tuple[Reach, ...],
    longest: int,
    answered: float,
    ram: int,
    same: list[Option],
    found: Choice,
) -> list[str]:
    lines = [
        f"{one.isl} + {one.osl} tokens: "
        + (
            f"{one.requests_per_s.value:.0f} ({one.requests_per_s.low:.0f}-{one.requests_per_s.high:.0f}) requests/s, "
            f"{one.layout}"
            if one.requests_per_s
            else one.layout
        )
        for one in reach
    ]
    lines.append(
        f"holds for answers of up to {longest} tokens to prompts of 128" if longest else "holds for no length looked at"
    )
    if answered < claim.requests_per_s:
        lines.append(
            f"or when the answer cache answers {1 - answered / claim.requests_per_s:.0%} of what is asked "
            f"(at {reach[_NAMED].isl} + {reach[_NAMED].osl} tokens)"
        )
    if same:
        lines.append(
            f"{claim.requests_per_s:g} requests/s of {reach[_NAMED].isl} + {reach[_NAMED].osl} tokens need "
            f"{same[0].devices.value:.0f} ({same[0].devices.low:.0f}-{same[0].devices.high:.0f}) {claim.chip}, "
            f"{same[0].precision.name}, {same[0].tp} to a replica"
        )
    if found.options:
        one = found.options[0]
        lines.append(f"cheapest of what was looked at: {one.name}, {one.usd:,.0f} dollars")
    lines.append(f"memory: {claim.ram_gb} GB are claimed, {ram / 1e9:.0f} GB do")
    lines.append(f"measured by others: {claim.measured}")
    return lines
