"""What goes before a text of an embedder, and which shorter vectors it makes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from memory_replica import ECHO_INFO, MemoryReplica
from msgspec.structs import replace

from ashore.core.clock import SystemClock
from ashore.core.errors import ContextTooLong, InvalidRequest, UnsupportedByEngine
from ashore.core.ids import RequestId
from ashore.data.authority import OpenDoor
from ashore.data.path import Asked, BytesText, ServedModel, ServingService, Topology
from ashore.data.path.embedding import NUMBER_BYTES, TOKEN_BYTES, check_embeds, check_ranks, encode_inputs, prompt_for
from ashore.kit.metrics import Metrics

E5 = replace(ECHO_INFO, prompts={"query": "query: ", "passage": "passage: "}, dims=(2, 4))
BGE = replace(ECHO_INFO, prompts={"query": "Search: "})
ALWAYS = replace(E5, default_prompt="passage")


@pytest.mark.parametrize(
    ("info", "kind", "prompt"),
    [
        (ECHO_INFO, "query", ""),
        (ECHO_INFO, "anything", ""),
        (E5, "", ""),
        (E5, "query", "query: "),
        (E5, "search_query", "query: "),
        (E5, "document", "passage: "),
        (E5, "search_document", "passage: "),
        (ALWAYS, "", "passage: "),
        (ALWAYS, "query", "query: "),
        (BGE, "document", ""),
    ],
)
def test_a_prompt_goes_by_what_the_text_is(info: Any, kind: str, prompt: str) -> None:
    assert prompt_for(kind, info) == prompt


def test_what_a_model_does_not_know_is_refused_with_what_it_knows() -> None:
    with pytest.raises(InvalidRequest, match="this model knows document, passage, query"):
        prompt_for("clustering", E5)
    with pytest.raises(InvalidRequest, match="token ids, and the prompt 'query: '"):
        encode_inputs([[1, 2]], BytesText(), E5, input_type="query")
    with pytest.raises(InvalidRequest, match="empty"):
        encode_inputs([""], BytesText(), E5, input_type="query")


def test_each_input_has_its_own_type() -> None:
    made = encode_inputs(["a", "b"], BytesText(), E5, input_type=["query", "document"])
    assert made == [BytesText().encode("query: a"), BytesText().encode("passage: b")]


def test_nothing_behind_the_first_text_that_is_too_long_is_tokenised() -> None:
    class Counted(BytesText):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def encode(self, text: str) -> list[int]:
            self.seen.append(text)
            return super().encode(text)

    text = Counted()
    with pytest.raises(ContextTooLong, match="input 1 has"):
        encode_inputs(["a", "b" * (ECHO_INFO.context_tokens + 1), "c"], text, ECHO_INFO)
    assert len(text.seen) == 2


def test_vectors_are_shortened_to_what_the_model_was_trained_for_alone() -> None:
    check_embeds("m", E5, 4)
    check_embeds("m", E5, 8)
    check_embeds("m", ECHO_INFO, 3)
    for info, wanted in ((E5, 3), (replace(E5, dims=()), 4), (ECHO_INFO, 9)):
        with pytest.raises(UnsupportedByEngine, match="was made for vectors of"):
            check_embeds("m", info, wanted)


def test_a_model_that_neither_embeds_nor_ranks_says_only_that() -> None:
    with pytest.raises(UnsupportedByEngine, match=r"^'m' makes no embeddings$"):
        check_embeds("m", replace(ECHO_INFO, features=("seed", "top_k")), None)
    with pytest.raises(UnsupportedByEngine, match=r"^'m' is no cross-encoder by now$"):
        check_ranks("m", replace(ECHO_INFO, features=("seed", "top_k")))


def test_pairs_have_room_before_they_are_made() -> None:
    """A question of thousands of tokens is copied into the pair of each text, however short that is."""
    asked: list[int] = []

    class Counts(BytesText):
        def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
            assert asked, "there is room first"
            return super().encode(text, allow_special=allow_special, bare=bare)

    async def room(num_bytes: int, within_s: float) -> None:
        asked.append(num_bytes)

    async def whole() -> None:
        service = ServingService(
            Topology(models=(ServedModel(alias="r", release="r-1", kind="fake", sockets=("/s",), embedder=True),)),
            make_replica=lambda socket: MemoryReplica(replace(E5, features=("rank",), context_tokens=200)),
            load_text=lambda served: Counts(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
        )
        await service.start()
        assert await service.connected(60)
        texts = ("q" * 90, *("é" * number for number in range(1, 30)))
        judged = Asked(
            model="r", texts=texts, names=texts, pairs=tuple((0, at) for at in range(1, 30)),
            request_id=RequestId("r"), room=room,
        )  # fmt: skip
        try:
            await service.relevance.judge(judged, OpenDoor().authenticate(None))
        finally:
            await service.close()

    asyncio.run(whole())
    tokens = sum(min(200, 90 + 4 * number) for number in range(1, 30))
    assert asked == [tokens * TOKEN_BYTES + 29 * E5.embedding_size * NUMBER_BYTES]


def test_reranking_by_vectors_tells_questions_from_texts() -> None:
    batches: list[list[list[int]]] = []

    class Keeps(MemoryReplica):
        async def embed(self, batch: list[list[int]], *, tenant: str = "") -> list[list[float]]:
            batches.append(batch)
            return await super().embed(batch)

    replica = Keeps(replace(E5, features=("embed",)))

    async def whole() -> None:
        service = ServingService(
            Topology(models=(ServedModel(alias="e5", release="e5-1", kind="fake", sockets=("/s",), embedder=True),)),
            make_replica=lambda socket: replica,
            load_text=lambda served: BytesText(),
            check_grammar=lambda grammar: None,
            clock=SystemClock(),
            metrics=Metrics(),
        )
        await service.start()
        assert await service.connected(60)
        asked = Asked(
            model="e5", texts=("why", "so", "no"), names=("q", "a", "b"), pairs=((0, 1), (0, 2)),
            request_id=RequestId("r"),
        )  # fmt: skip
        try:
            await service.relevance.judge(asked, OpenDoor().authenticate(None))
        finally:
            await service.close()

    asyncio.run(whole())
    [batch] = batches
    assert batch == [BytesText().encode(text) for text in ("query: why", "passage: so", "passage: no")]
