"""Turns the tokens of one answer into text, reasoning and tool calls."""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence

from ashore.data.text.harmony import HarmonyReader
from ashore.data.text.markup import MarkupReader
from ashore.data.text.matcher import Matcher, Words
from ashore.data.text.pieces import NOTHING, AnswerPiece


class AnswerParser:
    """Takes tokens one by one. A character is released only when all its bytes are there; a stop string never is.

    Stop strings are searched in the answer's text, not in its reasoning and not in tool calls. The first complete one
    ends the answer; text before it is released, it and later text are not. Only text that may still become a stop
    string or markup is held back.
    """

    __slots__ = ("_is_half", "_markup", "_skip", "_stop", "_stop_ids", "_stopped", "_strip_space", "_table", "_utf8")

    def __init__(
        self,
        *,
        table: Sequence[bytes],
        skip: frozenset[int],
        markup: MarkupReader | HarmonyReader | None = None,
        stop: tuple[str, ...] = (),
        stop_ids: Mapping[int, str] | None = None,
        strip_first_space: bool = False,
    ) -> None:
        """Create a parser; `TextModel.answer_parser` is the usual way.

        Args:
            table: Bytes of every token.
            skip: Special tokens that are not part of the text.
            markup: Reader of reasoning and tool calls; None for plain text.
            stop: Stop strings.
            stop_ids: Skipped tokens whose text is a stop string.
            strip_first_space: The tokenizer puts a space before the first word that is not part of the text.
        """
        self._table = table
        self._skip = skip
        self._markup = markup
        self._stop = Matcher(Words(stop)) if any(stop) else None
        self._stop_ids = stop_ids or {}
        self._strip_space = strip_first_space
        self._stopped = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_half = False
        """Whether the bytes so far end inside a character."""

    def push(self, token_id: int) -> AnswerPiece:
        """Take one token; return the released piece. After `stopped` every piece is empty. Unknown ids add nothing."""
        if token_id in self._skip or self._stopped or not 0 <= token_id < len(self._table):
            return self._stop_at_token(token_id) if token_id in self._stop_ids else NOTHING
        text = self._decoded(self._table[token_id])
        if not text:
            return NOTHING
        if self._strip_space:
            self._strip_space = False
            text = text.removeprefix(" ")
        return self.read(text)

    def read(self, text: str) -> AnswerPiece:
        """Take text; return the released piece."""
        if self._markup is None and self._stop is None:
            return AnswerPiece(text)
        return self._read(text, last=False)

    def finish(self) -> AnswerPiece:
        """Return the text held back. The engine ended the answer; a partial character becomes U+FFFD."""
        if self._stopped:
            return NOTHING
        piece = self._read(self._utf8.decode(b"", True), last=True)
        self._stopped = True
        return piece

    def _decoded(self, raw: bytes) -> str:
        """Return the characters that some bytes complete. Fast path: most tokens are whole characters."""
        if not self._is_half:
            try:
                return raw.decode()
            except UnicodeDecodeError:
                pass
        text = self._utf8.decode(raw)
        self._is_half = bool(self._utf8.getstate()[0])
        return text

    def _read(self, text: str, *, last: bool) -> AnswerPiece:
        markup = self._markup
        if markup is None:
            said, stop_string = self._say(text, last=last)
            return AnswerPiece(said, stopped=stop_string is not None, stop_string=stop_string)
        markup.feed(text)
        if last:
            markup.finish()
        said, stop_string = self._say(markup.text, last=last)
        piece = AnswerPiece(said, markup.reasoning, markup.calls, stop_string is not None, stop_string)
        markup.clear()
        if markup.is_over:
            self._markup = None
        return piece

    def _say(self, text: str, *, last: bool) -> tuple[str, str | None]:
        if self._stop is None:
            return text, None
        said, stop_string, _ = self._stop.feed(text)
        if stop_string is not None:
            self._stopped = True
        elif last:
            said += self._stop.flush()
        return said, stop_string

    def _stop_at_token(self, token_id: int) -> AnswerPiece:
        if self._stopped:
            return NOTHING
        held = self.finish()
        if held.stopped:
            return held
        return AnswerPiece(held.text, held.reasoning, held.tool_calls, True, self._stop_ids[token_id])
