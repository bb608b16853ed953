"""Fill in the middle: the control tokens by which coder models mark the text before and after a gap."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class GapForm:
    """The form of one family of models: `prefix`, text before, `suffix`, text after, `middle`; the answer follows."""

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...] = ()
    """Tokens that end the answer beside those that end a text."""


GAP_FORMS: Final = (
    GapForm(
        prefix="<|fim_prefix|>",
        suffix="<|fim_suffix|>",
        middle="<|fim_middle|>",
        ends=("<|fim_pad|>", "<|file_sep|>", "<|repo_name|>", "<|file_separator|>"),
    ),  # Qwen2.5-Coder technical report, section 3.2; CodeGemma
    GapForm(prefix="<｜fim▁begin｜>", suffix="<｜fim▁hole｜>", middle="<｜fim▁end｜>"),  # DeepSeek-Coder's README
    GapForm(prefix="<fim_prefix>", suffix="<fim_suffix>", middle="<fim_middle>", ends=("<file_sep>",)),  # StarCoder
    GapForm(prefix="▁<PRE>", suffix="▁<SUF>", middle="▁<MID>", ends=("▁<EOT>",)),  # CodeLlama's tokenizer
)
"""By the texts of the tokens, which differ from family to family."""


def gap_form_of(tokens: Container[str]) -> GapForm | None:
    """Return the form whose tokens a tokenizer has, None if it has none."""
    return next(
        (form for form in GAP_FORMS if form.prefix in tokens and form.suffix in tokens and form.middle in tokens), None
    )
