"""The fake engine: what its name tells it to do, at the pace it is told, without a real clock."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ashore.core.clock import ManualClock
from ashore.core.errors import EngineFailed, InvalidSpec
from ashore.core.ids import OrderId
from ashore.data.engines import EngineEvent, EngineOptions, Failed, Finished, GenerateOrder, Grammar, Sampling, Token
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.engines.fake.spec import FakeSpec

END = 256


class Bench:
    """A fake engine on a clock of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.clock = ManualClock()
        self.engine = FakeEngine(clock=self.clock, sleep=self.clock.advance)
        self.info = self.engine.load(fake_model_files(name, directory), EngineOptions(kind="fake"))

    def order(self, order_id: str, prompt: str | list[int], **fields: object) -> None:
        ids = list(prompt.encode()) if isinstance(prompt, str) else prompt
        settings = {"max_new_tokens": 100, "stop_token_ids": (END,), **fields}
        self.engine.submit(GenerateOrder(order_id=OrderId(order_id), prompt_ids=ids, **settings))  # type: ignore[arg-type]

    def run(self, steps: int = 10_000) -> list[EngineEvent]:
        events: list[EngineEvent] = []
        for _ in range(steps):
            events += self.engine.step(0.01)
            stats = self.engine.stats()
            if not stats.running and not stats.waiting and events and not isinstance(events[-1], Token):
                break
        return events


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[[str], Bench]]:
    with ExitStack() as at_end:

        def make(name: str) -> Bench:
            made = Bench(tmp_path / "files", name)
            at_end.callback(made.engine.close)
            return made

        yield make


def text_of(events: list[EngineEvent], order_id: str = "a") -> str:
    ids = [e.token_id for e in events if isinstance(e, Token) and e.order_id == order_id]
    return bytes(ids).decode()


def test_echo_says_the_prompt_and_stops(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo")
    one.order("a", "Grüße, 世界")
    events = one.run()
    assert text_of(events) == "Grüße, 世界"
    size = len("Grüße, 世界".encode())
    assert events[-1] == Finished(OrderId("a"), "stop", size, 0, size, END)


def test_echo_of_a_chat_says_the_last_user_turn(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo")
    one.order("a", [257, *b"be brief", END, 258, *b"one", END, 259, *b"1", END, 258, *b"two", END, 259])
    assert text_of(one.run()) == "two"


def test_random_repeats_for_the_same_prompt_and_ends_where_told(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:random?tokens=40")
    for name in ("a", "b"):
        one.order(name, "same prompt", sampling=Sampling(temperature=0))
    events = one.run()
    assert text_of(events, "a") == text_of(events, "b")
    assert len(text_of(events, "a")) == 40


def test_rate_and_delay_are_kept(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:random?tok_per_s=20&delay_s=0.3&tokens=41")
    one.order("a", "x")
    arrivals_s: list[float] = []
    while len(arrivals_s) < 41:
        arrivals_s += [one.clock.monotonic_s() for event in one.engine.step(1.0) if isinstance(event, Token)]
    assert arrivals_s[0] == pytest.approx(0.3, abs=0.003)
    assert arrivals_s[40] - arrivals_s[0] == pytest.approx(2.0, abs=0.003)


def test_it_tells_the_host_when_to_come_back(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:random?delay_s=0.3")
    assert one.engine.wait_on() == (None, None)
    one.order("a", "x")
    assert one.engine.wait_on() == (None, 0.0)
    one.engine.step(0.0)
    assert one.engine.wait_on()[1] == pytest.approx(0.3, abs=0.003)


def test_few_sequences_run_and_higher_priorities_go_first(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo?sequences=1")
    one.order("low", "ab", priority=0)
    one.order("high", "ab", priority=5)
    ended = [event.order_id for event in one.run() if isinstance(event, Finished)]
    assert ended == ["high", "low"]


def test_it_tells_which_adapters_are_at_work(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo?sequences=1")
    for name in ("law", "tax", "idle"):
        one.engine.load_adapter(name, "")
    one.order("first", "abcdef", adapter="law", priority=1)
    one.order("second", "ab", adapter="tax")
    one.run(1)
    stats = one.engine.stats()
    assert (stats.adapters, stats.running_adapters, stats.waiting_adapters) == (3, ("law",), ("tax",))
    one.run()
    stats = one.engine.stats()
    assert (stats.running_adapters, stats.waiting_adapters) == ((), ())
    assert stats.block_tokens > 0


def test_some_orders_fail_when_told(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo?fail_rate=0.5&seed=3")
    for number in range(200):
        one.order(str(number), "ab")
    events = one.run()
    failures = [event for event in events if isinstance(event, Failed)]
    assert 70 <= len(failures) <= 130
    assert {event.code for event in failures} == {"engine_failed"}
    assert len(failures) + sum(isinstance(event, Finished) for event in events) == 200


def test_a_step_raises_when_told(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo?raise_after=2")
    one.order("a", "abcdef")
    with pytest.raises(RuntimeError, match="after 2 tokens"):
        one.run()


def test_loading_fails_when_told(tmp_path: Path) -> None:
    files = fake_model_files("fake:echo?fail_load=1", tmp_path)
    with pytest.raises(EngineFailed):
        FakeEngine().load(files, EngineOptions(kind="fake"))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("fake:eco", "fake:echo"),
        ("smollm2", "fake"),
        ("fake:echo?tok_per_sec=3", "tok_per_s"),
        ("fake:echo?tokens=1.5", "tokens"),
        ("fake:echo?delay_s=-1", "delay_s"),
        ("fake:echo?delay_s=nan", "delay_s"),
        ("fake:echo?embed=900000000", "embed"),
        ("fake:echo?sequences=900000000", "sequences"),
    ],
)
def test_a_wrong_name_is_refused_with_a_hint(name: str, word: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        FakeSpec.parse(name)
    assert word in caught.value.message + caught.value.hint


def test_sampling_means_what_it_means_in_a_model(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:random?tokens=400")
    space = 32
    base = {"max_new_tokens": 300}
    one.order("plain", "p", sampling=Sampling(seed=1), **base)
    one.order("again", "p", sampling=Sampling(seed=1), **base)
    one.order("other", "p", sampling=Sampling(seed=2), **base)
    one.order("greedy", "p", sampling=Sampling(temperature=0), **base)
    one.order("top1", "p", sampling=Sampling(top_k=1, seed=9), **base)
    one.order("tiny", "p", sampling=Sampling(top_p=1e-6, seed=9), **base)
    one.order("minp", "p", sampling=Sampling(min_p=0.9, seed=9), **base)
    one.order("banned", "p", sampling=Sampling(logit_bias={space: -100.0}, seed=1), **base)
    one.order("forced", "p", sampling=Sampling(logit_bias={77: 100.0}), **base)
    one.order("fresh", "p", sampling=Sampling(temperature=0, frequency_penalty=2.0), **base)
    events = one.run()
    said = {name: text_of(events, name) for name in
            ("plain", "again", "other", "greedy", "top1", "tiny", "minp", "banned", "forced", "fresh")}  # fmt: skip
    assert said["plain"] == said["again"] != said["other"]
    assert said["greedy"] == said["top1"] == said["tiny"] == said["minp"]
    assert " " in said["plain"]
    assert " " not in said["banned"]
    assert said["forced"] == "M" * 300
    most = {name: max(said[name].count(c) for c in said[name]) for name in ("greedy", "fresh")}
    assert most["fresh"] < most["greedy"]


def test_prefix_blocks_are_counted_as_cached_within_a_partition_only(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo")
    prompt = "a prompt that is longer than three blocks of tokens"
    for order_id, partition in (("first", "x"), ("second", "x"), ("third", "y")):
        one.order(order_id, prompt, prefix_partition=partition, max_new_tokens=1)
    cached = {e.order_id: e.cached_tokens for e in one.run() if isinstance(e, Finished)}
    assert cached == {"first": 0, "second": 48, "third": 0}


def test_texts_that_share_pieces_lie_nearer(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:echo?embed=64")
    close, same, far = one.engine.embed(
        [list(b"the cat sat on a mat"), list(b"the cat sat on the mat"), list(b"12345678")]
    )
    assert len(close) == one.info.embedding_size == 64
    assert sum(x * x for x in close) == pytest.approx(1.0)
    assert sum(a * b for a, b in zip(close, same, strict=True)) > sum(a * b for a, b in zip(close, far, strict=True))


def test_the_files_make_a_tokenizer_of_bytes(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    files = fake_model_files("fake:echo", tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "naïve 世界 🙂\n\x00<b>"
    assert tokenizer.encode(text).ids == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text
    assert tokenizer.encode("<|user|>hi<|end|>").ids == [258, *b"hi", END]
    assert json.loads((Path(files.directory) / "generation.json").read_text())["eos_token_ids"] == [END]


def chat(*turns: tuple[str, str]) -> list[int]:
    """Return a conversation in the form of the template, up to where the answer begins."""
    role = {"system": 257, "user": 258, "assistant": 259, "tool": 260}
    return [token for who, said in turns for token in (role[who], *said.encode(), END)] + [role["assistant"]]


def test_tools_makes_the_call_that_the_user_asks_for_and_then_says_what_it_gave(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:tools")
    call = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    asked = (("system", "Tools: []"), ("user", f"<reminder/>{call} please"), ("system", "more"))
    one.order("a", chat(*asked))
    one.order("b", chat(*asked, ("assistant", call), ("tool", "42")))
    one.order("c", chat(("user", "Hi")))
    events = one.run()
    assert [text_of(events, name) for name in "abc"] == [call, "42", "Hi"]


QUESTION = "Say 3 and 4 as 'setup'"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def test_agent_calls_the_tool_that_the_question_speaks_of_and_then_says_what_it_gave(
    bench: Callable[[str], Bench],
) -> None:
    one = bench("fake:agent")
    tools = ("system", f"Tools: {json.dumps([WEATHER])}")
    asked = ("user", "What is the weather in 'Xi’an'?")
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Xi’an"}}\n</tool_call>'
    one.order("a", chat(tools, asked))
    one.order("b", chat(tools, asked, ("assistant", call), ("tool", "sunny")))
    one.order("c", chat(tools, ("user", "Hi")))
    one.order("d", chat(asked))
    events = one.run()
    assert [text_of(events, name) for name in "abcd"] == [call, "sunny", "Hi", asked[1]]


@pytest.mark.parametrize(
    ("grammar", "answer"),
    [
        (Grammar(kind="json_object", text=""), {"setup": QUESTION}),
        (Grammar(kind="json_schema", text='{"type": "array", "minItems": 2, "items": {"type": "integer"}}'), [3, 4]),
        (
            Grammar(
                kind="json_schema",
                text='{"$ref": "#/$defs/p", "$defs": {"p": {"type": "object", "required": ["n", "s", "k"], '
                '"properties": {"n": {"type": ["number", "null"]}, "s": {"type": "string"}, '
                '"k": {"enum": ["x"]}, "z": {}}}}}',
            ),
            {"n": 3.0, "s": "setup", "k": "x"},
        ),
    ],
)
def test_agent_writes_what_a_grammar_wants(bench: Callable[[str], Bench], grammar: Grammar, answer: object) -> None:
    one = bench("fake:agent")
    one.order("a", chat(("user", QUESTION)), grammar=grammar)
    assert json.loads(text_of(one.run())) == answer


def test_agent_refuses_a_grammar_for_which_it_knows_no_answer(bench: Callable[[str], Bench]) -> None:
    one = bench("fake:agent")
    one.order("a", chat(("user", "Hi")), grammar=Grammar(kind="regex", text="[0-9]{7}"))
    [failed] = one.run()
    assert isinstance(failed, Failed) and failed.code == "unsupported_by_engine"
