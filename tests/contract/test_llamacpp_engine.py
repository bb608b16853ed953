"""llama.cpp beyond the common contract: a full memory, half characters, grammars, files it refuses."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_files import demo_files
from engine_bench import GOLDEN, failure, finish, order, run, token_ids
from msgspec.structs import replace

from ashore.core.errors import EngineFailed, InvalidSpec, UnsupportedModel
from ashore.core.ids import OrderId
from ashore.data.engines import Engine, EngineOptions, Grammar, ModelFiles, Sampling, Token, make_engine, rest_of
from ashore.data.engines.llamacpp import memory
from ashore.data.engines.llamacpp.context import LlamaContext
from ashore.data.engines.sampling.lookup import StepCost

TINY = ModelFiles(name="tiny", digest="", directory=str(GOLDEN), format="gguf", weights="deepseek_v3_tiny.gguf")


def loaded(**options: Any) -> Engine:
    engine = make_engine("llamacpp")
    engine.load(TINY, EngineOptions(kind="llamacpp", threads=1, **options))
    return engine


def tops(event: Any) -> list[float]:
    return [one.logprob for one in event.top]


def prompt(number: int, length: int) -> list[int]:
    return [(number * 31 + n * 7) % 500 for n in range(length)]


def test_sequences_that_do_not_fit_together_are_preempted_and_come_out_the_same() -> None:
    orders = [order(f"o{n}", prompt(n, 100), max_new_tokens=60) for n in range(4)]
    roomy, tight = loaded(kv_tokens=2048), loaded(kv_tokens=256, context_tokens=256)
    expected = {name: token_ids(found) for name, found in run(roomy, *orders).items()}
    seen = run(tight, *orders)
    assert tight.stats().preemptions > 0, "the test must fill the memory"
    assert roomy.stats().preemptions == 0
    same = sum(token_ids(found) == expected[name] for name, found in seen.items())
    assert all(finish(found).completion_tokens == 60 for found in seen.values())
    assert same >= 3  # what is computed again rounds differently at a near-tie
    roomy.close()
    tight.close()


def test_tokens_looked_up_change_no_answer_and_leave_nothing_in_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StepCost, "note", lambda self, *_: self.begin(0.05))  # however busy this machine is
    engine = loaded(kv_tokens=2048, extra={"lookup": True, "kv_cache": "f32"})
    orders = [order(f"o{n}", [*prompt(n, 60), *prompt(n, 30)], max_new_tokens=90) for n in range(3)]
    plain = {one.order_id: token_ids(run(engine, replace(one, lookup=False))[one.order_id]) for one in orders}
    assert engine.stats().proposed_tokens == 0
    seen = run(engine, *orders)
    stats = engine.stats()
    assert stats.proposed_tokens >= stats.accepted_tokens > 0
    assert stats.completion_tokens == 6 * 90
    same = 0
    for one in orders:
        assert sum(e.accepted for e in seen[one.order_id] if isinstance(e, Token)) > 0
        same += token_ids(seen[one.order_id]) == plain[one.order_id]
        after = replace(
            one, prompt_ids=[*one.prompt_ids, *token_ids(seen[one.order_id])], lookup=False, top_logprobs=20
        )
        warm = run(engine, replace(after, order_id=OrderId("warm")))["warm"]
        cold = run(engine, replace(after, order_id=OrderId("cold"), prefix_partition="another"))["cold"]
        assert finish(warm).cached_tokens >= 90 + 60
        for first, other in zip(tops(warm[0]), tops(cold[0]), strict=True):
            assert first == pytest.approx(other, abs=0.01)
    assert same >= 2  # several positions together round differently at a near-tie
    engine.close()


def test_kept_prefixes_give_way_to_running_sequences() -> None:
    engine = loaded(kv_tokens=512)
    for number in range(12):
        events = run(engine, order(f"o{number}", prompt(number, 150)))[f"o{number}"]
        assert finish(events).completion_tokens == 10
    assert engine.stats().preemptions == 0
    engine.close()


def test_what_ended_leaves_the_cells_and_comes_back_with_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_TIDYING", 1e9)  # however busy this machine is
    engine, plain = loaded(kv_tokens=2048), loaded(kv_tokens=2048, prefix_cache=False)
    prompts = [prompt(number, 150) for number in range(4)]
    for number, ids in enumerate(prompts):
        run(engine, order(f"first{number}", ids))
    run(engine, order("other", prompt(9, 20), max_new_tokens=12))
    assert engine.stats().kv_tokens_used < 2 * 150, "four sequences have ended, and steps ran for another"
    for number, ids in enumerate(prompts):
        longer = [*ids, 5, 6, 7]
        again = run(engine, order(f"again{number}", longer))[f"again{number}"]
        assert finish(again).cached_tokens >= 150
        assert token_ids(again) == token_ids(run(plain, order("x", longer))["x"])
    assert plain.stats().kv_tokens_used == 0
    engine.close()
    plain.close()


def test_copies_that_are_slow_take_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    state_of, copies = LlamaContext.state_of, 0

    def slow(context: LlamaContext, sequence: int) -> Any:
        nonlocal copies
        copies += 1
        time.sleep(2.0)
        return state_of(context, sequence)

    monkeypatch.setattr(LlamaContext, "state_of", slow)
    engine = loaded(kv_tokens=2048)
    for number in range(4):
        run(engine, order(f"first{number}", prompt(number, 50)))
    run(engine, order("other", prompt(9, 20), max_new_tokens=30))
    assert copies == 1, "the next one is due after 32 seconds"
    engine.close()


def test_without_memory_for_what_ended_it_is_forgotten_and_all_else_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(context: LlamaContext, sequence: int) -> Any:
        raise MemoryError

    monkeypatch.setattr(LlamaContext, "state_of", no_memory)
    engine = loaded(kv_tokens=512)
    run(engine, order("first", prompt(1, 150)))
    assert finish(run(engine, order("other", prompt(2, 150)))["other"]).completion_tokens == 10
    assert finish(run(engine, order("again", prompt(1, 150)))["again"]).cached_tokens == 0
    engine.close()


def test_a_preempted_sequence_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    computed = 0
    decode = LlamaContext.decode

    def counted(context: LlamaContext, parts: list[tuple[int, int, list[int], bool]]) -> Any:
        nonlocal computed
        rows = decode(context, parts)
        computed += sum(len(ids) for _, _, ids, _ in parts) if rows is not None else 0
        return rows

    monkeypatch.setattr(LlamaContext, "decode", counted)
    engine = loaded(kv_tokens=256, context_tokens=256)
    seen = run(engine, *(order(f"o{n}", prompt(n, 60), max_new_tokens=50) for n in range(3)))
    assert all(finish(events).completion_tokens == 50 for events in seen.values())
    preemptions = engine.stats().preemptions
    assert preemptions > 0, "the test must fill the memory"
    assert computed <= 3 * (60 + 49) + preemptions, "one token each time, for its logits"
    engine.close()


def test_prompts_longer_than_a_batch_are_computed_in_chunks() -> None:
    small, large = loaded(max_batch_tokens=64, max_sequences=4), loaded(max_batch_tokens=512, max_sequences=4)
    ids = prompt(3, 400)
    assert token_ids(run(small, order("a", ids))["a"]) == token_ids(run(large, order("a", ids))["a"])
    assert small.stats().steps > large.stats().steps
    small.close()
    large.close()


def test_without_the_prefix_cache_nothing_is_kept() -> None:
    engine = loaded(prefix_cache=False)
    for name in ("a", "b"):
        assert finish(run(engine, order(name, prompt(1, 100)))[name]).cached_tokens == 0
    engine.close()


def test_another_library_of_llama_cpp_computes_where_it_is_asked_for() -> None:
    from xllamacpp import xllamacpp as extension

    engine = make_engine("llamacpp")
    path = str(extension.__file__)
    info = engine.load(TINY, EngineOptions(kind="llamacpp", threads=1, extra={"library": path}))
    assert info.version == f"llama.cpp ({path})"
    usual = loaded()
    ids = prompt(5, 40)
    assert token_ids(run(engine, order("a", ids))["a"]) == token_ids(run(usual, order("a", ids))["a"])
    engine.close()
    usual.close()


@pytest.mark.parametrize(
    ("files", "extra", "error"),
    [
        (ModelFiles(name="x", digest="", directory="/", format="safetensors"), {}, UnsupportedModel),
        (ModelFiles(name="x", digest="", directory="/", format="gguf", weights="none.gguf"), {}, EngineFailed),
        (TINY, {"threads_": 1}, InvalidSpec),
        (TINY, {"kv_cache": "f8"}, InvalidSpec),
        (TINY, {"library": "libllama.so"}, InvalidSpec),
        (TINY, {"library": "/nowhere/libllama.so"}, EngineFailed),
        (TINY, {"library": sys.executable}, EngineFailed),
    ],
    ids=["form", "missing file", "option", "cache type", "relative library", "missing library", "no library"],
)
def test_what_cannot_be_loaded_is_refused(files: ModelFiles, extra: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make_engine("llamacpp").load(files, EngineOptions(kind="llamacpp", extra=extra))


def test_a_file_cut_short_is_refused_with_the_librarys_words(tmp_path: Path) -> None:
    data = (GOLDEN / TINY.weights).read_bytes()
    (tmp_path / "model.gguf").write_bytes(data[: len(data) // 2])
    files = ModelFiles(name="cut", digest="", directory=str(tmp_path), format="gguf", weights="model.gguf")
    with pytest.raises(EngineFailed, match=r"model\.gguf"):
        make_engine("llamacpp").load(files, EngineOptions(kind="llamacpp"))


@pytest.fixture(scope="module")
def demo(demo_home: Path) -> Iterator[tuple[Engine, Any]]:
    from ashore.data.text import TextModel

    files = demo_files(demo_home)
    engine = make_engine("llamacpp")
    engine.load(files, EngineOptions(kind="llamacpp", threads=1, context_tokens=1024, kv_tokens=4096))
    yield engine, TextModel.load(Path(files.directory))
    engine.close()


@pytest.mark.model
def test_tokens_that_end_inside_a_character_come_out_one_by_one(demo: tuple[Engine, Any]) -> None:
    engine, text = demo
    wanted = text.encode("世界🙂")
    assert len(wanted) > 4, "the characters must be cut into several tokens"
    for place in range(len(wanted)):
        forced = Sampling(temperature=0, logit_bias={wanted[place]: 100.0})
        events = run(engine, order("x", text.encode("Say ") + wanted[:place], max_new_tokens=1, sampling=forced))["x"]
        assert token_ids(events) == [wanted[place]]


@pytest.mark.model
def test_a_grammar_holds_and_a_bad_one_fails_alone(demo: tuple[Engine, Any]) -> None:
    engine, text = demo
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    ids = text.encode("Describe a person as JSON: ")
    limits = {"max_new_tokens": 60, "stop_token_ids": text.eos_token_ids}
    events = run(
        engine,
        order("good", ids, grammar=Grammar(kind="json_schema", text=json.dumps(schema)), **limits),
        order("digits", ids, grammar=Grammar(kind="regex", text="[0-9]{4}"), **limits),
        order("bad", ids, grammar=Grammar(kind="regex", text="(["), **limits),
        order("free", ids),
    )
    assert set(json.loads(text.decode(token_ids(events["good"])))) == {"name", "age"}
    assert text.decode(token_ids(events["digits"])).isdigit()
    assert failure(events["bad"]).code == "invalid_grammar"
    assert finish(events["free"]).completion_tokens == 10
    digits = order("digits", ids, grammar=Grammar(kind="regex", text="[0-9]{4}"), **limits)
    said = token_ids(events["digits"])
    for cut in range(1, len(said) + 1):  # the last one has only its end to make
        rest = run(engine, rest_of(digits, said[:cut], OrderId("rest")))["rest"]
        assert said[:cut] + token_ids(rest) == said and finish(rest).reason == "stop"
    assert engine.stats().running == engine.stats().waiting == 0
