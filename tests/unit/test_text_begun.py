"""Answers that a client has begun, and gaps in a text: what the model reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_text import R1, byte_level

from ashore.core.chat import Message
from ashore.core.errors import InvalidRequest
from ashore.data.text import TextModel
from ashore.data.text.gaps import GAP_FORMS, gap_form_of

ASKED = Message(role="user", content="Say it.")


def begun(content: str, reasoning: str = "") -> Message:
    return Message(role="assistant", content=content, reasoning=reasoning)


def read(model: TextModel, *messages: Message) -> str:
    ids = model.encode_chat(messages, continues=True)
    return b"".join(map(model.token_bytes, ids)).decode()


def test_an_answer_goes_on_where_the_client_left_it(tmp_path: Path) -> None:
    model = byte_level(tmp_path)
    assert read(model, ASKED, begun("```python\n")).endswith("<|im_start|>assistant\n```python\n")
    assert model.special_token_ids.isdisjoint(model.encode_chat((ASKED, begun("<|im_end|>")), continues=True)[-5:])


def test_what_was_thought_is_ended_before_the_begun_answer(tmp_path: Path) -> None:
    model = byte_level(tmp_path, R1)
    whole = read(model, ASKED, begun("It", "first"))
    assert whole.endswith("<｜Assistant｜><think>\nfirst\n</think>\n\nIt")
    assert read(model, ASKED, begun("It")).endswith("<think>\n\n</think>\n\nIt")
    assert not model.opens_reasoning(model.encode_chat((ASKED, begun("It")), continues=True))
    assert read(byte_level(tmp_path / "b"), ASKED, begun("It", "first")).endswith(
        "assistant\n<think>\nfirst\n</think>\n\nIt"
    )


@pytest.mark.parametrize("form", GAP_FORMS, ids=lambda form: str(form.prefix))
def test_each_family_reads_a_gap_in_its_own_tokens(tmp_path: Path, form: object) -> None:
    one = next(known for known in GAP_FORMS if known is form)
    byte_level(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    first = 1 + max(token["id"] for token in spec["added_tokens"])
    for at, text in enumerate((one.prefix, one.suffix, one.middle, *one.ends)):
        shape = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        spec["added_tokens"].append({"id": first + at, "content": text, **shape})
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec))
    model = TextModel.load(tmp_path)
    ids = model.encode_gap("def f(", f"return x {one.middle}")
    texts = [model.token_bytes(i).decode("utf-8", "replace") for i in ids]
    assert (texts[0], texts[-1]) == (one.prefix, one.middle)
    assert texts.count(one.middle) == 1, "text of a user became a control token"
    assert (
        b"".join(map(model.token_bytes, ids)).decode()
        == f"{one.prefix}def f({one.suffix}return x {one.middle}{one.middle}"
    )
    assert model.gap_stop_ids == tuple(range(first + 3, first + 3 + len(one.ends)))


def test_a_model_without_such_tokens_says_so(tmp_path: Path) -> None:
    assert gap_form_of({"<fim_prefix>": 1}) is None
    with pytest.raises(InvalidRequest, match="not trained to fill a gap") as caught:
        byte_level(tmp_path).encode_gap("a", "b")
    assert caught.value.param == "suffix"
