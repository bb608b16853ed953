"""Text side for models without a tokenizer: a byte is a token. Used with the fake engine, and the twin of
`TextModel`.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from ashore.core.chat import Message, ToolSpec

END: Final = 256
"""The one token that is not a byte: it ends an answer."""
_END_TEXT: Final = "<|end|>"


class BytesPiece(msgspec.Struct, frozen=True):
    """The text that one token added. Bytes carry no reasoning and no tool calls."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[()] = ()
    stopped: bool = False
    stop_string: str | None = None


class BytesParser:
    """Incremental UTF-8 decoder that stops at stop strings."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._hold = max((len(s) for s in stop), default=1) - 1
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def push(self, token_id: int) -> BytesPiece:
        return self.read(self._utf8.decode(bytes((token_id,))) if token_id < END else "")

    def read(self, new: str) -> BytesPiece:
        if not self._stop:
            return BytesPiece(new)
        self._held += new
        ends = [(at, s) for s in self._stop if (at := self._held.find(s)) >= 0]
        if ends:
            at, stop_string = min(ends)
            text, self._held = self._held[:at], ""
            return BytesPiece(text, stopped=True, stop_string=stop_string)
        cut = max(0, len(self._held) - self._hold)
        text, self._held = self._held[:cut], self._held[cut:]
        return BytesPiece(text)

    def finish(self) -> BytesPiece:
        text, self._held = self._held + self._utf8.decode(b"", True), ""
        return BytesPiece(text)


class BytesText:
    """UTF-8 bytes as tokens 0 to 255. A conversation is its last message, so that an echoing engine repeats that."""

    def __init__(self) -> None:
        self.eos_token_ids: tuple[int, ...] = (END,)
        self.bos_token_id: int | None = None
        self.template_source = ""
        self.sampling_defaults: Mapping[str, object] = {}
        self.sampling_defaults_from = ""

    @property
    def knows_tools(self) -> bool:
        return True

    @property
    def tool_forms(self) -> tuple[str, ...]:
        return ("hermes",)

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        return False

    @property
    def vocab_size(self) -> int:
        return END + 1

    def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
        return [END] if allow_special and text == _END_TEXT else list(text.encode("utf-8", "replace"))

    def encode_pairs(self, texts: Sequence[str], pairs: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
        for first, second in pairs:
            yield [*self.encode(texts[first]), END, *self.encode(texts[second]), END]

    def encode_gap(self, before: str, after: str) -> list[int]:
        return self.encode(f"<PRE>{before}<SUF>{after}<MID>")

    @property
    def gap_stop_ids(self) -> Sequence[int]:
        return ()

    @property
    def thinks(self) -> bool:
        return False

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(i for i in ids if i < END).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes((token_id,)) if token_id < END else b""

    def token_text(self, token_id: int) -> str:
        return _END_TEXT if token_id == END else self.token_bytes(token_id).decode("utf-8", "replace")

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        continues: bool = False,
        options: Mapping[str, object] = {},
    ) -> list[int]:
        return self.encode(messages[-1].content if messages else "")

    def fewest_tokens(self, text: str, *, beyond: int) -> int:
        return len(text)

    def fewest_chat_tokens(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        beyond: int,
        options: Mapping[str, object] = {},
    ) -> int:
        return len(messages[-1].content) if messages else 0

    def answer_parser(
        self, *, stop: tuple[str, ...], tools: bool, chat: bool, prompt_opens_reasoning: bool = False
    ) -> BytesParser:
        return BytesParser(stop)
