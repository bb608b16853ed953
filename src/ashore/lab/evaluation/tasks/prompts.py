"""Converts an item to prompt tokens, as plain text or through the model's chat template."""

from __future__ import annotations

from ashore.core.chat import Message
from ashore.core.errors import ContextTooLong
from ashore.data.text import TextModel
from ashore.lab.evaluation.ports import Subject
from ashore.lab.evaluation.tasks.model import LIKELIHOOD_KINDS, Item, Style, Task


def style_of(task: Task, text: TextModel) -> Style:
    """Return the prompt style of a task: its own, else the one that suits its kind and the model."""
    if task.header.style is not None:
        return task.header.style
    return "plain" if task.header.kind in LIKELIHOOD_KINDS or not text.template_source else "chat"


def prompt_ids(task: Task, item: Item, text: TextModel) -> list[int]:
    """Return the tokens of a question, with examples before it.

    Raises:
        InvalidRequest: the task needs a chat and the model has no template.
    """
    if style_of(task, text) == "plain":
        return text.encode(plain_prompt(task, item))
    header = task.header
    messages = [Message(role="system", content=header.system)] if header.system else []
    for shot in header.shots:
        messages.append(Message(role="user", content=_asked(task, shot.prompt)))
        messages.append(Message(role="assistant", content=shot.answer))
    messages.append(Message(role="user", content=_asked(task, item.prompt)))
    return text.encode_chat(messages)


def plain_prompt(task: Task, item: Item) -> str:
    """Return a question as plain text."""
    header = task.header
    shown = [f"{_asked(task, shot.prompt)}{header.separator}{shot.answer}" for shot in header.shots]
    parts = ([header.system] if header.system else []) + shown + [_asked(task, item.prompt)]
    return "\n\n".join(parts)


def answer_ids(task: Task, item: Item, given: list[int], answer: str, text: TextModel) -> list[int]:
    """Return question and answer as tokens; as one text if that does not change the question's tokens."""
    if style_of(task, text) == "chat":
        return [*given, *text.encode(answer, bare=True)]
    behind = task.header.separator + answer
    whole = text.encode(plain_prompt(task, item) + behind)
    if whole[: len(given)] == given and len(whole) > len(given):
        return whole
    return [*given, *text.encode(behind, bare=True)]


def check_length(ids: list[int], new_tokens: int, subject: Subject, task: Task, line: int) -> None:
    """Refuse an item that exceeds the model's context, before anything is computed.

    Raises:
        ContextTooLong: names the item's line.
    """
    room = subject.info.context_tokens
    if len(ids) + new_tokens > room:
        raise ContextTooLong(
            f"{task.name}, line {line} needs {len(ids)} tokens and {new_tokens} for the answer; "
            f"the context of {subject.name} has {room}",
            hint="shorten the item, give fewer shots, or lower max_new_tokens in the header",
        )


def _asked(task: Task, prompt: str) -> str:
    return task.header.template.replace("{prompt}", prompt)
