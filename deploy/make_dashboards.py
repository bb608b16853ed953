"""Write the Grafana boards in deploy/grafana and the alert rules in deploy/alerts.

    python deploy/make_dashboards.py

Panels and rules stand in the tables below. `tests/unit/test_dashboards.py` holds every metric and label in them against
what ashore tells, and the files against this script.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

HERE: Final = Path(__file__).resolve().parent
MODEL: Final = '{model=~"$model"}'


class Panel(NamedTuple):
    """One graph: a title, the unit of Grafana, and each line as (expression, legend)."""

    title: str
    unit: str
    lines: tuple[tuple[str, str], ...]


class Rule(NamedTuple):
    """One alert."""

    name: str
    expression: str
    lasts: str
    severity: str
    says: str
    page: str
    """Below docs: what to do."""


def quantiles(metric: str, by: str = "model") -> tuple[tuple[str, str], ...]:
    chosen = MODEL if by == "model" else ""
    return tuple(
        (
            f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{chosen}[$__rate_interval])))",
            f"p{round(share * 100)} {{{{{by}}}}}",
        )
        for share in (0.5, 0.95, 0.99)
    )


def rate(metric: str, *by: str, chosen: str = "") -> tuple[tuple[str, str], ...]:
    legend = " ".join(f"{{{{{one}}}}}" for one in by)
    return ((f"sum by ({', '.join(by)}) (rate({metric}{chosen}[$__rate_interval]))", legend),)


def gauge(metric: str, *by: str, chosen: str = "") -> tuple[tuple[str, str], ...]:
    return ((f"sum by ({', '.join(by)}) ({metric}{chosen})", " ".join(f"{{{{{one}}}}}" for one in by)),)


SERVING: Final = (
    Panel("Requests", "reqps", rate("ashore_requests_total", "route", "status")),
    Panel("Time to first token", "s", quantiles("ashore_ttft_seconds")),
    Panel("Time per token after the first (mean of a request)", "s", quantiles("ashore_time_per_token_seconds")),
    Panel("Time to the end of an answer", "s", quantiles("ashore_answer_seconds")),
    Panel("Tokens generated", "short", rate("ashore_completion_tokens_total", "model", chosen=MODEL)),
    Panel(
        "Running and waiting sequences", "short",
        (
            *gauge("ashore_running_sequences", "model", chosen=MODEL),
            (f"sum by (model) (ashore_waiting_sequences{MODEL})", "{{model}} waiting"),
        ),
    ),
    Panel(
        "KV cache in use", "percentunit",
        (
            (
                f"sum by (model) (ashore_host_kv_tokens_used{MODEL}) / "
                f"sum by (model) (ashore_host_kv_tokens_total{MODEL})",
                "{{model}}",
            ),
        ),
    ),
    Panel(
        "Share of requests answered from the cache", "percentunit",
        (
            (
                'sum by (model) (rate(ashore_cache_lookups_total{model=~"$model",result!="miss"}[$__rate_interval])) / '
                f"sum by (model) (rate(ashore_cache_lookups_total{MODEL}[$__rate_interval]))",
                "{{model}}",
            ),
        ),
    ),
    Panel("Refused", "reqps", rate("ashore_refused_total", "model", "reason", chosen=MODEL)),
    Panel("Errors", "reqps", rate("ashore_errors_total", "code")),
)  # fmt: skip

MODELS: Final = (
    Panel("Why answers ended", "reqps", rate("ashore_answers_total", "model", "reason", chosen=MODEL)),
    Panel("Wait for a slot", "s", quantiles("ashore_queue_seconds")),
    Panel("From the slot to the first token", "s", quantiles("ashore_prefill_seconds")),
    Panel("From the first token to the last", "s", quantiles("ashore_decode_seconds")),
    Panel("Tokens of a prompt", "short", quantiles("ashore_prompt_length")),
    Panel("Tokens of an answer", "short", quantiles("ashore_answer_length")),
    Panel(
        "Share of prompt tokens from the prefix cache", "percentunit",
        (
            (
                f"sum by (model) (rate(ashore_host_cached_tokens_total{MODEL}[$__rate_interval])) / "
                f"sum by (model) (rate(ashore_host_prompt_tokens_total{MODEL}[$__rate_interval]))",
                "{{model}}",
            ),
        ),
    ),
    Panel("Preemptions", "ops", rate("ashore_host_preemptions_total", "model", "replica", chosen=MODEL)),
    Panel("Engine steps", "ops", rate("ashore_host_steps_total", "model", "replica", chosen=MODEL)),
    Panel("LoRA adapters at work", "short", gauge("ashore_host_adapter_active", "adapter", "state", chosen=MODEL)),
)  # fmt: skip

OPERATIONS: Final = (
    Panel("API workers", "short", (("ashore_workers", "workers"),)),
    Panel("Replicas that are ready", "short", gauge("ashore_replicas_ready", "model")),
    Panel("Loop busy", "percentunit", (("ashore_loop_busy_share / ashore_workers", "mean of workers"),)),
    Panel("Loop lag", "s", (("ashore_loop_lag_seconds / ashore_workers", "mean of workers"),)),
    Panel("Open requests", "short", (("ashore_open_requests", "requests"),)),
    Panel("Time in a stage", "s", quantiles("ashore_stage_seconds", "stage")),
    Panel("Requests sent to another replica", "ops", rate("ashore_retries_total", "model")),
    Panel("Jobs", "short", gauge("ashore_jobs", "kind", "state")),
    Panel("Memory of cached answers", "bytes", (("ashore_cache_bytes", "bytes"),)),
    Panel("Shared cache answers", "short", (("ashore_shared_cache_up", "up"),)),
    Panel(
        "Age of the last good backup and scrub", "s",
        (('time() - (ashore_backup_time_seconds{what="good"} > 0)', "{{kind}}"),),
    ),
    Panel("Age of the last archived audit", "s", (("time() - (ashore_audit_archive_time_seconds > 0)", "archive"),)),
    Panel("Personal data met", "ops", rate("ashore_masked_entities_total", "kind", "action", "where")),
    Panel("Fields left out of requests", "ops", rate("ashore_ignored_fields_total", "route", "field")),
)  # fmt: skip

BOARDS: Final = {"serving": ("ashore: serving", SERVING), "models": ("ashore: models", MODELS),
                 "operations": ("ashore: operations", OPERATIONS)}  # fmt: skip

RULES: Final = (
    Rule("NoReplicaReady", "ashore_replicas_ready == 0", "1m", "critical",
         "No replica of {{ $labels.model }} is ready.", "how-to/run-as-a-service.md"),
    Rule("QueueDoesNotDrain", "min_over_time(ashore_waiting_sequences[5m]) > 0", "5m", "warning",
         "Requests for {{ $labels.model }} wait for a slot all the time.", "reference/http.md"),
    Rule("SlowFirstToken",
         "histogram_quantile(0.95, sum by (le, model) (rate(ashore_ttft_seconds_bucket[5m]))) > 2", "10m", "warning",
         "The slowest twentieth of requests for {{ $labels.model }} waits over 2 s for the first token.",
         "reference/http.md"),
    Rule("ServerErrors",
         'sum(rate(ashore_requests_total{status=~"5.."}[5m])) / sum(rate(ashore_requests_total[5m])) > 0.01', "5m",
         "critical", "More than 1 % of requests end with a server error.", "reference/errors.md"),
    Rule("Refusals",
         "sum(rate(ashore_refused_total[5m])) / sum(rate(ashore_requests_total[5m])) > 0.05", "5m", "warning",
         "More than 5 % of requests are refused for want of room.", "reference/http.md"),
    Rule("KvCacheFull",
         "sum by (model) (ashore_host_kv_tokens_used) / sum by (model) (ashore_host_kv_tokens_total) > 0.95", "10m",
         "warning", "The KV cache of {{ $labels.model }} is full.", "reference/ashore-toml.md"),
    Rule("Preemptions", "sum by (model) (rate(ashore_host_preemptions_total[10m])) > 0.1", "10m", "warning",
         "Sequences of {{ $labels.model }} are set back for want of KV cache.", "reference/ashore-toml.md"),
    Rule("LoopLag", "ashore_loop_lag_seconds / ashore_workers > 0.05", "5m", "warning",
         "An API worker is short of processor time.", "how-to/edge.md"),
    Rule("WorkerMissing", "ashore_workers < max_over_time(ashore_workers[1h])", "2m", "warning",
         "Fewer API workers answer than did within the last hour.", "how-to/run-as-a-service.md"),
    Rule("SharedCacheDown", "ashore_shared_cache_up == 0", "5m", "warning",
         "The shared cache does not answer; each worker has its own.", "how-to/cache.md"),
    Rule("BackupOverdue",
         'time() - (ashore_backup_time_seconds{what="due"} > 0) > 3600', "5m", "critical",
         "A {{ $labels.kind }} of the backup is over an hour late.", "how-to/lose-a-node.md"),
    Rule("BackupFails", "ashore_backup_failures >= 2", "1m", "critical",
         "A {{ $labels.kind }} of the backup has failed twice in a row.", "how-to/lose-a-node.md"),
    Rule("BackupCannotLoseANode", 'ashore_backup_nodes{what="spare"} <= 0', "5m", "critical",
         "No more node of the backup may be lost.", "how-to/lose-a-node.md"),
    Rule("AuditNotArchived",
         "(time() - (ashore_audit_archive_time_seconds > 0) > 10800) or (ashore_audit_archive_failures > 0)", "5m",
         "critical", "The audit log has not been archived for three hours, or archiving fails.",
         "how-to/verify-the-audit.md"),
)  # fmt: skip


def board(name: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """Return one board in the form of Grafana 10 and later."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    variables: list[dict[str, Any]] = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
    ]
    if any(MODEL[1:-1] in line for panel in panels for line, _ in panel.lines):
        variables.append({
            "name": "model", "type": "query", "label": "Model", "datasource": source, "includeAll": True, "multi": True,
            "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "refresh": 2,
            "query": {"query": "label_values(ashore_replicas_ready, model)", "refId": "model"},
        })  # fmt: skip
    return {
        "uid": f"ashore-{name}",
        "title": title,
        "tags": ["ashore"],
        "schemaVersion": 38,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables},
        "panels": [
            {
                "id": at + 1,
                "type": "timeseries",
                "title": panel.title,
                "datasource": source,
                "gridPos": {"h": 8, "w": 12, "x": 12 * (at % 2), "y": 8 * (at // 2)},
                "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(ord("A") + number), "datasource": source, "expr": line, "legendFormat": legend}
                    for number, (line, legend) in enumerate(panel.lines)
                ],
            }
            for at, panel in enumerate(panels)
        ],
    }


def rules() -> str:
    """Return the alert rules as Prometheus reads them."""
    lines = ["# Written by deploy/make_dashboards.py", "groups:", "  - name: ashore", "    rules:"]
    for rule in RULES:
        lines += [
            f"      - alert: Ashore{rule.name}",
            f"        expr: {json.dumps(rule.expression)}",
            f"        for: {rule.lasts}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {json.dumps(rule.says)}",
            f"          runbook: docs/{rule.page}",
        ]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """Return every file that this script writes."""
    made = {
        HERE / "grafana" / f"{name}.json": json.dumps(board(name, title, panels), indent=1) + "\n"
        for name, (title, panels) in BOARDS.items()
    }
    return {**made, HERE / "alerts" / "ashore.yml": rules()}


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
