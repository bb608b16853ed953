"""The files of a fake model: a tokenizer of bytes, a chat template, generation defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from ashore.data.engines.fake.spec import FakeSpec
from ashore.data.engines.model import ModelFiles
from ashore.kit.folders import make_folder

END: Final = 256
SYSTEM: Final = 257
USER: Final = 258
TOOL: Final = 260
SPECIAL_TOKENS: Final = {"<|end|>": END, "<|system|>": SYSTEM, "<|user|>": USER, "<|assistant|>": 259, "<|tool|>": TOOL}
VOCAB_SIZE: Final = 261
"""One token for each byte, then the special ones."""

_TEMPLATE: Final = """\
{%- if tools %}{{ '<|system|>Tools: ' + (tools | tojson) + '<|end|>' }}{% endif %}
{%- for message in messages %}{{ '<|' + message.role + '|>' + (message.content or '') + '<|end|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""
_WRONG_TEMPLATE: Final = (
    "{%- for message in messages %}{{ message.role + ': ' + (message.content or '') }}\n{% endfor %}"
)


def fake_model_files(name: str, directory: Path) -> ModelFiles:
    """Write the files of the fake model `name` into `directory` (created if missing) and return their paths.

    The same name gives the same bytes; may be called again over an old folder.

    Raises:
        InvalidSpec: `name` is not a fake model or has a wrong option.
    """
    template = _TEMPLATE
    spec = FakeSpec.parse(name)
    if spec.wrong_template:  # in a folder of its own: all other fakes share theirs
        directory, template = directory / "wrong-template", _WRONG_TEMPLATE
    make_folder(directory)
    generation: dict[str, object] = {
        "eos_token_ids": [END],
        "bos_token_id": None,
        "pad_token_id": END,
        "add_bos": False,
        "defaults": {},
    }
    (directory / "tokenizer.json").write_text(json.dumps(_tokenizer(), ensure_ascii=False, indent=1), encoding="utf-8")
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
    (directory / "generation.json").write_text(json.dumps(generation, indent=1), encoding="utf-8")
    return ModelFiles(
        name=name,
        digest=f"fake:{name}",
        directory=str(directory.absolute()),
        format="fake",
        plain_bytes=template is _TEMPLATE and spec.mode not in ("tools", "agent"),
    )


def _tokenizer() -> dict[str, object]:
    """Return a `tokenizers` file whose token ids are the bytes themselves: byte-level BPE without merges."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for content, token_id in SPECIAL_TOKENS.items()
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {_printable(byte): byte for byte in range(256)} | SPECIAL_TOKENS,
            "merges": [],
        },
    }


def _printable(byte: int) -> str:
    """Return the character that byte-level BPE writes for `byte`.

    Source: the byte alphabet of GPT-2: printable Latin-1 stands for itself, the rest goes to U+0100 and up in order.
    """
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in plain:
        return chr(byte)
    return chr(0x100 + [b for b in range(256) if b not in plain].index(byte))
