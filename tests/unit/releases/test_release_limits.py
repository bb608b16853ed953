"""Engine options of a release: limits that `[model.engine]` knows, what goes to the engine unchanged, and what of the
operator's is taken over from what is live."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from ashore.cli.bootstrap import gather_facts
from ashore.core.errors import AshoreError, InvalidRequest, InvalidSpec
from ashore.core.ids import Digest
from ashore.core.shapes import ModelShape
from ashore.data.engines import ModelPlan
from ashore.data.releases import ReleaseWish
from ashore.kit.store import StoredModel
from ashore.machine.planning.workshop import StoreWorkshop, limits_of


def test_limits_are_told_from_the_options_of_the_engine() -> None:
    limits, options = limits_of((("context_tokens", 512), ("NUM_STREAMS", 1), ("prefix_cache", False), ("threads", 0)))
    assert limits == {"context_tokens": 512, "prefix_cache": False, "threads": 0}
    assert options == (("NUM_STREAMS", 1),)


@pytest.mark.parametrize(
    ("name", "value"),
    [("context_tokens", "long"), ("context_tokens", -1), ("kv_tokens", 1.5), ("threads", True), ("prefix_cache", 1)],
)
def test_a_limit_of_the_wrong_kind_is_refused_by_name(name: str, value: str | float | bool) -> None:
    with pytest.raises(InvalidRequest) as refused:
        limits_of(((name, value),))
    assert name in refused.value.message and repr(value) in refused.value.message


def described(*options: tuple[str, int], live: ModelPlan | None = None) -> ModelPlan:
    def no_store() -> None:
        return None

    workshop = StoreWorkshop(no_store, lambda alias: {}, gather_facts)  # type: ignore[arg-type]
    wish = ReleaseWish(model="fake:echo", alias="chat", options=options)
    return workshop.describe(wish, live=live).plan


def test_what_is_not_said_is_as_with_the_live_release() -> None:
    live = described(("max_sequences", 7))
    assert live.options.max_sequences == 7
    assert described(live=live).options.max_sequences == 7
    narrow = described(("max_sequences", 3), ("context_tokens", 100), live=live).options
    assert (narrow.max_sequences, narrow.context_tokens, narrow.extra) == (3, 100, {})


def test_a_fake_model_with_an_option_that_it_lacks_is_refused() -> None:
    workshop = StoreWorkshop(lambda: None, lambda alias: {}, gather_facts)  # type: ignore[arg-type,return-value]
    with pytest.raises(InvalidSpec, match="unknown option 'tok_per_sec'"):
        workshop.describe(ReleaseWish(model="fake:random?tok_per_sec=3", alias="chat"), live=None)


class Shelf:
    """A store with one model that vLLM reads."""

    def resolve(self, reference: str) -> StoredModel:
        shape = ModelShape(
            architecture="mistral", num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=4, head_dim=16,
            vocab_size=300, context_tokens=512, num_parameters=10_000,
        )  # fmt: skip
        return StoredModel(
            name=reference, variant="", digest=Digest("sha256:00"), format="safetensors", weights="model.safetensors",
            files=(), shape=shape, licence="", source="", created_s=0,
        )  # fmt: skip

    def list(self) -> tuple[StoredModel, ...]:
        return ()


def test_what_runs_is_taken_over_from_what_is_live_on_the_same_engine_and_nowhere_else(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    workshop = StoreWorkshop(Shelf, lambda alias: {}, gather_facts)  # type: ignore[arg-type,return-value]
    said = (("executable", str(program)), ("trust_remote_code", True), ("dtype", "half"))
    live = workshop.describe(ReleaseWish(model="m", alias="chat", engine="vllm", options=said), live=None).plan
    for engine in ("vllm", ""):
        wish = ReleaseWish(model="m2", alias="chat", engine=engine, options=(("enforce_eager", True),))
        found = workshop.describe(wish, live=live).plan.options
        assert found.kind == "vllm", "the program is on no path of the shell"
        assert found.extra == {"executable": str(program), "trust_remote_code": True, "enforce_eager": True}
    other = ReleaseWish(model="m", alias="chat", engine="torch")
    assert workshop.describe(other, live=live).plan.options.extra == {}
    remote = replace(live, options=structs.replace(live.options, extra={"fleet": "chat", "key": "env:K"}))
    with pytest.raises(AshoreError, match="vllm"):
        workshop.describe(ReleaseWish(model="m", alias="chat", engine="vllm"), live=remote)
