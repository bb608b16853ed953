"""What engine hosts report of themselves, as metrics of the worker that asked them."""

from __future__ import annotations

from collections.abc import Mapping

from ashore.data.engines import EngineStats
from ashore.kit.metrics import HOST_TABLE, Metrics


def set_hosts(metrics: Metrics, stats: Mapping[tuple[str, str], EngineStats]) -> None:
    """Take the last statistics of hosts by (alias, replica); replaces the earlier ones."""
    for one in HOST_TABLE:
        field = one.name.removeprefix("ashore_host_")
        if len(one.labels) == 2:
            metrics.set_all(one.name, {labels: float(getattr(host, field)) for labels, host in stats.items()})
    active: dict[tuple[str, ...], float] = {
        (*labels, adapter, state): 1.0
        for labels, host in stats.items()
        for state, adapters in (("running", host.running_adapters), ("waiting", host.waiting_adapters))
        for adapter in adapters
    }
    metrics.set_all("ashore_host_adapter_active", active)
    backends = [((*labels, one.url), one) for labels, host in stats.items() for one in host.backends]
    metrics.set_all("ashore_host_backend_up", {labels: float(one.state == "ready") for labels, one in backends})
    metrics.set_all("ashore_host_backend_running", {labels: float(one.running) for labels, one in backends})
    metrics.set_all("ashore_host_backend_orders", {labels: float(one.sent) for labels, one in backends})
    metrics.set_all("ashore_host_backend_ejections", {labels: float(one.times_out) for labels, one in backends})
    metrics.set_all("ashore_host_backend_prompt_tokens", {labels: float(one.prompt_tokens) for labels, one in backends})
    metrics.set_all("ashore_host_backend_cached_tokens", {labels: float(one.cached_tokens) for labels, one in backends})
