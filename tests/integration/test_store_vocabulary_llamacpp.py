"""Vocabularies go to GGUF and back without loss, and llama.cpp cuts a thousand strings as we do, family by family.

The vocabularies are small ones trained here on words of many scripts with each family's way of splitting.
"""

from __future__ import annotations

import ctypes
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_models import CONFIGS, make_tiny_model
from tokenizers import Tokenizer, decoders, models, normalizers, trainers

from ashore.core.errors import UnsupportedModel
from ashore.kit.store import convert_safetensors_to_gguf
from ashore.kit.store.conversion.ggufmeta import read_gguf_meta
from ashore.kit.store.conversion.splits import SPLITS, name_of, pre_tokenizer
from ashore.kit.store.conversion.vocabulary import tokenizer_from_gguf

TEXT = """
the of and Paris don't I'LL we've naïve café Straße Ελλάδα Москва שלום नमस्ते 今天天气很好 深度求索 你好，世界！
こんにちは カタカナ 안녕하세요 🙂 👩‍👧 12 345 6789 3.14 1e-9 0x1F def return self.x += [i**2 range(10)]
#!/usr/bin/env {"a": &amp; C:\\dir\\ https://example.com/a?b=c#d ### ``` $x^2$ … — “quoted” ½ ² Ⅻ é ﬁ
"""
WORDS = TEXT.split()
GAPS = (" ", " ", " ", "", "  ", "\n", "\r\n", "\n\n", "\t", " \n ", ". ", ", ", "\u3000", "\xa0")
SPECIALS = ["<|bos|>", "<|im_end|>", "<|im_start|>"]
WIDE_SPACE = "\u3000"
LLAMA_CPP_KEEPS_WIDE_SPACES_APART = ("deepseek-coder", "deepseek-llm")
"""In these families an optional blank belongs to the word after it. For llama.cpp only ASCII blanks do, for the
published tokenizer.json every Unicode blank. Ours is the published one; wide spaces are not compared."""
FAMILIES = [*sorted(SPLITS), "smollm", "gpt-2"]


def strings(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice(WORDS) + rng.choice(GAPS) for _ in range(rng.randint(1, 25))) for _ in range(count)]


def trained_byte_level(family: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=family == "llama-bpe"))
    tokenizer.pre_tokenizer = pre_tokenizer(family)
    tokenizer.decoder = decoders.ByteLevel()
    from tokenizers.pre_tokenizers import ByteLevel

    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIALS, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(strings(300, 1), trainer)
    return tokenizer


def trained_sentencepiece() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<unk>", *SPECIALS, *(f"<0x{b:02X}>" for b in range(256))],
        limit_alphabet=100,
        show_progress=False,
    )
    from tokenizers.pre_tokenizers import Split

    tokenizer.pre_tokenizer = Split("▁", behavior="merged_with_next")
    tokenizer.train_from_iterator(strings(300, 1), trainer)
    document = json.loads(tokenizer.to_str())
    document["pre_tokenizer"] = None
    document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    strip = decoders.Strip(content=" ", left=1, right=0)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    return tokenizer


def gguf_with(tokenizer: Tokenizer, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Convert a tiny model that has this vocabulary and three rows to spare."""
    size = tokenizer.get_vocab_size() + 3
    bos = tokenizer.token_to_id("<|bos|>")
    config = {**CONFIGS["qwen3"], "vocab_size": size, "bos_token_id": bos, "eos_token_id": bos + 1}
    monkeypatch.setitem(CONFIGS, "qwen3", config)
    make_tiny_model(folder, "qwen3")
    (folder / "generation_config.json").unlink()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    convert_safetensors_to_gguf(folder, folder / "model.gguf")
    return folder / "model.gguf"


@contextmanager
def llama_cpp(path: Path) -> Iterator[Callable[[str], list[int]]]:
    from xllamacpp import xllamacpp as extension

    from ashore.data.engines.llamacpp.context import LlamaModel
    from ashore.data.engines.llamacpp.library import load_library

    weights = LlamaModel(load_library(), path)
    call = ctypes.CDLL(str(extension.__file__)).llama_tokenize
    number = ctypes.c_int32
    call.argtypes = (
        ctypes.c_void_p, ctypes.c_char_p, number, ctypes.POINTER(number), number, ctypes.c_bool, ctypes.c_bool,
    )  # fmt: skip
    vocabulary = weights.library.llama_model_get_vocab(weights.handle)
    room = (number * 8192)()

    def tokenize(text: str) -> list[int]:
        raw = text.encode()
        return list(room[: call(vocabulary, raw, len(raw), room, len(room), False, True)])

    try:
        yield tokenize
    finally:
        weights.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_byte_level_families(tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trained_byte_level(family)
    path = gguf_with(original, tmp_path / "hf", monkeypatch)
    meta = read_gguf_meta(path)
    assert meta.values["tokenizer.ggml.pre"] == family
    ours = tokenizer_from_gguf(meta)
    texts = [*strings(1000, 2), "<|im_start|>user\nhi<|im_end|>\n", " ", "\n", "a  b   c"]
    assert [t for t in texts if ours.encode(t).ids != original.encode(t).ids] == []
    assert [t for t in texts[:1000] if ours.decode(ours.encode(t).ids) != t] == []
    apart = family in LLAMA_CPP_KEEPS_WIDE_SPACES_APART
    compared = [t.replace(WIDE_SPACE, " ") if apart else t for t in texts]
    with llama_cpp(path) as tokenize:
        assert [t for t in compared if ours.encode(t).ids != tokenize(t)] == []


def test_sentencepiece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trained_sentencepiece()
    path = gguf_with(original, tmp_path / "hf", monkeypatch)
    ours = tokenizer_from_gguf(read_gguf_meta(path))
    texts = strings(1000, 3)
    assert [t for t in texts if ours.encode(t).ids != original.encode(t).ids] == []
    assert [t for t in texts if ours.decode(ours.encode(t).ids) != t] == []
    with llama_cpp(path) as tokenize:
        assert [t for t in texts if ours.encode(t).ids != tokenize(t)] == []


def test_the_published_form_of_deepseek_llm_is_known_by_its_name() -> None:
    """Its tokenizer.json has the digits as a step of their own kind, and line ends as themselves."""
    split = [{"type": "Split", "pattern": {"Regex": x}, "behavior": "Isolated"} for x in SPLITS["deepseek-llm"][:-1]]
    split[0] = {**split[0], "pattern": {"Regex": "[\r\n]"}}
    digits = {"type": "Digits", "individual_digits": True}
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    published = {"type": "Sequence", "pretokenizers": [*split, digits, last]}
    assert name_of(published) == "deepseek-llm"
    pieces = pre_tokenizer("deepseek-llm").pre_tokenize_str("abc1234")
    assert [piece for piece, _ in pieces] == ["abc", "1", "2", "3", "4"]


def test_an_unknown_way_of_splitting_is_refused_and_not_guessed() -> None:
    with pytest.raises(UnsupportedModel, match="ashore does not support"):
        pre_tokenizer("somebody-elses")
    with pytest.raises(UnsupportedModel, match="ashore does not support"):
        name_of({"type": "Whitespace"})


def test_padding_rows_are_unused_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = trained_byte_level("qwen2")
    meta = read_gguf_meta(gguf_with(original, tmp_path / "hf", monkeypatch))
    size = original.get_vocab_size()
    assert meta.values["tokenizer.ggml.tokens"][size:] == [f"[PAD{size + i}]" for i in range(3)]
    assert set(meta.values["tokenizer.ggml.token_type"][size:]) == {5}
