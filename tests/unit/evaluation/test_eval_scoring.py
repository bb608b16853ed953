"""Perplexity and divergence over subjects, in this process and in a host of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_subject import LocalSubject

from ashore.core.errors import EngineFailed, InvalidRequest, MemoryFull, UnsupportedByEngine
from ashore.data.engines import EngineOptions, ModelFiles, ScoreText
from ashore.data.engines.fake.engine import FakeEngine
from ashore.data.engines.fake.files import fake_model_files
from ashore.data.text import TextModel
from ashore.lab.evaluation import (
    Subject,
    check_memory,
    divergence,
    memory_needed,
    open_hosted,
    perplexity,
    perplexity_increase,
)
from ashore.lab.evaluation.divergence import exact_kl, spread, top_kl
from ashore.lab.evaluation.perplexity import windows

TEXTS = ["the rain in spain stays mainly in the plain. " * 12, "一个短句", "x"]


@contextmanager
def local(directory: Path, name: str = "fake:random?context=512") -> Iterator[LocalSubject]:
    files = fake_model_files(name, directory)
    engine = FakeEngine()
    info = engine.load(files, EngineOptions(kind="fake"))
    yield LocalSubject(name, engine, info, TextModel.load(Path(files.directory)))
    engine.close()


@contextmanager
def hosted(directory: Path, name: str = "fake:random?context=512") -> Iterator[Subject]:
    with open_hosted(fake_model_files(name, directory), EngineOptions(kind="fake")) as subject:
        yield subject


@pytest.fixture(params=[local, hosted])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    with request.param(tmp_path) as opened:
        yield opened


@given(st.integers(2, 3000), st.integers(2, 200), st.integers(1, 150))
def test_windows_score_every_token_but_the_first_once(tokens: int, window: int, stride: int) -> None:
    stride = min(stride, window - 1)
    cut = list(windows(tokens, window=window, stride=stride))
    assert [at for _, first, end in cut for at in range(first, end)] == list(range(1, tokens))
    assert all(end - begin <= window and begin < first for begin, first, end in cut)
    assert all(first - begin >= window - stride for begin, first, end in cut[1:])


def test_windows_that_leave_nothing_given_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="stride of 1 to 9"):
        list(windows(100, window=10, stride=10))


def test_perplexity_is_the_mean_surprise_of_a_token(subject: Subject) -> None:
    told: list[tuple[int, int]] = []
    found = perplexity(subject, TEXTS, window=64, stride=32, told=lambda *numbers: told.append(numbers))
    lengths = [len(subject.text.encode(text)) for text in TEXTS]
    assert found.num_tokens == sum(n - 1 for n in lengths)
    assert found.num_texts == 2
    assert told[-1][0] == told[-1][1] > 5
    nats = sum(block.nats for block in found.blocks)
    assert found.perplexity.value == pytest.approx(math.exp(nats / found.num_tokens))
    assert found.perplexity.low < found.perplexity.value < found.perplexity.high
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / found.num_bytes)
    own = [row[0].logprob for row in subject.score([ScoreText(subject.text.encode(TEXTS[1]))])[0]]
    assert perplexity(subject, TEXTS[1:2]).perplexity.value == pytest.approx(math.exp(-np.mean(own)))


def test_a_model_against_itself_has_no_difference(subject: Subject) -> None:
    found = perplexity(subject, TEXTS, window=64, stride=32)
    change = perplexity_increase(found, found)
    assert (change.value, change.p_value) == (0.0, 1.0)
    same = divergence(subject, subject, TEXTS[:1], window=64, stride=32)
    assert same.method == "exact"
    assert same.kl.value == pytest.approx(0, abs=1e-9)
    assert same.same_top.value == 1.0
    with pytest.raises(InvalidRequest, match="other windows"):
        perplexity_increase(found, perplexity(subject, TEXTS[:1], window=64, stride=32))


def test_text_without_tokens_is_refused(subject: Subject) -> None:
    with pytest.raises(InvalidRequest, match="nothing can be scored"):
        perplexity(subject, ["", "x"])


def test_many_answers_come_back_in_order(subject: Subject) -> None:
    prompts = [[97 + n, 98] for n in range(10)]
    answers = subject.generate(prompts, max_new_tokens=5, ignore_eos=True)
    assert [len(answer.ids) for answer in answers] == [5] * 10
    assert [answer.ids for answer in answers] == [
        subject.generate([prompt], max_new_tokens=5, ignore_eos=True)[0].ids for prompt in prompts
    ]
    assert all(list(answer.token_s) == sorted(answer.token_s) for answer in answers)
    assert subject.resident_bytes() > 1 << 20
    with pytest.raises(InvalidRequest):
        subject.generate([[1], [9999]], max_new_tokens=5)
    assert len(subject.generate(prompts[:1], max_new_tokens=2)) == 1


def test_a_host_that_cannot_load_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="loading fails"), hosted(tmp_path, "fake:echo?fail_load=1"):
        raise AssertionError("unreachable")


def test_a_folder_outside_any_store_is_opened(tmp_path: Path) -> None:
    files = fake_model_files("fake:echo", tmp_path / "made")
    text = tmp_path / "text"
    text.mkdir()
    for name in ("tokenizer.json", "generation.json"):
        (tmp_path / "made" / name).rename(text / name)
    bare = ModelFiles(name="fake:echo", digest="", directory=files.directory, format="fake")
    with open_hosted(bare, EngineOptions(kind="fake"), text_from=text) as subject:
        assert perplexity(subject, TEXTS).num_tokens > 100


def test_what_does_not_fit_is_refused_with_both_numbers() -> None:
    needed = memory_needed(kind="torch", weight_bytes=1 << 30, num_parameters=1 << 30)
    assert needed > memory_needed(kind="openvino", weight_bytes=1 << 30, num_parameters=1 << 30) > 1 << 30
    assert memory_needed(kind="vllm", weight_bytes=1 << 40, num_parameters=1) == 0
    check_memory(needed, free_bytes=needed, name="m")
    with pytest.raises(MemoryFull, match=r"m needs about 4.68 GiB .* 2 GiB are free") as caught:
        check_memory(needed, free_bytes=2 << 30, name="m")
    assert "optimize compare" in caught.value.hint


class OnlyTop(LocalSubject):
    """A subject that tells the likeliest tokens only, as vLLM does, and shifts what it is told."""

    shift = 0.0

    @property
    def info(self) -> Any:
        import msgspec

        info = super().info
        return msgspec.structs.replace(info, features=tuple(f for f in info.features if f != "distributions"))

    def distributions(self, text: ScoreText) -> Any:
        raise UnsupportedByEngine("the best ones only")


def test_without_whole_distributions_the_method_is_named(tmp_path: Path) -> None:
    with local(tmp_path) as whole:
        top = OnlyTop("top", whole._engine, whole.info, whole.text)
        found = divergence(top, whole, TEXTS[:1], window=64, stride=32)
    assert (found.method, found.top_k) == ("top_k", 20)
    assert found.kl.value == pytest.approx(0, abs=1e-9)
    assert found.num_tokens == len(TEXTS[0]) - 1


def rows(seed: int, count: int = 40, vocab: int = 60) -> np.ndarray[Any, np.dtype[np.float32]]:
    logits = np.random.default_rng(seed).normal(0, 2, (count, vocab))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def ranked(row: Sequence[float], count: int) -> list[tuple[int, float]]:
    return [(int(n), float(row[n])) for n in np.argsort(row)[::-1][:count]]


def test_divergence_from_the_top_is_never_more_than_the_exact_one() -> None:
    parent, child = rows(1), rows(2)
    exact = exact_kl(parent, child)
    by_hand = (np.exp(parent) * (parent - child)).sum(axis=1)
    assert exact == pytest.approx(by_hand, abs=1e-4)
    for count in (5, 20, 60):
        told = [top_kl(ranked(p, count), ranked(q, count)) for p, q in zip(parent, child, strict=True)]
        assert all(one <= full + 1e-6 for one, full in zip(told, exact, strict=True))
    assert told == pytest.approx(exact, abs=1e-4)


def test_of_a_long_text_windows_are_taken_from_all_of_it() -> None:
    cut = [ScoreText([n, n]) for n in range(1000)]
    taken = [text.ids[0] for text in spread(cut, 64)]
    assert len(taken) == 64
    assert taken[0] == 0 and taken[-1] > 980
    assert spread(cut[:64], 64) == cut[:64]


def test_a_padded_vocabulary_is_folded() -> None:
    parent, child = rows(1), rows(2)
    padded = np.concatenate([child, np.full((len(child), 4), -60.0, np.float32)], axis=1)
    assert exact_kl(parent, padded) == pytest.approx(exact_kl(parent, child), abs=1e-3)
