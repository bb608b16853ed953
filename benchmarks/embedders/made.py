"""Tiny random embedders in the layout of each family's repository, and the vectors that sentence-transformers makes.

Runs in an environment with torch and sentence-transformers, without ashore: `python made.py shapes FOLDER` writes the
folders and `vectors.json`; `python made.py speed MODEL TEXTS.json` prints the seconds that sentence-transformers takes
on OpenVINO for texts as a JSON list.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

TEXTS = (
    "a cat sat on the mat", "interest rates rose", "the bank by the river", "rates",
    "how do I cancel a leave of absence ?", "cat mat bank rates the the the river sat",
)  # fmt: skip
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PROMPTS = {"query": "query : ", "passage": "passage : "}
OLD_NAMES = {
    "cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "sqrt": "mean_sqrt_len_tokens",
    "weighted": "weightedmean_tokens", "last": "lasttoken",
}  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "all-MiniLM: bert, mean": {"pooling": "mean"},
    "bge v1.5: bert, cls": {"pooling": "cls"},
    "bge in the form of sentence-transformers 6": {"pooling": "cls", "new_form": True},
    "bert, max": {"pooling": "max"},
    "bert, mean over the root of the length": {"pooling": "sqrt"},
    "bert, weighted mean": {"pooling": "weighted"},
    "bert, last token": {"pooling": "last"},
    "LaBSE: bert, cls, Dense": {"pooling": "cls", "dense": 48},
    "bert, mean, no Normalize": {"pooling": "mean", "normalize": False},
    "e5-small: bert, mean, prompts": {"pooling": "mean", "prompts": PROMPTS},
    "bert, mean, a default prompt": {"pooling": "mean", "prompts": PROMPTS, "default": "query"},
    "instructor: mean without the prompt": {
        "pooling": "mean", "prompts": PROMPTS, "default": "query", "counts_prompt": False,
    },
    "bert, mean, max_seq_length 6": {"pooling": "mean", "most": 6},
    "m3e: bert without modules.json": {"pooling": "mean", "bare": True},
    "multilingual-e5: xlm-roberta, mean, prompts": {"kind": "xlm-roberta", "pooling": "mean", "prompts": PROMPTS},
    "bge-m3 dense: xlm-roberta, cls": {"kind": "xlm-roberta", "pooling": "cls"},
    "all-roberta: roberta, mean": {"kind": "roberta", "pooling": "mean"},
    "all-mpnet: mpnet, mean": {"kind": "mpnet", "pooling": "mean"},
    "distilbert, mean": {"kind": "distilbert", "pooling": "mean"},
    "gte-modernbert: modernbert, cls": {"kind": "modernbert", "pooling": "cls"},
    "modernbert-embed: modernbert, mean, prompts": {"kind": "modernbert", "pooling": "mean", "prompts": PROMPTS},
    "Qwen3-Embedding: qwen3, last token": {
        "kind": "qwen3", "pooling": "last", "prompts": {"query": "instruct : given query : ", "document": ""},
    },
}  # fmt: skip
"""What each folder is like. Names are those of models that have this layout, or say what is odd about it."""


def model_of(kind: str) -> Any:
    """Return a random model of transformers whose weights are large enough that poolings differ."""
    import torch
    import transformers as t

    ends = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    own: dict[str, dict[str, Any]] = {
        "bert": {},
        "xlm-roberta": {"type_vocab_size": 1, "layer_norm_eps": 1e-5, **ends},
        "roberta": {"type_vocab_size": 1, **ends},
        "mpnet": {},
        "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
        "modernbert": {
            "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
            "local_attention": 8,
        },
        "qwen3": {"num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0},
    }  # fmt: skip
    sizes = {} if kind == "distilbert" else SIZES
    config = t.AutoConfig.for_model(kind, vocab_size=64, max_position_embeddings=66, **sizes, **own[kind])
    model = (t.AutoModelForCausalLM if kind == "qwen3" else t.AutoModel).from_config(config)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.mul_(4)
            else:
                weights.add_(torch.randn_like(weights) * 0.2)
    return model.eval()


def tokenizer_of(kind: str) -> Any:
    """Return a tokenizer of whole words with the family's special tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({w for text in (*TEXTS, "query : passage instruct given") for w in text.lower().split()})
    if kind in ("bert", "distilbert", "modernbert"):
        first, frame = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[CLS] $A [SEP]"
        names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    elif kind == "qwen3":
        first, frame = ["<|endoftext|>", "<unk>", "<|im_end|>"], "$A <|endoftext|>"
        names = {"pad_token": "<|endoftext|>", "unk_token": "<unk>", "padding_side": "left"}
    else:
        first, frame = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<s> $A </s>"
        names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    ids = {word: at for at, word in enumerate([*first, *words])}
    made = Tokenizer(models.WordLevel(ids, unk_token=names["unk_token"]))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    special = [(name, ids[name]) for name in frame.split() if name != "$A"]
    made.post_processor = processors.TemplateProcessing(single=frame, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=60, **names)


def write(
    folder: Path, *, pooling: str, kind: str = "bert", new_form: bool = False, dense: int = 0, normalize: bool = True,
    prompts: dict[str, str] | None = None, default: str | None = None, counts_prompt: bool = True, most: int = 0,
    bare: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write one folder; return its vectors without a prompt ("") and with each."""
    import torch
    from safetensors.torch import save_file
    from sentence_transformers import SentenceTransformer

    shutil.rmtree(folder, ignore_errors=True)
    model = model_of(kind)
    model.save_pretrained(folder)
    tokenizer_of(kind).save_pretrained(folder)
    steps = ["Transformer", "Pooling", *(["Dense"] if dense else []), *(["Normalize"] if normalize else [])]
    paths = [f"{at}_{name}" if at else "" for at, name in enumerate(steps)]
    for path in paths[1:]:
        (folder / path).mkdir()
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
        for at, (path, name) in enumerate(zip(paths, steps, strict=True))
    ]
    told: dict[str, Any] = {f"pooling_mode_{name}": one == pooling for one, name in OLD_NAMES.items()}
    told |= {"word_embedding_dimension": 32, "include_prompt": counts_prompt}
    files: dict[str, Any] = {"modules.json": modules, "1_Pooling/config.json": told}
    if new_form:
        files["1_Pooling/config.json"] = {"embedding_dimension": 32, "pooling_mode": pooling, "include_prompt": True}
    if dense:
        activation = "torch.nn.modules.activation.Tanh"
        files["2_Dense/config.json"] = {
            "in_features": 32, "out_features": dense, "bias": True, "activation_function": activation,
        }  # fmt: skip
        layer = {"linear.weight": torch.randn(dense, 32), "linear.bias": torch.randn(dense)}
        save_file(layer, folder / "2_Dense" / "model.safetensors")
    if most:
        files["sentence_bert_config.json"] = {"max_seq_length": most, "do_lower_case": False}
    if prompts:
        files["config_sentence_transformers.json"] = {
            "prompts": prompts, "default_prompt_name": default, "similarity_fn_name": "cosine",
        }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    judge = SentenceTransformer(str(folder), device="cpu")
    vectors = {"": judge.encode(list(TEXTS)).tolist()}
    vectors |= {name: judge.encode(list(TEXTS), prompt_name=name).tolist() for name in prompts or ()}
    if bare:
        (folder / "modules.json").unlink()
        for path in paths[1:]:
            shutil.rmtree(folder / path)
    return vectors


def make_shapes(folder: Path) -> None:
    import torch

    torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    made = {name: write(folder / f"shape-{at}", **shape) for at, (name, shape) in enumerate(SHAPES.items())}
    (folder / "vectors.json").write_text(json.dumps(made))


def take_time(model: str, texts: Path) -> None:
    """Print the seconds for all texts and their vectors' first numbers, after a round that is not counted."""
    from sentence_transformers import SentenceTransformer

    asked: list[str] = json.loads(texts.read_text())
    judge = SentenceTransformer(model, backend="openvino", device="cpu")
    judge.encode(asked[:32])
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        judge.encode(asked, batch_size=32, normalize_embeddings=True)
        seconds.append(time.monotonic() - began)
    print(json.dumps(seconds))


if __name__ == "__main__":
    if sys.argv[1] == "shapes":
        make_shapes(Path(sys.argv[2]))
    else:
        take_time(sys.argv[2], Path(sys.argv[3]))
