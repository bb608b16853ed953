"""How each family of byte-level vocabularies splits text into words, under the name that GGUF gives it.

Sources: the published tokenizer.json of Llama 3, Qwen 2, SmolLM 2, DeepSeek-LLM, DeepSeek-Coder and DeepSeek-V3; the
names are the values of `tokenizer.ggml.pre`.
"""

from __future__ import annotations

import json
from typing import Any

from ashore.errors import UnsupportedModel

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CJK_OLD = "[一-龥ࠀ-一가-퟿]+"
_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌ"
    "ῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)

SPLITS: dict[str, tuple[str, ...]] = {
    "llama-bpe": (LLAMA3,),
    "qwen2": (QWEN2,),
    "deepseek-llm": (
        r"[\r\n]",
        rf"\s?[{_LETTERS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        CJK_OLD,
        r"\p{N}",
    ),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK_OLD, r"\p{N}"),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}
"""Expressions of each name, applied one after the other; the byte-level mapping follows."""

ALIASES = {"llama3": "llama-bpe", "llama-v3": "llama-bpe", "deepseek-r1-qwen": "qwen2", "deepseek3": "deepseek-v3"}
BYTE_LEVEL_ONLY = ("gpt-2", "default", "")
DIGITS_THEN_BYTE_LEVEL = ("smollm", "starcoder", "refact", "command-r")
IGNORE_MERGES = ("llama-bpe",)
"""Vocabularies in which a whole word that is a token is taken before any merge."""


def canonical(pre: str) -> str:
    """Return the name under which a splitting is known here."""
    return ALIASES.get(pre, pre)


def pre_tokenizer(pre: str) -> Any:
    """Return the `tokenizers` object for a value of `tokenizer.ggml.pre`.

    Raises:
        UnsupportedModel: the name is not known here. Guessing would give other tokens, and worse answers, silently.
    """
    from tokenizers import Regex, pre_tokenizers

    pre = canonical(pre)
    if pre in BYTE_LEVEL_ONLY:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre in DIGITS_THEN_BYTE_LEVEL:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if pre not in SPLITS:
        raise UnsupportedModel(
            f"the vocabulary splits words as {pre!r}, which is not known here",
            hint="known: " + ", ".join(sorted({*SPLITS, *ALIASES, *DIGITS_THEN_BYTE_LEVEL, "gpt-2"})),
        )
    steps: list[Any] = [pre_tokenizers.Split(Regex(x), behavior="isolated") for x in SPLITS[pre]]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def name_of(pre_tokenizer: dict[str, Any] | None) -> str:
    """Return the GGUF name of a `pre_tokenizer` of a tokenizer.json; the inverse of `pre_tokenizer`.

    Raises:
        UnsupportedModel: it splits words in a way that is not known here.
    """
    steps = (pre_tokenizer or {}).get("pretokenizers") or [pre_tokenizer or {}]
    expressions: list[str] = []
    for step in steps:
        if step.get("type") == "Split" and step.get("behavior") == "Isolated" and "Regex" in step.get("pattern", {}):
            expressions.append(_escaped(step["pattern"]["Regex"]))
        elif step.get("type") == "Digits" and step.get("individual_digits"):
            expressions.append(r"\p{N}")
        elif step.get("type") == "ByteLevel" and step.get("use_regex", True):
            expressions.append("byte-level")
        elif step.get("type") != "ByteLevel":
            expressions.append(f"unknown {step.get('type')}")
    if expressions == ["byte-level"]:
        return "gpt-2"
    if expressions == [r"\p{N}", "byte-level"]:
        return "smollm"
    for name, known in SPLITS.items():
        if expressions == [_escaped(x) for x in known]:
            return name
    raise UnsupportedModel(
        "tokenizer.json splits words in a way that is not known here: "
        + json.dumps(expressions, ensure_ascii=False)[:300],
        hint="known: " + ", ".join(sorted({*SPLITS, "smollm", "gpt-2"})),
    )


def _escaped(expression: str) -> str:
    """Return the expression with line ends written as escapes: published files have them both ways."""
    return expression.replace("\r", r"\r").replace("\n", r"\n")
