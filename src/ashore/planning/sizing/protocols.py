"""How a publication measured, where its own scripts say so: what a row means that its columns do not tell."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ashore.planning.sizing.case import STEADY


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What the load generator and the options of the server do to a row."""

    lengths: float = 1.0
    """Mean of the lengths that were sent, as a share of those that the row states."""
    rounds: float = 0.0
    """Requests that were sent for each that is underway, the first ones of all at the same moment; 0: not known."""
    even: bool = False
    """Whether all requests have the same lengths, so that they stay as far from each other as they began."""
    held_steps: float = 0.0
    """Steps of answers for which the engine was told to let a new prompt wait."""
    speculative: bool = False
    """Whether tokens were drafted, where the row does not say it."""


PLAIN: Final = Protocol()
_INFERENCEX: Final = re.compile(r"aiconfigurator.*#(\d{4}_\d\d_\d\d_\w+|\w+_cfg\d+)$")
"""Rows of AIConfigurator's samples that repeat runs of InferenceX, by the name that they have there."""
_LENGTHS: Final = 0.9
"""InferenceX draws both lengths evenly from 80 to 100 % of the stated ones (`--random-range-ratio 0.8`)."""
_ROUNDS: Final = 10.0
"""It sends `$CONC * 10` requests, without a rate, so that `$CONC` prompts come at once at the beginning."""
_DRAFTED: Final = ("2026-01-14", "2026-02-05", "2026-02-06")
"""Days on which it measured DeepSeek-R1 on TensorRT-LLM with drafted tokens (its pull requests 392, 632, 642)."""


def protocol_of(row: Mapping[str, str], *, at_once: float, osl: float) -> Protocol:
    """Return how a row was measured; PLAIN where nothing is known of its source.

    Args:
        row: By column; model and hardware are there.
        at_once: Requests at once.
        osl: Tokens of an answer.

    Source: `benchmarks/*.sh` and `utils/bench_serving` of github.com/SemiAnalysisAI/InferenceX (Apache-2.0), versions
    of 2025-09 to 2026-04.
    """
    source = row.get("source") or ""
    if "aiconfigurator" not in source:
        return PLAIN
    if not _INFERENCEX.search(source):
        isl = row.get("isl") or ""  # its newer runs, with lengths in thousands, show nothing of a first wave
        return Protocol(rounds=STEADY if isl.endswith("00") else _ROUNDS, even=True)
    drafts = (row.get("engine"), row["model"].lower()) == ("trtllm", "deepseek-r1") and row.get("date") in _DRAFTED
    return Protocol(
        lengths=_LENGTHS, rounds=_ROUNDS, held_steps=_held_steps(row, at_once, max(osl, 1.0)), speculative=drafts
    )


def _held_steps(row: Mapping[str, str], at_once: float, osl: float) -> float:
    """Return the steps for which a new prompt waits, in the mean.

    SGLang was told on Blackwell to look for new requests every 30th step, every 10th with fewer than 16 at once
    (`--scheduler-recv-interval`). TensorRT-LLM collects prompts for so many steps (`batch_wait_timeout_iters`) in two
    of its set-ups, and for prompts of the other groups (`attention_dp_config`) where they share experts; the first one
    waits for all of them, those that join it for less.
    """
    engine, model, chip = row.get("engine") or "", row["model"].lower(), row["hardware"]
    tp = row.get("tp") or ""
    is_even = row.get("isl") == row.get("osl") == "1024"
    if engine == "sglang" and chip in ("B200", "B300"):
        few = at_once < 16 or model.startswith("glm") or ("qwen3.5" in model and chip == "B300" and "fp8" in _form(row))
        return 5.0 if few else 15.0
    collected = 0.0
    if engine == "trtllm" and re.search(r"\badp([2-9]|\d\d)", row.get("note") or ""):
        collected = 60.0 if model.startswith("deepseek-r1") else 10.0
    elif engine == "trtllm" and is_even:
        is_new = (row.get("date") or "") >= "2026-01-29"
        if model.startswith("llama") and tp in ("1", "2", "4"):
            collected = 20.0
        elif model.startswith("deepseek-r1") and chip == "B200" and _form(row) == "fp8" and is_new and at_once >= 64:
            collected = 40.0
    joined = collected * at_once / osl
    return collected * (1 + joined / 2) / (1 + joined)


def _form(row: Mapping[str, str]) -> str:
    return (row.get("quant") or "").lower()
