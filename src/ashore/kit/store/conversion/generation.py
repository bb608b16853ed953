"""`generation.json`: how this model starts and stops, and what its makers recommend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ashore.core.errors import UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.core.sampling import RECOMMENDABLE
from ashore.kit.store.conversion.ggufmeta import GgufMeta
from ashore.kit.textfile import read_model_text

END_TOKENS = (
    "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<|end|>", "<|EOT|>",
    "<｜end▁of▁sentence｜>",
)  # fmt: skip
"""Control tokens after which no chat model of the families we serve goes on."""
CHANNEL = "<|channel|>"
"""Of gpt-oss: there `<|end|>` ends a message, and the answer goes on with the next one."""
CONTROL = 3
CATALOGUE = "catalogue"
"""`defaults_from` where the catalogue told the defaults; without it they are of `generation_config.json`."""


def generation_from_gguf(meta: GgufMeta) -> dict[str, Any]:
    """Return the facts a GGUF file has."""
    values = meta.values
    tokens: list[str] = values.get("tokenizer.ggml.tokens", [])
    types: list[int] = values.get("tokenizer.ggml.token_type", [])
    named = [values.get(f"tokenizer.ggml.{k}_token_id") for k in ("eos", "eot", "eom")]
    ends = [end for end in END_TOKENS if not (end == "<|end|>" and CHANNEL in tokens)]
    known = [i for i, (t, y) in enumerate(zip(tokens, types, strict=False)) if y == CONTROL and t in ends]
    return _generation(
        eos=[int(i) for i in named if i is not None] + known,
        bos=values.get("tokenizer.ggml.bos_token_id"),
        pad=values.get("tokenizer.ggml.padding_token_id"),
        add_bos=bool(values.get("tokenizer.ggml.add_bos_token", values.get("tokenizer.ggml.model") == "llama")),
        recommended={},
    )


def generation_from_folder(folder: Path) -> dict[str, Any]:
    """Return the facts that a folder in Hugging Face form has in `generation_config.json`, `config.json`, and so on."""
    config = _read(folder / "config.json")
    generation = _read(folder / "generation_config.json")
    tokenizer = _read(folder / "tokenizer_config.json")
    special = _token_ids(folder / "tokenizer.json")
    eos = _as_list(generation.get("eos_token_id", config.get("eos_token_id")))
    named = special.get(_content(tokenizer.get("eos_token")))
    if named is not None:
        eos = [named, *eos]
    known = [i for text, i in special.items() if text in END_TOKENS and not (text == "<|end|>" and CHANNEL in special)]
    bos = generation.get("bos_token_id", config.get("bos_token_id"))
    pad = generation.get("pad_token_id", special.get(_content(tokenizer.get("pad_token"))))
    return _generation(
        eos=eos + known,
        bos=bos if bos is not None else special.get(_content(tokenizer.get("bos_token"))),
        pad=pad,
        add_bos=_adds_bos(folder, tokenizer),
        recommended={k: generation[k] for k in RECOMMENDABLE if generation.get(k) is not None},
    )


def with_recommended(generation: dict[str, Any], recommended: Mapping[str, float]) -> dict[str, Any]:
    """Return the facts with the catalogue's recommendation, marked as such, if the files have none."""
    if generation["defaults"] or not recommended:
        return generation
    return {**generation, "defaults": dict(recommended), "defaults_from": CATALOGUE}


def chat_template_from_folder(folder: Path) -> str:
    """Return the chat template of a folder in Hugging Face form; empty for a base model that has none."""
    own = folder / "chat_template.jinja"
    if own.exists():
        return read_model_text(own).decode()
    for source in (_read(folder / "chat_template.json"), _read(folder / "tokenizer_config.json")):
        template = source.get("chat_template")
        if isinstance(template, str):
            return template
        if isinstance(template, list):
            named = {str(t.get("name")): str(t.get("template")) for t in template if isinstance(t, dict)}
            return named.get("default") or next(iter(named.values()), "")
    return ""


def _generation(
    *, eos: list[int], bos: int | None, pad: int | None, add_bos: bool, recommended: dict[str, float]
) -> dict[str, Any]:
    return {
        "eos_token_ids": list(dict.fromkeys(eos)),
        "bos_token_id": None if bos is None else int(bos),
        "pad_token_id": None if pad is None else int(pad),
        "add_bos": add_bos and bos is not None,
        "defaults": recommended,
    }


def _adds_bos(folder: Path, tokenizer_config: dict[str, Any]) -> bool:
    """Return whether the model's own tokenizer adds a BOS: by its post-processor, else by its settings."""
    processor = _read(folder / "tokenizer.json").get("post_processor")
    bos = _content(tokenizer_config.get("bos_token"))
    if processor is not None and bos and bos in json.dumps(processor, ensure_ascii=False):
        return True
    return bool(tokenizer_config.get("add_bos_token", False))


def _token_ids(path: Path) -> dict[str, int]:
    return {str(t["content"]): int(t["id"]) for t in _read(path).get("added_tokens", ())}


def _content(token: Any) -> str:
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _as_list(value: Any) -> list[int]:
    if value is None:
        return []
    return [int(v) for v in value] if isinstance(value, list) else [int(value)]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with foreign_errors(f"{path.name} is not JSON", UnsupportedModel):
        document = json.loads(read_model_text(path))
    return document if isinstance(document, dict) else {}
