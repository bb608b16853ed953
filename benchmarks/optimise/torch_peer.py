"""A model in PyTorch: `python -m benchmarks.optimise.torch_peer HOW FOLDER FORM WEIGHTS WINDOWS ROUNDS`.

HOW is `eager`, `compile` or `dynamic`; FOLDER, FORM and WEIGHTS are a stored model, WINDOWS a JSON file of token ids.

Prints perplexity over the windows and tokens a second of one stream, greedy, as the median of the rounds. `dynamic` is
`torch.ao.quantization.quantize_dynamic` over every linear layer, as its tutorial has it: one scale for a whole tensor.
`compile` is `torch.compile` of the model with a static cache, warmed up before it is timed.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

PROMPT = list(range(100, 116))
NEW_TOKENS = 64


def main() -> int:
    how, folder, form, weights, windows, rounds = sys.argv[1:]
    warnings.simplefilter("ignore")
    import torch

    from ashore.data.engines import load_torch_model

    model = load_torch_model(Path(folder), form, weights, name="peer")  # type: ignore[arg-type]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    if how == "dynamic":
        model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    facts = {"perplexity": math.exp(_nll(torch, model, json.loads(Path(windows).read_text())))}
    settings: dict[str, Any] = {"do_sample": False, "min_new_tokens": NEW_TOKENS, "max_new_tokens": NEW_TOKENS}
    if how == "compile":
        model.forward = torch.compile(model.forward)
        settings["cache_implementation"] = "static"
    ids = torch.tensor([PROMPT])
    rates = []
    with torch.inference_mode():
        model.generate(ids, **settings)  # warms up, and compiles
        for _ in range(int(rounds)):
            begun = time.perf_counter()
            model.generate(ids, **settings)
            rates.append(NEW_TOKENS / (time.perf_counter() - begun))
    print(json.dumps({**facts, "tok_per_s": statistics.median(rates), "rounds": rates, "torch": torch.__version__}))
    return 0


def _nll(torch: Any, model: Any, windows: list[list[int]]) -> float:
    total = count = 0.0
    with torch.inference_mode():
        for ids in windows:
            logits = model(torch.tensor([ids])).logits[0, :-1].float()
            total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum"))
            count += len(ids) - 1
    return total / count


if __name__ == "__main__":
    raise SystemExit(main())
