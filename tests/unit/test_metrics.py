"""The metrics of a process: what it is told, and that the page says it as `prometheus_client` would."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from ashore.control.jobs.room import JOBS
from ashore.kit.metrics import HOST_TABLE, TABLE, Metrics


def page_of_theirs(seconds: tuple[float, ...]) -> str:
    """Return the page that the library's own objects give when they are told the same."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    made = {
        name: Counter(name, text, labels, registry=registry)
        if kind == "counter"
        else Gauge(name, text, labels, registry=registry)
        if kind == "gauge"
        else Histogram(name, text, labels, buckets=bounds, registry=registry)
        for name, kind, text, labels, bounds in (*TABLE, JOBS)
    }
    made["ashore_requests"].labels("/v1/models", "200").inc()
    made["ashore_requests"].labels("/v1/models", "404").inc(3)
    made["ashore_errors"].labels('odd "code" \n x').inc()
    made["ashore_open_requests"].set(7)
    made["ashore_jobs"].labels("batch", "waiting").set(2)
    for value in seconds:
        made["ashore_request_seconds"].labels("/v1/models").observe(value)
    made["ashore_running_sequences"].labels("gone").set(1)
    made["ashore_running_sequences"].remove("gone")
    return generate_latest(registry).decode()


def test_the_page_is_what_the_library_writes_of_the_same() -> None:
    seconds = (0.0, 0.001, 0.0011, 0.3, 119.9, 120.0, 500.0)
    metrics = Metrics([JOBS])
    metrics.add("ashore_requests", 1, "/v1/models", "200")
    metrics.add("ashore_requests", 1, "/v1/models", "404")
    metrics.add("ashore_requests", 2, "/v1/models", "404")
    metrics.add("ashore_errors", 1, 'odd "code" \n x')
    metrics.set("ashore_open_requests", 7)
    metrics.set("ashore_jobs", 9, "batch", "waiting")
    metrics.set("ashore_jobs", 2, "batch", "waiting")
    for value in seconds:
        metrics.observe("ashore_request_seconds", value, "/v1/models")
    metrics.set("ashore_running_sequences", 1, "gone")
    metrics.drop("ashore_running_sequences", "gone")
    metrics.drop("ashore_running_sequences", "never there")
    ours = metrics.page().decode()
    hosts = ours.index(f"# HELP {HOST_TABLE[0].name} ")
    assert ours[:hosts] == page_of_theirs(seconds)


def test_what_nobody_told_is_nothing() -> None:
    metrics = Metrics()
    assert metrics.value("ashore_requests", "/v1/models", "200") == 0
    assert "/v1/models" not in metrics.page().decode()


@pytest.mark.parametrize("labels", [(), ("/v1/models",), ("/v1/models", "200", "more")])
def test_a_metric_has_the_labels_of_the_table(labels: tuple[str, ...]) -> None:
    metrics = Metrics()
    with pytest.raises(AssertionError, match="ashore_requests has 2 labels"):
        metrics.add("ashore_requests", 1, *labels)
