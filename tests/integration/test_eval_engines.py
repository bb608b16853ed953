"""One small model behind two engines, each in a host of its own: the same figures from both."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_tiny_model

from ashore.cli.bootstrap import build_store, open_subject
from ashore.data.engines import ScoreText
from ashore.kit.settings import Home
from ashore.kit.store import convert_safetensors_to_gguf
from ashore.lab.evaluation import divergence, parse_task, perplexity, perplexity_increase, run_task

TEXT = "The rain in Spain stays mainly in the plain, and the rest of it falls into the sea. " * 30
TASK = b"""{"task": "sky", "kind": "choice"}
{"prompt": "The sky is", "choices": ["blue", "square", "late", "seven"], "answer": 0}
{"prompt": "Snow is", "choices": ["white", "loud", "round", "Monday"], "answer": 0}
{"prompt": "Grass is", "choices": ["green", "seven", "wet", "a verb"], "answer": 0}"""


@pytest.mark.parametrize("kind", ["qwen2", "llama"])  # the llama one stretches its context as Llama 3.1 does
def test_openvino_and_llamacpp_agree_on_the_same_weights(tmp_path: Path, kind: str) -> None:
    home = Home(root=tmp_path / "home")
    store = build_store(home)
    convert_safetensors_to_gguf(make_tiny_model(tmp_path / "tiny", kind), tmp_path / "tiny.gguf")
    store.pull(str(tmp_path / "tiny.gguf"), name="tiny")
    exact = {"full_precision": True}
    with (
        open_subject(store, home, "tiny", threads=1) as parent,
        open_subject(store, home, "tiny", kind="openvino", options=exact, threads=1) as subject,
    ):
        assert (parent.info.kind, subject.info.kind) == ("llamacpp", "openvino")
        assert subject.name == "tiny@fp16"
        before, after = perplexity(parent, [TEXT]), perplexity(subject, [TEXT])
        assert after.perplexity.value == pytest.approx(before.perplexity.value, rel=0.005)
        assert abs(perplexity_increase(before, after).value) < 0.005
        found = divergence(subject, parent, [TEXT])
        assert found.method == "exact"
        assert 0 <= found.kl.value < 1e-3
        assert found.same_top.value > 0.98
        task = parse_task(TASK, "sky")
        assert [item.picked for item in run_task(subject, task).items] == [
            item.picked for item in run_task(parent, task).items
        ]
        stem = subject.text.encode(TEXT)[:200]
        begun = subject.scored_tokens()
        subject.score([ScoreText([*stem, n, n + 1], 200) for n in range(40, 60)])
        assert subject.scored_tokens() - begun < 200 + 20 * 40  # the beginning once, and at most a block for each
