"""From engine events to what the client is told. Pure but for ending a sequence whose stop string was met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ashore.engines import EngineEvent, Failed, Finished, Token, error_of
from ashore.serving.answer import Answer
from ashore.serving.model import Delta, GenerationRequest, ServingEvent, Usage
from ashore.serving.orders import Prompt
from ashore.serving.ports import ServedText


class CanEnd(Protocol):
    """What can cancel one sequence."""

    def end(self, choice: int) -> None:
        """Cancel the sequence of `choice`."""
        ...


def assemble(events: Sequence[tuple[int, EngineEvent]], answers: Sequence[Answer], feed: CanEnd) -> list[ServingEvent]:
    """Return what `events` mean for the client, one `Delta` per choice for all tokens that came together.

    Raises:
        AshoreError: a sequence failed; what came before it in `events` is lost with it.
    """
    out: list[ServingEvent] = []
    tokens: dict[int, list[Token]] = {}
    for choice, event in events:
        if isinstance(event, Token):
            tokens.setdefault(choice, []).append(event)
        elif isinstance(event, Failed):
            raise error_of(event)
        else:
            _flush(choice, tokens.pop(choice, ()), answers[choice], feed, out)
            _finish(event, answers[choice], out)
    for choice, waiting in tokens.items():
        _flush(choice, waiting, answers[choice], feed, out)
    return out


def usage_of(prompt: Prompt, answers: Sequence[Answer]) -> Usage:
    """Return what the whole request used: the prompt once, the answers together."""
    return Usage(
        prompt_tokens=len(prompt.ids),
        cached_tokens=min(len(prompt.ids), max(answer.cached_tokens for answer in answers)),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        reasoning_tokens=sum(answer.reasoning_tokens for answer in answers),
    )


def echoed(request: GenerationRequest, prompt: Prompt, text: ServedText) -> list[Delta]:
    """Return the prompt as the first piece of every choice (`echo` of the completions route)."""
    words = request.prompt if isinstance(request.prompt, str) else text.decode(prompt.ids)
    return [Delta(choice=choice, text=words) for choice in range(request.num_choices)]


def _flush(choice: int, tokens: Sequence[Token], answer: Answer, feed: CanEnd, out: list[ServingEvent]) -> None:
    if not tokens or answer.ended is not None:
        return
    delta = answer.take(tokens)
    if delta is not None:
        out.append(delta)
    if answer.ended is not None:
        out.append(answer.ended)
        feed.end(choice)


def _finish(finished: Finished, answer: Answer, out: list[ServingEvent]) -> None:
    if answer.ended is not None:
        answer.finish(finished)
        return
    delta = answer.finish(finished)
    if delta is not None:
        out.append(delta)
    if answer.ended is not None:
        out.append(answer.ended)
