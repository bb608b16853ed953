"""The vocabulary of a GGUF file as a `tokenizer.json`, so that every engine counts the same tokens.

Byte-level BPE ("gpt2" in GGUF) takes its word splitting from `tokenizer.ggml.pre`; SentencePiece BPE ("llama") has its
merges rebuilt from the scores. No post-processor is written: `generation.json` says whether a BOS goes in front.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ashore.core.errors import UnsupportedModel
from ashore.kit.store.conversion.ggufmeta import GgufMeta
from ashore.kit.store.conversion.splits import IGNORE_MERGES, canonical, pre_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL, USER_DEFINED, UNUSED, BYTE = 3, 4, 5, 6
"""`tokenizer.ggml.token_type`. Source: GGUF specification."""
MAX_TOKEN_CHARS = 1_024
MAX_MERGE_WORK = 1_000_000_000
"""Limits of rebuilding merges: the longest token, and the sum of the squares of all lengths. Vocabularies of 262,144
tokens come to some 30 million."""


def tokenizer_from_gguf(meta: GgufMeta) -> Tokenizer:
    """Return the tokenizer of a GGUF file.

    Raises:
        UnsupportedModel: a kind of vocabulary or word splitting that is not known here.
    """
    kind = meta.values.get("tokenizer.ggml.model", "")
    match kind:
        case "gpt2":
            tokenizer = _byte_level_bpe(meta)
        case "llama":
            tokenizer = _sentencepiece_bpe(meta)
        case _:
            raise UnsupportedModel(
                f"the GGUF file has a vocabulary of type {kind!r}",
                hint="supported: gpt2 (byte-level BPE), llama (SentencePiece)",
            )
    _add_special(tokenizer, meta)
    return tokenizer


def write_tokenizer(meta: GgufMeta, target: Path) -> None:
    """Write `tokenizer.json` for a GGUF file."""
    target.write_text(tokenizer_from_gguf(meta).to_str(), encoding="utf-8")


def _byte_level_bpe(meta: GgufMeta) -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models

    tokens: list[str] = meta.values["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in meta.values["tokenizer.ggml.merges"]]
    pre = str(meta.values.get("tokenizer.ggml.pre", ""))
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=canonical(pre) in IGNORE_MERGES))
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece_bpe(meta: GgufMeta) -> Tokenizer:
    """Rebuild a SentencePiece BPE: a pair may merge when the result is a token, and better-scored results go first."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens: list[str] = meta.values["tokenizer.ggml.tokens"]
    scores: list[float] = meta.values["tokenizer.ggml.scores"]
    if (longest := max(map(len, tokens), default=0)) > MAX_TOKEN_CHARS:
        raise UnsupportedModel(f"the GGUF file has a token of {longest} characters", hint="fetch it again")
    if sum(len(token) ** 2 for token in tokens) > MAX_MERGE_WORK:
        raise UnsupportedModel(
            f"the GGUF file has {len(tokens)} tokens of up to {longest} characters; no vocabulary has that",
            hint="fetch it again",
        )
    vocab = {token: index for index, token in enumerate(tokens)}
    merges: list[tuple[float, int, str, str]] = []
    for index, token in enumerate(tokens):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in vocab and right in vocab:
                merges.append((-scores[index], index, left, right))
    merges.sort(key=lambda m: (m[0], vocab[m[2]], vocab[m[3]]))
    model = models.BPE(
        vocab=vocab,
        merges=[(m[2], m[3]) for m in merges],
        unk_token=_unknown(meta, tokens),
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    prefix = bool(meta.values.get("tokenizer.ggml.add_space_prefix", True))
    steps: list[Any] = [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), *steps] if prefix else steps)
    tail: list[Any] = [decoders.Strip(content=" ", left=1, right=0)] if prefix else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail])
    return tokenizer


def _unknown(meta: GgufMeta, tokens: list[str]) -> str | None:
    index = meta.values.get("tokenizer.ggml.unknown_token_id")
    return tokens[int(index)] if index is not None else None


def _add_special(tokenizer: Tokenizer, meta: GgufMeta) -> None:
    from tokenizers import AddedToken

    tokens: list[str] = meta.values["tokenizer.ggml.tokens"]
    types: list[int] = meta.values.get("tokenizer.ggml.token_type", [])
    tokenizer.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t, y in zip(tokens, types, strict=False) if y == CONTROL]
    )
    tokenizer.add_tokens(
        [
            AddedToken(t, special=False, normalized=False)
            for t, y in zip(tokens, types, strict=False)
            if y == USER_DEFINED
        ]
    )
