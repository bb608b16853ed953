"""The user's data as a student learns from it: lines and plain text as examples, and the questions in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ashore.errors import InvalidRequest
from ashore.optimize.distilling.answers import Question
from ashore.text import TextModel
from ashore.training import ChatExample, CompletionExample, Corpus, Example, load_data, make_corpus, read_examples


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Examples whose targets are all tokens but the first of each, and which of them are answers."""

    corpus: Corpus
    answers_T: NDArray[np.bool_]

    @property
    def only_answers(self) -> Corpus:
        """The corpus with nothing but answers to learn."""
        return replace(self.corpus, targets=self.corpus.targets & self.answers_T)


def load_samples(data: Sequence[Path], texts: Sequence[Path], text: TextModel, *, window_tokens: int) -> Samples:
    """Return the examples of training files, cut at `window_tokens`, and plain texts in pieces of that length.

    All of a plain text counts as an answer does.

    Raises:
        InvalidRequest: a file cannot be read, is empty or no UTF-8, or there is none.
        BrokenData: a line of a training file is not what it must be.
    """
    parts = [load_data(path, text, max_length=window_tokens).corpus for path in data]
    parts += [_pieces(text.encode(read_text(path)), window_tokens) for path in texts]
    if not parts:
        raise InvalidRequest("there is nothing to learn from", hint="give --data FILE or --text FILE")
    marked = _joined(parts)
    inner_T = np.ones(marked.num_tokens, np.bool_)
    inner_T[marked.starts[:-1]] = False
    return Samples(replace(marked, targets=inner_T), marked.targets)


def read_questions(data: Sequence[Path]) -> tuple[Question, ...]:
    """Return what a teacher can be asked: prompts, and conversations up to the assistant's last turn.

    Raises:
        InvalidRequest, BrokenData: as `training.read_examples`.
    """
    found = (_question(example) for path in data for _, example in read_examples(path))
    return tuple(question for question in found if question is not None)


def write_answered(path: Path, questions: Sequence[Question], answers: Sequence[str]) -> Path:
    """Write a training file of questions with a teacher's answers, and return it. Equal ones give equal bytes."""
    rows: list[dict[str, object]] = []
    for question, answer in zip(questions, answers, strict=True):
        if question.messages:
            turns = [*question.messages, ("assistant", answer)]
            rows.append({"messages": [{"role": role, "content": content} for role, content in turns]})
        else:
            rows.append({"prompt": question.prompt, "completion": answer})
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


def encode_question(question: Question, text: TextModel) -> list[int]:
    """Return the tokens of a question, up to where its answer begins."""
    return text.encode_chat(question.as_messages) if question.messages else text.encode(question.prompt)


def read_text(path: Path) -> str:
    """Return a text file. Raises `InvalidRequest` where it is empty, is not UTF-8, or cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", hint="check its path") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}",
            hint="give plain text; JSONL goes to --data",
        ) from error
    if not text.strip():
        raise InvalidRequest(f"{path} is empty", hint="give text of the kind that the student will see")
    return text


def _question(example: Example) -> Question | None:
    match example:
        case CompletionExample():
            return Question(prompt=example.prompt)
        case ChatExample():
            last = max(at for at, message in enumerate(example.messages) if message.role == "assistant")
            return Question(messages=tuple((m.role, m.content) for m in example.messages[:last])) if last else None
        case _:
            return None


def _pieces(ids: Sequence[int], size: int) -> Corpus:
    """Return a text in pieces of `size` tokens; a last one of a single token is left out."""
    pieces = [list(ids[at : at + size]) for at in range(0, len(ids), size)]
    return make_corpus([(piece, [True] * len(piece)) for piece in pieces if len(piece) > 1])


def _joined(parts: Sequence[Corpus]) -> Corpus:
    before = np.cumsum([0, *(part.num_tokens for part in parts)])
    starts = [part.starts[:-1] + offset for part, offset in zip(parts, before, strict=False)]
    return Corpus(
        ids=np.concatenate([part.ids for part in parts]),
        targets=np.concatenate([part.targets for part in parts]),
        starts=np.concatenate([*starts, before[-1:]]),
    )
