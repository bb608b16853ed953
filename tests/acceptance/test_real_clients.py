"""Coding clients as their makers publish them: each does a first task with a tool against `ashore up fake:tools`, and
two of them, and LangChain, call a tool of another server through `/mcp/NAME`. No account of a model is needed.

They come from npm, into `ASHORE_TEST_CLIENTS` or the cache of the tests; without npm or its registry they are skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from mcp.server import MCPServer
from served import Served, approve_tools, call, officer_and_owner
from suite_venv import suite_python
from tool_servers import tool_server

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

PACKAGES: Final = (
    *("@anthropic-ai/claude-code@2.1.197", "@openai/codex@0.171.0", "opencode-ai@1.18.33"),
    *("@continuedev/cli@1.5.47", "cline@3.0.65"),
)
AFTER: Final = (("@anthropic-ai/claude-code", "install.cjs"), ("opencode-ai", "postinstall.mjs"))
"""Scripts that put a program into place; npm runs none by itself here."""
ALIAS: Final = "served"
CONFIG: Final = f'[[model]]\nname = "fake:tools?context=400000"\nalias = "{ALIAS}"\n'
SUM: Final = "ash-42"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How a client is called."""

    words: list[str]
    env: dict[str, str] = field(default_factory=dict)
    said: str = ""
    before: list[str] = field(default_factory=list)


def asked(tool: str, **arguments: object) -> str:
    """Return a prompt on which `fake:tools` calls a tool that says `ash-42`."""
    return f"<tool_call>{json.dumps({'name': tool, 'arguments': arguments})}</tool_call>"


COMMAND: Final = "echo ash-$((40+2))"


def claude(server: Served, home: Path) -> Call:
    env = {
        "ANTHROPIC_BASE_URL": server.root_url,
        "ANTHROPIC_AUTH_TOKEN": server.key,
        "ANTHROPIC_MODEL": ALIAS,
        "ANTHROPIC_SMALL_FAST_MODEL": ALIAS,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    return Call(
        words=["claude", "-p", asked("Bash", command=COMMAND, description="d"), "--allowedTools", "Bash"], env=env
    )


def codex(server: Served, home: Path, prompt: str = "") -> Call:
    (home / ".codex").mkdir()
    (home / ".codex" / "config.toml").write_text(
        f'model = "{ALIAS}"\nmodel_provider = "ashore"\n[model_providers.ashore]\nname = "ashore"\n'
        f'base_url = "{server.base_url}"\nenv_key = "ASHORE_API_KEY"\nwire_api = "responses"\n'
    )
    words = ["codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    return Call(words=[*words, prompt or asked("exec_command", cmd=COMMAND)], env={"ASHORE_API_KEY": server.key})


def codex_agent(server: Served, home: Path) -> Call:
    """A tool of a namespace, which Codex CLI finds by that alone."""
    return codex(server, home, asked("spawn_agent", message=SUM))


def opencode(server: Served, home: Path) -> Call:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "ashore",
        "options": {"baseURL": server.base_url, "apiKey": server.key},
        "models": {ALIAS: {"name": ALIAS, "tool_call": True}},
    }
    folder = home / ".config" / "opencode"
    folder.mkdir(parents=True)
    config = {"provider": {"ashore": provider}, "autoupdate": False, "permission": {"bash": "allow"}}
    (folder / "opencode.json").write_text(json.dumps(config))
    prompt = asked("bash", command=COMMAND, description="d")
    return Call(words=["opencode", "run", "-m", f"ashore/{ALIAS}"], said=prompt)


def continue_(server: Served, home: Path) -> Call:
    model = {
        "name": ALIAS,
        "provider": "openai",
        "model": ALIAS,
        "apiBase": server.base_url,
        "apiKey": server.key,
        "roles": ["chat"],
        "capabilities": ["tool_use"],
    }
    config = home / "continue.yaml"
    config.write_text(json.dumps({"name": "ashore", "version": "1.0.0", "schema": "v1", "models": [model]}))
    prompt = asked("Bash", command=COMMAND)
    return Call(words=["cn", "-p", "--auto", "--config", str(config), prompt], env={"CONTINUE_TELEMETRY_ENABLED": "0"})


def cline(server: Served, home: Path) -> Call:
    known = ["-p", "openai-compatible", "-k", server.key, "-m", ALIAS, "-b", server.base_url]
    prompt = asked("run_commands", commands=[COMMAND])
    return Call(words=["cline", "--json", "--retries", "1", "-t", "60", prompt], before=["cline", "auth", *known])


@pytest.fixture(scope="module")
def programs() -> Path:
    """The folder of the clients' programs."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    cache = Path(os.environ.get("ASHORE_TEST_CACHE", ".cache/test"))
    folder = Path(os.environ.get("ASHORE_TEST_CLIENTS", cache / "clients")).absolute()
    kept = folder / "installed.json"
    if not kept.exists() or kept.read_text() != json.dumps(PACKAGES):
        words = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES]
        done = subprocess.run(words, capture_output=True, text=True, timeout=800, check=False)
        if done.returncode:
            pytest.skip(f"npm could not install the clients: {done.stderr[-300:]}")
        for package, script in AFTER:
            subprocess.run(["node", script], cwd=folder / "node_modules" / package, check=True, timeout=120)
        kept.write_text(json.dumps(PACKAGES))
    return folder / "node_modules" / ".bin"


@pytest.fixture(scope="module")
def server(served_for_all: Callable[..., Served]) -> Served:
    return served_for_all(config=CONFIG)


@pytest.mark.parametrize("client", [claude, codex, codex_agent, opencode, continue_, cline])
def test_a_first_task_comes_to_its_end(
    client: Callable[[Served, Path], Call], server: Served, programs: Path, tmp_path: Path
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    given = client(server, home)
    env = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "DO_NOT_TRACK": "1", **given.env}
    for words, said in ((given.before, ""), (given.words, given.said)):
        if words:
            done = subprocess.run(
                words, cwd=work, env=env, input=said, capture_output=True, text=True, timeout=180, check=False
            )
    said_all = done.stdout + done.stderr
    assert done.returncode == 0, said_all[-2000:]
    assert SUM in said_all, said_all[-2000:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bank:
    """A server with a tool of another one, and the key of an agent that may call it."""

    served: Served
    key: str
    called: list[str]

    @property
    def url(self) -> str:
        return f"{self.served.root_url}/mcp/bank"


@pytest.fixture(scope="module")
def bank(served_for_all: Callable[..., Served]) -> Iterator[Bank]:
    behind, called = MCPServer("bank"), list[str]()

    @behind.tool()
    def balance(account: str) -> str:
        """Return the balance of an account."""
        called.append(account)
        return f"{account} has {SUM}"

    with tool_server(behind) as tools:
        server = served_for_all(config=f'{CONFIG}\n[[mcp.server]]\nname = "bank"\nurl = "{tools.url}"\n')
        officer, _ = officer_and_owner(server)
        rules = {"rules": ["mcp:call on tool/bank/balance", "infer on model/*"]}
        call(server, "PUT", "/admin/v1/roles/agent", officer, rules)
        made = call(server, "POST", "/admin/v1/users", officer, {"id": "a", "roles": ["agent"], "key": {}})
        approve_tools(server, officer, "bank")
        yield Bank(served=server, key=made["key"]["key"], called=called)


def ran(words: list[str], programs: Path, home: Path, **env: str) -> str:
    """Run a client, and return what it says."""
    work = home / "work"
    work.mkdir(parents=True, exist_ok=True)
    whole = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(home), "DO_NOT_TRACK": "1", **env}
    done = subprocess.run(
        words, cwd=work, env=whole, input="", capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    return done.stdout + done.stderr


def test_claude_code_lists_and_calls_a_tool_through_ashore(bank: Bank, programs: Path, tmp_path: Path) -> None:
    given = claude(bank.served, tmp_path)
    add = ["claude", "mcp", "add", "--transport", "http", "bank", bank.url]
    ran([*add, "--header", f"Authorization: Bearer {bank.key}"], programs, tmp_path, **given.env)
    listed = ran(["claude", "mcp", "list"], programs, tmp_path, **given.env)
    assert "bank" in listed and "Connected" in listed, listed
    wish = asked("mcp__bank__balance", account="claude")
    said = ran(["claude", "-p", wish, "--allowedTools", "mcp__bank__balance"], programs, tmp_path, **given.env)
    assert f"claude has {SUM}" in said and "claude" in bank.called, said


def test_codex_calls_a_tool_through_ashore(bank: Bank, programs: Path, tmp_path: Path) -> None:
    given = codex(bank.served, tmp_path, asked("balance", account="codex"))
    with (tmp_path / ".codex" / "config.toml").open("a") as file:
        file.write(f'[mcp_servers.bank]\nurl = "{bank.url}"\nbearer_token_env_var = "BANK_KEY"\n')
    said = ran(given.words, programs, tmp_path, BANK_KEY=bank.key, **given.env)
    assert f"codex has {SUM}" in said and "codex" in bank.called, said


LANGCHAIN: Final = """
import asyncio, sys
from langchain_mcp_adapters.client import MultiServerMCPClient

async def main(url, key):
    headers = {"Authorization": f"Bearer {key}"}
    client = MultiServerMCPClient({"bank": {"transport": "streamable_http", "url": url, "headers": headers}})
    tools = await client.get_tools()
    print([tool.name for tool in tools], await tools[0].ainvoke({"account": "langchain"}))

asyncio.run(main(*sys.argv[1:]))
"""


def test_langchain_calls_a_tool_through_ashore(bank: Bank, tmp_path: Path) -> None:
    python = suite_python("langchain-mcp")
    said = ran([str(python), "-c", LANGCHAIN, bank.url, bank.key], tmp_path, tmp_path)
    assert "['balance']" in said and f"langchain has {SUM}" in said and "langchain" in bank.called, said
