"""vLLM's names on the page of metrics: made of ours, of whole models, and never wrong about the sum."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ashore.data.engines import EngineStats
from ashore.data.http.operate import merge_pages
from ashore.data.http.vllmnames import VLLM_TABLE, with_vllm_names
from ashore.data.path.hostmetrics import set_hosts
from ashore.kit.metrics import HOST_TABLE, TABLE, Metrics

Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(page: bytes) -> Found:
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(page.decode())
        for one in family.samples
        if one.name.startswith("vllm:")
    }


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"vllm:{name}", frozenset({"model_name": "chat", "engine": "0", **labels}.items())


def worker(number: int) -> Metrics:
    metrics = Metrics()
    metrics.set("ashore_waiting_sequences", number, "chat")
    metrics.add("ashore_prompt_tokens", 10 * number, "chat")
    metrics.add("ashore_answers", number, "chat", "stop")
    metrics.add("ashore_answers", 1, "chat", "tool_calls")
    metrics.add("ashore_answers", 1, "chat", "cancelled")
    metrics.observe("ashore_answer_seconds", 0.2 * number, "chat")
    host = EngineStats(
        running=3, waiting=1, kv_tokens_used=40, kv_tokens_total=160, prompt_tokens=100, cached_tokens=25,
        block_tokens=16, adapters=2, running_adapters=("law",), waiting_adapters=("law", "tax"),
    )  # fmt: skip
    set_hosts(metrics, {("chat", "0"): host, ("chat", "1"): EngineStats(kv_tokens_total=160, block_tokens=16)})
    return metrics


def test_a_model_is_one_series_over_its_workers_and_replicas() -> None:
    found = read(with_vllm_names(merge_pages([worker(1).page(), worker(2).page()]), 7.0))
    assert found[key("num_requests_running")] == 3
    assert found[key("num_requests_waiting")] == 1 + 2 + 1
    assert found[key("kv_cache_usage_perc")] == found[key("gpu_cache_usage_perc")] == 40 / 320
    assert found[key("cache_config_info", block_size="16", num_gpu_blocks="20")] == 1
    assert (
        found[key("lora_requests_info", max_lora="2", running_lora_adapters="law", waiting_lora_adapters="law,tax")]
        == 7
    )
    assert found[key("prompt_tokens_total")] == 30
    assert found[key("prefix_cache_hits_total")] / found[key("prefix_cache_queries_total")] == 0.25
    assert found[key("request_success_total", finished_reason="stop")] == 1 + 2 + 2
    assert found[key("request_success_total", finished_reason="abort")] == 2
    assert found[key("e2e_request_latency_seconds_count")] == 2
    assert found[key("e2e_request_latency_seconds_bucket", le="0.25")] == 1


BY_NAME = {
    # Gateway API inference extension: its protocol of model servers (proposal 003), v0.5 and since
    "endpoint picker": ("num_requests_waiting", "num_requests_running", "kv_cache_usage_perc", "gpu_cache_usage_perc"),
    "endpoint picker, in labels": ("cache_config_info", "lora_requests_info"),
    # KEDA: the scalers of vLLM's production stack, of KServe and of EKS
    "KEDA": ("num_requests_waiting", "num_requests_running", "e2e_request_latency_seconds_bucket"),
    # the board among the examples of vLLM itself, for Prometheus and Grafana
    "vLLM's board": (
        "e2e_request_latency_seconds_bucket", "e2e_request_latency_seconds_sum", "e2e_request_latency_seconds_count",
        "prompt_tokens_total", "generation_tokens_total", "time_per_output_token_seconds_bucket",
        "time_per_output_token_seconds_sum", "time_to_first_token_seconds_bucket", "time_to_first_token_seconds_count",
        "num_requests_running", "num_requests_waiting", "gpu_cache_usage_perc", "request_prompt_tokens_bucket",
        "request_generation_tokens_bucket", "request_success_total", "request_queue_time_seconds_sum",
        "request_prefill_time_seconds_sum", "request_decode_time_seconds_sum", "request_max_num_generation_tokens_sum",
    ),
}  # fmt: skip
"""What tools made for vLLM ask for, by who asks."""


@pytest.mark.parametrize("who", BY_NAME)
def test_what_tools_made_for_vllm_ask_for_is_there_by_name(who: str) -> None:
    metrics = worker(1)
    for name in ("ttft", "time_per_token", "queue", "prefill", "decode", "inference"):
        metrics.observe(f"ashore_{name}_seconds", 0.1, "chat")
    for name in ("ashore_prompt_length", "ashore_answer_length", "ashore_completion_tokens"):
        (metrics.add if name.endswith("tokens") else metrics.observe)(name, 10, "chat")
    found = read(with_vllm_names(metrics.page(), 7.0))
    names = {name.removeprefix("vllm:") for name, labels in found if dict(labels)["model_name"] == "chat"}
    assert set(BY_NAME[who]) <= names


def test_each_row_is_made_of_what_there_is() -> None:
    ours = {f"{one.name}_total" if one.kind == "counter" else one.name for one in (*TABLE, *HOST_TABLE)}
    assert {source for row in VLLM_TABLE for source in row.of} <= ours
    assert len({row.name for row in VLLM_TABLE}) == len(VLLM_TABLE)


def test_labels_stay_as_they_were_written() -> None:
    metrics = Metrics()
    metrics.set("ashore_waiting_sequences", 2, 'a "b", c="d"\\')
    ((name, labels),) = read(with_vllm_names(metrics.page(), 0.0))
    assert name == "vllm:num_requests_waiting"
    assert dict(labels)["model_name"] == 'a "b", c="d"\\'
