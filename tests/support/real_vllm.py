"""The demo model in the form that vLLM reads, and the executable of a real vLLM where one was installed."""

from __future__ import annotations

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tiny_adapters import make_adapter

from ashore.data.engines import EngineOptions, ModelFiles
from ashore.data.engines.vllm.command import VllmProcess, vllm_command
from ashore.kit.processes.ports import free_port
from ashore.kit.store import gguf_reader, read_gguf_state

PROGRAM: Final = os.environ.get("ASHORE_TEST_VLLM", "")
"""Path of a real vLLM, read before tests clear the environment. Tests that need one are skipped where it is unset."""


def as_safetensors(gguf: Path, text: Path, folder: Path) -> Path:
    """Write a Llama model of a GGUF file to `folder` in Hugging Face form, with the tokenizer of `text`; return it."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    with gguf_reader(gguf) as reader:

        def of(name: str) -> float:
            return float(reader.fields[f"llama.{name}"].contents())

        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "torch_dtype": "float16",
            "tie_word_embeddings": "output.weight" not in {tensor.name for tensor in reader.tensors},
            "hidden_size": int(of("embedding_length")),
            "intermediate_size": int(of("feed_forward_length")),
            "num_hidden_layers": int(of("block_count")),
            "num_attention_heads": int(of("attention.head_count")),
            "num_key_value_heads": int(of("attention.head_count_kv")),
            "max_position_embeddings": int(of("context_length")),
            "rope_theta": of("rope.freq_base"),
            "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
            "vocab_size": len(reader.fields["tokenizer.ggml.tokens"].data),
            "bos_token_id": int(reader.fields["tokenizer.ggml.bos_token_id"].contents()),
            "eos_token_id": int(reader.fields["tokenizer.ggml.eos_token_id"].contents()),
        }
    state = read_gguf_state(gguf)
    assert state is not None, f"{gguf} is no Llama model"
    save_file({name: values.copy() for name, values in state.items()}, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(text / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "chat_template": (text / "chat_template.jinja").read_text(),
                "eos_token": "<|im_end|>",
                "bos_token": "<|im_start|>",
            }
        )
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": config["eos_token_id"]}))
    return folder


@dataclass(frozen=True, slots=True, kw_only=True)
class RealVllm:
    """A running server and what it serves."""

    url: str
    key: str
    model: Path
    adapter: Path


OPTIONS: Final = {
    "dtype": "bfloat16", "enforce_eager": True, "kv_cache_memory_bytes": 512 << 20, "enable_lora": True,
    "max_lora_rank": 8, "start_timeout_s": 1200,
}  # fmt: skip
"""Small, and without compiling: a test's worth of the demo model."""


@contextmanager
def real_vllm(gguf: Path, text: Path, folder: Path) -> Iterator[RealVllm]:
    """Start a server of the demo model with the command that ashore starts one with, and stop it at the end."""
    model = as_safetensors(gguf, text, folder / "smol")
    adapter = make_adapter(folder / "adapter", model, seed=1, rank=8, targets=("self_attn.q_proj", "self_attn.v_proj"))
    files = ModelFiles(name="smol", digest="", directory=str(model), format="safetensors")
    options = EngineOptions(kind="vllm", context_tokens=1024, max_sequences=8, extra={"executable": PROGRAM, **OPTIONS})
    port = free_port()
    with open(folder / "vllm.log", "wb") as log:
        process = VllmProcess(vllm_command(files, options, port=port), output=log)
        try:
            deadline_s = time.monotonic() + 1200
            while True:
                process.check()
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                    break
                assert time.monotonic() < deadline_s, (folder / "vllm.log").read_text(errors="replace")[-3000:]
                time.sleep(0.5)
            yield RealVllm(url=f"http://127.0.0.1:{port}", key=process.api_key, model=model, adapter=adapter)
        finally:
            process.stop()
