"""Cross-encoders of two layers with weights from a seed, in Hugging Face form: what is tested is the arithmetic.

`SCORES` are the logits that transformers 5.19.0 (5.24.0 for ModernBERT; torch 2.13.0, float32) gives for `PAIRS` with
the same files.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

Kind = Literal["bert", "xlm-roberta", "modernbert"]
HIDDEN, LAYERS, HEADS, WIDE, POSITIONS = 32, 2, 4, 64, 66
FAMILIES: Final[dict[Kind, str]] = {"bert": "Bert", "xlm-roberta": "XLMRoberta", "modernbert": "ModernBert"}
MODERN: Final = {
    "num_hidden_layers": 3, "local_attention": 8, "global_attn_every_n_layers": 2, "classifier_pooling": "mean",
    "type_vocab_size": 0, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2,
    "eos_token_id": 3,
}  # fmt: skip
"""What makes it another model: the second layer sees four tokens to each side."""
LETTERS: Final = (*string.ascii_lowercase, *string.digits)
PAIRS: Final = (
    ("what is tea", "tea is a drink"),
    ("what is tea", "paris"),
    ("a", "b c d e f g h i j k l m n o p"),
    ("who", "[SEP] who </s>"),
)
SCORES: Final[dict[Kind, tuple[float, ...]]] = {
    "bert": (1.616345, 0.494833, -0.228458, 0.224987),
    "xlm-roberta": (0.901329, 0.75909, 1.847853, 2.667119),
    "modernbert": (7.881161, 7.72211, 2.469702, 6.548158),
}

FIRST_TOKEN: Final = (4.117665, 10.699655, 11.836611, -1.543063)
"""Those of the ModernBERT that reads its first token alone."""


def write_cross_encoder(folder: Path, kind: Kind, *, labels: int = 1) -> Path:
    """Write config, weights and tokenizer, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _unigrams() if kind == "xlm-roberta" else _word_pieces()
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab_size = tokenizer.get_vocab_size()
    is_bert = kind == "bert"
    config: dict[str, Any] = {
        "architectures": [f"{FAMILIES[kind]}ForSequenceClassification"],
        "model_type": kind,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": WIDE,
        "vocab_size": vocab_size,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2 if is_bert else 1,
        "pad_token_id": 0 if is_bert else 1,
        "layer_norm_eps": 1e-12 if is_bert else 1e-5,
        "hidden_act": "gelu",
        "id2label": {str(number): f"LABEL_{number}" for number in range(labels)},
        "label2id": {f"LABEL_{number}": number for number in range(labels)},
    }
    if kind == "modernbert":
        config |= MODERN
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_weights(kind, vocab_size, config["type_vocab_size"], labels), folder / "model.safetensors")
    return folder


def _weights(kind: Kind, vocab_size: int, num_types: int, labels: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    if kind == "modernbert":
        return _modern(rng, vocab_size, labels)
    root = "bert." if kind == "bert" else "roberta."
    found: dict[str, NDArray[np.float32]] = {}

    def put(name: str, *shape: int) -> None:
        found[name] = rng.normal(0, 0.5, shape).astype(np.float32)

    def linear(name: str, num_in: int, num_out: int) -> None:
        put(name + ".weight", num_out, num_in)
        put(name + ".bias", num_out)

    def norm(name: str) -> None:
        found[name + ".weight"] = rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)
        put(name + ".bias", HIDDEN)

    put(root + "embeddings.word_embeddings.weight", vocab_size, HIDDEN)
    put(root + "embeddings.position_embeddings.weight", POSITIONS, HIDDEN)
    put(root + "embeddings.token_type_embeddings.weight", num_types, HIDDEN)
    norm(root + "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"{root}encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            linear(f"{at}attention.self.{part}", HIDDEN, HIDDEN)
        linear(at + "attention.output.dense", HIDDEN, HIDDEN)
        norm(at + "attention.output.LayerNorm")
        linear(at + "intermediate.dense", HIDDEN, WIDE)
        linear(at + "output.dense", WIDE, HIDDEN)
        norm(at + "output.LayerNorm")
    if kind == "bert":
        linear("bert.pooler.dense", HIDDEN, HIDDEN)
        linear("classifier", HIDDEN, labels)
    else:
        linear("classifier.dense", HIDDEN, HIDDEN)
        linear("classifier.out_proj", HIDDEN, labels)
    return found


def _modern(rng: np.random.Generator, vocab_size: int, labels: int) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}

    def put(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = rng.normal(0, 0.5, shape).astype(np.float32)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)

    put("model.embeddings.tok_embeddings", vocab_size, HIDDEN)
    norm("model.embeddings.norm")
    for layer in range(int(str(MODERN["num_hidden_layers"]))):
        at = f"model.layers.{layer}."
        if layer:
            norm(at + "attn_norm")
        put(at + "attn.Wqkv", 3 * HIDDEN, HIDDEN)
        put(at + "attn.Wo", HIDDEN, HIDDEN)
        norm(at + "mlp_norm")
        put(at + "mlp.Wi", 2 * WIDE, HIDDEN)
        put(at + "mlp.Wo", HIDDEN, WIDE)
    norm("model.final_norm")
    put("head.dense", HIDDEN, HIDDEN)
    norm("head.norm")
    put("classifier", labels, HIDDEN)
    found["classifier.bias"] = rng.normal(0, 0.5, labels).astype(np.float32)
    return found


def _word_pieces() -> Tokenizer:
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    pieces = (*special, *LETTERS, *(f"##{one}" for one in LETTERS), "[", "]", "<", ">", "/")
    vocab = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return tokenizer


def _unigrams() -> Tokenizer:
    special = ("<s>", "<pad>", "</s>", "<unk>")
    pieces = [*((one, 0.0) for one in special), ("▁", -2.0), *((one, -3.0) for one in (*LETTERS, *"[]</>"))]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer
