"""What answers are held to where their requests ask for JSON: the schema, by whoever may have written it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import msgspec
import pytest
from memory_replica import MemoryReplica
from test_release_serving import ALICE, Bench, ask, run

from ashore.core.clock import SystemClock
from ashore.core.errors import DeadlineExceeded, InvalidSpec
from ashore.data.authority import Principal
from ashore.data.engines import CancelOrder, GenerateOrder, Grammar, OrderHearer
from ashore.data.path import GenerationRequest
from ashore.data.path.prompt import INLINE_CHARS
from ashore.data.path.schemas import MOST_SCHEMA_CHARS, MOST_STEPS, AnswerSchemas
from ashore.data.releases import EVERYTHING, AliasRoute, Shadowing
from ashore.data.releases.schemas import AnswerSchema

SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer", "minimum": 1}}}
GRAMMAR = Grammar(kind="json_schema", text=json.dumps(SCHEMA))
SHADOWED = AliasRoute(weights=(("chat-1", 1000),), live="chat-1", shadow=Shadowing(release="chat-2", share=1000))


def in_json(text: str, grammar: Grammar = GRAMMAR) -> GenerationRequest:
    """Return a request that the memory's echo answers with `text`."""
    return msgspec.structs.replace(ask(), messages=(), prompt=text, grammar=grammar)


class Says(MemoryReplica):
    """Gives the same answer to everything."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def start(self, order: GenerateOrder, hearer: OrderHearer) -> CancelOrder:
        return super().start(msgspec.structs.replace(order, prompt_ids=list(self._text.encode())), hearer)


Work = Callable[[], object]


class Line:
    """Notes who reads, and how much; not before there is time for it."""

    def __init__(self, *, late: bool = False) -> None:
        self.late = late
        self.read_by: list[tuple[Principal, bool]] = []

    async def read(
        self, num_chars: int, work: Callable[[], object], principal: Principal, deadline_at: float
    ) -> object:
        self.read_by.append((principal, num_chars > INLINE_CHARS))
        if self.late:
            raise DeadlineExceeded("it is late", hint="send less")
        return work()


def schemas_read_by(line: Line) -> AnswerSchemas:
    return AnswerSchemas(line, SystemClock())  # type: ignore[arg-type]


async def compiled(schemas: AnswerSchemas, grammar: Grammar, text: str) -> bool:
    """Return whether a text fits once the schema is compiled."""
    schemas.fits(grammar, ALICE)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "answer schema"))
    fits = schemas.fits(grammar, ALICE)
    assert fits is not None
    return fits(text)


@pytest.mark.parametrize(
    ("text", "fits"),
    [('{"a": 1}', True), (' {"a": 7, "b": null}\n', True), ('{"a": 0}', False), ('{"b": 1}', False), ("[1]", False),
     ('{"a": 1', False), ("Paris", False)],
)  # fmt: skip
def test_an_answer_is_held_to_the_schema_of_its_request(text: str, fits: bool) -> None:
    assert asyncio.run(compiled(schemas_read_by(line := Line()), GRAMMAR, text)) is fits
    assert line.read_by == [(ALICE, True)], "once, on a thread, in her own queue"


def test_a_schema_whose_turn_did_not_come_is_compiled_for_a_later_request() -> None:
    schemas = schemas_read_by(line := Line(late=True))

    async def scenario() -> None:
        assert await compiled(schemas, GRAMMAR, '{"a": 0}'), "it only has to be JSON"
        line.late = False
        assert not await compiled(schemas, GRAMMAR, '{"a": 0}')

    asyncio.run(scenario())


def test_where_a_schema_cannot_be_held_to_an_answer_only_has_to_be_json() -> None:
    async def scenario() -> None:
        schemas = schemas_read_by(Line())
        first = schemas.fits(GRAMMAR, ALICE)
        assert first is not None and first('{"a": 0}') and not first("Paris"), "it is not compiled yet"
        for schema in ({"pattern": "(?=x)x"}, {"patternProperties": {"x": {}}}, {"enum": ["x" * MOST_SCHEMA_CHARS]}):
            grammar = Grammar(kind="json_schema", text=json.dumps(schema))
            assert await compiled(schemas, grammar, '"y"')
            assert not await compiled(schemas, grammar, "y")
        assert schemas.fits(None, ALICE) is None and schemas.fits(Grammar(kind="regex", text="x"), ALICE) is None
        thing = schemas.fits(Grammar(kind="json_object"), ALICE)
        assert thing is not None and thing("{}") and not thing("[]") and not thing("no")

    asyncio.run(scenario())


def test_a_schema_that_would_be_checked_for_years_holds_nobody_up() -> None:
    names = {f"n{n}": {"anyOf": [{"$ref": f"#/$defs/n{n + 1}"}] * 2} for n in range(60)}
    text = json.dumps({"$ref": "#/$defs/n0", "$defs": {**names, "n60": {"type": "null"}}})
    began_s = time.monotonic()
    assert AnswerSchema(text, "it", most_steps=MOST_STEPS).allows('"no null"'), "nothing is held against it"
    assert time.monotonic() - began_s < 30
    with pytest.raises(InvalidSpec, match="not a JSON Schema"):
        AnswerSchema('{"type": 7}', "it")
    assert not AnswerSchema('{"$ref": "#"}', "it").allows("1"), "a schema that goes round allows nothing"


def test_a_candidate_that_breaks_the_schema_has_a_defect_and_what_is_live_is_judged_by_its_own_request() -> None:
    async def scenario(bench: Bench) -> None:
        bench.service.take_routes({"chat": SHADOWED})
        for number in range(400):  # the schema is compiled meanwhile; until then nothing is held against an answer
            await bench.answer(in_json(json.dumps({"a": number})))
            if (await bench.observed("shadow"))["defects", EVERYTHING] == 1:
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("no defect of the candidate was seen")
        bench.service.take_routes(
            {"chat": AliasRoute(weights=(("chat-1", 1000),), live="chat-1", watched=("chat-2", "chat-1"))}
        )
        await bench.answer(ask("in words, which is no JSON"))
        bench.service.take_routes(
            {"chat": AliasRoute(weights=(("chat-2", 1000),), live="chat-1", watched=("chat-2", "chat-1"))}
        )
        await bench.answer(in_json('{"a": 7}'))
        assert (await bench.observed("canary"))["defects", EVERYTHING] == 1, "not for the words of the live one"

    run(scenario, Bench(second=Says('{"a": "five"}')))


LISTS = [[0] * 3_000 + [n] for n in range(2)]


@pytest.mark.parametrize(
    ("schema", "answer"),
    [({"items": {"enum": [f"n{n}" for n in range(2_000)]}}, ["x"] * 10_000),
     ({"$defs": {"e": {"enum": LISTS[:1]}}, "items": {"anyOf": [{"$ref": "#/$defs/e"}] * 300}}, LISTS[1:] * 7),
     ({"$defs": {"u": {"uniqueItems": True}}, "allOf": [{"$ref": "#/$defs/u"}] * 500}, [[n] for n in range(9_000)]),
     ({"$defs": {"p": {"pattern": "(x|y)*z"}}, "allOf": [{"$ref": "#/$defs/p"}] * 500}, "x" * 60_000 + "z")],
    ids=["choices of a word", "choices of long lists", "entries that must differ", "expressions"],
)  # fmt: skip
def test_a_long_answer_takes_the_loop_no_longer_than_its_steps(schema: dict[str, object], answer: object) -> None:
    """2,500 choices and 4,900 items took half a second: one keyword counted as one step."""
    made, text = AnswerSchema(json.dumps(schema), "x", most_steps=MOST_STEPS), json.dumps(answer)
    assert len(json.dumps(schema)) < 2 * MOST_SCHEMA_CHARS and made.allows("1")
    began = time.thread_time()
    assert made.allows(text), "nothing is held against it"
    assert time.thread_time() - began < 0.2


def test_what_a_schema_does_not_have_is_held_against_no_answer() -> None:
    assert AnswerSchema('{"properties": {"a": {"$ref": "#/$defs/gone"}}}', "it").allows('{"a": 1}')
    with pytest.raises(InvalidSpec, match="it is not a JSON Schema"):
        AnswerSchema("3", "it")


def test_entries_that_must_differ_are_compared_in_time_in_proportion() -> None:
    """5,000 objects took 12 s of the loop of all requests."""
    schema = AnswerSchema('{"uniqueItems": true}', "x")
    many = [{"a": number, "b": [number]} for number in range(50_000)]
    began = time.thread_time()
    assert schema.allows(json.dumps(many)) and not schema.allows(json.dumps([*many, {"b": [7], "a": 7}]))
    assert time.thread_time() - began < 5
    assert schema.allows('[1, true, "1", [1]]') and not schema.allows("[1, 2, 1]")
    assert AnswerSchema('{"uniqueItems": false}', "x").allows("[1, 1]")
