"""The alert rules and boards in a real Prometheus that scrapes a real server. Run by `make test-prometheus`.

Grafana itself is on none of the indexes that these tests may use; what it asks Prometheus is asked here.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import textwrap
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from served import Served
from waiting import eventually

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/watch-with-prometheus.md"
EMPTY: Final = {
    "ashore_host_adapter_active": "no LoRA adapter is loaded",
    "ashore_shared_cache_up": "there is no shared cache",
    "ashore_retries_total": "no engine host died",
    "ashore_backup_time_seconds": "no backup was made",
    "ashore_audit_archive_time_seconds": "the audit log has no archive",
}
"""Metrics of which this server has nothing, and why. Any other query of a board has data."""
VLLM: Final = (
    'histogram_quantile(0.95, sum by(le) (rate(vllm:e2e_request_latency_seconds_bucket{model_name="$model"}[1m])))',
    'rate(vllm:generation_tokens_total{model_name="$model"}[1m])',
    'vllm:num_requests_waiting{model_name="$model"}',
    'vllm:gpu_cache_usage_perc{model_name="$model"}',
    'sum by(le) (increase(vllm:request_prompt_tokens_bucket{model_name="$model"}[1m]))',
    'sum by(finished_reason) (increase(vllm:request_success_total{model_name="$model"}[1m]))',
    'rate(vllm:request_max_num_generation_tokens_sum{model_name="$model"}[1m])',
    'rate(vllm:request_queue_time_seconds_sum{model_name="$model"}[1m])',
)
"""Queries in the form of vLLM's own board."""

pytestmark = [pytest.mark.full, pytest.mark.model, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder with `prometheus` and `promtool`."""
    script = ROOT / "deploy/prometheus.sh"
    found = subprocess.run(["sh", script, ROOT / ".cache/prometheus"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no Prometheus is to be had: {found.stderr.strip()[-300:]}")
    return Path(found.stdout.strip())


@pytest.fixture(scope="module")
def server(served_for_all: Callable[..., Served]) -> Served:
    return served_for_all("smollm2", config="[admission]\nmax_running = 2\nmax_waiting = 2\n")


@pytest.fixture(scope="module")
def prometheus(programs: Path, server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Prometheus that scrapes the server every second, set up as the page of the documentation says."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = PAGE.read_text()
    said = textwrap.dedent(text[text.index("```yaml\n") + 8 : text.index("   ```\n", text.index("```yaml\n"))])
    said = said.replace("/etc/prometheus/ashore.key", str(server.home / "first-key"))
    said = said.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    (folder / "prometheus.yml").write_text(f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{said}")
    (folder / "ashore.yml").write_text((ROOT / "deploy/alerts/ashore.yml").read_text())
    checked = subprocess.run(
        [programs / "promtool", "check", "config", folder / "prometheus.yml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    port = server.port + 1 if server.port < 65_000 else server.port - 1
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [
                programs / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _ready(url) or process.poll() is not None, 60)
        assert process.poll() is None, (folder / "log").read_text()[-2000:]
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def ask(url: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(f"{url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
        told = json.load(answer)
    assert told["status"] == "success", told
    return told["data"]


@pytest.fixture(scope="module")
def used(server: Served, prometheus: str) -> str:
    """The same Prometheus, once it has seen some traffic of every kind."""
    end = time.monotonic() + 12

    def chat(number: int, **others: Any) -> None:
        with contextlib.suppress(openai.APIStatusError):
            api.chat.completions.create(
                **{
                    "model": "smollm2",
                    "messages": [{"role": "user", "content": f"My card is 4111 1111 1111 1111. Count to {number}."}],
                    "max_tokens": 20,
                    **others,
                }  # type: ignore[call-overload]
            )

    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0) as api:
        with contextlib.suppress(openai.APIStatusError):
            api.responses.create(model="smollm2", input="hello", background=True, max_output_tokens=5)
        with ThreadPoolExecutor(8) as pool:
            number = 0
            while time.monotonic() < end:
                number += 1
                chat(1, temperature=0, messages=[{"role": "user", "content": "Say hello."}])  # kept
                work = [pool.submit(chat, number * 8 + one) for one in range(8)]  # more than have room
                work.append(pool.submit(chat, 1, model="nobody"))
                work.append(pool.submit(chat, number, extra_body={"keep_alive": "5m"}))
                for one in work:
                    one.result()
    time.sleep(3)
    return prometheus


def test_the_rules_are_sound(programs: Path) -> None:
    rules = ROOT / "deploy/alerts/ashore.yml"
    checked = subprocess.run([programs / "promtool", "check", "rules", rules], capture_output=True, text=True)
    assert checked.returncode == 0 and "14 rules found" in checked.stdout, checked.stdout + checked.stderr


def test_a_server_that_is_well_raises_no_alert(used: str) -> None:
    (target,) = ask(used, "targets")["activeTargets"]
    assert target["health"] == "up", target["lastError"]
    (group,) = ask(used, "rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"} and len(group["rules"]) == 14
    raised = {rule["name"] for rule in group["rules"] if rule["state"] != "inactive"}
    assert raised <= {"AshoreRefusals", "AshoreQueueDoesNotDrain", "AshoreSlowFirstToken"}, (
        "what the traffic is made of"
    )


@pytest.mark.parametrize("board", ["serving", "models", "operations"])
def test_every_query_of_a_board_has_data_or_a_reason(used: str, board: str) -> None:
    panels = json.loads((ROOT / f"deploy/grafana/{board}.json").read_text())["panels"]
    empty, gone = [], set(EMPTY)
    for panel in panels:
        for target in panel["targets"]:
            query = target["expr"].replace("$model", ".*").replace("$__rate_interval", "1m")
            found = ask(used, "query", query=query)["result"]
            reason = next((metric for metric in EMPTY if metric in query), "")
            if not found and not reason:
                empty.append(f"{panel['title']}: {query}")
            elif found and reason:
                gone.discard(reason)
    assert empty == []
    assert gone == set(EMPTY), "these have data after all: take them out of the list"


@pytest.mark.parametrize("query", VLLM)
def test_a_board_made_for_vllm_is_filled(used: str, query: str) -> None:
    assert ask(used, "query", query=query.replace("$model", "smollm2"))["result"]
