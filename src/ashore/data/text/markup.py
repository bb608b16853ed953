"""Splits the text of an answer into text, reasoning and tool calls while it arrives."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from ashore.data.text.matcher import Matcher, Words
from ashore.data.text.pieces import ToolCallPiece
from ashore.data.text.toolsyntax import BLOCKS, MARKERS, Block, ToolForm, ends_inside_string, may_be_llama, read_block

LLAMA_HEAD = 200
"""Characters of a bare JSON call in which its first key must have come."""
THINK, THINK_END = "<think>", "</think>"
_THINK_END = Words([THINK_END])


@dataclass(frozen=True)
class MarkupRules:
    """Markup that one model may write. Shared by all its answers."""

    forms: tuple[ToolForm, ...] = ()
    """Empty: no tools were offered."""

    @cached_property
    def blocks(self) -> dict[str, Block]:
        return {b.opener: b for b in BLOCKS if b.form in self.forms}

    @cached_property
    def openers(self) -> Words:
        return Words(self.blocks)

    @cached_property
    def closers(self) -> dict[str, Words]:
        return {b.closer: Words([b.closer]) for b in self.blocks.values() if b.closer}

    @cached_property
    def markers(self) -> frozenset[str]:
        """Texts of tokens that must be kept although they may be special."""
        return frozenset({THINK, THINK_END}).union(*(MARKERS[f] for f in self.forms))


class MarkupReader:
    """Parses one answer.

    Feed it text; then take `text`, `reasoning` and `calls`, which `clear` empties. Nothing is lost: a block with
    invalid syntax is released as text, including its opener, at the latest by `finish`.
    """

    def __init__(self, rules: MarkupRules, *, opens_reasoning: bool) -> None:
        self._rules = rules
        self._opens_reasoning = opens_reasoning
        self._think_possible = True
        self._in_mode: Callable[[str], str] = self._at_start
        self._opener = Matcher(rules.openers)
        self._think_end = Matcher(_THINK_END)
        self._block: Block | None = None
        self._scanned = 0
        self._in_string = False
        self._closer: Matcher | None = None
        self._body = ""
        self._held = ""
        self._gap = ""
        self._gap_open = True
        self._lead = True
        self._tail = ""
        self._num_calls = 0
        self.clear()

    def clear(self) -> None:
        """Clear the released output."""
        self.text = self.reasoning = ""
        self.calls: tuple[ToolCallPiece, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether the rest is plain text and none of it is held: parsing is done."""
        return not (self._gap_open or self._rules.blocks) and self._in_mode == self._in_text

    def feed(self, text: str) -> None:
        """Feed a piece of the answer."""
        while text:
            text = self._in_mode(text)

    def finish(self) -> None:
        """End the answer: release held text."""
        if self._in_mode == self._at_start:
            held, self._held = self._held, ""
            if self._opens_reasoning:
                self._think(held)
            elif self._think_possible or held.strip():
                self._say(held)
        elif self._in_mode == self._in_reasoning:
            self._think(self._think_end.flush())
            self.reasoning += self._tail
        elif self._in_mode == self._in_block:
            self._body += self._closer.flush() if self._closer else ""
            self._end_block("")
        self._say(self._opener.flush())
        if self._gap and not self._num_calls:
            self.text += self._gap
        self._gap = ""

    def _at_start(self, text: str) -> str:
        """Hold white space and a possible start of `<think>` or a bare JSON call; then choose the next state."""
        self._held += text
        seen = self._held.lstrip()
        if not seen:
            return ""
        if self._think_possible:
            if len(seen) < len(THINK) and THINK.startswith(seen):
                return ""
            if seen.startswith(THINK):
                self._opens_reasoning, self._held = True, seen[len(THINK) :]
        rest, self._held = self._held, ""
        if self._opens_reasoning:
            self._opens_reasoning = self._think_possible = False
            self._in_mode = self._in_reasoning
        elif seen[0] == "{" and "llama" in self._rules.forms:
            self._open_block(Block(form="llama", opener="", closer=""))
            if not self._think_possible:
                rest = seen
        else:
            self._in_mode = self._in_text
            if not self._think_possible:
                rest = rest.lstrip("\r\n")
        self._think_possible = False
        return rest

    def _in_reasoning(self, text: str) -> str:
        safe, end, rest = self._think_end.feed(text)
        self._think(safe)
        if end is not None:
            self._tail = ""
            self._in_mode = self._at_start
        return rest

    def _in_text(self, text: str) -> str:
        if not self._rules.blocks:
            self._say(text)
            return ""
        safe, opener, rest = self._opener.feed(text)
        self._say(safe)
        if opener is not None:
            self._open_block(self._rules.blocks[opener])
        return rest

    def _in_block(self, text: str) -> str:
        assert self._block is not None
        if self._closer is not None:
            safe, closer, rest = self._closer.feed(text)
            self._body += safe
            if closer is not None:
                self._close_block(closer)
            return rest
        self._body += text
        if not self._block.opener and not may_be_llama(self._body[:LLAMA_HEAD]):
            self._in_mode = self._in_text
            return self._body
        return ""

    def _open_block(self, block: Block) -> None:
        self._block, self._body = block, ""
        self._scanned, self._in_string = 0, False
        self._closer = Matcher(self._rules.closers[block.closer]) if block.closer else None
        self._in_mode = self._in_block

    def _close_block(self, closer: str) -> None:
        assert self._block is not None
        if self._block.form == "hermes":
            self._in_string = ends_inside_string(self._body[self._scanned :], self._in_string)
            self._scanned = len(self._body)
            if self._in_string:
                self._body += closer
                return
        self._end_block(closer)

    def _end_block(self, closer: str) -> None:
        assert self._block is not None
        calls = read_block(self._block.form, self._body, closed=bool(closer))
        self._in_mode = self._in_text
        if calls is None:
            self._say(self._block.opener + self._body + closer)
            return
        self.calls += tuple(
            ToolCallPiece(self._num_calls + i, f"call_{secrets.token_hex(12)}", call.name, call.arguments)
            for i, call in enumerate(calls)
        )
        self._num_calls += len(calls)
        self._gap, self._gap_open = "", True

    def _say(self, text: str) -> None:
        """Release text, but hold white space before and between calls: it is layout, and belongs to the calls."""
        if not text:
            return
        if self._gap_open:
            self._gap += text
            if not self._gap.strip():
                return
            text, self._gap, self._gap_open = self._gap, "", False
        self.text += text

    def _think(self, text: str) -> None:
        """Release reasoning without line breaks at either end."""
        if self._lead:
            text = text.lstrip("\r\n")
            self._lead = not text
        if not text:
            return
        text = self._tail + text
        kept = text.rstrip("\r\n")
        self._tail = text[len(kept) :]
        self.reasoning += kept
