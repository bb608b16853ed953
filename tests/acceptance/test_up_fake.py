"""`ashore up` as an operator meets it, on the fake engine: start, faults, stop, reload."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from home_processes import processes_of
from served import Served, call, owner_key, start_served
from waiting import eventually

from ashore.core.clock import SystemClock
from ashore.data.authority import KeyRecord, digest_of, new_key, save_key
from ashore.data.releases import load_book
from ashore.kit.state import open_database, open_state

SLOW = "fake:random?tok_per_s=20&tokens=60"

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]


def client(server: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=60)


def ask(server: Served, model: str, text: str = "hello") -> str:
    with client(server) as api:
        answer = api.chat.completions.create(model=model, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


def stream(server: Served, model: str, begun: Callable[[], None] = lambda: None) -> tuple[int, str | None]:
    """Return the pieces of a streamed answer and how it ended."""
    pieces, reason = 0, None
    with client(server) as api:
        for chunk in api.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "go"}], stream=True, max_tokens=60
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                pieces += 1
                begun()
            if chunk.choices and chunk.choices[0].finish_reason:
                reason = chunk.choices[0].finish_reason
    return pieces, reason


def host_pids(home: Path) -> list[int]:
    return processes_of(home, "ashore.data.engines.host")


def test_it_serves_says_where_and_stops(served: Start) -> None:
    server = served("fake:echo", forked=False)
    assert ask(server, "fake:echo", "hello there") == "hello there"
    eventually(lambda: "Ctrl-C stops it" in server.said())
    said = server.said()
    assert f"http://127.0.0.1:{server.port}" in said
    assert str(server.home / "first-key") in said and "curl -N" in said
    assert (server.home / "first-key").stat().st_mode & 0o777 == 0o600
    for path in ("/healthz", "/readyz"):
        with urllib.request.urlopen(server.root_url + path) as answer:
            assert answer.status == 200
    assert server.stop() == 0
    assert processes_of(server.home) == []


def test_stop_ends_it_and_its_logs_can_be_read_before_and_after(served: Start, ashore: Run) -> None:
    server = served("fake:echo")
    assert ask(server, "fake:echo") == "hello"
    eventually(lambda: "/v1/chat/completions" in ashore("logs", "api", home=server.home).stdout, 10)
    stopped = ashore("stop", home=server.home)
    assert stopped.returncode == 0 and f"http://127.0.0.1:{server.port}" in stopped.stderr
    assert server.process.wait(60) == 0
    again = ashore("stop", home=server.home)
    assert again.returncode == 4 and "no server is running" in again.stderr
    shown = ashore("logs", "--lines", "3", home=server.home)
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert {"api", "jobs"} <= {row[3] for row in rows} and len(rows) <= 9
    assert [row[:2] for row in rows] == sorted(row[:2] for row in rows)
    told = [json.loads(line) for line in ashore("logs", "api", "--json", home=server.home).stdout.splitlines()]
    assert any(one.get("request", {}).get("route") == "/v1/chat/completions" for one in told)
    assert ashore("logs", "--level", "error", home=server.home).stdout == ""
    assert "did you mean 'api'?" in ashore("logs", "apii", home=server.home).stderr


@pytest.fixture(scope="module")
def echo(served_for_all: Start) -> Served:
    """A server for the tests that leave it as it was."""
    return served_for_all("fake:echo")


def test_keys_are_those_of_the_state(echo: Served) -> None:
    server = echo
    key = new_key()
    state = open_database(server.home / "state.db", snapshots=server.home / "snapshots", clock=SystemClock())
    try:
        for revoked_s, status in ((None, 200), (1, 401)):
            row = KeyRecord(
                key_id="app", digest=digest_of(key).sha256.hex(), owner="app", tenant="bank-a", created_s=1,
                revoked_s=revoked_s,
            )  # fmt: skip
            with state.write() as connection:
                save_key(connection, row)
            eventually(lambda wanted=status: models_status(server, key) == wanted, 5)  # type: ignore[misc]
    finally:
        state.close()
    assert ask(server, "fake:echo") == "hello"


def models_status(server: Served, key: str) -> int:
    request = urllib.request.Request(f"{server.base_url}/models", headers={"authorization": f"Bearer {key}"})
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_the_printed_curl_works_as_it_stands(echo: Served) -> None:
    eventually(lambda: "Ctrl-C stops it" in echo.said())
    lines = echo.said().splitlines()
    shown = [*reversed(lines)].index("")  # of the end
    assert len(lines) - lines.index(next(line for line in lines if " serves " in line)) - shown <= 24, "over a screen"
    first = next(i for i, line in enumerate(lines) if "curl -N" in line)
    result = subprocess.run(
        ["sh", "-c", "\n".join(lines[first : first + 3])], capture_output=True, text=True, check=True
    )
    assert "data: [DONE]" in result.stdout
    steps = [line.strip() for line in lines if re.match(r"  \S.*  # ", line)]
    assert len(steps) == 4 and all(f"ASHORE_HOME={echo.home} " in line for line in steps)
    assert "no ashore.toml is read" in echo.said() and "three administrators" in echo.said()
    with urllib.request.urlopen(next(line for line in lines if "in a browser" in line).split()[-1]) as page:
        assert "fake:echo" in page.read().decode()


def test_a_hint_to_change_the_file_says_where_it_is(echo: Served, ashore: Run) -> None:
    refused = ashore("learn", "votes", home=echo.home)
    assert refused.returncode and "in ashore.toml and restart it; this server reads no ashore.toml" in refused.stderr
    assert "`ashore config example > ashore.toml`" in refused.stderr


def test_a_second_up_on_one_home_is_told_who_holds_it(echo: Served, ashore: Run, free_port: Callable[[], int]) -> None:
    server = echo
    second = ashore("up", "fake:echo", "--port", str(free_port()), "--grpc-port", "0", home=server.home)
    assert second.returncode == 4
    assert f"process {server.process.pid} (http://127.0.0.1:{server.port})" in second.stderr
    assert "ASHORE_HOME" in second.stderr
    assert server.ready()
    key = (server.home / "first-key").rename(server.home / "away")
    shown = ashore("status", "--json", home=server.home)  # with no key at all
    key.rename(server.home / "first-key")
    told = json.loads(shown.stdout)
    assert shown.returncode == 0 and told["running"] and told["answers"] and told["requests_waiting"] == 0
    assert told["address"] == f"http://127.0.0.1:{server.port}"
    assert [(one["release"], one["state"]) for one in told["models"]] == [("fake:echo-1", "live")]


def test_a_taken_port_is_named_with_its_owner_before_anything_is_loaded(ashore: Run, tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        result = ashore("up", "fake:echo", "--port", str(port), "--grpc-port", "0", home=tmp_path / "home")
    assert result.returncode == 4
    assert f"127.0.0.1:{port} is already in use by" in result.stderr and f"pid {os.getpid()}" in result.stderr
    assert "loading" not in result.stderr


def test_what_is_wrong_is_an_exit_code_with_a_hint(ashore: Run, tmp_path: Path) -> None:
    wrong = ashore("up", "fake:ecko", "--port", "1", "--grpc-port", "0", home=tmp_path / "a")
    assert wrong.returncode == 2 and "hint:" in wrong.stderr
    unknown = ashore("up", "smolm2", "--offline", "--dry-run", home=tmp_path / "b")
    assert unknown.returncode == 2 and "smollm2" in unknown.stderr
    offline = ashore("up", "smollm2", "--offline", home=tmp_path / "c")
    assert offline.returncode == 4 and "offline" in offline.stderr
    option = ashore("up", "--prot", "1", home=tmp_path / "d")
    assert option.returncode == 2
    setting = ashore("up", "--dry-run", home=tmp_path / "e", env={"ASHORE_OFFLINE": "perhaps"})
    assert setting.returncode == 2 and "ASHORE_OFFLINE" in setting.stderr


def test_a_dry_run_tells_the_plan_and_starts_nothing(ashore: Run, tmp_path: Path, free_port: Callable[[], int]) -> None:
    home = tmp_path / "home"
    ports = ("--port", str(free_port()), "--grpc-port", "0")
    text = ashore("up", "--dry-run", *ports, home=home)
    assert text.returncode == 0, text.stderr
    assert "smollm2" in text.stdout and "openvino int8" in text.stdout and "minilm" in text.stdout
    plan = json.loads(ashore("up", "--dry-run", "--json", *ports, home=home).stdout)["plan"]
    assert [m["alias"] for m in plan["models"]] == ["smollm2", "minilm"]
    assert all(choice["why"] for model in plan["models"] for choice in model["choices"])
    assert not (home / "first-key").exists()


def test_a_host_killed_under_load_comes_back_and_the_api_never_stops(served: Start) -> None:
    server = served(SLOW)
    (host,) = host_pids(server.home)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        begun = [False] * 6

        def begin(number: int) -> Callable[[], None]:
            return lambda: begun.__setitem__(number, True)

        running = [pool.submit(stream, server, SLOW, begin(i)) for i in range(6)]
        eventually(lambda: all(begun))
        os.kill(host, signal.SIGKILL)
        with urllib.request.urlopen(server.root_url + "/healthz", timeout=5) as answer:
            assert answer.status == 200
        fresh = pool.submit(stream, server, SLOW)
        for one in running:
            with pytest.raises(openai.APIError):
                one.result(60)
        assert fresh.result(60)[1] in ("stop", "length")
    (again,) = host_pids(server.home)
    assert again != host
    assert "was killed by SIGKILL; restarting it" in server.said()


def test_no_orphan_is_left_after_a_kill_by_force_and_the_next_start_works(served: Start, tmp_path: Path) -> None:
    server = served("fake:echo", forked=False)
    assert len(processes_of(server.home)) >= 3
    server.process.kill()
    server.process.wait()
    eventually(lambda: processes_of(server.home) == [])
    again = start_served(server.home, ["fake:echo"], store=None, port=server.port, grpc_port=server.grpc_port)
    try:
        assert ask(again, "fake:echo", "still here") == "still here"
    finally:
        assert again.stop() == 0


def test_sigterm_lets_running_answers_end_and_takes_no_new_ones(served: Start) -> None:
    server = served(SLOW)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        begun: list[bool] = []
        running = pool.submit(stream, server, SLOW, lambda: begun.append(True))
        eventually(lambda: bool(begun))
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: not server.ready())
        assert running.result(60) == (60, "length")
        assert server.process.wait(30) == 0
    assert "stopped" in server.said()


def test_a_second_interrupt_hurries(served: Start) -> None:
    server = served("fake:random?tok_per_s=1&tokens=1000")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        begun: list[bool] = []
        running = pool.submit(stream, server, "fake:random?tok_per_s=1&tokens=1000", lambda: begun.append(True))
        eventually(lambda: bool(begun))
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        started_s = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        server.process.wait(20)
        assert time.monotonic() - started_s < 10
        with pytest.raises((openai.APIError, AssertionError)):
            assert running.result(60)[1] == "stop"
    assert processes_of(server.home) == []


CONFIG = """
[[model]]
name = "{name}"
alias = "chat"
[[model]]
name = "fake:echo"
alias = "other"
"""


@pytest.fixture(scope="module")
def standing(served_for_all: Start) -> Served:
    return served_for_all(config=CONFIG.format(name=SLOW))


@pytest.fixture
def configured(standing: Served, ashore: Run) -> Served:
    """A server with the configuration above, whatever the test before made of it."""
    (standing.home / "ashore.toml").write_text(CONFIG.format(name=SLOW))
    done = ashore("reload", home=standing.home)
    assert done.returncode == 0, done.stderr
    eventually(lambda: len(host_pids(standing.home)) == 2)
    return standing


def test_reload_changes_over_without_dropping_a_stream(configured: Served, ashore: Run) -> None:
    server = configured
    new = "fake:echo?seed=1"
    (server.home / "ashore.toml").write_text(CONFIG.format(name=new).replace('"other"', '"third"'))
    told = ashore("reload", "--dry-run", home=server.home)
    assert told.returncode == 0, told.stderr
    assert "~ chat:" in told.stdout and "- other:" in told.stdout and "+ third:" in told.stdout
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        begun: list[bool] = []
        running = pool.submit(stream, server, "chat", lambda: begun.append(True))
        eventually(lambda: bool(begun))
        before = host_pids(server.home)
        done = ashore("reload", home=server.home)
        assert done.returncode == 0, done.stderr + server.everything_said()
        assert ask(server, "chat", "new") == "new" and ask(server, "third", "yes") == "yes"
        assert running.result(60) == (60, "length")
    eventually(lambda: len(host_pids(server.home)) == 2 and not set(before) & set(host_pids(server.home)))
    with client(server) as api:
        assert sorted(m.id for m in api.models.list()) == ["chat", "third"]


def test_a_reload_leaves_what_was_promoted_and_says_where_the_file_disagrees(configured: Served, ashore: Run) -> None:
    server, key = configured, owner_key(configured)
    chosen = {"alias": "chat", "model": "fake:echo?seed=5"}
    name = str(call(server, "POST", "/admin/v1/releases", key, chosen)["name"])
    call(server, "POST", f"/admin/v1/releases/{name}/promote", key, {"override": "a trial"})
    eventually(lambda: call(server, "GET", f"/admin/v1/releases/{name}", key)["state"] == "live")
    (server.home / "ashore.toml").write_text(CONFIG.format(name="fake:echo?seed=6"))
    foreseen = ashore("reload", "--dry-run", home=server.home)
    assert f"= chat: {name}, fake:echo?seed=5" in foreseen.stdout, foreseen.stderr
    assert "ashore.toml says fake:echo?seed=6" in foreseen.stdout
    done = ashore("reload", home=server.home)
    assert (done.returncode, done.stdout) == (0, foreseen.stdout), done.stderr
    assert call(server, "GET", "/admin/v1/aliases/chat", key)["weights_percent"] == {name: 100.0}
    wrong = ashore("reload", "--take", "caht", home=server.home)
    assert wrong.returncode == 2 and "did you mean 'chat'?" in wrong.stderr
    taken = ashore("reload", "--take", "chat", home=server.home)
    assert taken.returncode == 0 and "~ chat: " in taken.stdout, taken.stderr
    assert call(server, "GET", f"/admin/v1/releases/{name}", key)["state"] == "retired"
    assert ask(server, "chat", "yes") == "yes"


def test_a_reload_takes_what_the_cache_may_and_says_what_it_cannot_take(configured: Served, ashore: Run) -> None:
    server = configured

    def label() -> str:
        with client(server) as api:
            given = api.chat.completions.with_raw_response.create(
                model="other", messages=[{"role": "user", "content": "same"}], temperature=1
            )
        return str(given.headers["x-ashore-cache"])

    assert [label(), label()] == ["miss", "miss"]
    warm = CONFIG.format(name=SLOW) + "[cache]\nmax_temperature = 1.0\n"
    (server.home / "ashore.toml").write_text(warm)
    foreseen = ashore("reload", "--dry-run", home=server.home)
    assert "~ [cache] max_temperature: 0.0 -> 1.0" in foreseen.stdout
    assert json.loads(ashore("reload", "--dry-run", "--json", home=server.home).stdout)["sections"] == ["[cache]"]
    told = ashore("reload", home=server.home)
    assert (told.returncode, told.stdout) == (0, foreseen.stdout), told.stderr
    assert told.stderr == "applied\n"
    eventually(lambda: label() == "hit-exact")
    for section in ('[egress]\nallow = ["hooks.bank"]\n', "[jobs]\nconcurrency = 3\n", '[redis]\nurl = "embedded"\n'):
        (server.home / "ashore.toml").write_text(warm + section)
        refused = ashore("reload", home=server.home)
        assert refused.returncode == 2
        assert section.partition("\n")[0] in refused.stderr
        assert "start it again" in refused.stderr


def test_a_reload_with_no_file_or_no_change_says_so(echo: Served, ashore: Run) -> None:
    told = ashore("reload", home=echo.home)
    assert told.returncode == 0 and told.stdout.startswith("= fake:")
    assert "without --config" in told.stderr and "nothing to change" in told.stderr


def test_a_reload_that_cannot_be_served_changes_nothing(configured: Served, ashore: Run) -> None:
    server = configured
    (server.home / "ashore.toml").write_text(CONFIG.format(name="fake:echo?fail_load=1"))
    failed = ashore("reload", home=server.home)
    assert failed.returncode == 4 and "hint:" in failed.stderr
    assert len(host_pids(server.home)) == 2
    assert ask(server, "other", "still") == "still"
    (server.home / "ashore.toml").write_text("[htp]\n")
    assert ashore("reload", home=server.home).returncode == 2
    (server.home / "ashore.toml").write_text(CONFIG.format(name=SLOW) + "[admission]\nmax_waiting = 7\n")
    assert ashore("reload", home=server.home).returncode == 0


def test_a_reload_in_the_middle_of_another_comes_after_it(configured: Served, ashore: Run) -> None:
    server = configured
    (server.home / "ashore.toml").write_text(CONFIG.format(name="fake:echo?load_s=2&seed=1"))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(ashore, "reload", home=server.home)
        eventually(lambda: len(host_pids(server.home)) == 3)
        (server.home / "ashore.toml").write_text(CONFIG.format(name="fake:echo?seed=2").replace('"other"', '"third"'))
        second = ashore("reload", home=server.home)
        done = first.result(60)
    assert (done.returncode, second.returncode) == (0, 0), done.stderr + second.stderr + server.everything_said()
    assert ask(server, "chat", "new") == "new" and ask(server, "third", "yes") == "yes"
    eventually(lambda: len(host_pids(server.home)) == 2)
    with client(server) as api:
        assert sorted(m.id for m in api.models.list()) == ["chat", "third"]


def test_a_reload_in_the_middle_of_which_the_server_stops_is_not_made(served: Start, ashore: Run) -> None:
    server = served(config=CONFIG.format(name=SLOW))
    started = server.everything_said().count("ready in")
    (server.home / "ashore.toml").write_text(CONFIG.format(name="fake:echo?load_s=60"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(ashore, "reload", home=server.home)
        eventually(lambda: len(host_pids(server.home)) == 3)
        (server.home / "ashore.toml").write_text(CONFIG.format(name="fake:echo?seed=2"))
        second = pool.submit(ashore, "reload", home=server.home)
        time.sleep(1.5)  # it waits for the first one by now, unless the machine is busy
        assert server.stop() == 0
        told, then = first.result(60), second.result(60)
        assert told.returncode == 4 and "is stopping" in told.stderr, told.stderr
        assert then.returncode == 4, then.stderr
    assert server.everything_said().count("ready in") == started, "nothing was loaded any more"
    assert processes_of(server.home) == []


def test_a_command_after_the_server_has_ended_says_how_to_start_it(served: Start, ashore: Run) -> None:
    server = served("fake:echo")
    assert server.stop() == 0
    for words in (("cache", "stats"), ("chat",), ("alias", "list")):
        told = ashore(*words, home=server.home)
        assert told.returncode == 4 and "start it again with `ashore up`" in told.stderr, told.stderr


def test_reload_without_a_server_says_so(ashore: Run, tmp_path: Path) -> None:
    result = ashore("reload", home=tmp_path / "home")
    assert result.returncode == 4 and "ashore up" in result.stderr


def test_a_home_of_a_newer_version_is_refused(ashore: Run, tmp_path: Path) -> None:
    import sqlite3

    home = tmp_path / "home"
    home.mkdir()
    raw = sqlite3.connect(home / "state.db")
    raw.executescript("CREATE TABLE meta (key TEXT, value TEXT); INSERT INTO meta VALUES ('schema_version', '99');")
    raw.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    result = ashore("up", "fake:echo", "--port", str(port), "--grpc-port", "0", home=home)
    assert result.returncode == 4 and "schema version 99" in result.stderr


def test_with_every_route_cut_it_starts_and_answers(tmp_path: Path) -> None:
    namespace = ["unshare", "--map-root-user", "--net", "--"]
    probe = subprocess.run([*namespace, "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"network namespaces are not permitted here: {probe.stderr.strip()}")
    script = Path(__file__).parents[1] / "support" / "ask_cut_off.py"
    command = [*namespace, sys.executable, str(script), str(tmp_path / "home"), "fake:echo"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "answer: ping" in result.stdout


def test_a_failed_start_changes_no_state_and_one_that_succeeds_says_what_is_gone(
    ashore: Run, served: Start, tmp_path: Path
) -> None:
    server = served("fake:echo", "fake:echo?seed=1")
    server.stop()

    def aliases() -> dict[str, tuple[str, ...]]:
        state = open_state("", default=server.home / "state.db", snapshots=tmp_path, clock=SystemClock())
        with state.read() as connection:
            book = load_book(connection)
        state.close()
        return {name: alias.releases for name, alias in book.aliases.items()}

    before = aliases()
    assert set(before) == {"fake:echo", "fake:echo?seed=1"}
    port = str(server.port)
    failed = ashore("up", "fake:echo?fail_load=1", "--port", port, "--grpc-port", "0", home=server.home)
    assert failed.returncode == 4 and "was removed" not in failed.stderr
    assert aliases() == before
    again = start_served(server.home, ["fake:echo"], store=None, port=server.port, grpc_port=0)
    try:
        gone = "alias fake:echo?seed=1 was removed: it is not among the models of ashore up"
        eventually(lambda: gone in again.said())
        assert aliases() == {"fake:echo": before["fake:echo"]}
    finally:
        again.stop()
