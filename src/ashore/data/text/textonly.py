"""The text side of a model whose server takes messages and returns text: it has no tokens here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from ashore.core.chat import LONGEST_TOKEN_BYTES, Message, ToolSpec
from ashore.core.errors import UnsupportedByEngine
from ashore.data.text.answer import AnswerParser
from ashore.data.text.markup import MarkupReader, MarkupRules

_RULES: Final = MarkupRules()
"""Reasoning that a server leaves in the text is told apart; its calls of tools are the server's to parse."""


class TextOnly:
    """Implements `ServedText`. What needs a token raises `UnsupportedByEngine`."""

    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    template_source = ""
    sampling_defaults: Mapping[str, object] = {}
    sampling_defaults_from = ""
    knows_tools = True
    tool_forms: Sequence[str] = ()
    gap_stop_ids: Sequence[int] = ()
    thinks = False

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        return False

    def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
        _refuse()

    def encode_pairs(self, texts: Sequence[str], pairs: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
        _refuse()

    def encode_gap(self, before: str, after: str) -> list[int]:
        _refuse()

    def decode(self, ids: Sequence[int]) -> str:
        _refuse()

    def token_bytes(self, token_id: int) -> bytes:
        _refuse()

    def token_text(self, token_id: int) -> str:
        _refuse()

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        continues: bool = False,
        options: Mapping[str, object] = {},
    ) -> list[int]:
        _refuse()

    def fewest_tokens(self, text: str, *, beyond: int) -> int:
        return len(text.encode("utf-8", "surrogatepass")) // LONGEST_TOKEN_BYTES

    def fewest_chat_tokens(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        beyond: int,
        options: Mapping[str, object] = {},
    ) -> int:
        return sum(self.fewest_tokens(one.content, beyond=beyond) for one in messages)

    def answer_parser(
        self, *, stop: tuple[str, ...], tools: bool, chat: bool, prompt_opens_reasoning: bool = False
    ) -> AnswerParser:
        return AnswerParser(table=(), skip=frozenset(), markup=MarkupReader(_RULES, opens_reasoning=False), stop=stop)


def _refuse() -> NoReturn:
    raise UnsupportedByEngine(
        "the tokens of this model are known to its server alone",
        hint="send messages, or use a model whose tokens ashore sees",
    )
