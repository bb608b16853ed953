"""A teacher that only answers: what is kept, what a crash costs, and where the questions may go."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ashore.errors import Conflict, CorruptBlob, PermissionDenied, RemoteRefused, SourceUnreachable
from ashore.optimize.distilling.answers import Answer, AnswerKey, Keep, Question, gather_answers, questions_digest
from ashore.optimize.distilling.apiteacher import TRIES, ApiTeacher

QUESTIONS = tuple(Question(prompt=f"{n} and {n} is") for n in range(6))
KEY = AnswerKey(teacher="sum", questions=questions_digest(QUESTIONS), max_answer_tokens=8)


class Summing:
    """Knows the answers; counts what it is asked, and falls ill before question number `ill_at`."""

    def __init__(self, ill_at: int | None = None) -> None:
        self.asked: list[int] = []
        self._ill_at = ill_at

    def answer(self, questions: Mapping[int, Question], *, max_tokens: int, keep: Keep) -> None:
        for number, question in reversed(questions.items()):
            if number == self._ill_at:
                raise SourceUnreachable("ill")
            self.asked.append(number)
            keep(Answer(number=number, answer=f" {2 * int(question.prompt.split()[0])}", reason="stop"))


def test_answers_are_kept_and_asked_once(tmp_path: Path) -> None:
    first = Summing()
    answers = gather_answers(tmp_path, KEY, QUESTIONS, first)
    assert [one.answer for one in answers] == [f" {2 * n}" for n in range(6)]
    again = Summing()
    assert gather_answers(tmp_path, KEY, QUESTIONS, again) == answers
    assert again.asked == []


def test_what_was_answered_before_a_failure_is_not_asked_again(tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable):
        gather_answers(tmp_path, KEY, QUESTIONS, Summing(ill_at=2))
    later = Summing()
    assert len(gather_answers(tmp_path, KEY, QUESTIONS, later)) == 6
    assert sorted(later.asked) == [0, 1, 2]


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path, cut: int) -> None:
    whole = gather_answers(tmp_path, KEY, QUESTIONS, Summing())
    path = tmp_path / "answers.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    later = Summing()
    assert gather_answers(tmp_path, KEY, QUESTIONS, later) == whole
    assert later.asked == [0]


def test_other_questions_and_broken_lines_are_told(tmp_path: Path) -> None:
    gather_answers(tmp_path, KEY, QUESTIONS, Summing())
    other = AnswerKey(teacher="sum", questions=questions_digest(QUESTIONS[:2]), max_answer_tokens=8)
    with pytest.raises(Conflict, match="of sum to other questions"):
        gather_answers(tmp_path, other, QUESTIONS[:2], Summing())
    path = tmp_path / "answers.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"{broken\n", *lines[2:]]))
    with pytest.raises(CorruptBlob, match="line 3"):
        gather_answers(tmp_path, KEY, QUESTIONS, Summing())


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that doubles numbers, and fails as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures: list[int] = []
        self.seen: list[tuple[str, dict[str, object], str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, body, self.headers["authorization"]))
        status = self.server.failures.pop() if self.server.failures else 200
        asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        text = f" {2 * int(asked.split()[0])}"
        choice: dict[str, object] = {"finish_reason": "stop", "index": 0}
        choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        data = json.dumps({"choices": [choice]} if status == 200 else {"error": "not today"}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def test_a_server_answers_texts_and_conversations(tmp_path: Path, server: Server) -> None:
    chats = tuple(Question(messages=(("system", "Add."), ("user", f"{n} twice"))) for n in range(3))
    teacher = ApiTeacher(server.url, "sums", key="secret")
    texts = gather_answers(tmp_path / "a", KEY, QUESTIONS, teacher)
    talks = gather_answers(tmp_path / "b", KEY, chats, teacher)
    assert [one.answer for one in texts] == [f" {2 * n}" for n in range(6)]
    assert [one.answer for one in talks] == [f" {2 * n}" for n in range(3)]
    paths = [path for path, _, _ in server.seen]
    assert paths == ["/v1/completions"] * 6 + ["/v1/chat/completions"] * 3
    assert all((body["model"], body["max_tokens"]) == ("sums", 8) for _, body, _ in server.seen)
    assert {auth for _, _, auth in server.seen} == {"Bearer secret"}


def test_what_may_pass_is_tried_again(tmp_path: Path, server: Server) -> None:
    server.failures = [503, 429]
    teacher = ApiTeacher(server.url, "sums", first_wait_s=0.01)
    assert len(gather_answers(tmp_path, KEY, QUESTIONS, teacher)) == 6
    assert len(server.seen) == 8


def test_a_refusal_and_silence_are_told(tmp_path: Path, server: Server) -> None:
    teacher = ApiTeacher(server.url, "sums", first_wait_s=0.01)
    server.failures = [401] * 6
    with pytest.raises(RemoteRefused, match=r"sums at http.* refused: status 401.*not today"):
        gather_answers(tmp_path, KEY, QUESTIONS, teacher)
    server.failures = [500] * (6 * TRIES)
    with pytest.raises(SourceUnreachable, match=f"in {TRIES} tries; last: status 500"):
        gather_answers(tmp_path, KEY, QUESTIONS, teacher)


@pytest.mark.parametrize("url", ["https://models.example.com/v1", "http://10.0.0.7:8000/v1"])
def test_outside_only_what_is_allowed(url: str) -> None:
    with pytest.raises(PermissionDenied, match="is outside") as caught:
        ApiTeacher(url, "big")
    assert "--allow-egress" in caught.value.hint
    assert ApiTeacher("http://10.0.0.7:8000/v1", "big", allow=["10.0.0.7:8000"]).name.startswith("big at")
