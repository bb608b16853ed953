"""`ashore cache` against a running server with a shared cache of its own."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from home_processes import processes_of
from served import Served
from waiting import eventually

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]


ROUTES = """
[cache]
mode = "MODE"
[[cache.route]]
alias = "off"
mode = "off"
[[cache.route]]
alias = "brief"
ttl_s = 1
[[model]]
name = "fake:echo"
alias = "off"
[[model]]
name = "fake:echo?seed=1"
alias = "brief"
[[model]]
name = "fake:echo?seed=2"
alias = "long"
"""


def ask(server: Served, text: str, *, model: str = "fake:echo") -> httpx.Response:
    answer = httpx.post(
        server.base_url + "/chat/completions",
        headers={"authorization": f"Bearer {server.key}"},
        json={"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0},
        timeout=30,
    )
    answer.raise_for_status()
    return answer


def test_answers_are_seen_purged_and_imported(served: Start, ashore: Run, tmp_path: Path) -> None:
    server = served("fake:echo", "--redis", "embedded")
    home = {"ASHORE_HOME": str(server.home)}
    assert [ask(server, "hello").headers["x-ashore-cache"] for _ in range(3)] == ["miss", "hit-exact", "hit-exact"]
    (item,) = json.loads(ashore("cache", "stats", "--json", env=home).stdout)["items"]
    assert (item["lookups"], item["ready_hits"], item["hits"], item["shared"]) == (2, 1, {"local": 1}, "up")
    shown = ashore("cache", "stats", env=home).stdout
    assert "66.7% hits" in shown
    assert [line.split() for line in shown.splitlines()][-2:][0][:3] == ["tenant", "model", "entries"]
    assert [line.split()[:3] for line in shown.splitlines()][-1] == ["default", "fake:echo", "2"]
    filtered = ashore("cache", "stats", "--tenant", "default", "--model", "fake:echo", "--json", env=home).stdout
    (share,) = json.loads(filtered)["shares"]
    assert (share["hits_exact"], share["hits_reworded"], share["misses"], share["evictions"]) == (2, 0, 1, 0)
    assert "no model 'other'" in ashore("cache", "stats", "--model", "other", "--json", env=home).stderr
    entry = ask(server, "hello").headers["x-ashore-cache-entry"]
    assert (
        f"{entry} in worker 0: tenant default, model fake:echo"
        in ashore("cache", "stats", "--entry", entry, env=home).stdout
    )
    assert ashore("cache", "stats", "--entry", "0" * 16, env=home).returncode != 0

    assert ashore("cache", "purge", "--model", "fake:echo", env=home).returncode == 0
    time.sleep(0.3)
    (share,) = json.loads(ashore("cache", "stats", "--model", "fake:echo", "--json", env=home).stdout)["shares"]
    assert (share["entries"], share["num_bytes"], share["misses"]) == (0, 0, 1)
    assert ask(server, "hello").headers["x-ashore-cache"] == "miss"

    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"question": "Hello?", "answer": "Good day."}\n{"question": "", "answer": "x"}\n')
    wrong = ashore("cache", "import", str(pairs), env=home)
    assert (wrong.returncode, "line 2" in wrong.stderr) == (2, True)
    pairs.write_text('{"question": "Hello?", "answer": "Good day."}\n')
    tried = ashore("cache", "import", str(pairs), "--dry-run", env=home)
    assert (tried.returncode, tried.stdout) == (0, "1 curated pair: valid; nothing was imported\n")
    assert ashore("cache", "import", str(pairs), env=home).stdout == "1 curated pair: imported\n"
    prefixes = [server.home / "cache" / "prefixes" / name / "p" / "content" for name in ("of-default", "of-other")]
    for folder in prefixes:
        folder.mkdir(parents=True)
    assert ashore("cache", "purge", "--tenant", "default", env=home).stdout == "purged: tenant default\n"
    eventually(lambda: not prefixes[0].exists(), told=lambda: "the prefixes of the tenant are still there")
    assert prefixes[1].exists(), "and those of no other"
    assert "there is no tenant 'nobody'" in ashore("cache", "purge", "--tenant", "nobody", env=home).stderr
    time.sleep(0.3)
    assert ask(server, "hello").json()["choices"][0]["message"]["content"] == "Good day."
    assert ashore("cache", "purge", "--curated", "--all", "--yes", env=home).returncode == 0
    time.sleep(0.3)
    assert ask(server, "hello").json()["choices"][0]["message"]["content"] == "hello"
    assert ashore("cache", "purge", env=home).returncode == 2


def test_a_killed_valkey_is_started_again_and_costs_no_answer(served: Start) -> None:
    server = served("fake:echo", "--redis", "embedded")
    (before,) = processes_of(server.home, "valkey-server")
    os.kill(before, signal.SIGKILL)
    numbers = itertools.count()

    def back() -> bool:
        assert ask(server, f"question {next(numbers)}").status_code == 200
        return processes_of(server.home, "valkey-server") not in ([], [before])

    eventually(back)


def test_a_route_of_the_file_has_a_mode_and_a_life_of_its_own(served: Start, ashore: Run) -> None:
    server = served(config=ROUTES.replace("MODE", "exact"))

    def labels(model: str, times: int) -> list[str]:
        return [ask(server, "hello", model=model).headers["x-ashore-cache"] for _ in range(times)]

    assert labels("off", 3) == ["miss"] * 3
    assert labels("brief", 3) == labels("long", 3) == ["miss", "hit-exact", "hit-exact"]
    time.sleep(1.2)
    assert labels("brief", 2) == ["miss", "hit-exact"], "its second is over"
    assert labels("long", 1) == ["hit-exact"]

    (server.home / "ashore.toml").write_text(ROUTES.replace("MODE", "off"))
    reloaded = ashore("reload", env={"ASHORE_HOME": str(server.home)})
    assert reloaded.returncode == 0, reloaded.stderr
    assert labels("long", 2) == labels("brief", 2) == ["miss", "miss"], "routes without a mode follow the whole"
