"""How each family of byte-level vocabularies splits text into words, under the name that GGUF gives it.

Sources: the published tokenizer.json of Llama 3, Qwen 2, SmolLM 2, DeepSeek-LLM, DeepSeek-Coder and DeepSeek-V3; the
names are the values of `tokenizer.ggml.pre`. DeepSeek-LLM cuts numbers into single digits (DeepSeek LLM paper, section
2.1, and the `Digits` step of its tokenizer.json); llama.cpp keeps them whole at this step, which makes no difference
because no merge joins two digits. Its class of letters has U+1FD3, U+1FDB and U+1F7D, which copies of it that went
through an editor have lost to normalisation.
"""

from __future__ import annotations

import json
from typing import Any

from ashore.core.errors import UnsupportedModel

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CJK_OLD = "[一-龥ࠀ-一가-퟿]+"
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d"
    "\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
"""Letters that have a case, as code points: several of them look like others, and editors normalise them away."""

SPLITS: dict[str, tuple[str, ...]] = {
    "llama-bpe": (LLAMA3,),
    "qwen2": (QWEN2,),
    "deepseek-llm": (
        r"[\r\n]",
        rf"\s?[{_CASED}]+",
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
    """Return the canonical name of a word splitting."""
    return ALIASES.get(pre, pre)


def pre_tokenizer(pre: str) -> Any:
    """Return the `tokenizers` object for a value of `tokenizer.ggml.pre`.

    Raises:
        UnsupportedModel: the name is unknown. Guessing would silently give other tokens and worse answers.
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
            f"the vocabulary splits words as {pre!r}, which ashore does not support",
            hint="known: " + ", ".join(sorted({*SPLITS, *ALIASES, *DIGITS_THEN_BYTE_LEVEL, "gpt-2"})),
        )
    steps: list[Any] = [pre_tokenizers.Split(Regex(x), behavior="isolated") for x in SPLITS[pre]]
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def name_of(pre_tokenizer: dict[str, Any] | None) -> str:
    """Return the GGUF name of a `pre_tokenizer` of a tokenizer.json; the inverse of `pre_tokenizer`.

    Raises:
        UnsupportedModel: it uses an unknown word splitting.
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
        "tokenizer.json splits words in a way that ashore does not support: "
        + json.dumps(expressions, ensure_ascii=False)[:300],
        hint="known: " + ", ".join(sorted({*SPLITS, "smollm", "gpt-2"})),
    )


def _escaped(expression: str) -> str:
    """Return the expression with line ends written as escapes: published files have them both ways."""
    return expression.replace("\r", r"\r").replace("\n", r"\n")
