"""The plan: which engine, how many threads, how much cache, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ashore.core.bytesize import human_bytes
from ashore.core.errors import InvalidRequest, KvCacheExhausted, MissingExtra, UnsupportedModel
from ashore.core.shapes import ModelShape
from ashore.data.engines import RUNGS, Inventory, ModelFacts, OnDemand, Plan, Promise, Tuned, Wish
from ashore.machine.planning import compare, kv_cache_bytes, make_plan, number_releases, plan_beside, what_fits

LLAMA = ModelShape(
    architecture="llama",
    num_layers=30,
    hidden_size=576,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    vocab_size=49152,
    context_tokens=8192,
    num_parameters=134_515_008,
)
GIB = 1 << 30
MACHINE = Inventory(cores=8, memory_bytes=16 * GIB)
SMOL = ModelFacts(name="smollm2", format="gguf", shape=LLAMA, weight_bytes=98_000_000)
BERT = ModelFacts(
    name="minilm", format="safetensors", shape=replace(LLAMA, architecture="bert"), weight_bytes=90_000_000
)
R1 = ModelFacts(
    name="r1", format="gguf", shape=replace(LLAMA, architecture="deepseek2", latent_rank=576), weight_bytes=10 * GIB
)
FAKE = ModelFacts(name="fake:echo", format="fake", shape=None)
MADE = ModelFacts(name="made", format="openvino", shape=LLAMA, weight_bytes=140_000_000)
FACTS = {f.name: f for f in (SMOL, BERT, R1, FAKE, MADE)}


def planned(*wishes: Wish, machine: Inventory = MACHINE, tuned: dict[str, Tuned] | None = None) -> Plan:
    return make_plan(wishes, FACTS, machine, tuned or {})


@pytest.mark.parametrize(
    ("name", "kind", "variant", "embedder"),
    [
        ("smollm2", "openvino", "int8", False),
        ("minilm", "openvino", "", True),
        ("r1", "llamacpp", "", False),
        ("made", "openvino", "", False),
        ("fake:echo", "fake", "", False),
    ],
)
def test_auto_takes_the_engine_that_fits(name: str, kind: str, variant: str, embedder: bool) -> None:
    (model,) = planned(Wish(name=name)).models
    assert (model.options.kind, model.variant, model.embedder) == (kind, variant, embedder)
    assert model.choices[0].why


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("smollm2", "llama on CPU: INT8 per channel is fastest at equal quality"),
        ("minilm", "an encoder, for embeddings or ranking"),
        ("r1", "OpenVINO supports llama, qwen2, qwen3, not deepseek2"),
        ("made", "prepared for OpenVINO"),
        ("fake:echo", "the name starts with fake:"),
    ],
)
def test_the_reason_is_that_of_the_engines_card(name: str, why: str) -> None:
    (model,) = planned(Wish(name=name)).models
    assert model.choices[0].why == why


def test_every_choice_has_a_reason_and_the_cache_fits() -> None:
    (model,) = planned(Wish(name="smollm2")).models
    assert all(choice.why for choice in model.choices)
    assert model.options.threads == 8
    assert model.options.kv_tokens == 131_072
    assert model.release == "smollm2-1" and model.alias == "smollm2"


def test_what_was_measured_here_is_followed_and_what_was_asked_for_wins() -> None:
    tuned = {"smollm2": Tuned(kind="llamacpp", variant="", threads=3, options=(("batch", 64),), why="147 tok/s")}
    (model,) = planned(Wish(name="smollm2"), tuned=tuned).models
    assert (model.options.kind, model.options.threads, model.options.extra) == ("llamacpp", 3, {"batch": 64})
    assert model.choices[0].why == "147 tok/s"
    (model,) = planned(Wish(name="smollm2", kind="openvino", threads=2), tuned=tuned).models
    assert (model.options.kind, model.variant, model.options.threads, model.options.extra) == (
        "openvino",
        "int8",
        2,
        {},
    )


def test_the_plan_shows_the_options_that_tuning_chose_unless_the_operator_set_them() -> None:
    options = (("DYNAMIC_QUANTIZATION_GROUP_SIZE", 64), ("KV_CACHE_PRECISION", "bf16"))
    tuned = {"smollm2": Tuned(kind="openvino", variant="int8", threads=2, options=options)}
    (model,) = planned(Wish(name="smollm2"), tuned=tuned).models
    shown = {c.field: (c.value, c.why) for c in model.choices}
    assert shown["tuned"] == (
        "DYNAMIC_QUANTIZATION_GROUP_SIZE=64 KV_CACHE_PRECISION=bf16",
        "measured as best on this machine",
    )
    (model,) = planned(Wish(name="smollm2", options=(("KV_CACHE_PRECISION", "u8"),)), tuned=tuned).models
    shown = {c.field: (c.value, c.why) for c in model.choices}
    assert shown["tuned"][0] == "DYNAMIC_QUANTIZATION_GROUP_SIZE=64"
    assert shown["options"][0] == "KV_CACHE_PRECISION=u8"
    assert model.options.extra == {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 64, "KV_CACHE_PRECISION": "u8"}


@pytest.mark.parametrize(
    ("options", "share"),
    [((("KV_CACHE_PRECISION", "bf16"),), 1.13 / 2), ((("full_precision", True),), 1.13 / 4), ((), 1.0)],
)
def test_a_wider_cache_holds_fewer_tokens_in_the_same_memory(
    options: tuple[tuple[str, str | bool], ...], share: float
) -> None:
    machine = Inventory(cores=2, memory_bytes=2 * GIB)
    (narrow,) = planned(Wish(name="smollm2"), machine=machine).models
    (wide,) = planned(Wish(name="smollm2", options=options), machine=machine).models
    assert wide.options.kv_tokens == pytest.approx(narrow.options.kv_tokens * share, rel=0.01)


def test_prefixes_that_llamacpp_keeps_beside_its_cache_have_their_memory() -> None:
    machine = Inventory(cores=2, memory_bytes=2 * GIB)
    (keeps,) = planned(Wish(name="smollm2", kind="llamacpp"), machine=machine).models
    (keeps_none,) = planned(Wish(name="smollm2", kind="llamacpp", prefix_cache=False), machine=machine).models
    assert keeps.options.kv_tokens == pytest.approx(keeps_none.options.kv_tokens / 1.5, rel=0.01)


def test_replicas_share_cores_and_memory() -> None:
    machine = Inventory(cores=8, memory_bytes=4 * GIB)
    (one,) = planned(Wish(name="smollm2", kv_tokens=0), machine=machine).models
    (two,) = planned(Wish(name="smollm2", replicas=2), machine=machine).models
    assert two.options.threads == 4
    assert two.options.kv_tokens < one.options.kv_tokens


def test_an_embedder_takes_no_cache_from_the_decoder() -> None:
    alone = planned(Wish(name="smollm2"))
    both = planned(Wish(name="smollm2"), Wish(name="minilm"))
    assert both.models[0].options == alone.models[0].options
    assert both.models[1].options.kv_tokens == 0


@given(st.integers(min_value=0, max_value=64 * GIB), st.integers(min_value=1, max_value=8))
def test_no_plan_promises_more_memory_than_there_is(memory_bytes: int, replicas: int) -> None:
    machine = Inventory(cores=4, memory_bytes=memory_bytes)
    try:
        (model,) = planned(Wish(name="smollm2", replicas=replicas), machine=machine).models
    except KvCacheExhausted:
        assert memory_bytes < 3 * GIB
        return
    cache = model.options.kv_tokens * 2 * 30 * 3 * 64
    assert replicas * (cache + 134_515_008) <= memory_bytes
    assert model.options.kv_tokens % 32 == 0 and model.options.kv_tokens > 0


def test_weights_larger_than_memory_are_told_with_both_numbers() -> None:
    with pytest.raises(KvCacheExhausted, match=r"weights take 10 GiB; 8 GiB of memory"):
        planned(Wish(name="r1"), machine=Inventory(cores=4, memory_bytes=8 * GIB))


@pytest.mark.parametrize(
    ("wish", "error", "words"),
    [
        (Wish(name="r1", kind="openvino"), UnsupportedModel, "openvino supports llama, qwen2, qwen3"),
        (Wish(name="minilm", kind="llamacpp"), UnsupportedModel, "minilm is bert; llamacpp supports deepseek2, llama"),
        (Wish(name="smollm2", kind="vllm"), MissingExtra, "not installed on this machine"),
        (Wish(name="smollm2", context_tokens=8193), InvalidRequest, "context_tokens is 8,193; the model takes 8,192"),
        (Wish(name="made", kind="torch"), UnsupportedModel, "made is in openvino; torch supports safetensors and gguf"),
    ],
)
def test_a_wish_that_cannot_be_is_refused(wish: Wish, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        planned(wish)


def test_latent_attention_in_safetensors_is_converted_where_no_server_runs_it_as_it_is() -> None:
    facts = {"r1": replace(R1, format="safetensors")}
    (model,) = make_plan([Wish(name="r1")], facts, MACHINE, {}).models
    assert (model.options.kind, model.variant) == ("llamacpp", "q8_0")
    assert model.choices[0].why == (
        "deepseek2 on CPU, converted to GGUF with eight bits; OpenVINO supports llama, qwen2, qwen3, not deepseek2"
    )
    served = {"r1": replace(facts["r1"], programs={"vllm": "/opt/vllm"})}
    assert make_plan([Wish(name="r1")], served, MACHINE, {}).models[0].options.kind == "vllm"


def test_deepseek_v3_is_refused_on_a_machine_that_cannot_hold_it_with_both_numbers() -> None:
    shape = replace(R1.shape or LLAMA, num_parameters=671_026_419_200, num_active_parameters=37_552_297_472)
    facts = {"v3": replace(R1, name="v3", format="safetensors", shape=shape, weight_bytes=688_000_000_000)}
    with pytest.raises(KvCacheExhausted, match=r"weights take 664 GiB; 64 GiB of memory are free"):
        make_plan([Wish(name="v3")], facts, replace(MACHINE, memory_bytes=64 * GIB), {})


def test_an_architecture_that_no_engine_here_serves_is_refused_with_a_way_out() -> None:
    facts = {"glm": replace(R1, name="glm", format="safetensors", shape=replace(LLAMA, architecture="glm4_moe"))}
    with pytest.raises(UnsupportedModel) as caught:
        make_plan([Wish(name="glm")], facts, MACHINE, {})
    assert caught.value.message == (
        "no engine of this machine serves glm, which is glm4_moe in safetensors files: "
        "OpenVINO serves llama, qwen2, qwen3; vLLM is not installed here; "
        "llama.cpp serves deepseek2, llama, qwen2, qwen3, qwen3_moe"
    )
    assert "GGUF file" in caught.value.hint and "vLLM" in caught.value.hint


def test_a_model_of_engine_nodes_says_whose_nodes_and_how_they_are_reached() -> None:
    facts = {"big": ModelFacts(name="big", format="remote", shape=None)}
    wish = Wish(name="big", alias="chat", fleet=True, key="env:KEY")
    (model,) = make_plan([wish], facts, MACHINE, {}).models
    assert model.options.kind == "vllm" and model.options.extra == {"fleet": "chat", "key": "env:KEY"}


def test_a_ladder_takes_no_adapters_whoever_asks_for_them() -> None:
    wish = Wish(name="smollm2", options=((RUNGS, "int8"),), adapters=(("tone", "/lora"),))
    with pytest.raises(InvalidRequest, match="smollm2 has a ladder and adapters"):
        planned(wish)


def test_a_name_with_an_engine_of_its_own_is_answered_by_no_node() -> None:
    facts = {"fake:echo": ModelFacts(name="fake:echo", format="fake", shape=None)}
    with pytest.raises(UnsupportedModel, match="names with fake: never ask a node"):
        make_plan([Wish(name="fake:echo", fleet=True)], facts, MACHINE, {})


def test_a_vllm_of_this_machine_takes_as_many_adapters_as_are_asked_for() -> None:
    facts = {"r1": replace(R1, format="safetensors", programs={"vllm": "/opt/vllm"})}
    wish = Wish(name="r1", kind="vllm", adapters=(("bank", "/a"), ("law", "/b")))
    (model,) = make_plan([wish], facts, MACHINE, {}).models
    assert model.options.extra == {"executable": "/opt/vllm", "enable_lora": True, "max_loras": 2}
    own = replace(wish, options=(("max_loras", 1),))
    (model,) = make_plan([own], facts, MACHINE, {}).models
    assert model.options.extra["max_loras"] == 1, "what the operator wrote stands"


def test_a_vllm_of_this_machine_is_started_here_and_takes_no_memory_from_the_others() -> None:
    found = {name: replace(facts, programs={"vllm": "/opt/vllm/bin/vllm"}) for name, facts in FACTS.items()}
    found["r1"] = replace(found["r1"], format="safetensors", weight_bytes=100 * GIB)
    small = Inventory(cores=8, memory_bytes=8 * GIB)
    wishes = [Wish(name="smollm2"), Wish(name="r1", kind="vllm", options=(("tensor_parallel_size", 2),))]
    chat, big = make_plan(wishes, found, small, {}).models
    assert big.options.kind == "vllm" and big.options.kv_tokens == 0
    assert big.options.extra == {"executable": "/opt/vllm/bin/vllm", "tensor_parallel_size": 2}
    (alone,) = make_plan(wishes[:1], found, small, {}).models
    assert chat.options == alone.options
    (auto,) = make_plan([Wish(name="r1")], found, small, {}).models
    assert auto.options.kind == "vllm", "a server that was installed here runs the model as it is"
    (embedder,) = make_plan([Wish(name="minilm", kind="vllm")], found, small, {}).models
    assert embedder.options.extra["task"] == "embed"
    found["smollm2"] = replace(found["smollm2"], variant="int8")
    with pytest.raises(UnsupportedModel, match="as it was pulled"):
        make_plan([Wish(name="smollm2", kind="vllm")], found, small, {})


@pytest.mark.parametrize("name", ["../y", "a b", "", "x" * 65, "a:b", "a\n"])
def test_an_adapter_that_clients_could_not_ask_for_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="has an adapter named") as caught:
        planned(Wish(name="smollm2", alias="chat", adapters=(("fine", "/a"), (name, "/b"))))
    assert caught.value.param == "adapters"


def test_adapters_go_to_an_engine_that_takes_them_and_are_part_of_the_plan() -> None:
    legal = Wish(name="smollm2", alias="chat", adapters=(("legal", "/adapters/legal"),))
    tuned = {"smollm2": Tuned(kind="llamacpp", variant="", threads=3)}
    plan = planned(legal, tuned=tuned)
    (model,) = plan.models
    assert (model.options.kind, model.adapters) == ("openvino", legal.adapters)
    assert any(choice.value == "chat:legal" for choice in model.choices)
    moved = planned(replace(legal, adapters=(("legal", "/adapters/other"),)), tuned=tuned)
    assert [change.kind for change in compare(plan, moved)] == ["replace"]
    with pytest.raises(UnsupportedModel, match="llamacpp supports none"):
        planned(replace(legal, kind="llamacpp"))


def test_the_difference_of_two_plans_and_the_numbers_of_releases() -> None:
    before = planned(Wish(name="smollm2", alias="chat"), Wish(name="minilm"), Wish(name="fake:echo"))
    after = planned(Wish(name="smollm2", alias="chat", threads=2), Wish(name="minilm"), Wish(name="r1"))
    kinds = {change.alias: change.kind for change in compare(before, after)}
    assert kinds == {"chat": "replace", "minilm": "keep", "fake:echo": "remove", "r1": "add"}
    releases = {m.alias: m.release for m in number_releases(before, after).models}
    assert releases == {"chat": "chat-2", "minilm": "minilm-1", "r1": "r1-1"}


CHAT = Wish(name="smollm2", alias="chat")
SECOND = replace(SMOL, name="second")


def reloaded(before: Plan, *wishes: Wish, tuned: dict[str, Tuned] | None = None) -> Plan:
    return plan_beside(before, wishes, FACTS | {"second": SECOND}, tuned or {})


def test_what_runs_stays_where_a_new_model_fits_beside_it() -> None:
    before = planned(CHAT, machine=Inventory(cores=8, memory_bytes=8 * GIB))
    both = reloaded(before, CHAT, Wish(name="second"))
    assert [(change.alias, change.kind) for change in compare(before, both)] == [("chat", "keep"), ("second", "add")]
    chat, second = both.models
    assert chat == before.models[0] and second.options.threads == 4
    per_token = 2 * 30 * 3 * 64 * 1.13
    assert (chat.options.kv_tokens + second.options.kv_tokens) * per_token < 3.5 * GIB, "together they fit"
    alone = reloaded(both, CHAT)
    assert [change.kind for change in compare(both, alone)] == ["keep", "remove"], "what is left stays, too"


def test_what_does_not_fit_beside_what_runs_divides_anew_and_says_why() -> None:
    before = planned(CHAT, machine=Inventory(cores=8, memory_bytes=2 * GIB))
    both = reloaded(before, CHAT, Wish(name="second"))
    (chat, second) = compare(before, both)
    assert (chat.kind, second.kind) == ("replace", "add")
    assert "(threads: 8 cores shared by 2 engine hosts; kv_tokens: " in chat.what
    assert "the other models do not fit beside it: second: 0 B are left for the KV cache" in chat.what


@pytest.mark.parametrize(
    ("wish", "tuned"),
    [
        (replace(CHAT, threads=2), {}),
        (replace(CHAT, kv_tokens=4096), {}),
        (replace(CHAT, replicas=2), {}),
        (replace(CHAT, context_tokens=1024), {}),
        (CHAT, {"smollm2": Tuned(kind="openvino", variant="int8", threads=3, why="measured")}),
    ],
)
def test_what_was_asked_for_or_measured_is_not_kept_from_a_reload(wish: Wish, tuned: dict[str, Tuned]) -> None:
    before = planned(CHAT)
    changes = compare(before, reloaded(before, wish, Wish(name="second"), tuned=tuned))
    assert [change.kind for change in changes] == ["replace", "add"]


def test_an_option_that_the_engine_does_not_know_is_refused_by_name() -> None:
    facts = {"fake:echo": FAKE}
    with pytest.raises(InvalidRequest, match="fake:echo: the engine fake has no option 'bogus'"):
        make_plan([Wish(name="fake:echo", options=(("bogus", 1),))], facts, MACHINE, {})


# --- on demand, and shares


def test_models_on_demand_share_the_memory_in_turns_and_the_plan_says_how_many_fit() -> None:
    names = [f"m{number}" for number in range(8)]
    big = ModelFacts(name="x", format="safetensors", shape=LLAMA, weight_bytes=4 * GIB)
    facts = {name: replace(big, name=name) for name in names}
    asked = [Wish(name=name, demand=OnDemand(alias=name), kind="llamacpp") for name in names]
    facts = {name: replace(one, format="gguf") for name, one in facts.items()}
    machine = Inventory(cores=8, memory_bytes=20 * GIB)
    with pytest.raises(KvCacheExhausted):
        make_plan([replace(one, demand=None) for one in asked], facts, machine, {})
    plan = make_plan(asked, facts, machine, {})
    assert plan.on_demand == set(names)
    assert all(4 * GIB < size <= plan.memory_bytes for size in plan.sizes.values())
    told = {one.field: one.value for one in what_fits(plan)}
    assert told["on demand"].startswith("any ") and "too large" not in told
    assert {model.options.threads for model in plan.models} == {8}, "they seldom run at once"


def test_a_promise_of_more_than_there_is_is_refused_and_whole_processors_are_taken_from_the_others() -> None:
    facts = {name: ModelFacts(name=name, format="gguf", shape=LLAMA, weight_bytes=GIB) for name in ("a", "b", "c")}
    machine = Inventory(cores=8, memory_bytes=20 * GIB)

    def plan(a: float, b: float) -> dict[str, int]:
        asked = [
            Wish(name="a", kind="llamacpp", share=Promise(alias="a", cpus=a)),
            Wish(name="b", kind="llamacpp", share=Promise(alias="b", cpus=b)),
            Wish(name="c", kind="llamacpp"),
        ]
        return {one.alias: one.options.threads for one in make_plan(asked, facts, machine, {}).models}

    assert plan(2, 3) == {"a": 2, "b": 3, "c": 3}
    assert plan(2, 1.5) == {"a": 2, "b": 2, "c": 6}, "weights take no processors away"
    with pytest.raises(InvalidRequest, match="promises 9 processors in all; this machine has 8"):
        plan(4, 5)


def test_a_cache_that_was_asked_for_and_does_not_fit_is_refused_by_the_plan() -> None:
    with pytest.raises(KvCacheExhausted, match=r"chat: 900,000,000 tokens of KV cache need 1[0-9.]+ TiB") as refused:
        planned(Wish(name="smollm2", alias="chat", kv_tokens=900_000_000))
    most = int(refused.value.hint.rpartition(" ")[2])
    assert planned(Wish(name="smollm2", kv_tokens=most)).models[0].options.kv_tokens == most
    with pytest.raises(KvCacheExhausted):
        planned(Wish(name="smollm2", kv_tokens=most * 6 // 10, replicas=2))
    with pytest.raises(KvCacheExhausted, match="b: "):
        planned(Wish(name="smollm2", alias="a", kv_tokens=most // 2), Wish(name="smollm2", alias="b", kv_tokens=most))


@pytest.mark.parametrize("kv_tokens", [0, 4096])
@pytest.mark.parametrize("replicas", [1, 2])
def test_the_memory_of_a_model_is_its_weights_and_its_cache_in_the_precision_that_it_has(
    kv_tokens: int, replicas: int
) -> None:
    stored = replace(SMOL, variant_bytes={"int8": 139_000_000})
    plan = make_plan([Wish(name="smollm2", kv_tokens=kv_tokens, replicas=replicas)], {"smollm2": stored}, MACHINE, {})
    (model,) = plan.models
    cache = kv_cache_bytes(LLAMA, model.options)
    assert cache / model.options.kv_tokens == pytest.approx(1.13 * 2 * 30 * 3 * 64, rel=0.01), "a byte a number, scales"
    assert plan.sizes == {"smollm2": (139_000_000 + cache) * replicas}
    (memory,) = (one for one in model.choices if one.field == "memory")
    assert memory.value == human_bytes(plan.sizes["smollm2"])
    asked = next(one for one in model.choices if one.field == "kv_tokens")
    assert "12.7 KiB a token" in asked.why and (not kv_tokens or asked.why.startswith("requested; "))


def test_a_plan_says_from_which_precision_the_weights_were_rounded() -> None:
    facts = {"smollm2": replace(SMOL, precision="q4_1"), "minilm": replace(BERT, precision="q4_1")}
    (chat, embed) = make_plan([Wish(name="smollm2"), Wish(name="minilm")], facts, MACHINE, {}).models
    assert chat.choices[0].why.endswith("; int8 from a q4_1 file")
    assert "from a" not in embed.choices[0].why, "it runs as it was pulled"
