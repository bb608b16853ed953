"""Tools of other servers through a worker: the clients and servers are of the `mcp` library, or hostile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from http_worker import Worker, http_worker
from mcp.server import MCPServer
from tool_servers import (
    OddServer,
    ToolServer,
    ask,
    names,
    odd_server,
    tool,
    tool_server,
)

from ashore.data.audit import AuditLink
from ashore.data.path import StateLink
from ashore.data.privacy import PrivacyPolicy

PHONE, OTHER = "13912345678", "13812345678"


class House:
    """A worker, a bank's server of tools, an odd one, and three agents."""

    def __init__(self, worker: Worker, bank: ToolServer, odd: OddServer, gate: threading.Event) -> None:
        self.worker, self.bank, self.odd, self.gate = worker, bank, odd, gate
        self.officer = self.made("POST", "/users", {"id": "sec", "roles": ["security-officer"], "key": {}}, worker.key)[
            "key"
        ]["key"]
        for role, rules in (
            ("teller", ["mcp:call on tool/bank/*", "mcp:call on tool/odd/*", "deny mcp:call on tool/bank/transfer"]),
            ("chief", ["mcp:call on tool/bank/transfer"]),
        ):
            self.made("PUT", f"/roles/{role}", {"rules": rules})
        self.teller, self.chief, self.nobody = (
            self.user("teller", "teller"), self.user("chief", "chief"), self.user("idle"),
        )  # fmt: skip
        self.approve("bank")

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        headers = {"authorization": f"Bearer {key or self.officer}", "content-type": "application/json"}
        data = None if body is None else json.dumps(body)
        status, _, said = self.worker.request(method, f"/admin/v1{path}", data, headers)
        return status, json.loads(said)

    def made(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        status, said = self.ask(method, path, body, key)
        assert status == 200, said
        return said

    def user(self, name: str, *roles: str, **wish: object) -> str:
        wish = {"id": name, "roles": list(roles), "key": {}, **wish}
        return str(self.made("POST", "/users", wish)["key"]["key"])

    def url(self, server: str) -> str:
        return f"{self.worker.root}/mcp/{server}"

    def approve(self, server: str, *tools: str) -> None:
        digest = self.made("POST", f"/mcp/servers/{server}/check", {})["digest"]
        self.made("POST", f"/mcp/servers/{server}/approve", {"digest": digest, "tools": list(tools)})

    def raw(self, server: str, body: Any, key: str = "", method: str = "POST", **headers: str) -> tuple[int, Any]:
        said = {"authorization": f"Bearer {key or self.teller}", "content-type": "application/json"}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, _, answer = self.worker.request(method, f"/mcp/{server}", data, said)
        return status, json.loads(answer) if answer[:1] in (b"{", b"[") else answer

    def odd_call(self, answer: Any) -> Any:
        self.odd.answer = answer
        return ask(self.url("odd"), self.teller, "probe", {})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder, gate, server = tmp_path_factory.mktemp("mcp"), threading.Event(), MCPServer("bank")

    @server.tool()
    def balance(account: str) -> str:
        """Return the balance of an account."""
        return f"{account}: 42, call {OTHER}"

    @server.tool()
    def flood() -> str:
        return "x" * 500_000

    @server.tool()
    async def wait() -> str:
        while not gate.is_set():
            await asyncio.sleep(0.01)
        return "done"

    @server.tool()
    def transfer(amount: int) -> str:
        return f"sent {amount}"

    with tool_server(server) as bank, odd_server() as odd:
        odd.tools = [tool("probe")]
        servers = [
            {"name": "bank", "url": bank.url, "token": "bank-secret", "timeout_s": 60.0, "at_once": 4},
            {"name": "odd", "url": odd.url, "timeout_s": 2.0, "result_bytes": 4_096},
        ]
        with http_worker(
            folder / "run", state=StateLink(path=str(folder / "state.db")), budgets=str(folder / "budgets"),
            audit=AuditLink(path=str(folder / "audit")), privacy=PrivacyPolicy(prompts={"phone": "mask"}),
            sections={"mcp": {"servers": servers, "origins": ["https://agents.corp.example"]}},
        ) as worker:  # fmt: skip
            yield House(worker, bank, odd, gate)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_each_role_sees_and_calls_its_tools_alone(house: House, mode: str) -> None:
    assert names(house.url("bank"), house.teller, mode) == ["balance", "flood", "wait"]
    assert names(house.url("bank"), house.chief, mode) == ["transfer"]
    assert ask(house.url("bank"), house.chief, "transfer", {"amount": 7}, mode).structured_content == {
        "result": "sent 7"
    }


@pytest.mark.parametrize("name", ["transfer", "none", "bank__balance", "odd/probe", "../odd/probe", "balance\n", ""])
def test_a_tool_that_is_hidden_sounds_like_one_that_does_not_exist(house: House, name: str) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {"amount": 1}}}
    status, said = house.raw("bank", call)
    assert (status, said["error"]) == (200, {"code": -32602, "message": f"unknown tool: {name}"})
