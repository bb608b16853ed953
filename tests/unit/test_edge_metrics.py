"""The metrics of several workers on one page."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from ashore.data.http.operate import merge_pages
from ashore.kit.metrics import Metrics


def values(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(page.decode())
        for one in family.samples
    }


def test_counters_and_loads_are_added_and_what_all_see_is_taken_once() -> None:
    first, second = Metrics(), Metrics()
    for metrics, times in ((first, 2), (second, 3)):
        metrics.add("ashore_requests", times, "/v1/models", "200")
        metrics.observe("ashore_request_seconds", 0.004, "/v1/models")
        metrics.set("ashore_running_sequences", times, "chat")
        metrics.set("ashore_replicas_ready", 1, "chat")
    second.add("ashore_errors", 1, 'odd "code" \n x')
    found = values(merge_pages([first.page(), second.page()]))
    assert found["ashore_requests_total", (("route", "/v1/models"), ("status", "200"))] == 5
    assert found["ashore_request_seconds_count", (("route", "/v1/models"),)] == 2
    assert found["ashore_request_seconds_bucket", (("le", "0.005"), ("route", "/v1/models"))] == 2
    assert found["ashore_running_sequences", (("model", "chat"),)] == 5
    assert found["ashore_replicas_ready", (("model", "chat"),)] == 1
    assert found["ashore_errors_total", (("code", 'odd "code" \n x'),)] == 1


def test_one_page_says_the_same_after_merging() -> None:
    metrics = Metrics()
    metrics.add("ashore_requests", 1, "/v1/models", "200")
    assert values(merge_pages([metrics.page()])) == values(metrics.page())
