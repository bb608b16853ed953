"""A `tokenizer.json` as the vocabulary of a GGUF file; the inverse of `vocabulary`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ashore.core.errors import UnsupportedModel
from ashore.kit.store.conversion.splits import name_of

NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6


def write_vocabulary(writer: Any, directory: Path, num_rows: int, generation: dict[str, Any]) -> None:
    """Write tokens, types, merges and special ids of `directory/tokenizer.json`.

    Args:
        writer: A `gguf.GGUFWriter`.
        directory: Folder in Hugging Face form.
        num_rows: Rows of the embedding: a longer vocabulary is an error, a shorter one is padded.
        generation: What `generation.json` says.

    Raises:
        UnsupportedModel: not a BPE vocabulary, or words are split in a way that is not known here.
    """
    document: dict[str, Any] = json.loads((directory / "tokenizer.json").read_text(encoding="utf-8"))
    model = document["model"]
    if model.get("type", "BPE") != "BPE":
        raise UnsupportedModel(f"tokenizer.json has a vocabulary of type {model.get('type')!r}", hint="known: BPE")
    added = {int(t["id"]): t for t in document.get("added_tokens", ())}
    names = {int(i): str(t) for t, i in model["vocab"].items()} | {i: str(t["content"]) for i, t in added.items()}
    if max(names) >= num_rows:
        raise UnsupportedModel(f"tokenizer.json has token {max(names)}, and the embedding has {num_rows} rows")
    sentencepiece = bool(model.get("byte_fallback"))
    tokens = [names.get(i, f"[PAD{i}]") for i in range(num_rows)]
    types = [_type(i, t, i in names, added.get(i), sentencepiece) for i, t in enumerate(tokens)]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if sentencepiece:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix("Prepend" in json.dumps(document.get("normalizer") or {}))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(name_of(document.get("pre_tokenizer")))
        writer.add_token_list(tokens)
        writer.add_token_merges(merges)
    writer.add_token_types(types)
    _write_special(writer, generation)


def _type(index: int, token: str, known: bool, added: dict[str, Any] | None, sentencepiece: bool) -> int:
    if not known:
        return UNUSED
    if added is not None:
        return CONTROL if added.get("special") else USER_DEFINED
    if sentencepiece and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return BYTE
    return NORMAL


def _scores(tokens: list[str], merges: list[str]) -> list[float]:
    """Return scores under which the best-scored merge is the first one of the list."""
    rank: dict[str, int] = {}
    for index, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", "", 1), index)
    return [-float(rank[t] + 1) if t in rank else 0.0 for t in tokens]


def _write_special(writer: Any, generation: dict[str, Any]) -> None:
    if generation["eos_token_ids"]:
        writer.add_eos_token_id(generation["eos_token_ids"][0])
    if generation["bos_token_id"] is not None:
        writer.add_bos_token_id(generation["bos_token_id"])
    if generation["pad_token_id"] is not None:
        writer.add_pad_token_id(generation["pad_token_id"])
    writer.add_add_bos_token(bool(generation["add_bos"]))
