"""Small tokenizers and chat templates, made in the test: byte-level BPE, SentencePiece with byte fallback, WordPiece.

The templates are written for these tests in the style that DeepSeek, Qwen and Meta publish with their models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ashore.core.clock import ManualClock
from ashore.data.text import TextModel

CHATML = """\
{%- if tools %}{{ '<|im_start|>system\\n<tools>' }}{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}
{{- '\\n</tools>\\nAnswer with <tool_call></tool_call>.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content }}
{%- for call in message.tool_calls %}
{{- '\\n<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + (call.function.arguments | tojson) }}
{{- '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

R1 = """\
{{- bos_token }}{% for message in messages %}
{%- if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}
{%- elif message['role'] == 'assistant' and message['tool_calls'] %}
{{- '<｜Assistant｜><｜tool▁calls▁begin｜>' }}{% for tool in message['tool_calls'] %}
{{- '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n```json\\n' }}
{{- tool['function']['arguments'] + '\\n```<｜tool▁call▁end｜>' }}
{%- endfor %}{{ '<｜tool▁calls▁end｜><｜end▁of▁sentence｜>' }}
{%- elif message['role'] == 'assistant' and message['content'] is not none %}
{%- set content = message['content'].split('</think>')[-1] %}
{{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
{%- else %}{{ message['content'] }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"""

LLAMA3 = """\
{{- bos_token }}{% for message in messages %}
{%- if message.role not in ('system', 'user', 'assistant') %}{{ raise_exception('no role ' + message.role) }}{% endif %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if tools %}{{ 'Respond in the format {"name": function name, "parameters": dictionary}.' }}{% endif %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|python_tag|>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>",
)  # fmt: skip
VISIBLE = ("<think>", "</think>", "<tool_call>", "</tool_call>")
CORPUS = [
    "the quick brown fox jumps over the lazy dog", "What is the capital of France? Paris.", "user system assistant",
    "今天天气很好，我们去公园散步。", "def f(x): return x + 1",
    '{"name": "get_weather", "arguments": {"city": "Paris"}}',
    "function im_start im_end end of sentence tool call begin",
] * 4  # fmt: skip


def byte_level(directory: Path, template: str = CHATML, **facts: Any) -> TextModel:
    """Return a byte-level BPE model with the special tokens of all families."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in VISIBLE])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    return _load(directory, tokenizer, template, {"eos_token_ids": [2], "bos_token_id": 0, **facts})


def sentencepiece(directory: Path, template: str = CHATML, **facts: Any) -> TextModel:
    """Return a SentencePiece-like BPE with byte fallback, as Llama 2 and DeepSeek's first distillations have."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), "▁"]
    pieces += [*"abcdefghijklmnopqrstuvwxyzABC<>/|_.,", "▁t", "he", "▁the", "it", "▁it", "日", "本"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("i", "t"), ("▁", "it")]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<unk>", "<s>", "</s>")])
    return _load(directory, tokenizer, template, {"eos_token_ids": [2], "bos_token_id": 1, "add_bos": True, **facts})


def word_pieces(directory: Path) -> TextModel:
    """Return a BERT-like encoder that asks for truncation and padding."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "paris", "is", "a", "city", "##s", "[", "]", "cls"]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.add_special_tokens([AddedToken(w, special=True, normalized=False) for w in words[:4]])
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    return TextModel.load(directory)


def _load(directory: Path, tokenizer: Tokenizer, template: str, facts: dict[str, Any]) -> TextModel:
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "generation.json").write_text(json.dumps(facts))
    if template:
        (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    return TextModel.load(directory, clock=ManualClock())
