"""`ashore up` with LoRA adapters: names of their own, answers of the merged model, a reload that takes them away."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from served import Served
from tiny_adapters import coarsen, make_adapter, merge
from tiny_models import make_tiny_model

Start = Callable[..., Served]
Run = Callable[..., subprocess.CompletedProcess[str]]

MODEL = """
[[model]]
name = "{name}@fp16"
alias = "{name}"
[model.engine]
kv_tokens = 2048
options = {{ full_precision = true }}
"""


def test_each_adapter_answers_as_its_merged_model(served: Start, ashore: Run, tmp_path: Path) -> None:
    base = coarsen(make_tiny_model(tmp_path / "tiny", "qwen2"))
    adapter = make_adapter(tmp_path / "home-0" / "adapters" / "tone", base, seed=1)
    home = tmp_path / "home-0"
    for name, folder in (("tiny", base), ("merged", merge(tmp_path / "merged", base, adapter))):
        assert ashore("model", "pull", str(folder), "--name", name, home=home).returncode == 0
    config = MODEL.format(name="tiny") + '[model.adapters]\ntone = "adapters/tone"\n' + MODEL.format(name="merged")
    server = served(config=config)

    with openai.OpenAI(base_url=server.base_url, api_key=server.key, max_retries=0, timeout=60) as api:

        def complete(model: str) -> str:
            prompt = [5 + 7 * n % 197 for n in range(70)]
            answer = api.completions.create(model=model, prompt=prompt, max_tokens=20, temperature=0)
            return answer.choices[0].text

        assert [model.id for model in api.models.list()] == ["tiny", "tiny:tone", "merged"]
        answers = {name: complete(name) for name in ("tiny", "tiny:tone", "merged")}
        assert answers["tiny:tone"] == answers["merged"]
        assert answers["tiny"] != answers["merged"], "neither engine nor cache mixes them up"
        assert {name: complete(name) for name in answers} == answers
        with pytest.raises(openai.NotFoundError, match="tiny:tome"):
            complete("tiny:tome")

        (home / "ashore.toml").write_text(MODEL.format(name="tiny") + MODEL.format(name="merged"))
        assert ashore("reload", home=home).returncode == 0
        assert [model.id for model in api.models.list()] == ["tiny", "merged"]
        assert complete("tiny") == answers["tiny"]


def test_an_adapter_that_is_not_there_ends_the_start_with_its_name(ashore: Run, tmp_path: Path) -> None:
    config = tmp_path / "ashore.toml"
    base = make_tiny_model(tmp_path / "tiny", "qwen2")
    config.write_text(f'[[model]]\nname = "{base}"\n[model.adapters]\ntone = "no-such"\n')
    result = ashore(
        "up", "--config", str(config), "--port", "18937", "--grpc-port", "0", home=tmp_path / "home", timeout_s=120
    )
    assert result.returncode != 0
    assert f"expected the adapter tone in {tmp_path}/no-such, which is not a directory" in result.stderr
