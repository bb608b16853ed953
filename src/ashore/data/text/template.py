"""Chat templates: render messages and tools to the prompt text in the model's own form."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from ashore.core.chat import Message, ToolSpec
from ashore.core.clock import Clock
from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.core.foreign import short_reason
from ashore.data.text.guard import MARK, Guard, shield_values
from ashore.data.text.markup import THINK, THINK_END
from ashore.data.text.sandbox import BudgetSpent, RefusedByTemplate, Sandbox, full_budget

_RESERVED = frozenset({"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"})
_NO_GUARD = Guard(())
_MOST_CHARS = 100_000
"""Of a template's text; published ones have a fifth of it at most."""
_PROBE = "call12345"
"""Identifier of a call that every template takes."""
_SHORT_IDS = re.compile(r"length\s*!=\s*9")
"""Mistral's templates refuse identifiers of calls that do not have nine characters."""
_KNOWS_NONE = re.compile(r"(?<!reasoning_)content['\"\])]*\s+is\s+(?:not\s+)?none", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CallStyle:
    """The form of an earlier answer with tool calls that a template expects. Templates differ and do not declare it.

    DeepSeek's own append the arguments to a string, so they need JSON text; Qwen's and Llama's use `tojson`, so they
    need an object. Some print an answer without text as an empty turn unless its content is none.
    """

    empty_content: str | None
    arguments_as_text: bool


class ChatTemplate:
    """One compiled template. Rendering keeps no state, so threads may share it."""

    def __init__(self, source: str, *, name: str, tokens: Mapping[str, str], guard: Guard, own: Guard, clock: Clock):
        """Compile `source`.

        Args:
            source: The jinja2 text.
            name: Name for error messages.
            tokens: Texts of `bos_token`, `eos_token`…, which templates use as variables.
            guard: Tokens that users and tools must not write.
            own: Tokens that the system prompt, earlier answers and tool descriptions must not write: control tokens
                only, since templates look for `</think>` and the like in them.
            clock: For `strftime_now`.

        Raises:
            UnsupportedModel: it is not a jinja2 template.
        """
        self._name, self._tokens, self._guard, self._own = name, dict(tokens), guard, own
        if len(source) > _MOST_CHARS:
            raise UnsupportedModel(
                f"{name} has {len(source)} characters; expected at most {_MOST_CHARS}",
                hint="shorten the template and pull the model again",
            )
        try:
            self._template = Sandbox(now_s=clock.now_s).from_string(source)
        except (RecursionError, MemoryError, SyntaxError) as fault:
            raise UnsupportedModel(
                f"{name} is nested too deeply", hint="correct the template and pull the model again"
            ) from fault
        except TemplateSyntaxError as fault:
            raise UnsupportedModel(
                f"{name}, line {fault.lineno}: {short_reason(fault)}",
                hint="correct the template and pull the model again",
            ) from fault
        self._knows_none = _KNOWS_NONE.search(source) is not None
        self._wants_short_ids = _SHORT_IDS.search(source) is not None
        self._tools = lru_cache(maxsize=64)(self._tool_dicts)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, object] = {},
        guarded: bool = True,
    ) -> str:
        """Return the prompt, with the guard's marks in it; those in messages only if it is `guarded`.

        If the template refuses several or late system texts, as Claude Code and Codex CLI send them, they are merged at
        the front.

        Raises:
            InvalidRequest: the template refuses the messages, or they take more than a rendering may.
        """
        taken = _RESERVED.intersection(options)
        if taken:
            raise InvalidRequest(f"chat_template_kwargs may not set {sorted(taken)[0]!r}", param="chat_template_kwargs")

        def rendered(turns: Sequence[Message]) -> str:
            return self._render(
                messages=[self._message(m, guarded) for m in turns],
                tools=list(self._tools(tuple(tools))) if tools else None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._tokens,
                **{k: shield_values(v, self._own.shield) for k, v in options.items()},
            )

        try:
            return rendered(messages)
        except InvalidRequest:
            folded = _system_first(messages)
            if folded is None:
                raise
            return rendered(folded)

    def begun(self, message: Message, opened: str) -> str:
        """Return the beginning of an answer after `opened`, a rendering that ends where the answer begins.

        Reasoning comes first. If the template begins an answer with `<think>`, it is closed here.
        """
        thinks = opened.rstrip().endswith(THINK)
        before = ""
        if message.reasoning or thinks:
            opener = "" if thinks else f"{THINK}\n"
            before = f"{opener}{self._own.shield(message.reasoning)}\n{THINK_END}\n\n"
        return before + self._own.shield(message.content)

    def _render(self, **variables: Any) -> str:
        try:
            with full_budget():
                return self._template.render(variables)
        except RefusedByTemplate as fault:
            raise InvalidRequest(
                f"{self._name} refuses these messages: {_clean(fault)}",
                hint="use the order and the roles of messages that the template supports",
                param="messages",
            ) from fault
        except BudgetSpent as fault:
            raise InvalidRequest(
                f"{self._name} needs {_clean(fault)} to render these messages",
                hint="send fewer or shorter messages",
                param="messages",
            ) from fault
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as fault:
            raise InvalidRequest(
                f"{self._name} cannot render these messages: {type(fault).__name__}: {_clean(fault)}",
                hint="check which roles and fields the model's template supports",
                param="messages",
            ) from fault
        except (RecursionError, MemoryError) as fault:
            raise InvalidRequest(f"{self._name} is nested too deeply", param="messages") from fault

    def _message(self, message: Message, guarded: bool) -> dict[str, Any]:
        guard = (self._guard if message.role in ("user", "tool") else self._own) if guarded else _NO_GUARD
        content: str | None = guard.shield(message.content)
        if message.tool_calls and not content:
            content = self._call_style.empty_content
        shaped: dict[str, Any] = {"role": message.role, "content": content}
        if message.reasoning:
            shaped["reasoning_content"] = guard.shield(message.reasoning)
        if message.tool_calls:
            shaped["tool_calls"] = [
                {
                    "id": self._call_id(call.id, guard),
                    "type": "function",
                    "function": {
                        "name": guard.shield(call.name),
                        "arguments": self._arguments(call.arguments, guard),
                    },
                }
                for call in message.tool_calls
            ]
        if message.tool_call_id:
            shaped["tool_call_id"] = self._call_id(message.tool_call_id, guard)
        if message.name:
            shaped["name"] = guard.shield(message.name)
        return shaped

    def _call_id(self, text: str, guard: Guard) -> str:
        return (
            hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:9]
            if self._wants_short_ids
            else guard.shield(text)
        )

    def _arguments(self, text: str, guard: Guard) -> object:
        if not self._call_style.arguments_as_text:
            try:
                value = json.loads(text or "{}")
            except (ValueError, RecursionError):
                value = None
            if isinstance(value, dict):
                return shield_values(value, guard.shield)
        return guard.shield(text)

    @cached_property
    def _call_style(self) -> CallStyle:
        """The form of past tool calls; found by trying, since templates do not declare it."""
        contents: tuple[str | None, ...] = (None, "") if self._knows_none else ("",)
        for style in (CallStyle(content, as_text) for content in contents for as_text in (False, True)):
            if self._takes(style):
                return style
        return CallStyle("", True)

    def _takes(self, style: CallStyle) -> bool:
        arguments = '{"probe": 1}' if style.arguments_as_text else {"probe": 1}
        call = {"id": _PROBE, "type": "function", "function": {"name": "f", "arguments": arguments}}
        conversation = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": style.empty_content, "tool_calls": [call]},
            {"role": "tool", "content": "b", "tool_call_id": _PROBE},
        ]
        try:
            text = self._render(
                messages=conversation, tools=None, documents=None, add_generation_prompt=True, **self._tokens
            )
        except InvalidRequest:
            return False
        return "'probe'" not in text and '\\"probe' not in text

    def _tool_dicts(self, tools: tuple[ToolSpec, ...]) -> tuple[dict[str, Any], ...]:
        return tuple(self._tool(tool) for tool in tools)

    def _tool(self, tool: ToolSpec) -> dict[str, Any]:
        try:
            parameters = json.loads(tool.parameters or "{}")
        except (ValueError, RecursionError) as fault:
            raise InvalidRequest(
                f"the parameters of the tool {tool.name!r} are not valid JSON: {short_reason(fault)}", param="tools"
            ) from fault
        shield = self._own.shield
        function = {
            "name": shield(tool.name),
            "description": shield(tool.description),
            "parameters": shield_values(parameters, shield),
        }
        return {"type": "function", "function": function}


def _system_first(messages: Sequence[Message]) -> list[Message] | None:
    """Return the turns with all system texts merged at the front, None if they already are."""
    texts = [message.content for message in messages if message.role == "system"]
    if not texts or (len(texts) == 1 and messages[0].role == "system"):
        return None
    turns = [message for message in messages if message.role != "system"]
    return [Message(role="system", content="\n\n".join(texts)), *turns]


def _clean(fault: Exception) -> str:
    return short_reason(fault).replace(MARK, "")
