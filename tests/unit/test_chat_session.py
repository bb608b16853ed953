"""The commands of `ashore chat`, with a server that says what it is told."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ashore.cli.chat import Session, answer_pipe, ask, choose_model
from ashore.cli.chatclient import Conversation, Piece, Stats, read_event
from ashore.cli.chatscreen import Screen, printable
from ashore.cli.refusals import raise_refusal
from ashore.cli.target import ServerTarget, api_base, find_target, is_loopback, is_of_this_machine
from ashore.core.errors import (
    AshoreError,
    InvalidRequest,
    NotReady,
    Overloaded,
    RemoteRefused,
    SourceUnreachable,
    Unauthenticated,
    UnknownModel,
)
from ashore.data.path import HttpListen, Topology, write_topology
from ashore.kit.settings import read_settings


class Parrot:
    """Answers with the last question, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, str]]] = []
        self.fault: Exception | None = None
        self.interrupt = False

    def models(self) -> list[str]:
        return ["one", "two"]

    def ask(self, conversation: Conversation, stats: Stats) -> Iterator[Piece]:
        self.asked.append(conversation.messages())
        if self.fault:
            raise self.fault
        yield Piece(reasoning="hm")
        yield Piece(text="you said ")
        if self.interrupt:
            raise KeyboardInterrupt
        yield Piece(text=conversation.turns[-1].content)


@pytest.fixture
def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
def session(parrot: Parrot) -> Session:
    return Session(parrot, Conversation(model="one"), Screen(show_stats=False))  # type: ignore[arg-type]


def test_answers_make_a_conversation(session: Session, parrot: Parrot, capsys: pytest.CaptureFixture[str]) -> None:
    assert session.take("hello") and session.take("again")
    assert [m["content"] for m in parrot.asked[1]] == ["hello", "you said hello", "again"]
    out = capsys.readouterr().out
    assert out == "you said hello\nyou said again\n", "reasoning is for terminals"


@pytest.mark.parametrize(
    ("piped", "asked"),
    [
        ("hello\n/help\n/exit\nnever\n", ["hello"]),
        ("a report\nof two lines\n", ["a report\nof two lines"]),
        ("one\n/reset\n/etc/passwd is a path\n", ["one", "/etc/passwd is a path"]),
        ("/exit\n", []),
    ],
)
def test_a_pipe_is_one_question_up_to_a_command(
    session: Session, parrot: Parrot, monkeypatch: pytest.MonkeyPatch, piped: str, asked: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    assert answer_pipe(parrot, session.conversation, session.screen) == 0  # type: ignore[arg-type]
    assert [messages[-1]["content"] for messages in parrot.asked] == asked


@pytest.mark.parametrize(("piped", "says"), [("\n \n", "is empty"), ("/params messages []\n", "cannot be set")])
def test_a_pipe_with_nothing_to_do_or_a_wrong_command_is_an_error(
    session: Session, parrot: Parrot, monkeypatch: pytest.MonkeyPatch, piped: str, says: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(piped))
    with pytest.raises(InvalidRequest, match=says):
        answer_pipe(parrot, session.conversation, session.screen)  # type: ignore[arg-type]


def test_system_reset_retry_model_params(session: Session, parrot: Parrot) -> None:
    for line in ("/system be brief", "q", "/retry", "/params temperature 0.5", "/model two"):
        assert session.take(line)
    assert parrot.asked[1] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "q"}]
    assert session.conversation.params == {"temperature": 0.5}
    assert session.conversation.model == "two"
    for line in ("/params temperature unset", "/system -", "/reset"):
        assert session.take(line)
    assert (session.conversation.params, session.conversation.system, session.conversation.turns) == ({}, "", [])
    assert not session.take("/exit")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/hepl", "did you mean '/help'"),
        ("/retry", "no question to retry"),
        ("/model three", "the server has no model called 'three'"),
        ("/params temperature hot", "not valid JSON"),
        ("/params messages []", "cannot be set"),
        ("/load /no/such/file", "cannot read"),
        ("/save", "needs a file name"),
    ],
)
def test_a_mistyped_command_says_what_to_do(
    session: Session, capsys: pytest.CaptureFixture[str], line: str, says: str
) -> None:
    assert session.take(line)
    assert says in capsys.readouterr().err


def test_a_failed_answer_leaves_the_conversation_as_it_was(session: Session, parrot: Parrot) -> None:
    session.take("first")
    parrot.fault = Overloaded("full", hint="wait")
    session.take("second")
    assert len(session.conversation.turns) == 2
    parrot.fault = None
    session.take("/retry")
    assert session.conversation.turns[-2].content == "second"


def test_ctrl_c_keeps_what_came(
    session: Session, parrot: Parrot, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    parrot.interrupt = True
    monkeypatch.setattr("sys.stdin", Terminal())
    assert ask(parrot, session.conversation, session.screen, "go") is False  # type: ignore[arg-type]
    assert session.conversation.turns[-1].content == "you said "


class Terminal:
    def isatty(self) -> bool:
        return True


def test_save_and_load(session: Session, parrot: Parrot, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    for line in ("/system s", "q", "/params top_k 5", f"/save {file}", "/reset", "/system -", f"/load {file}"):
        assert session.take(line)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert session.conversation.system == "s"
    assert [t.content for t in session.conversation.turns] == ["q", "you said q"]
    assert json.loads(file.read_text())["params"] == {"top_k": 5}
    file.write_text("{}")
    with pytest.raises(InvalidRequest, match="not a saved conversation"):
        session.conversation.load(file)


def test_events() -> None:
    stats = Stats()
    assert read_event('{"choices":[{"delta":{"content":"a"}}]}', stats) == Piece(text="a")
    assert read_event('{"choices":[{"delta":{"reasoning_content":"b"}}]}', stats) == Piece(reasoning="b")
    assert read_event('{"choices":[{"delta":{"role":"assistant","content":""}}]}', stats) is None
    usage = {"prompt_tokens": 4, "completion_tokens": 11, "prompt_tokens_details": {"cached_tokens": 2}}
    assert read_event(json.dumps({"choices": [], "usage": usage}), stats) is None
    stats.ttft_s, stats.total_s = 0.5, 1.5
    assert "11 tokens, 10.0 tok/s, first after 500 ms; prompt 4 tokens, 2 from cache" in stats.line()
    with pytest.raises(RemoteRefused, match="gone"):
        read_event('{"error":{"message":"gone"}}', stats)


def test_of_a_stopped_answer_no_figure_is_made_up() -> None:
    assert Stats(ttft_s=0.5, total_s=1.5).line() == (
        "first token after 500 ms; stopped after 1.5 s, before the server reported its tokens"
    )
    assert Stats(total_s=1.5).line() == "stopped after 1.5 s, before the server reported its tokens"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthenticated),
        (404, UnknownModel),
        (429, Overloaded),
        (503, NotReady),
        (400, InvalidRequest),
        (500, RemoteRefused),
    ],
)
def test_refusals_become_errors_of_ours(status: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="words"):
        raise_refusal(status, b'{"error":{"message":"words"}}', "http://x")
    with pytest.raises(error, match=str(status)):
        raise_refusal(status, b"<html>", "http://x")


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (429, "budget_exceeded", 3),
        (429, "too_many_attempts", 5),
        (403, "personal_data_blocked", 5),
        (403, "permission_denied", 5),
        (504, "deadline_exceeded", 3),
        (507, "disk_full", 3),
        (503, "draining", 3),
        (503, "host_died", 4),
        (409, "conflict", 2),
        (500, "internal_error", 4),
        (504, "", 3),
        (507, None, 3),
        (403, 12, 5),
    ],
)
def test_a_command_ends_with_the_exit_code_of_what_the_server_said(status: int, code: object, exit_code: int) -> None:
    body = json.dumps({"error": {"message": "words", "code": code}}).encode()
    with pytest.raises(AshoreError, match="words") as refused:
        raise_refusal(status, body, "http://x")
    assert refused.value.exit_code == exit_code
    if isinstance(code, str) and code not in ("", "internal_error"):
        assert refused.value.code == code


def test_a_model_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x9b1m\tc\nd\x07é你") == "a[2Jb1m\tc\nd" + "é你"


def test_choose_model() -> None:
    assert choose_model(["a", "b"], None) == "a"
    with pytest.raises(UnknownModel) as wrong:
        choose_model(["smollm2"], "smolm2")
    assert "smollm2" in wrong.value.hint
    with pytest.raises(NotReady):
        choose_model([], None)


def test_where_the_server_is_and_which_key_it_gets(tmp_path: Path) -> None:
    settings = read_settings({"ASHORE_HOME": str(tmp_path)})
    with pytest.raises(NotReady) as none:
        find_target(None, settings=settings)
    assert "ashore up" in none.value.hint
    settings.home.create()
    settings.home.first_key.write_text("ash-first\n")
    write_topology(Topology(http=HttpListen(host="0.0.0.0", port=81)), settings.home.topology)
    assert find_target(None, settings=settings) == ServerTarget(url="http://127.0.0.1:81", key="ash-first", local=True)
    assert find_target("localhost:9", settings=settings).key == "ash-first"
    assert find_target("https://elsewhere.example/v1/", settings=settings).key == "", "never sent off this machine"
    assert find_target("https://elsewhere.example", key="k", settings=settings).key == "k"
    for url in ("elsewhere:9/v1", "http://elsewhere:9/v1/"):  # as OpenAI's clients take it
        assert find_target(url, settings=settings).url == "http://elsewhere:9"
    assert find_target("http://x/openai/v1", settings=settings).url == "http://x/openai/v1", "the path of a proxy"
    with pytest.raises(InvalidRequest):
        find_target("ftp://x", settings=settings)
    write_topology(Topology(http=HttpListen(host="198.51.100.7", port=81)), settings.home.topology)
    moved = find_target(None, settings=settings)
    assert (moved.url, moved.key) == ("http://198.51.100.7:81", ""), "an address that this machine has no more"
    assert is_of_this_machine("http://127.0.0.1:81") and not is_of_this_machine("http://models.corp:81")


def test_addresses() -> None:
    assert api_base("http://x:1") == "http://x:1/v1"
    assert api_base("http://x:1/openai/v1") == "http://x:1/openai/v1"
    assert is_loopback("http://[::1]:8") and not is_loopback("http://10.0.0.1") and not is_loopback("http://x")


def test_nobody_there() -> None:
    from ashore.cli.chatclient import ChatClient

    client = ChatClient(ServerTarget(url="http://127.0.0.1:9", local=True))
    with pytest.raises(SourceUnreachable) as gone:
        client.models()
    assert "ashore up" in gone.value.hint
    client.close()


def test_the_last_answer_takes_votes(session: Session, parrot: Parrot, capsys: pytest.CaptureFixture[str]) -> None:
    votes: list[dict[str, str]] = []
    parrot.vote = lambda feedback: votes.append(dict(feedback)) or "only the vote is kept"  # type: ignore[attr-defined]
    session.take("/up")
    assert "no answer to vote on" in capsys.readouterr().err
    session.take("hello")
    session.conversation.answer_id = "chatcmpl-1"
    for line in ("/up", "/down", "/fix", "/fix Say hello back."):
        session.take(line)
    assert votes == [
        {"id": "chatcmpl-1", "rating": "up"},
        {"id": "chatcmpl-1", "rating": "down"},
        {"id": "chatcmpl-1", "correction": "Say hello back."},
    ]
    err = capsys.readouterr().err
    assert "only the vote is kept" in err and "/fix needs the text" in err
    parrot.vote = lambda feedback: ""  # type: ignore[attr-defined]
    session.take("/up")
    assert "kept: the vote, with question and answer" in capsys.readouterr().err
    session.take("/reset")
    session.take("/up")
    assert len(votes) == 3 and "no answer to vote on" in capsys.readouterr().err


def test_the_id_of_an_answer_is_that_of_its_first_event() -> None:
    stats = Stats()
    for data in ('{"id": "chatcmpl-1", "choices": []}', '{"id": "chatcmpl-2", "choices": []}'):
        read_event(data, stats)
    assert stats.answer_id == "chatcmpl-1"
