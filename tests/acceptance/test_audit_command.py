"""`ashore audit` against a running server, and without one."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import Served, approve_tools, call, officer_and_owner, start_served
from tool_servers import odd_server, tool
from waiting import eventually

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]


def ask(server: Served, text: str, **headers: str) -> httpx.Response:
    return httpx.post(
        server.base_url + "/chat/completions",
        headers={"authorization": f"Bearer {server.key}", **headers},
        json={"model": "fake:echo", "messages": [{"role": "user", "content": text}], "temperature": 0},
        timeout=30,
    )


def items(run: Run, server: Served, *words: str, least: int = 1) -> list[dict[str, object]]:
    """Return what a search finds, once that is as many records as `least`: each is written after its answer."""

    def search() -> list[dict[str, object]] | None:
        answer = run("audit", "search", "--json", *words, home=server.home)
        assert answer.returncode == 0, answer.stderr
        found: list[dict[str, object]] = json.loads(answer.stdout)["items"]
        return found if len(found) >= least else None

    return eventually(search)


def test_requests_are_found_verified_and_a_change_is_named(served: Start, ashore: Run, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    anchor.mkdir()
    server = served("fake:echo", config=f'[audit]\ncheckpoint_s = 0.3\nanchors = ["{anchor}"]\n')
    assert [ask(server, "a secret word").status_code for _ in range(3)] == [200] * 3
    assert ask(server, "x", authorization="Bearer ash_wrong").status_code == 401
    found = items(ashore, server, "--kind", "request", least=3)
    assert [one["cache"] for one in found] == ["hit-exact", "hit-exact", "miss"]
    assert len({(one["prompt"], one["answer"]) for one in found}) == 1, "the digests of a repeated answer are the same"
    for one in found:
        assert (one["actor"], one["model"], one["outcome"]) == ("first-key", "fake:echo", "answered")
        assert (one["origin"], one["route"]) == ("127.0.0.1", "/v1/chat/completions")
        assert one["prompt_tokens"] and one["completion_tokens"] and len(str(one["prompt"])) == 64
    assert items(ashore, server, "--action", "model:load")
    assert [one["action"] for one in items(ashore, server, "--action", "audit:*")][:2] == ["audit:search"] * 2
    for file in (server.home / "audit").rglob("*"):
        assert not file.is_file() or b"secret word" not in file.read_bytes()

    eventually(lambda: list(anchor.iterdir()))
    good = ashore("audit", "verify", "--anchor", str(anchor), home=server.home)
    assert good.returncode == 0 and "as they were written" in good.stdout, good.stdout + good.stderr
    server.stop()

    copy, key = tmp_path / "copy", tmp_path / "key.pem"
    shutil.copytree(server.home / "audit", copy)
    shutil.copy(server.home / "audit" / "public-key.pem", key)
    path = copy / "chains" / "api-0" / "00000001.log"
    words = ("audit", "verify", "--path", str(copy), "--public-key", str(key), "--anchor", str(anchor))
    assert ashore(*words).returncode == 0, "with no home and no server"
    path.write_bytes(path.read_bytes().replace(b'"outcome":"answered"', b'"outcome":"answerex"', 1))
    bad = ashore(*words, "--json")
    told = json.loads(bad.stdout)
    assert bad.returncode == 4 and not told["ok"]
    (problem,) = [chain["problem"] for chain in told["chains"] if chain["problem"]]
    assert problem["file"] == str(path) and problem["line"] == 3
    shutil.rmtree(copy / "chains" / "api-0")
    gone = ashore(*words)
    assert gone.returncode == 4 and "its tail is missing" in gone.stdout


def test_strict_means_on_disk_before_the_answer_even_through_kill_9(served: Start, ashore: Run) -> None:
    server = served("fake:echo", config='[audit]\ndurability = "strict"\n')
    answer = ask(server, "hello")
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    request_id = answer.headers["x-request-id"]
    told = items(ashore, server, "--request", request_id)
    assert [one["action"] for one in told] == ["model:infer", "model:begin"]
    assert [one["outcome"] for one in told] == ["answered", "begun"]


def test_the_result_of_a_tool_is_held_back_where_strict_records_cannot_be_kept(served: Start) -> None:
    with odd_server() as odd:
        odd.tools = [tool("probe")]
        config = f'[audit]\ndurability = "strict"\n[[mcp.server]]\nname = "odd"\nurl = "{odd.url}"\n'
        server = served("fake:echo", config=config)
        officer, _ = officer_and_owner(server)
        call(server, "PUT", "/admin/v1/roles/prober", officer, {"rules": ["mcp:call on tool/odd/*"]})
        made = call(server, "POST", "/admin/v1/users", officer, {"id": "a", "roles": ["prober"], "key": {}})
        approve_tools(server, officer, "odd")
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "probe"}}
        headers = {"authorization": f"Bearer {made['key']['key']}"}

        def ask_tool() -> httpx.Response:
            return httpx.post(f"{server.root_url}/mcp/odd", json=asked, headers=headers, timeout=30)

        eventually(lambda: ask_tool().status_code == 200)
        segment = server.home / "audit" / "chains" / "api-0" / "00000001.log"
        segment.rename(segment.with_suffix(".away"))
        refused = ask_tool()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "audit_unavailable")
        calls = [one for one in odd.came if one["method"] == "tools/call"]
        assert len(calls) == 2, "the second one was made, and what it gave is held back"
        assert ask_tool().status_code == 503 and len(calls) == 2


def test_the_audit_cannot_be_switched_off_or_shortened(ashore: Run, tmp_path: Path) -> None:
    for line, words in (("enabled = false", "cannot be switched off"), ("retention_days = 30", "Art. 23(3)")):
        (tmp_path / "ashore.toml").write_text(f"[audit]\n{line}\n")
        answer = ashore("up", "fake:echo", "--dry-run", "--config", str(tmp_path / "ashore.toml"))
        assert answer.returncode == 2 and words in answer.stderr


def test_no_audit_no_service(served: Start) -> None:
    """The record's file is taken away under a running server: what it cannot record it does not answer."""
    server = served("fake:echo", config="")
    assert ask(server, "one").status_code == 200
    segment = server.home / "audit" / "chains" / "api-0" / "00000001.log"
    taken = segment.rename(segment.with_suffix(".away"))
    seen = [ask(server, f"question {number}") for number in range(3)]
    seen.append(eventually(lambda: (said := ask(server, "again")).status_code == 503 and said))
    assert seen[-1].json()["error"]["code"] == "audit_unavailable" and "was removed" in seen[-1].text
    told = httpx.get(server.root_url + "/readyz")
    assert told.status_code == 503 and told.json()["status"] == "not-recording" and told.json()["items"][0]["ready"]
    assert "audit log cannot be written" in told.json()["why"] and str(server.home) not in told.text
    with grpc.insecure_channel(server.grpc_address) as channel:
        health, away = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckResponse.NOT_SERVING
        eventually(lambda: health.Check(health_pb2.HealthCheckRequest()).status == away)
    taken.rename(segment)
    server.wait_ready(10)  # by itself
    assert ask(server, "and again").status_code == 200


def test_sealed_content_is_read_and_erased_and_exports_verify(served: Start, ashore: Run, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    server = served("fake:echo", config=f'[audit]\ncontent = "sealed"\narchive = "{shelf}"\narchive_every_s = 0.2\n')
    for _ in range(3):
        assert ask(server, "my secret").status_code == 200
    (tmp_path / "text").write_text("my secret\n")
    found = items(ashore, server, "--text-file", str(tmp_path / "text"), least=3)
    assert len(found) == 3 and all(one["content"] for one in found)
    place = f"{found[0]['chain']}#{found[0]['seq']}"
    told = json.loads(ashore("audit", "content", place, "--json", home=server.home).stdout)
    assert (told["prompt"], told["answer"]) == ("my secret", "my secret")
    assert json.loads(ashore("audit", "erase", "first-key", "--yes", "--json", home=server.home).stdout) == {
        "destroyed": 1
    }
    gone = ashore("audit", "content", place, home=server.home)
    assert gone.returncode == 2 and "was destroyed" in gone.stderr
    time.sleep(0.4)
    assert ask(server, "after").status_code == 200

    for form in ("csv", "chains"):
        out = tmp_path / form
        done = ashore("audit", "export", str(out), "--form", form, home=server.home)
        assert done.returncode == 0, done.stderr
        key = server.home / "audit" / "public-key.pem"
        assert ashore("audit", "verify", "--path", str(out), "--public-key", str(key)).returncode == 0
    (tmp_path / "csv" / "records.csv").write_bytes((tmp_path / "csv" / "records.csv").read_bytes()[:-5])
    bad = ashore("audit", "verify", "--path", str(tmp_path / "csv"), "--public-key", str(key))
    assert bad.returncode == 4 and "WRONG" in bad.stdout
    assert ashore("audit", "rotate-key", home=server.home).returncode == 0
    assert ashore("audit", "verify", home=server.home).returncode == 0
    status = json.loads(ashore("audit", "status", "--json", home=server.home).stdout)
    assert status["chains"]["api-0"] > 3
    assert status["archive"]["place"] == str(shelf) and status["archive"]["good_us"] > 0 and not status["unarchived"]
    assert f"archive {shelf}: complete at" in ashore("audit", "status", home=server.home).stdout
    page = httpx.get(f"{server.root_url}/metrics", headers={"authorization": f"Bearer {server.key}"}).text
    assert re.search(r"^ashore_audit_archive_time_seconds [1-9]", page, re.MULTILINE)
    assert ashore("audit", "archive", home=server.home).returncode == 2
    assert ashore("audit", "archive", "--place", str(tmp_path / "old"), home=server.home).returncode == 0


def test_commands_that_change_something_are_acts(ashore: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert ashore("model", "remove", "nosuch", "--variants", home=home).returncode == 2
    assert ashore("cache", "purge", "--all", "--yes", home=home).returncode == 0
    assert ashore("model", "list", home=home).returncode == 0
    told = json.loads(ashore("audit", "search", "--kind", "act", "--json", home=home).stdout)["items"]
    assert [(one["action"], one["resource"], one["outcome"]) for one in told] == [
        ("audit:search", "audit/record", "done"),
        ("cache:purge", "cache", "done"),
        ("model:remove", "model/nosuch", "failed"),
        ("model:remove", "model/nosuch", "allowed"),
    ]
    assert all(one["actor"].startswith("os:") for one in told) and "nosuch" in told[2]["reason"]
    assert ashore("audit", "verify", home=home).returncode == 0


def test_a_sealed_record_is_served_read_and_verified_and_without_its_key_only_verified(
    served: Start, ashore: Run, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    ring = tmp_path / "keys" / "ring"
    env = {"ASHORE_SEALING_KEY": f"keyring:{ring}"}
    server = served("fake:echo", config='[audit]\ncontent = "sealed"\ncheckpoint_s = 0.3\n')
    assert ask(server, "my secret").status_code == 200
    server.stop()
    pem = (server.home / "audit-keys/signing-key.pem").read_bytes().splitlines()[1]
    assert ashore("secret", "seal", home=server.home).returncode == 2, "no key source"
    dry = json.loads(ashore("secret", "seal", "--dry-run", "--json", home=server.home, env=env).stdout)
    assert "audit-keys/signing-key.pem" in dry["changed"] and dry["dry_run"] and not ring.exists()
    done = ashore("secret", "seal", "--json", home=server.home, env=env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["changed"] == dry["changed"]
    assert any(place.startswith("state/audit-content-key/") for place in told["changed"])
    forms = {one["form"] for one in json.loads(ashore("secret", "list", "--json", home=server.home).stdout)["items"]}
    assert forms == {"sealed", "stays clear"}

    again = start_served(
        server.home, ["fake:echo"], store=None, port=free_port(), grpc_port=0, env=env,
        config='[audit]\ncontent = "sealed"\ncheckpoint_s = 0.3\n',
    )  # fmt: skip
    try:
        assert ask(again, "my secret", **{"cache-control": "no-store"}).status_code == 200
        (tmp_path / "text").write_text("my secret\n")
        found = items(ashore, again, "--text-file", str(tmp_path / "text"), least=2)  # opened by what the server holds
        assert len(found) == 2
        for one in found:
            shown = ashore("audit", "content", f"{one['chain']}#{one['seq']}", "--json", home=again.home)
            assert json.loads(shown.stdout)["prompt"] == "my secret", shown.stderr
        assert ashore("audit", "export", str(tmp_path / "out"), home=again.home).returncode == 0
        assert ashore("audit", "rotate-key", home=again.home).returncode == 0
        busy = ashore("secret", "seal", home=again.home, env=env)
        assert busy.returncode != 0 and "is in use by process" in busy.stderr
    finally:
        again.stop()
    for file in again.home.rglob("*"):
        assert not file.is_file() or file.is_symlink() or pem not in file.read_bytes(), file

    ring.unlink()
    lost = ashore("up", "fake:echo", "--port", str(free_port()), "--grpc-port", "0", home=again.home, env=env)
    assert lost.returncode != 0 and "nothing can be signed" in lost.stderr and "audit verify" in lost.stderr
    good = ashore("audit", "verify", home=again.home, env=env)
    assert good.returncode == 0 and "as they were written" in good.stdout, good.stdout + good.stderr
    assert "not signed yet" in good.stderr
