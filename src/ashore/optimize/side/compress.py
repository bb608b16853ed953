"""Compress a checkpoint for vLLM. Runs in an environment with `llmcompressor`, without ashore:

    python compress.py SOURCE OUT --scheme w8a8|w4a16 --calibration FILE [--samples 128] [--tokens 512] [--seed 0]

SOURCE is a folder in Hugging Face form, OUT receives one in compressed-tensors form. `w8a8` moves the spread of the
activations into the weights first (SmoothQuant); both round by GPTQ. The output head stays as it is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SCHEMES = {"w8a8": "W8A8", "w4a16": "W4A16"}


def main() -> int:
    """Compress, write, return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scheme", choices=sorted(SCHEMES), required=True)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()

    import datasets
    import torch
    import transformers
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import GPTQModifier
    from llmcompressor.modifiers.smoothquant import SmoothQuantModifier

    torch.manual_seed(words.seed)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(words.source / "tokenizer.json"))
    ids = tokenizer(words.calibration.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"]
    pieces = [ids[at : at + words.tokens] for at in range(0, len(ids) - words.tokens + 1, words.tokens)]
    rows = [{"input_ids": piece, "attention_mask": [1] * len(piece)} for piece in pieces[: words.samples]]
    model = transformers.AutoModelForCausalLM.from_pretrained(words.source, dtype="auto", trust_remote_code=False)
    recipe = [GPTQModifier(targets="Linear", scheme=SCHEMES[words.scheme], ignore=["lm_head"])]
    if words.scheme == "w8a8":
        recipe.insert(0, SmoothQuantModifier(smoothing_strength=0.8))
    oneshot(
        model=model,
        dataset=datasets.Dataset.from_list(rows),
        recipe=recipe,
        max_seq_length=words.tokens,
        num_calibration_samples=len(rows),
    )
    model.save_pretrained(words.out, save_compressed=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
