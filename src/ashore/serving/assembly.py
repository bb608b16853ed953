"""From engine events to what the client is told. Pure but for ending a sequence whose stop string was met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ashore.engines import EngineEvent, Failed, Finished, error_of
from ashore.serving.answer import Answer
from ashore.serving.model import ChoiceEnded, CutBy, Delta, GenerationRequest, ServingEvent, Usage
from ashore.serving.orders import Prompt
from ashore.serving.ports import ServedText
from ashore.serving.scoring import Scores, prompt_tokens_told


class CanEnd(Protocol):
    """What can cancel one sequence."""

    def end(self, choice: int) -> None:
        """Cancel the sequence of `choice`."""
        ...


def assemble(
    groups: Sequence[tuple[int, list[EngineEvent]]], answers: Sequence[Answer], feed: CanEnd
) -> list[ServingEvent]:
    """Return what the events mean for the client, one `Delta` for all tokens of a choice that came together.

    Raises:
        AshoreError: a sequence failed; the tokens that came with the failure are lost with it.
    """
    out: list[ServingEvent] = []
    for choice, events in groups:
        answer = answers[choice]
        last = events[-1]
        if isinstance(last, Failed):
            raise error_of(last)
        finished = last if isinstance(last, Finished) else None
        if answer.ended is None:
            delta = answer.take(events)
            if delta is not None:
                out.append(delta)
            if answer.ended is not None:
                out.append(answer.ended)
                feed.end(choice)
                continue
        if finished is not None:
            told = answer.ended is not None
            rest = answer.finish(finished)
            if rest is not None:
                out.append(rest)
            if answer.ended is not None and not told:
                out.append(answer.ended)
    return out


def cut_short(answers: Sequence[Answer], cut_by: CutBy) -> list[ServingEvent]:
    """Return the end of every choice that has none yet, with what was held back of it."""
    out: list[ServingEvent] = []
    for answer in answers:
        if answer.ended is None:
            rest = answer.cut(cut_by)
            if rest is not None:
                out.append(rest)
            assert answer.ended is not None
            out.append(answer.ended)
    return out


def usage_of(prompt: Prompt, answers: Sequence[Answer]) -> Usage:
    """Return what the whole request used: the prompt once, the answers together."""
    return Usage(
        prompt_tokens=len(prompt.ids),
        cached_tokens=min(len(prompt.ids), max(answer.cached_tokens for answer in answers)),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        reasoning_tokens=sum(answer.reasoning_tokens for answer in answers),
        scored=answers[0].scored,
    )


def echoed(request: GenerationRequest, prompt: Prompt, text: ServedText, scores: Scores | None) -> list[Delta]:
    """Return the prompt as the first piece of every choice (`echo` of the completions route), scored if it was."""
    words = request.prompt if isinstance(request.prompt, str) else text.decode(prompt.ids)
    logprobs = prompt_tokens_told(prompt.ids, scores, text) if scores is not None else ()
    return [Delta(choice=choice, text=words, logprobs=logprobs) for choice in range(request.num_choices)]


def nothing_more(request: GenerationRequest, prompt: Prompt) -> list[ServingEvent]:
    """Return the end of an answer of which no token was asked for (`max_tokens` of 0 behind `echo`)."""
    ends: list[ServingEvent] = [ChoiceEnded(choice=choice, reason="length") for choice in range(request.num_choices)]
    return [*ends, Usage(prompt_tokens=len(prompt.ids), cached_tokens=0, completion_tokens=0)]
