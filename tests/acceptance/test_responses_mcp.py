"""`tools: [{"type": "mcp"}]` of `/v1/responses`: a model of a script behind ashore calls a real server of tools."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from chat_double import RESET, ChatDouble, piece, usage, whole
from mcp.server import MCPServer
from served import Served, approve_tools, call, officer_and_owner, start_served
from tool_servers import ToolServer, tool_server

CONFIG = """
[[model]]
name = "chat:the-model"
alias = "chat"
[model.engine]
fleet = true

[[fleet.node]]
node = "one"
address = "{model}"
model = "chat"

[[mcp.server]]
name = "bank"
url = "{tools}"
result_bytes = 20000

[audit]
durability = "strict"

[privacy.prompts]
phone = "mask"
"""
PHONE = "13912345678"
BANK = {"type": "mcp", "server_label": "bank", "require_approval": "never"}


class House:
    """A server with a model of a script and a bank of tools, and two users."""

    def __init__(self, server: Served, model: ChatDouble, bank: ToolServer, seen: list[str]) -> None:
        self.server, self.model, self.bank, self.seen = server, model, bank, seen
        self.officer, _ = officer_and_owner(server)
        rules = ["mcp:call on tool/bank/*", "deny mcp:call on tool/bank/transfer", "infer on model/*"]
        call(server, "PUT", "/admin/v1/roles/teller", self.officer, {"rules": rules})
        call(server, "PUT", "/admin/v1/roles/plain", self.officer, {"rules": ["infer on model/*"]})
        self.teller, self.plain = self.user("teller"), self.user("plain")
        self.approve()

    def approve(self) -> None:
        approve_tools(self.server, self.officer, "bank")

    def user(self, name: str, role: str = "") -> str:
        wish = {"id": name, "roles": [role or name], "key": {}}
        made = call(self.server, "POST", "/admin/v1/users", self.officer, wish)
        return str(made["key"]["key"])

    def client(self, key: str = "") -> openai.OpenAI:
        return openai.OpenAI(base_url=self.server.base_url, api_key=key or self.teller, max_retries=0, timeout=30)

    def ask(self, script: Callable[[list[Any]], list[Any]], key: str = "", **asked: Any) -> Any:
        """Ask the model, which answers each turn by `script` of the messages so far."""
        self.model.script = lambda body: script(body["messages"])
        wish: dict[str, Any] = {"model": "chat", "input": "How much is on 7?", "tools": [BANK], **asked}
        with self.client(key) as api:
            found = api.responses.create(**wish)
            return list(found) if asked.get("stream") else found

    def acts(self, action: str) -> list[dict[str, Any]]:
        found = call(self.server, "GET", f"/admin/v1/audit/records?action={action}&limit=100", self.auditor())["items"]
        return list(found)

    def auditor(self) -> str:
        if not hasattr(self, "_auditor"):
            wish = {"id": "aud", "roles": ["auditor"], "key": {}}
            self._auditor = str(call(self.server, "POST", "/admin/v1/users", self.server.key, wish)["key"]["key"])
        return self._auditor


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]) -> Iterator[House]:
    server, seen = MCPServer("bank"), list[str]()

    @server.tool()
    def balance(account: str) -> str:
        """Return the balance of an account."""
        seen.append(account)
        return f"{account}: 42 yuan"

    @server.tool()
    def flood() -> str:
        return "x" * 30_000

    @server.tool()
    def transfer(account: str) -> str:
        """Send money."""
        seen.append(f"sent {account}")
        return "sent"

    with ChatDouble() as model, tool_server(server) as bank:
        config = CONFIG.format(model=model.url, tools=bank.url)
        home = tmp_path_factory.mktemp("responses-mcp")
        running = start_served(home, (), store=None, port=free_port(), grpc_port=0, config=config)
        try:
            yield House(running, model, bank, seen)
        finally:
            assert running.stop() == 0


def calls(*asked: tuple[str, str], end: str = "tool_calls") -> list[Any]:
    """Return a turn of the model that calls tools: names with arguments."""
    pieces = [
        piece(tool_calls=[{"index": at, "id": f"c{at}", "function": {"name": name, "arguments": arguments}}])
        for at, (name, arguments) in enumerate(asked)
    ]
    return [*pieces, piece(end=end), usage(9, 4), "[DONE]"]


def once(*asked: tuple[str, str]) -> Callable[[list[Any]], list[Any]]:
    """Return a script that calls tools, and then repeats what the last one said."""
    return lambda messages: whole(messages[-1]["content"]) if messages[-1]["role"] == "tool" else calls(*asked)


def test_the_model_calls_a_tool_and_answers_with_what_it_said(house: House) -> None:
    del house.model.bodies[:]
    found = house.ask(once(("balance", '{"account": "7"}')))
    assert [one.type for one in found.output] == ["mcp_list_tools", "mcp_call", "message"]
    listed, called, _ = found.output
    assert (listed.server_label, [one.name for one in listed.tools]) == ("bank", ["balance", "flood"])
    assert listed.tools[0].input_schema["properties"]["account"] and listed.tools[0].description
    assert (called.server_label, called.name, called.status) == ("bank", "balance", "completed")
    assert (called.arguments, called.output, called.error) == ('{"account": "7"}', "7: 42 yuan", None)
    assert found.output_text == "7: 42 yuan" and found.status == "completed"
    assert found.usage.output_tokens == 4 + len("7: 42 yuan") and found.usage.input_tokens == 18
    assert [one["function"]["name"] for one in house.model.bodies[-1]["tools"]] == ["balance", "flood"]
    roles = [one["role"] for one in house.model.bodies[-1]["messages"]]
    assert roles == ["user", "assistant", "tool"]


def test_a_stream_has_the_events_of_openai_in_order(house: House) -> None:
    events = house.ask(once(("balance", '{"account": "8"}')), stream=True)
    assert [one.sequence_number for one in events] == list(range(len(events)))
    kinds = [one.type.removeprefix("response.") for one in events if not one.type.endswith("output_text.delta")]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "mcp_list_tools.in_progress", "mcp_list_tools.completed", "output_item.done",
        "output_item.added", "mcp_call.in_progress", "mcp_call_arguments.delta", "mcp_call_arguments.done",
        "mcp_call.completed", "output_item.done",
        "output_item.added", "content_part.added", "output_text.done", "content_part.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    done = [one.item for one in events if one.type == "response.output_item.done"]
    assert [one.model_dump() for one in done] == [one.model_dump() for one in events[-1].response.output]


def test_a_stored_response_is_followed_and_a_background_one_calls_its_tools(house: House) -> None:
    first = house.ask(once(("balance", '{"account": "9"}')), store=True)
    del house.model.bodies[:]
    house.ask(lambda messages: whole("As said."), previous_response_id=first.id, input="And now?")
    told = house.model.bodies[-1]["messages"]
    assert [one["role"] for one in told] == ["user", "assistant", "tool", "assistant", "user"]
    assert told[1]["tool_calls"][0]["function"]["name"] == "balance" and told[2]["content"] == "9: 42 yuan"
    found = house.ask(once(("balance", '{"account": "10"}')), background=True)
    with house.client() as api:
        while found.status in ("queued", "in_progress"):
            found = api.responses.retrieve(found.id)
    assert found.status == "completed" and found.output[1].output == "10: 42 yuan"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"server_url": "https://evil.example/mcp"}, "server_url is not taken from a client"),
        ({"connector_id": "connector_gmail"}, "connector_id is not taken"),
        ({"authorization": "secret"}, "authorization is not taken"),
        ({"headers": {"x": "y"}}, "headers is not taken"),
        ({"require_approval": "always"}, "asks nobody before it calls"),
        ({"require_approval": None}, "asks nobody before it calls"),
        ({"require_approval": {"never": {"tool_names": ["balance"]}}}, "asks nobody before it calls"),
        ({"server_label": "none"}, "there is no tool for you at '/mcp/none'"),
        ({"server_label": "../admin"}, "there is no tool for you"),
        ({"allowed_tools": ["balanse"]}, "balanse"),
        ({"allowed_tools": ["transfer"]}, "which is no tool that you may call there"),
    ],
)
def test_what_a_client_may_not_ask_for_is_refused_in_words(house: House, more: dict[str, Any], why: str) -> None:
    with pytest.raises(openai.BadRequestError, match=why):
        house.ask(lambda messages: whole("No."), tools=[{**BANK, **more}])


def test_a_caller_without_rights_reaches_no_tool_and_two_of_one_label_are_refused(house: House) -> None:
    with pytest.raises(openai.BadRequestError, match="there is no tool for you at '/mcp/bank'"):
        house.ask(lambda messages: whole("No."), house.plain)
    with pytest.raises(openai.BadRequestError, match="is named twice"):
        house.ask(lambda messages: whole("No."), tools=[BANK, BANK])


def test_a_model_calls_no_tool_that_its_caller_may_not_call(house: House) -> None:
    """The words of a tool, or a prompt, may make a model call anything."""
    del house.seen[:]
    for name in ("transfer", "bank__transfer", "../transfer", "mcp_withdraw"):
        found = house.ask(once((name, '{"account": "7"}')))
        assert [one.type for one in found.output] == ["mcp_list_tools", "function_call"], "nobody here knows it"
    found = house.ask(once(("balance", '{"account": "7"}')), tools=[{**BANK, "allowed_tools": ["flood"]}])
    assert found.output[-1].type == "function_call" and house.seen == []


def test_filters_leave_out_tools(house: House) -> None:
    for wanted, names in (
        (["balance"], ["balance"]), ({"tool_names": ["flood"]}, ["flood"]), ({"read_only": True}, []), ([], []),
    ):  # fmt: skip
        found = house.ask(lambda messages: whole("Yes."), tools=[{**BANK, "allowed_tools": wanted}])
        assert [one.name for one in found.output[0].tools] == names


def test_what_a_policy_masks_reaches_neither_the_model_nor_the_tool(house: House) -> None:
    del house.model.bodies[:], house.seen[:]

    def script(messages: list[Any]) -> list[Any]:
        said = messages[0]["content"].rpartition(" ")[2]
        return once(("balance", json.dumps({"account": said})))(messages)

    found = house.ask(script, input=f"What is on {PHONE}")
    assert house.seen == ["[PHONE_1]"] and PHONE not in json.dumps(house.model.bodies)
    assert found.output_text == f"{PHONE}: 42 yuan"


def test_calls_and_turns_are_bounded(house: House) -> None:
    del house.seen[:], house.model.bodies[:]

    def always(messages: list[Any]) -> list[Any]:
        can = "tools" in house.model.bodies[-1]
        return calls(*[("balance", '{"account": "1"}')] * 5) if can else whole("Enough.")

    found = house.ask(always)
    assert len(house.seen) == 16 and len(house.model.bodies) == 5 and found.output_text == "Enough."
    failed = [one for one in found.output if one.type == "mcp_call" and one.error]
    assert failed and all("limit of tool calls" in one.error.message for one in failed)
    del house.seen[:]
    found = house.ask(always, max_tool_calls=2)
    assert len(house.seen) == 2
    del house.seen[:], house.model.bodies[:]
    found = house.ask(
        lambda messages: calls(("balance", '{"account": "1"}')) if len(house.model.bodies) < 8 else always(messages)
    )
    assert len(house.model.bodies) == 8 and found.output_text == "Enough."


def test_all_turns_together_have_the_tokens_of_one_answer(house: House) -> None:
    found = house.ask(once(("balance", '{"account": "7"}')), max_output_tokens=4)
    assert (found.status, found.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [one.type for one in found.output] == ["mcp_list_tools", "mcp_call"]


def test_a_call_that_fails_is_read_by_the_model(house: House) -> None:
    found = house.ask(once(("flood", "{}")))
    _, called, message = found.output
    assert (called.status, called.output, called.error.type) == ("failed", None, "mcp_tool_execution_error")
    assert "sent more than 20,000 bytes" in json.dumps(called.error.content)
    assert "sent more than 20,000 bytes" in message.content[0].text


def test_functions_of_the_client_are_left_to_it(house: House) -> None:
    own = {"type": "function", "name": "look", "parameters": {"type": "object"}}
    found = house.ask(once(("balance", '{"account": "7"}'), ("look", "{}")), tools=[BANK, own])
    assert [one.type for one in found.output] == ["mcp_list_tools", "mcp_call", "function_call"]
    assert found.output[1].output == "7: 42 yuan"


def test_the_record_of_a_call_is_kept_before_the_answer(house: House) -> None:
    before = len(house.acts("mcp:call"))
    found = house.ask(once(("balance", '{"account": "7"}')))
    rows = house.acts("mcp:call")
    assert len(rows) == before + 1, "strict mode"
    assert (rows[0]["resource"], rows[0]["outcome"]) == ("tool/bank/balance", "done") and found.status == "completed"


@pytest.mark.parametrize("way", ["withdrawn", "disabled"])
def test_what_ends_between_two_turns_is_called_no_more(house: House, way: str) -> None:
    del house.seen[:]
    key, before = house.user(way, "teller"), len(house.acts("mcp:call"))

    def script(messages: list[Any]) -> list[Any]:
        told = [one for one in messages if one["role"] == "tool"]
        if len(told) == 1 and way == "withdrawn":
            call(house.server, "POST", "/admin/v1/mcp/servers/bank/withdraw", house.officer, {"tools": ["balance"]})
        if len(told) == 1 and way == "disabled":
            call(house.server, "PATCH", f"/admin/v1/users/{way}", house.officer, {"disabled": True})
        time.sleep(1.0 if told else 0.0)
        return whole("Done.") if len(told) == 2 else calls(("balance", f'{{"account": "{len(told)}"}}'))

    try:
        if way == "withdrawn":
            found = house.ask(script, key)
            assert [one.error is None for one in found.output if one.type == "mcp_call"] == [True, False]
        else:
            with pytest.raises(openai.APIStatusError):
                house.ask(script, key)
        assert house.seen == ["0"]
        rows = house.acts("mcp:call")
        outcomes = [one["outcome"] for one in rows[: len(rows) - before]]
        assert outcomes == (["denied", "done"] if way == "withdrawn" else ["done"])
    finally:
        house.approve()


@pytest.mark.parametrize("stream", [False, True])
def test_a_background_response_that_is_tried_again_repeats_no_call(house: House, stream: bool) -> None:
    del house.seen[:]

    def script(messages: list[Any]) -> list[Any]:
        return [RESET] if messages[-1]["role"] == "tool" else calls(("balance", '{"account": "5"}'))

    found = house.ask(script, background=True, stream=stream)
    found = found[-1].response if stream else found
    with house.client() as api:
        while found.status in ("queued", "in_progress"):
            found = api.responses.retrieve(found.id)
            time.sleep(0.05)
    assert house.seen == ["5"]
    assert found.status == "failed"
    assert "had called tools" in found.error.message and "not repeated" in found.error.message


def test_two_tools_whose_long_names_are_cut_alike_are_both_there(house: House) -> None:
    own = [
        {"type": "function", "name": name, "parameters": {"type": "object"}} for name in ("balance", "bank__balance")
    ]
    found = house.ask(once(("balance", "{}"), ("bank__balance", "{}")), tools=[BANK, *own])
    assert [one.type for one in found.output] == ["mcp_list_tools", "function_call", "function_call"]
    assert len(house.model.bodies[-1]["tools"]) == 4
