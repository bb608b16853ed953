"""Plan a sample of published measurements with AIConfigurator, and compare it with the planner, group by group.

`python benchmarks/plan_peers.py --points points.csv --held held.csv` runs where `pip install aiconfigurator` was
done; it needs nothing of ashore. `held.csv` is what `plan_fit.py --held` writes: what the planner says of each point
when it was left out of the fit. AIConfigurator is taken out of the box: newest tables, no calibration, no other option.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import random
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SYSTEMS = {
    "A100-80G": "a100_sxm",
    "H100": "h100_sxm",
    "H200": "h200_sxm",
    "B200": "b200_sxm",
    "B300": "b300_sxm",
    "GB200": "gb200",
}
MODELS = {
    ("qwen3-32b", "fp8"): "Qwen/Qwen3-32B-FP8",
    ("qwen3-32b", ""): "Qwen/Qwen3-32B",
    ("deepseek-r1", "fp8"): "deepseek-ai/DeepSeek-R1",
    ("deepseek-r1", "fp4"): "nvidia/DeepSeek-V3.1-NVFP4",
    ("llama-3.1-70b", "fp8"): "nvidia/Llama-3.1-70B-Instruct-FP8",
    ("gpt-oss-120b", "fp4"): "openai/gpt-oss-120b",
    ("gpt-oss-120b", "fp8"): "openai/gpt-oss-120b",
    ("minimax-m2.5", "fp8"): "MiniMaxAI/MiniMax-M2.5",
    ("minimax-m2.5", "fp4"): "nvidia/MiniMax-M2.5-NVFP4",
    ("qwen3-235b-a22b-fp8", "fp8"): "Qwen/Qwen3-235B-A22B-FP8",
    ("llama-3.1-8b-instruct", ""): "meta-llama/Meta-Llama-3.1-8B",
    ("qwen3.5-397b-a17b", "bf16"): "Qwen/Qwen3.5-397B-A17B",
    ("qwen3.5-397b-a17b", "fp4"): "nvidia/Qwen3.5-397B-A17B-NVFP4",
}
DENSE = re.compile("llama|qwen3-32b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=Path, required=True)
    parser.add_argument("--held", type=Path, required=True)
    parser.add_argument("--kept", type=Path, default=Path("plan_peers.json"), help="what was planned already")
    parser.add_argument("--sample", type=int, default=220)
    args = parser.parse_args()
    rows = dict(enumerate(csv.DictReader(args.points.open(encoding="utf-8"))))
    able = [line for line, row in rows.items() if _is_able(row)]
    chosen = random.Random(3).sample(able, min(args.sample, len(able)))
    kept = json.loads(args.kept.read_text()) if args.kept.exists() else {}
    for line in chosen:
        if str(line) not in kept:
            kept[str(line)] = _plan(rows[line])
            args.kept.write_text(json.dumps(kept))
    held = defaultdict(list)
    for one in csv.DictReader(args.held.open(encoding="utf-8")):
        if one["trust"] != "fitted":
            held[int(one["line"])].append((float(one["first_s"]), float(one["token_s"])))
    print("\n".join(_table({line: rows[line] for line in chosen}, kept, held)))


def _is_able(row: dict[str, str]) -> bool:
    known = row["hardware"] in SYSTEMS and (row["model"], row["quant"]) in MODELS
    measured = bool(row["ttft_ms"] and row["tpot_ms"]) and row["load_kind"] == "closed" and row["grade"] in "AB"
    return known and measured and row["engine"] in ("trtllm", "vllm", "sglang") and int(row["n"] or 0) > 0


def _plan(row: dict[str, str]) -> list[Any]:
    """Return first token and time a token in milliseconds, or why there are none."""
    from aiconfigurator.cli.api import cli_estimate

    logging.disable(logging.CRITICAL)
    layout = {word: int(number) for word, number in re.findall(r"\b(adp|ep)(\d+)", row["note"])}
    devices, tp, groups = int(row["n"]), int(row["tp"] or row["n"]), max(1, layout.get("adp", 1))
    if groups > 1 and groups * tp > devices:
        tp = max(1, devices // groups)
    ep = min(max(1, layout.get("ep", 1)), tp * groups)
    experts = {} if DENSE.search(row["model"]) else {"moe_ep_size": ep, "moe_tp_size": tp * groups // ep}
    try:
        found = cli_estimate(
            MODELS[row["model"], row["quant"]],
            SYSTEMS[row["hardware"]],
            backend_name=row["engine"],
            isl=int(float(row["isl"])),
            osl=int(float(row["osl"])),
            batch_size=max(1, int(float(row["load"])) // groups),
            tp_size=tp,
            attention_dp_size=groups,
            **experts,
        )
    except (
        ArithmeticError,
        AssertionError,
        LookupError,
        OSError,
        RuntimeError,
        SystemExit,
        TypeError,
        ValueError,
    ) as fault:
        return [None, None, str(fault)[:120]]
    return [found.ttft, found.tpot, ""]


def _table(rows: dict[int, dict[str, str]], kept: dict[str, list[Any]], held: dict[int, Any]) -> Iterator[str]:
    groups: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    refused = 0
    for line, row in rows.items():
        first, token, _ = kept[str(line)]
        if not first or not token or line not in held:
            refused += 1
            continue
        seen = float(row["ttft_ms"]), float(row["tpot_ms"])
        ours = [statistics.fmean(column) * 1e3 for column in zip(*held[line], strict=True)]
        missed = tuple(abs(said / true - 1) * 100 for said, true in zip((first, token, *ours), seen * 2, strict=True))
        for name in ("all", row["engine"], row["hardware"], row["model"]):
            groups[name].append(missed)  # type: ignore[arg-type]
    yield "| points | | first token: AIConfigurator | the planner | a token: AIConfigurator | the planner |"
    yield "|---|---|---|---|---|---|"
    for name, found in sorted(groups.items(), key=lambda item: -len(item[1])):
        first, token, our_first, our_token = (statistics.median(column) for column in zip(*found, strict=True))
        cells = f"{first:.1f} % | {our_first:.1f} % | {token:.1f} % | {our_token:.1f} %"
        yield f"| {name} | {len(found)} | {cells} |"
    yield f"\n{refused} of {len(rows)} rows it could not plan."


if __name__ == "__main__":
    main()
