"""How few tokens a text can have: never more than it has, and enough to refuse what is far too long."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import tiny_text
from tokenizers import AddedToken, Tokenizer, models, normalizers

from ashore.core.chat import Message
from ashore.data.text import TextModel, encoder

FAR = 1_000_000
WORDS = ("the ", "lazy dog", "<|im_end|>", "</think>", "  ", "\n", "▁", "\x00", "\x04", "😀", "[CLS]", "x" * 90)
COMPOSED = ("今天", "가", "\u1112\u1175\u11c3", "e\u0301")
PIECES = st.sampled_from(WORDS + COMPOSED)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=30).map("".join)


def lacking(home: Path) -> TextModel:
    """Return a model whose vocabulary has no token for the byte 4, nor for the first of most emoji: it drops them."""
    tiny_text.byte_level(home)
    spec = json.loads((home / "tokenizer.json").read_text())
    vocab = spec["model"]["vocab"]
    for at, letter in enumerate("\u0104\u00f0"):
        vocab[f"never {at}"] = vocab.pop(letter)
    (home / "tokenizer.json").write_text(json.dumps(spec))
    return TextModel.load(home)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextModel]:
    home = tmp_path_factory.mktemp("texts")
    composing = home / "composing"
    tiny_text.byte_level(composing)
    spec = json.loads((composing / "tokenizer.json").read_text())
    (composing / "tokenizer.json").write_text(json.dumps(spec | {"normalizer": {"type": "NFC"}}))
    return {
        "byte_level": tiny_text.byte_level(home / "b"),
        "composing": TextModel.load(composing),
        "lacking": lacking(home / "l"),
        "sentencepiece": tiny_text.sentencepiece(home / "s"),
        "word_pieces": tiny_text.word_pieces(home / "w"),
    }


@pytest.mark.parametrize("kind", ["byte_level", "composing", "lacking", "sentencepiece", "word_pieces"])
@given(text=TEXTS)
def test_no_text_has_fewer_tokens_than_it_is_told_to_have(made: dict[str, TextModel], kind: str, text: str) -> None:
    model = made[kind]
    assert model.fewest_tokens(text, beyond=0) <= len(model.encode(text, bare=True))


@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_no_conversation_has_fewer_tokens_than_it_is_told_to_have(made: dict[str, TextModel], texts: list[str]) -> None:
    said = tuple(Message(role="user" if at % 2 == 0 else "assistant", content=one) for at, one in enumerate(texts))
    for kind in ("byte_level", "composing", "sentencepiece"):
        assert made[kind].fewest_chat_tokens(said, beyond=0) <= len(made[kind].encode_chat(said))


@pytest.mark.parametrize("kind", ["byte_level", "composing", "lacking", "sentencepiece", "word_pieces"])
def test_a_text_of_megabytes_is_seen_to_have_more_than_a_thousand(made: dict[str, TextModel], kind: str) -> None:
    assert made[kind].fewest_tokens("hello world " * 100_000, beyond=1000) > 1000


@pytest.mark.parametrize("kind", ["byte_level", "composing", "lacking", "sentencepiece", "word_pieces"])
@pytest.mark.parametrize("text", ["x" * 90 + " the lazy dog\n", "你好, 世界 ", "<|im_end|> ", "a", " ", "😀"])
def test_a_long_text_is_counted_in_pieces_up_to_what_fits(made: dict[str, TextModel], kind: str, text: str) -> None:
    model, text = made[kind], text * (200_000 // len(text))
    has = len(model.encode(text, allow_special=True, bare=True))
    told = [model.fewest_tokens(text, beyond=beyond) for beyond in (0, has // 4, has // 2, has, 2 * has)]
    assert all(one <= has for one in told)
    if has > 1000:  # else one token may stand for any length
        assert all(one > beyond for one, beyond in zip(told, (0, has // 4, has // 2), strict=False))
        said = (Message(role="user", content=text),)
        assert model.template_source == "" or model.fewest_chat_tokens(said, beyond=has // 2) > has // 2


def test_of_a_text_that_is_far_too_long_no_more_is_tokenised_than_fits(
    made: dict[str, TextModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    ids = encoder._ids

    def counting(tokenizer: Tokenizer, text: str, around: bool = False) -> list[int]:
        read.append(len(text))
        return ids(tokenizer, text, around)

    monkeypatch.setattr(encoder, "_ids", counting)
    model = made["byte_level"]
    assert model.fewest_tokens("你好" * 1_000_000, beyond=1_000_000) > 1_000_000
    assert 0 < sum(read) < 1_000_000 and max(read) <= encoder.PIECE_CHARS
    read.clear()
    assert model.fewest_tokens("the " * 50_000, beyond=100_000) < 100_000 and sum(read) < 20_000


def test_what_a_template_leaves_out_is_not_counted(tmp_path: Path) -> None:
    model = tiny_text.byte_level(tmp_path, tiny_text.R1)
    thought = Message(role="assistant", content="hm " * FAR + "</think>ok")
    asked = (Message(role="user", content="a"), thought, Message(role="user", content="b"))
    assert model.fewest_chat_tokens(asked, beyond=10) <= len(model.encode_chat(asked)) < 60
    assert model.fewest_chat_tokens((Message(role="user", content="hm " * FAR),), beyond=10) > 10_000


def test_bytes_that_a_vocabulary_drops_are_not_counted(made: dict[str, TextModel]) -> None:
    text = "\x04" * FAR + "a"
    assert made["lacking"].fewest_tokens(text, beyond=10) <= len(made["lacking"].encode(text, bare=True)) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda t: setattr(t, "normalizer", normalizers.StripAccents()), id="a normaliser that drops"),
        pytest.param(lambda t: setattr(t, "normalizer", normalizers.Replace("  ", " ")), id="one that joins spaces"),
        pytest.param(lambda t: t.add_special_tokens([AddedToken("<|eat|>", lstrip=True)]), id="a token that eats"),
        pytest.param(
            lambda t: setattr(t, "model", models.BPE({"a": 0, "<unk>": 1}, [], unk_token="<unk>", fuse_unk=True)),
            id="a vocabulary that lacks bytes",
        ),
    ],
)  # fmt: skip
def test_where_one_token_may_stand_for_any_length_nothing_is_told_by_it(tmp_path: Path, spoil: object) -> None:
    tiny_text.byte_level(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    spoil(tokenizer)  # type: ignore[operator]
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    model = TextModel.load(tmp_path)
    assert model.fewest_tokens("a" * 100_000, beyond=0) == 0


def test_other_threads_run_while_a_long_text_is_tokenised(made: dict[str, TextModel]) -> None:
    model, done = made["byte_level"], threading.Event()

    def work() -> None:
        model.encode("the quick brown fox " * 40_000)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    turns = 0
    while not done.is_set():
        time.sleep(0.001)
        turns += 1
    thread.join()
    assert turns > 20, "the tokenizer held the interpreter"
