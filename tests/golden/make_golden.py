"""Make `greedy.json`: what PyTorch in single precision answers to fifty prompts, greedily, and how sure it was.

Run where torch, transformers and gguf are installed, on the demo model as the store keeps it (F16 GGUF with its
tokenizer.json beside it):

    python tests/golden/make_golden.py MODEL_DIRECTORY

For each token the margin is kept: the difference between the two best logits. Where another engine parts from these
tokens at a margin close to zero, rounding decided; where it parts at a large one, somebody is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
NEW_TOKENS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--weights", default="model.gguf")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(arguments.threads)
    tokenizer = Tokenizer.from_file(str(arguments.directory / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(
        arguments.directory, gguf_file=arguments.weights, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    cases = []
    for line in (HERE / "prompts.txt").read_text(encoding="utf-8").splitlines():
        prompt = line.replace("\\n", "\n")
        ids = tokenizer.encode(prompt).ids
        tokens, margins = greedy(model, ids)
        cases.append({"prompt": prompt, "prompt_ids": ids, "tokens": tokens, "margins": margins})
        print(f"{len(cases):2d} {tokenizer.decode(tokens)[:70]!r} smallest margin {min(margins):.4f}")
    weights = hashlib.sha256((arguments.directory / arguments.weights).read_bytes()).hexdigest()
    versions = {name: version(name) for name in ("torch", "transformers", "tokenizers", "gguf")}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    head = json.dumps({"weights_sha256": weights, "precision": "fp32", "made_with": versions})
    (HERE / "greedy.json").write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n', encoding="utf-8")


def greedy(model: object, ids: list[int]) -> tuple[list[int], list[float]]:
    """Return `NEW_TOKENS` greedy tokens (stop tokens too: they are tokens like others here) and their margins."""
    import torch

    tokens: list[int] = []
    margins: list[float] = []
    cache = None
    step = torch.tensor([ids])
    with torch.inference_mode():
        for _ in range(NEW_TOKENS):
            out = model(input_ids=step, past_key_values=cache, use_cache=True)  # type: ignore[operator]
            cache = out.past_key_values
            best = out.logits[0, -1].topk(2)
            tokens.append(int(best.indices[0]))
            margins.append(round(float(best.values[0] - best.values[1]), 5))
            step = torch.tensor([[tokens[-1]]])
    return tokens, margins


if __name__ == "__main__":
    main()
