"""Plan this machine's own serving before it is measured, then measure it, and compare.

`python -m benchmarks.plan_own make qwen-1.5b FOLDER` writes a model of that shape with random weights, which run as
fast as trained ones; `ashore model pull FOLDER --name qwen-1.5b` and `ashore optimize quantize qwen-1.5b --to int8`
bring it into the store. `make --gguf q4_0` writes one file with four bits a weight, for a model that this machine
cannot hold in half precision: llama.cpp serves that. `python -m benchmarks.plan_own plan --model smollm2@int8 --out
plan.json` writes down what is expected of this machine. `python -m benchmarks.plan_own measure plan.json --home HOME
--out measured.json` serves what was planned from the store of HOME, loads it, and prints both. Nothing is fitted in
between.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.made_up import ONE_MODEL, SHAPES, make_gguf
from tests.support.served import start_served
from tests.support.tiny_models import QWEN2_SPLIT, tiny_tokenizer

from ashore.lab.sizing.calibration import estimate
from ashore.lab.sizing.here import chip_here, measure_rates
from ashore.lab.sizing.own import Measured, case_of, read_report

NAMES: Final = {
    "qwen-1.5b": "deepseek-r1-distill-qwen-1.5b",
    "qwen-3b": "qwen2.5-3b",
    "qwen-7b": "deepseek-r1-distill-qwen-7b",
}
LOADS: Final = ((1, 64, 32), (1, 512, 32), (4, 128, 48), (8, 64, 48))
"""Requests at once, tokens of a prompt, tokens of an answer."""
KINDS: Final = {"openvino": "openvino", "llama.cpp": "llamacpp"}
"""Of each family of engines, the one here."""
ROUNDS: Final = 3
"""Requests for each at once."""


def make(shape: dict[str, int], folder: Path) -> None:
    """Write a model of the shape of Qwen2 in BF16, a file for each layer."""
    folder.mkdir(parents=True)
    hidden, inner, vocab = shape["hidden"], shape["inner"], shape["vocab"]
    keys = shape["kv"] * hidden // shape["heads"]
    config = {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "num_key_value_heads": shape["kv"],
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "hidden_act": "silu",
        "torch_dtype": "float16",
        "bos_token_id": 256,
        "eos_token_id": 257,
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [257]}))
    tokenizer = tiny_tokenizer(QWEN2_SPLIT)
    words = tokenizer["model"]["vocab"]
    words |= {f"w{number:06d}": number for number in range(270, vocab)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": template}))
    noise = np.random.default_rng(0).standard_normal(1 << 24).astype(np.float32)
    files: dict[str, list[tuple[str, int, int]]] = {
        "embedding": [("model.embed_tokens.weight", vocab, hidden)],
        "head": [("lm_head.weight", vocab, hidden), ("model.norm.weight", hidden, 0)],
    }
    for layer in range(shape["layers"]):
        at = f"model.layers.{layer}."
        files[f"layer{layer:02d}"] = [
            (at + "input_layernorm.weight", hidden, 0),
            (at + "post_attention_layernorm.weight", hidden, 0),
            *((f"{at}self_attn.{one}_proj.bias", hidden if one == "q" else keys, -1) for one in "qkv"),
            (at + "self_attn.q_proj.weight", hidden, hidden),
            (at + "self_attn.k_proj.weight", keys, hidden),
            (at + "self_attn.v_proj.weight", keys, hidden),
            (at + "self_attn.o_proj.weight", hidden, hidden),
            (at + "mlp.gate_proj.weight", inner, hidden),
            (at + "mlp.up_proj.weight", inner, hidden),
            (at + "mlp.down_proj.weight", hidden, inner),
        ]
    where = {}
    for name, tensors in files.items():
        where |= {tensor: f"{name}.safetensors" for tensor, _, _ in tensors}
        _write(folder / f"{name}.safetensors", tensors, noise)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


def _write(path: Path, tensors: list[tuple[str, int, int]], noise: np.ndarray) -> None:
    header, end = {}, 0
    for name, rows, columns in tensors:
        size = 2 * rows * max(columns, 1)
        header[name] = {
            "dtype": "F16",
            "shape": [rows, columns] if columns > 0 else [rows],
            "data_offsets": [end, end + size],
        }
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, rows, columns in tensors:
            if columns <= 0:
                file.write(np.full(rows, 1.0 if columns == 0 else 0.0, np.float16).tobytes())
                continue
            start = zlib.crc32(name.encode()) % len(noise)  # OpenVINO would keep layers that are equal once
            scaled = np.roll((noise / np.sqrt(columns)).astype(np.float16), start)
            left = rows * columns
            while left:
                part = scaled[: min(left, len(scaled))]
                file.write(part.tobytes())
                left -= len(part)


def plan(models: list[str], engine: str, given: str, out: Path) -> None:
    chip = chip_here(rates=measure_rates())
    told: list[dict[str, Any]] = []
    for model in models:
        name, _, variant = model.partition("@")
        precision = given or variant
        for load, isl, osl in LOADS:
            asked = Measured(
                isl=isl,
                osl=osl,
                load=load,
                load_kind="closed",
                first_s=1.0,
                token_s=1.0,
                tokens_per_s=1.0,
                rounds=ROUNDS,
            )
            case = case_of(asked, chip, model=NAMES.get(name, name), engine=engine, precision=precision or "bf16")
            said = estimate([case])
            told.append(
                {
                    "model": model,
                    "load": load,
                    "isl": isl,
                    "osl": osl,
                    "planned": [float(value) for value in said.value[0]],
                    "low": [float(value) for value in said.low[0]],
                    "high": [float(value) for value in said.high[0]],
                }
            )
    out.write_text(json.dumps({"chip": asdict(chip), "engine": engine, "plans": told}, indent=1) + "\n")
    print(f"{out}: {len(told)} plans for {chip.name}")


def measure(planned: Path, home: Path, out: Path) -> None:
    told = json.loads(planned.read_text())
    rows = []
    for model in dict.fromkeys(one["model"] for one in told["plans"]):
        with tempfile.TemporaryDirectory() as scratch:
            server = start_served(
                Path(scratch) / "home",
                (),
                store=home / "store",
                port=_free_port(),
                grpc_port=0,
                options=("--offline",),
                wait=False,
                config=ONE_MODEL.format(model=model, kind=KINDS[told["engine"]]),
            )
            try:
                server.wait_ready(240)
                for seed, one in enumerate(told["plans"]):
                    if one["model"] == model:
                        rows.append(one | {"measured": _load(server.base_url, server.home, one, seed)})
                        print(_line(rows[-1]), flush=True)
            finally:
                server.stop()
    out.write_text(json.dumps({"chip": told["chip"], "rows": rows}, indent=1) + "\n")


def _load(url: str, home: Path, one: dict[str, Any], seed: int) -> list[float]:
    """Load the server, and return first token and time a token in seconds, and tokens a second.

    Each load has a seed of its own, prompts go without a chat template, and the server keeps none: all of their tokens
    cost what the plan says.
    """
    report = home / "report.json"
    words = ["bench", "serve", url, "--concurrency", str(one["load"]), "--requests", str(ROUNDS * one["load"])]
    words += ["--prompt-tokens", str(one["isl"]), "--output-tokens", str(one["osl"]), "--json", str(report)]
    words += ["--api", "completions", "--seed", str(seed)]
    subprocess.run(
        [sys.executable, "-m", "ashore.cli.main", *words],
        env=os.environ | {"ASHORE_HOME": str(home)},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    found = read_report(report)
    return [found.first_s, found.token_s, found.tokens_per_s]


def _line(row: dict[str, Any]) -> str:
    cells = (
        f"{scale * seen:.4g} {unit} (planned {scale * said:.4g}, {100 * (said / seen - 1):+.0f} %)"
        for said, seen, scale, unit in zip(
            row["planned"], row["measured"], (1e3, 1e3, 1), ("ms", "ms", "tok/s"), strict=True
        )
    )
    return f"{row['model']} {row['load']} at once, {row['isl']}/{row['osl']}: " + "; ".join(cells)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("shape", choices=NAMES)
    making.add_argument("folder", type=Path)
    making.add_argument("--gguf", choices=("q4_0", "q8_0"), help="write FOLDER/model.gguf with so many bits")
    planning = commands.add_parser("plan")
    planning.add_argument("--model", action="append", required=True)
    planning.add_argument("--engine", default="openvino", choices=KINDS)
    planning.add_argument("--precision", default="", help="of the weights, where no variant says it: q4_0")
    planning.add_argument("--out", type=Path, required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("plan", type=Path)
    measuring.add_argument("--home", type=Path, required=True)
    measuring.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.command == "make":
        if args.gguf:
            make_gguf(SHAPES[args.shape], args.gguf, args.folder / "model.gguf")
        else:
            make(SHAPES[args.shape], args.folder)
    elif args.command == "plan":
        plan(args.model, args.engine, args.precision, args.out)
    else:
        measure(args.plan, args.home, args.out)


if __name__ == "__main__":
    main()
