"""Operations on a running server: asked for over HTTP and the command line, killed, refused, and recorded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from home_processes import processes_of
from model_hubs import Hubs, running_hubs
from served import Served, call, start_served
from tiny_models import make_tiny_model
from waiting import eventually

CHILD = "ashore.cli.operation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server with a folder of models, a hub that never answers, and the keys of two people."""

    server: Served
    models: Path
    admin: str
    officer: str
    developer: str
    environ: dict[str, str]
    registry: Hubs
    """A registry that `[egress]` allows."""

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "") -> Any:
        answer = httpx.request(
            method,
            f"{self.server.root_url}/admin/v1{path}",
            json=body,
            headers={"authorization": f"Bearer {key or self.admin}"},
            timeout=30,
        )
        return answer.json() if answer.status_code == 200 else {"status": answer.status_code, **answer.json()["error"]}

    def job(self, job_id: str, *states: str) -> dict[str, Any]:
        found = eventually(lambda: (job := self.ask("GET", f"/jobs/{job_id}"))["state"] in states and job)
        assert isinstance(found, dict)
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ashore.cli.main", *words],
            env=self.environ | {"ASHORE_API_KEY": self.admin}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def silent_hub() -> Iterator[str]:
    """A hub that takes connections and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def hold() -> None:
        while True:
            try:
                held.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=hold, daemon=True).start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    listener.close()
    for one in held:
        one.close()


@pytest.fixture(scope="module")
def registry() -> Iterator[Hubs]:
    with running_hubs() as hubs:
        yield hubs


@pytest.fixture(scope="module")
def site(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], silent_hub: str, registry: Hubs
) -> Iterator[Site]:
    home, models = tmp_path_factory.mktemp("operations-home"), tmp_path_factory.mktemp("operations-models")
    make_tiny_model(models / "tiny", "llama")
    (models / "way-out").symlink_to("/etc")
    config = f"""
[[model]]
name = "fake:echo"

[jobs]
folders = ["{models}"]

[egress]
allow = ["{registry.url.removeprefix("http://")}"]

[settings]
hf_endpoint = "{silent_hub}"
"""
    server = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=config)
    environ = {**os.environ, "ASHORE_HOME": str(home)}
    try:
        admin = _key(server, server.key, "sam", "system-administrator")
        officer = _key(server, server.key, "sec", "security-officer")
        developer = _key(server, officer, "dev", "developer")
        yield Site(server=server, models=models, admin=admin, officer=officer, developer=developer, environ=environ,
                   registry=registry)  # fmt: skip
    finally:
        server.stop()


def _key(server: Served, key: str, name: str, role: str) -> str:
    made = call(server, "POST", "/admin/v1/users", key, {"id": name, "roles": [role], "key": {}})
    return str(made["key"]["key"])


def test_a_pull_by_a_job_follows_no_link_out_of_the_folders(site: Site, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{{ 'outside' }}")
    make_tiny_model(site.models / "leaky", "llama")
    (site.models / "leaky" / "chat_template.jinja").symlink_to(tmp_path / "secret")
    asked = site.ask("POST", "/models/pull", {"source": str(site.models / "leaky")})
    ended = site.job(asked["id"], "succeeded", "failed")
    assert ended["state"] == "failed" and "chat_template.jinja leads out of the folders" in str(ended), ended


def test_a_pull_by_a_job_is_not_sent_out_of_egress(site: Site) -> None:
    with running_hubs() as inner:
        site.registry.away = "/manifests/", inner.url
        asked = site.ask("POST", "/models/pull", {"source": f"oci://{site.registry.url[7:]}/models/tiny"})
        ended = site.job(asked["id"], "succeeded", "failed")
        assert ended["state"] == "failed" and "[egress] does not allow 127.0.0.1" in str(ended), ended
        assert any("/manifests/" in one for one in site.registry.requests) and inner.requests == []


def test_a_model_is_pulled_verified_and_removed_by_jobs_and_the_audit_log_has_who_and_how(site: Site) -> None:
    asked = site.ask("POST", "/models/pull", {"source": str(site.models / "tiny"), "name": "one"})
    assert asked["state"] == "queued" and asked["kind"] == "model pull", asked
    done = site.job(asked["id"], "succeeded", "failed")
    assert done["state"] == "succeeded", done
    assert any("licence" in line for line in done["operation"]["log"]), done
    assert "one" in [model["name"] for model in site.ask("GET", "/models/stored")["items"]]
    again = site.ask("POST", f"/jobs/{asked['id']}/again")
    assert site.job(again["id"], "succeeded", "failed")["state"] == "succeeded"

    shown = site.run("model", "verify", "one", "--job", "--json")
    assert shown.returncode == 0, shown.stderr
    followed = site.run("job", "show", json.loads(shown.stdout)["id"], "--follow")
    assert followed.returncode == 0 and "all whole" in followed.stdout, followed
    refused = site.run("model", "verify", "one", "--job", "--config", "x.toml")
    assert refused.returncode == 2 and "--config" in refused.stderr
    removed = site.ask("POST", "/models/remove", {"ref": "one"})
    assert site.job(removed["id"], "succeeded", "failed")["state"] == "succeeded"
    listed = site.ask("GET", "/jobs")["items"]
    assert all(job["operation"]["log"] == [] for job in listed if job["operation"]), "lists have no logs"

    def recorded() -> Any:
        found = json.loads(site.run("audit", "search", "--action", "model:pull", "--json").stdout)["items"]
        acts = [act for act in found if act.get("detail", {}).get("job") == asked["id"]]
        return len(acts) == 2 and acts

    end, start = eventually(recorded)
    assert start["actor"] == end["actor"] == "sam" and start["resource"] == end["resource"] == "model/one"
    assert start["origin"] and "ended" not in start["detail"] and end["detail"]["ended"] == "succeeded"


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/models/pull", {"source": "/etc"}, "not in the folders"),
        ("/models/pull", {"source": "{models}/way-out"}, "not in the folders"),
        ("/models/pull", {"source": "oci://registry.example.com/m"}, "[egress]"),
        ("/models/pull", {"source": "smollm2", "name": "../x"}, "not a"),
        ("/models/pull", {"source": "smollm2", "config": "/etc/passwd"}, "unknown field"),
        ("/models/verify", {"ref": "--config=/etc/passwd"}, "not a"),
        ("/models/remove", {"ref": "/etc"}, "not a"),
        ("/optimize/quantize", {"model": "m", "to": "int4", "calibration": "/etc/passwd"}, "not in the folders"),
        ("/optimize/evaluate", {"model": "hf:org/m"}, "not a"),
        ("/optimize/evaluate", {"model": "m", "task": ["lm-eval:x"]}, "not in the folders"),
        ("/optimize/evaluate", {"model": "m", "text": ["/etc/passwd"]}, "not in the folders"),
        ("/train/sft", {"model": "m", "data": "s3://bucket/x"}, "not in the folders"),
    ],
)
def test_over_http_nobody_has_the_server_read_or_call_what_the_operator_did_not_name(
    site: Site, path: str, body: dict[str, Any], says: str
) -> None:
    body = {name: value.replace("{models}", str(site.models)) if isinstance(value, str) else value
            for name, value in body.items()}  # fmt: skip
    refused = site.ask("POST", path, body)
    assert refused["status"] in (400, 403) and says in refused["message"], refused


@pytest.mark.parametrize(
    "path",
    ["/models/pull", "/models/remove", "/models/seal", "/optimize/prune", "/train/sft", "/backups", "/learn/run"],
)
def test_a_key_without_the_right_starts_nothing(site: Site, path: str) -> None:
    assert site.ask("POST", path, {}, key=site.developer)["status"] == 403


def test_a_job_that_waits_does_not_outlive_the_right_of_who_asked_for_it(site: Site) -> None:
    """The key of one is revoked meanwhile, the role of another is taken away, and a third may still."""
    keys = {}
    for name in ("gone", "narrowed", "still"):
        body = {"id": name, "roles": ["system-administrator"], "key": {}}
        keys[name] = call(site.server, "POST", "/admin/v1/users", site.officer, body)["key"]
    blocking = [site.ask("POST", "/models/pull", {"source": f"hf:org/never{n}"})["id"] for n in range(2)]
    tiny = str(site.models / "tiny")
    for one in blocking:
        site.job(one, "running")
    waiting = {
        name: site.ask("POST", "/models/pull", {"source": tiny, "name": name}, key=str(key["key"]))["id"]
        for name, key in keys.items()
    }
    call(site.server, "DELETE", f"/admin/v1/keys/{keys['gone']['record']['id']}", site.officer)
    taken = {"revoke": [{"subject": "user/narrowed", "role": "system-administrator"}]}
    call(site.server, "POST", "/admin/v1/bindings", site.officer, taken)
    assert {site.job(one, "queued")["state"] for one in waiting.values()} == {"queued"}
    for one in blocking:
        site.ask("POST", f"/jobs/{one}/cancel")
    ended = {name: site.job(one, "succeeded", "failed") for name, one in waiting.items()}
    assert ended["still"]["state"] == "succeeded", ended["still"]
    assert {name: one.get("error_code") for name, one in ended.items()} == {
        "gone": "refused", "narrowed": "refused", "still": ended["still"].get("error_code"),
    }  # fmt: skip
    assert "revoked" in ended["gone"]["error_message"], ended["gone"]
    assert "model:pull" in ended["narrowed"]["error_message"], ended["narrowed"]
    for name in ("gone", "narrowed"):
        found = eventually(lambda name=name: _denials(site, name, waiting[name]))
        assert "refused: a right was taken away" in found[0]["reason"], found


def _denials(site: Site, actor: str, job_id: str) -> list[dict[str, Any]]:
    words = ("audit", "search", "--actor", actor, "--action", "model:pull", "--outcome", "denied", "--json")
    told = json.loads(site.run(*words).stdout or "{}").get("items", [])
    return [one for one in told if one.get("detail", {}).get("job") == job_id]


def test_a_killed_child_fails_a_cancelled_job_ends_and_serving_goes_on(site: Site) -> None:
    job_id = site.ask("POST", "/models/pull", {"source": "hf:org/never"})["id"]
    site.job(job_id, "running")
    (child,) = eventually(lambda: processes_of(site.server.home, CHILD))
    eventually(lambda: os.sched_getscheduler(child) == os.SCHED_IDLE and os.getpriority(os.PRIO_PROCESS, child) == 19)
    os.kill(child, signal.SIGKILL)
    failed = site.job(job_id, "failed")
    assert failed["error_code"] == "killed", failed
    job_id = site.ask("POST", "/models/pull", {"source": "hf:org/never"})["id"]
    site.job(job_id, "running")
    eventually(lambda: processes_of(site.server.home, CHILD))
    assert site.ask("POST", f"/jobs/{job_id}/cancel")["changed"]
    eventually(lambda: not processes_of(site.server.home, CHILD))
    assert site.server.ready()


def test_killed_with_its_supervisor_an_operation_is_interrupted_and_may_be_run_again(site: Site) -> None:
    job_id = site.ask("POST", "/models/pull", {"source": "hf:org/never"})["id"]
    site.job(job_id, "running")
    eventually(lambda: processes_of(site.server.home, CHILD))
    config = site.server.home / "ashore.toml"
    site.server.process.send_signal(signal.SIGKILL)
    site.server.process.wait(timeout=60)
    eventually(lambda: not processes_of(site.server.home, CHILD))
    eventually(lambda: not processes_of(site.server.home, "ashore.data.worker"))
    restarted = start_served(
        site.server.home, (), store=None, port=site.server.port, grpc_port=0, config=config.read_text()
    )
    try:
        job = site.job(job_id, "interrupted")
        assert job["error_code"] == "interrupted" and "ashore job again" in job["error_message"]
        assert not processes_of(site.server.home, CHILD), "nothing is begun again by itself"
        again = site.ask("POST", f"/jobs/{job_id}/again")
        site.job(again["id"], "running")
        site.ask("POST", f"/jobs/{again['id']}/cancel")
    finally:
        restarted.stop()
