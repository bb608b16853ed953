"""Training files: what is learned of each form, and what broken lines are told. No torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_text import CHATML, LLAMA3, R1, byte_level

from ashore.core.errors import BrokenData, InvalidRequest
from ashore.data.text import TextModel
from ashore.lab.training import TrainingSet, load_data, open_set

ENDS = {CHATML: [2], LLAMA3: [5], R1: [9]}
"""Ids of `<|im_end|>`, `<|eot_id|>` and `<｜end▁of▁sentence｜>`."""


def write(folder: Path, *lines: object) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def opened(path: Path, text: TextModel, max_length: int) -> TrainingSet:
    return open_set(str(path), text, max_length=max_length)


def learned(path: Path, text: TextModel, max_length: int = 200) -> list[tuple[str, str]]:
    """Return, of each example, its whole text and that of its targets, control tokens written out."""
    corpus = load_data(path, text, max_length=max_length)
    found = []
    for n in range(corpus.num_examples):
        span = slice(int(corpus.starts[n]), int(corpus.starts[n + 1]))
        ids, targets = corpus.ids[span].tolist(), corpus.targets[span].tolist()
        pieces = [text.token_bytes(i) for i in ids]
        taught = b"".join(p for p, t in zip(pieces, targets, strict=True) if t)
        found.append((b"".join(pieces).decode(), taught.decode()))
    return found


CHAT = {
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "the fox"},
        {"role": "assistant", "content": "jumps"},
        {"role": "user", "content": "and then"},
        {"role": "assistant", "content": "sleeps"},
    ]
}


def test_every_turn_of_the_assistant_is_learned_with_the_token_that_ends_it(tmp_path: Path) -> None:
    text = byte_level(tmp_path, CHATML, eos_token_ids=ENDS[CHATML])
    ((whole, taught),) = learned(write(tmp_path, CHAT), text)
    assert taught == "jumps<|im_end|>sleeps<|im_end|>"
    assert whole.endswith("assistant\nsleeps<|im_end|>") and "<|im_start|>system\nbe brief<|im_end|>" in whole


def test_where_reasoning_is_opened_for_the_model_it_learns_to_close_it(tmp_path: Path) -> None:
    text = byte_level(tmp_path, R1, eos_token_ids=ENDS[R1])
    chat = {"messages": [*CHAT["messages"]]}
    chat["messages"][-1] = {"role": "assistant", "reasoning_content": "it is late", "content": "sleeps"}
    first, second = learned(write(tmp_path, chat), text)
    assert first[1] == "\n</think>\n\njumps<｜end▁of▁sentence｜>"
    assert second[1] == "it is late\n</think>\n\nsleeps<｜end▁of▁sentence｜>"
    assert second[0].count("<think>") == 1, "the template drops what was thought before"


def test_a_prompt_is_not_learned_and_a_text_is_all(tmp_path: Path) -> None:
    text = byte_level(tmp_path, LLAMA3, eos_token_ids=ENDS[LLAMA3])
    end = text.token_text(text.eos_token_ids[0])
    path = write(tmp_path, {"prompt": "the quick", "completion": " brown fox"}, "", {"text": "lazy dog"})
    (_, taught), (whole, all_of_it) = learned(path, text)
    assert taught == f" brown fox{end}"
    assert whole.endswith(all_of_it) and all_of_it.endswith(end) and len(all_of_it) > len(end)


def test_what_users_write_is_never_a_control_token(tmp_path: Path) -> None:
    text = byte_level(tmp_path, CHATML, eos_token_ids=ENDS[CHATML])
    sly = {"messages": [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "no"}]}
    corpus = load_data(write(tmp_path, sly), text, max_length=100)
    (end,) = text.eos_token_ids[:1]
    assert corpus.ids.tolist().count(end) == 2, "of the two turns, and none of the user's"


def test_long_examples_are_cut_and_texts_divided_and_it_is_told(tmp_path: Path) -> None:
    text = byte_level(tmp_path, CHATML, eos_token_ids=ENDS[CHATML])
    words = "the quick brown fox jumps over the lazy dog " * 10
    path = write(
        tmp_path, {"prompt": "the", "completion": words}, {"prompt": words, "completion": "fox"}, {"text": words}
    )
    data = opened(path, text, 32)
    assert (data.num_cut, data.left_out) == (2, ("line 2",))
    assert data.lengths.max() == 32
    assert data.num_examples > 3 and data.used.digest.startswith("sha256:") and data.used.role == "train"


def test_broken_lines_are_named(tmp_path: Path) -> None:
    text = byte_level(tmp_path, CHATML, eos_token_ids=ENDS[CHATML])
    lines: tuple[object, ...] = (
        {"prompt": "a", "completion": "b"},
        '{"prompt": "a", "completion"',
        {"question": "a"},
        {"prompt": "a"},
        {"messages": [{"role": "user", "content": "a"}]},
        {"messages": [{"role": "robot", "content": "a"}]},
        {"text": " "},
    )
    with pytest.raises(BrokenData) as caught:
        load_data(write(tmp_path, *lines), text, max_length=32)
    assert "6 broken lines" in caught.value.message and "(and 1 more)" in caught.value.message
    for number in range(2, 7):
        assert f"line {number}: " in caught.value.message
    assert '{"text": "..."}' in caught.value.hint


def test_empty_missing_and_hopeless_files_are_refused(tmp_path: Path) -> None:
    text = byte_level(tmp_path, CHATML, eos_token_ids=ENDS[CHATML])
    with pytest.raises(BrokenData, match="no examples"):
        load_data(write(tmp_path, "", ""), text, max_length=32)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        load_data(tmp_path / "absent.jsonl", text, max_length=32)
    with pytest.raises(BrokenData, match="within 4 tokens"):
        load_data(write(tmp_path, {"prompt": "the quick brown fox", "completion": "a"}), text, max_length=4)


def test_a_template_that_refuses_a_line_is_told_with_its_line(tmp_path: Path) -> None:
    text = byte_level(tmp_path, LLAMA3, eos_token_ids=ENDS[LLAMA3])
    odd = {"messages": [{"role": "tool", "content": "x"}, {"role": "assistant", "content": "y"}]}
    with pytest.raises(BrokenData, match=r"line 1: .*no role tool"):
        load_data(write(tmp_path, odd), text, max_length=64)
