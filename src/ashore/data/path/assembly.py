"""Builds the parts of an answer that no model writes: echoed prompt, ends, usage. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ashore.data.engines import EngineInfo
from ashore.data.path.answer import Answer
from ashore.data.path.model import ChoiceEnded, CutBy, Delta, GenerationRequest, ServingEvent, Usage
from ashore.data.path.orders import Prompt
from ashore.data.path.ports import ServedText
from ashore.data.path.scoring import Scores, prompt_tokens_told


def cut_short(answers: Sequence[Answer], cut_by: CutBy) -> list[ServingEvent]:
    """Return an end, with the text held back, for every choice that has none yet."""
    out: list[ServingEvent] = []
    for answer in answers:
        if answer.ended is None:
            rest = answer.cut(cut_by)
            if rest is not None:
                out.append(rest)
            assert answer.ended is not None
            out.append(answer.ended)
    return out


def usage_of(prompt: Prompt, answers: Sequence[Answer], info: EngineInfo) -> Usage:
    """Return the usage of the whole request: the prompt once, all answers together."""
    used = sorted({one for answer in answers for one in answer.precisions}, key=info.rungs.index) if info.rungs else []
    counted = answers[0].prompt_tokens
    prompt_tokens = prompt.num_tokens if counted is None else counted
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=min(prompt_tokens, max(answer.cached_tokens for answer in answers)),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        reasoning_tokens=sum(answer.reasoning_tokens for answer in answers),
        accepted_tokens=sum(answer.accepted_tokens for answer in answers),
        rejected_tokens=sum(answer.rejected_tokens for answer in answers),
        precision=">".join(dict.fromkeys((*used[:1], *used[-1:]))),
        lowered=bool(used) and used[-1] != info.precision,
        moved=moved_of(answers),
        scored=answers[0].scored,
    )


def moved_of(answers: Sequence[Answer]) -> str:
    """Return where answers went on after a replica was lost, as `Usage.moved` says it."""
    return ", ".join(dict.fromkeys(f"{lost}>{to}" for answer in answers for lost, to in answer.moves))


def echoed(request: GenerationRequest, prompt: Prompt, text: ServedText, scores: Scores | None) -> list[Delta]:
    """Return the prompt as the first piece of every choice (`echo` of the completions route), with scores if
    requested."""
    words = request.prompt if isinstance(request.prompt, str) else text.decode(prompt.ids)
    logprobs = prompt_tokens_told(prompt.ids, scores, text) if scores is not None else ()
    return [Delta(choice=choice, text=words, logprobs=logprobs) for choice in range(request.num_choices)]


def nothing_more(request: GenerationRequest) -> list[ServingEvent]:
    """Return the ends of an answer without tokens (`max_tokens` of 0 with `echo`)."""
    return [ChoiceEnded(choice=choice, reason="length") for choice in range(request.num_choices)]
