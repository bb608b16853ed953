"""Answers of a teacher as text, kept line by line: what a student learns from where no log-probabilities can be had.

    FOLDER/answers.jsonl     the first line is the key, every other one {"number": 3, "answer": "…", "reason": "stop"}

Lines come in the order in which answers came. A line that was cut off by a crash is dropped, and its question asked
again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Protocol, TypeVar

import msgspec
from blake3 import blake3

from ashore.core import UNDECODABLE, Digest, Message, make_folder
from ashore.errors import Conflict, CorruptBlob
from ashore.evaluation import Subject, Told, untold
from ashore.store import disk_errors

STOPPED: Final = "stop"
"""Reason of an answer that the teacher ended itself. Others were cut, and nobody should learn to stop there."""


_Kind = TypeVar("_Kind")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a teacher is asked: a conversation, or a text to go on with."""

    messages: tuple[tuple[str, str], ...] = ()
    """Role and content."""
    prompt: str = ""

    @property
    def as_messages(self) -> list[Message]:
        return [Message(role=role, content=content) for role, content in self.messages]  # type: ignore[arg-type]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the teacher said."""

    number: int
    """Of the question, from 0."""
    answer: str
    reason: str


class AnswerKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What answers depend on."""

    teacher: str
    """Digest of a model of the store, or address and model name of a server."""
    questions: Digest
    max_answer_tokens: int

    @property
    def folder_name(self) -> str:
        return blake3(msgspec.json.encode(self, order="sorted")).hexdigest()[:24]


Keep = Callable[[Answer], None]


class Answerer(Protocol):
    """A teacher that answers."""

    def answer(self, questions: Mapping[int, Question], *, max_tokens: int, keep: Keep) -> None:
        """Answer every question, and hand each answer to `keep` when it is there, in any order.

        Raises:
            AshoreError: a question cannot be answered; those that were are kept.
        """
        ...


def questions_digest(questions: Sequence[Question]) -> Digest:
    return Digest(f"blake3:{blake3(msgspec.json.encode(list(questions))).hexdigest()}")


def gather_answers(
    folder: Path, key: AnswerKey, questions: Sequence[Question], teacher: Answerer, *, told: Told = untold
) -> tuple[Answer, ...]:
    """Return an answer to every question, by number; only those are asked that `folder` has no answer to.

    Raises:
        Conflict: the folder has answers of another teacher or to other questions, or another process writes there.
        CorruptBlob: a line in the middle of the file cannot be read. DiskFull. Whatever the teacher raises.
    """
    with disk_errors(folder):
        make_folder(folder)
        with (folder / "answers.jsonl").open("a+b", buffering=0) as file:
            _lock(file, folder)
            known = _read(file, folder / "answers.jsonl", key)
            told(len(known), len(questions))

            def keep(answer: Answer) -> None:
                _append(file, msgspec.json.encode(answer))
                known[answer.number] = answer
                told(len(known), len(questions))

            missing = {n: question for n, question in enumerate(questions) if n not in known}
            if missing:
                teacher.answer(missing, max_tokens=key.max_answer_tokens, keep=keep)
                os.fsync(file.fileno())
    return tuple(known[number] for number in range(len(questions)))


class SubjectAnswerer:
    """An `Answerer` on an engine of this machine; greedy."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def answer(self, questions: Mapping[int, Question], *, max_tokens: int, keep: Keep) -> None:
        text = self._subject.text
        for numbers in _some(questions, self._subject.info.max_sequences):
            prompts = []
            for number in numbers:
                asked = questions[number]
                prompts.append(text.encode_chat(asked.as_messages) if asked.messages else text.encode(asked.prompt))
            made = self._subject.generate(prompts, max_new_tokens=max_tokens)
            for number, one in zip(numbers, made, strict=True):
                keep(Answer(number=number, answer=text.decode(one.ids), reason=one.reason))


def _some(questions: Iterable[int], at_once: int) -> Iterable[list[int]]:
    numbers = list(questions)
    return (numbers[at : at + at_once] for at in range(0, len(numbers), at_once))


def _lock(file: BinaryIO, folder: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Conflict(f"another process gathers answers in {folder}", hint="wait until it has ended") from error


def _read(file: BinaryIO, path: Path, key: AnswerKey) -> dict[int, Answer]:
    """Return the answers in `file`, cut it behind its last whole line, and begin it where it is empty."""
    file.seek(0)
    data = file.read()
    whole = data.rfind(b"\n") + 1
    file.truncate(whole)
    lines = data[:whole].splitlines()
    if not lines:
        _append(file, msgspec.json.encode(key))
        return {}
    answers: dict[int, Answer] = {}
    found = _decoded(lines[0], AnswerKey, path, 1)
    for number, line in enumerate(lines[1:], start=2):
        answer = _decoded(line, Answer, path, number)
        answers[answer.number] = answer
    if found != key:
        raise Conflict(
            f"the answers in {path} are of {found.teacher} to other questions or of another length",
            hint=f"delete {path.parent}",
        )
    return answers


def _decoded(line: bytes, kind: type[_Kind], path: Path, number: int) -> _Kind:
    try:
        return msgspec.json.decode(line, type=kind)
    except UNDECODABLE as error:
        raise CorruptBlob(f"{path}, line {number}: {error}", hint=f"delete the line, or {path.parent}") from error


def _append(file: BinaryIO, line: bytes) -> None:
    left = memoryview(line + b"\n")
    while left:
        left = left[file.write(left) :]
