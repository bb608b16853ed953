"""Answers to the same question in other words, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from http_worker import Worker, http_worker, state_link
from waiting import eventually

from ashore.data.cache import CachePolicy, read_pairs, save_pairs
from ashore.kit.state import Database

POLICY = CachePolicy(mode="exact_then_reworded")


@pytest.fixture
def worker(tmp_path: Path, state: Database) -> Iterator[Worker]:
    with http_worker(tmp_path / "run", state=state_link(tmp_path), cache=POLICY) as made:
        yield made


def ask(worker: Worker, text: str, *, system: str = "", **fields: object) -> tuple[str, str]:
    messages = [{"role": "system", "content": system}] if system else []
    body = {"model": "echo", "messages": [*messages, {"role": "user", "content": text}], "temperature": 0, **fields}
    status, headers, said = worker.request("POST", "/v1/chat/completions", json.dumps(body))
    assert status == 200
    return headers["x-ashore-cache"], json.loads(said)["choices"][0]["message"]["content"]


def test_the_same_question_in_other_words_gets_the_kept_answer(worker: Worker) -> None:
    first = "How do I reset my online banking password?"
    assert ask(worker, first) == ("miss", first)
    assert ask(worker, "how can i reset my online banking password") == ("hit-reworded", first)
    assert ask(worker, first) == ("hit-exact", first), "the wording that was answered"
    assert ask(worker, "请问如何重置网上银行密码？")[0] == "miss"
    assert ask(worker, "怎么重置网上银行密码")[0] == "hit-reworded"


def test_what_differs_in_one_word_that_matters_gets_its_own_answer(worker: Worker) -> None:
    ask(worker, "What is the fee for a transfer of 100 euros from Berlin to Paris?")
    for other in (
        "What is the fee for a transfer of 1000 euros from Berlin to Paris?",
        "What is the fee for a transfer of 100 dollars from Berlin to Paris?",
        "What is the fee for a transfer of 100 euros from Paris to Berlin?",
        "What is not the fee for a transfer of 100 euros from Berlin to Paris?",
        "What is the fee for a transfer of 100 euros from Berlin to Rome?",
    ):
        assert ask(worker, other) == ("miss", other)


def test_what_stands_around_the_question_is_never_reworded(worker: Worker) -> None:
    ask(worker, "How do I reset my password?", system="Answer for staff.")
    assert ask(worker, "how can I reset my password", system="Answer for customers.")[0] == "miss"
    assert ask(worker, "how can I reset my password", system="Answer for staff.")[0] == "hit-reworded"
    assert (
        ask(worker, "Could you tell me how I reset my password", system="Answer for staff.", max_tokens=5)[0] == "miss"
    )


def test_curated_pairs_answer_in_other_words_too(worker: Worker, state: Database) -> None:
    pair = '{"question": "When does the branch open on Saturday?", "answer": "At ten."}'
    with state.write() as connection:
        save_pairs(connection, read_pairs([pair.encode()], now_s=time.time()))
    eventually(lambda: ask(worker, "when does the branch open on saturday")[1] == "At ten.")
    assert ask(worker, "Please tell me when does the branch open on Saturday", system="Be brief.") == (
        "hit-reworded",
        "At ten.",
    )
    assert ask(worker, "When does the branch open on Sunday?")[1] != "At ten."
