"""Parses answers of gpt-oss, whose messages begin with their kind: reasoning, text, or a tool call.

    <|channel|>analysis<|message|>THOUGHT<|end|><|start|>assistant<|channel|>final<|message|>TEXT<|return|>
    <|start|>assistant to=functions.NAME<|channel|>commentary json<|message|>{...}<|call|>

Source: the chat template that OpenAI publishes with gpt-oss. Commentary without a recipient is text for the user.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Final

from ashore.data.text.markup import MarkupReader, MarkupRules
from ashore.data.text.matcher import Matcher, Words
from ashore.data.text.pieces import ToolCallPiece

CHANNEL, MESSAGE = "<|channel|>", "<|message|>"
MARKS: Final = frozenset({CHANNEL, MESSAGE, "<|constrain|>", "<|start|>", "<|end|>", "<|call|>", "<|return|>"})
_WORDS: Final = Words(sorted(MARKS))
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w+)")
_RECIPIENT: Final = re.compile(r"to=(?:functions\.)?([\w.-]+)")


class HarmonyReader:
    """Parses one answer, with the methods of `MarkupReader`. Text without marks is parsed as for other models."""

    is_over = False

    def __init__(self, rules: MarkupRules) -> None:
        self._rules = rules
        self._matcher = Matcher(_WORDS)
        self._head = self._body = self._recipient = self._channel = ""
        self._in_body = self._seen = False
        self._num_calls = 0
        self.clear()

    def clear(self) -> None:
        """Clear the released output."""
        self.text = self.reasoning = ""
        self.calls: tuple[ToolCallPiece, ...] = ()

    def feed(self, text: str) -> None:
        """Feed a piece of the answer."""
        while text:
            safe, mark, text = self._matcher.feed(text)
            self._take(safe)
            if mark is not None:
                self._mark(mark)

    def finish(self) -> None:
        """End the answer: release held text."""
        self._take(self._matcher.flush())
        self._end()
        if not self._seen and self._head:
            plain = MarkupReader(self._rules, opens_reasoning=False)
            plain.feed(self._head)
            plain.finish()
            self.text, self.reasoning, self.calls = plain.text, plain.reasoning, plain.calls

    def _take(self, text: str) -> None:
        if not self._in_body:
            self._head += text
        elif self._recipient:
            self._body += text
        elif self._channel == "analysis":
            self.reasoning += text
        else:
            self.text += text

    def _mark(self, mark: str) -> None:
        self._seen = True
        if mark == MESSAGE:
            channel, recipient = _CHANNEL.search(self._head), _RECIPIENT.search(self._head)
            self._channel = channel[1] if channel else ""
            self._recipient = recipient[1] if recipient and self._rules.forms else ""
            self._in_body = True
        elif mark in (CHANNEL, "<|constrain|>"):
            self._head += mark
        else:
            self._end()
            self._head = ""

    def _end(self) -> None:
        """End a message. A call whose arguments are not an object, or were cut off, becomes text."""
        if self._in_body and self._recipient:
            try:
                whole = isinstance(json.loads(self._body or "{}"), dict)
            except (ValueError, RecursionError):
                whole = False
            if whole:
                call_id = f"call_{secrets.token_hex(12)}"
                call = ToolCallPiece(self._num_calls, call_id, self._recipient, self._body or "{}")
                self.calls, self._num_calls = (*self.calls, call), self._num_calls + 1
            else:
                self.text += self._body
        self._in_body, self._body, self._recipient = False, "", ""
