"""How a generator is asked whether a text answers a question, and what its likelihoods mean."""

from __future__ import annotations

import asyncio
import math

import pytest

from ashore.core.errors import AshoreError, ContextTooLong
from ashore.core.ids import RequestId
from ashore.data.authority import OURSELVES, Principal
from ashore.data.path import Asked, Delta, GenerationRequest, Hear, Started, TokenText, Usage
from ashore.data.path.relevance import PAIRS_AT_ONCE, YesNo, yes_against_no

TEXTS = ("what is tea", "a drink", "a city", "tea")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"yes": math.log(0.6), "no": math.log(0.2)}, 0.75),
        ({"yes": math.log(0.3), " Yes": math.log(0.3), "no": math.log(0.2), "x": -9.0}, 0.75),
        ({"yes": math.log(0.5), "x": -1.0}, 0.5 / (0.5 + math.exp(-10))),
        ({"no": math.log(0.5), "x": -12.0}, math.exp(-12) / (0.5 + math.exp(-12))),
        ({"x": -1.0}, 0.0),
        ({}, 0.0),
    ],
)
def test_yes_is_weighed_against_no(told: dict[str, float], expected: float) -> None:
    assert yes_against_no(told) == pytest.approx(expected)


class Generator:
    """Says yes to what has the word tea or drink in it."""

    def __init__(self) -> None:
        self.asked: list[GenerationRequest] = []
        self.running = self.most = 0

    async def answer(self, request: GenerationRequest, principal: Principal, hear: Hear) -> None:
        self.asked.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        document = request.messages[1].content.rpartition("<Document>: ")[2]
        if document == "long":
            raise ContextTooLong("too long", param="messages")
        yes = -0.1 if document in ("tea", "a drink") else -3.0
        hear(Started(model="m", release="m-1", precision="int8", prompt_tokens=7, created_s=1))
        token = TokenText(text="no", raw=b"no", logprob=-1.0, top=(("yes", b"yes", yes), ("no", b"no", -1.0)))
        hear(Delta(choice=0, text="no", logprobs=(token,)))
        hear(Usage(prompt_tokens=7, completion_tokens=1, cached_tokens=0))


def asked(*texts: str) -> Asked:
    names = ["query", *(f"documents[{at}]" for at in range(len(texts) - 1))]
    pairs = [(0, at) for at in range(1, len(texts))]
    return Asked(model="m", texts=texts, names=names, pairs=pairs, request_id=RequestId("r"))


def test_a_generator_is_asked_with_the_prompt_of_qwens_reranker() -> None:
    generator = Generator()
    judged = asyncio.run(YesNo(generator.answer).judge(asked(*TEXTS), OURSELVES))
    assert (judged.method, judged.release, judged.prompt_tokens) == ("yes-no", "m-1", 21)
    assert judged.scores[0] == judged.scores[2] > 0.5 > judged.scores[1]
    first = generator.asked[0]
    assert first.messages[1].content == (
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        "<Query>: what is tea\n<Document>: a drink"
    )
    assert (first.max_tokens, first.sampling.temperature, first.template_options["enable_thinking"]) == (1, 0, False)


def test_some_pairs_are_asked_at_once_and_an_error_names_its_text() -> None:
    generator = Generator()
    asyncio.run(YesNo(generator.answer).judge(asked("q", *["tea"] * 50), OURSELVES))
    assert generator.most == PAIRS_AT_ONCE and len(generator.asked) == 50
    with pytest.raises(AshoreError) as caught:
        asyncio.run(YesNo(generator.answer).judge(asked("q", "tea", "long", "tea"), OURSELVES))
    assert isinstance(caught.value, ContextTooLong) and caught.value.param == "documents[1]"
