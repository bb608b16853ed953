"""The demo model in the form that vLLM reads, and the executable of a real vLLM where one was installed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ashore.store import gguf_reader, read_gguf_state

ENVIRONMENT = "ASHORE_TEST_VLLM"
"""Names the executable. The tests that need it are skipped where it is unset."""


def executable() -> str | None:
    """Return the path of a real vLLM, or None."""
    return os.environ.get(ENVIRONMENT)


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
