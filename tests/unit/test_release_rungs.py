"""A ladder as part of a release: its variants, their weights among what the store keeps, their bytes in its content."""

from __future__ import annotations

from ashore.data.engines import EngineOptions, ModelFiles, ModelPlan, content_of
from ashore.data.releases.model import Release

FILES = ModelFiles(name="m@fp16", digest="sha256:a", directory="/m", format="openvino")


def plan(**extra: str) -> ModelPlan:
    return ModelPlan(
        alias="m", release="m-1", name="m", variant="fp16", options=EngineOptions(kind="openvino", extra=dict(extra)),
        replicas=1, embedder=False, in_store=True,
    )  # fmt: skip


def test_rungs_are_variants_of_the_model() -> None:
    assert plan().rungs == () and plan(rungs="int8").rungs == ("m@int8",)
    assert plan(rungs="int8.int4").rungs == ("m@int8", "m@int4")


def test_the_store_keeps_the_weights_of_every_rung() -> None:
    parts = {"weights": "sha256:a", "rung int8": "sha256:b", "engine": "sha256:c"}
    release = Release(name="m-1", alias="m", plan=plan(rungs="int8"), parts=parts, content="x")
    assert release.manifests == {"sha256:a", "sha256:b"}


def test_other_bytes_of_a_rung_are_another_content() -> None:
    def named(*digests: str) -> str:
        rungs = tuple(ModelFiles(name="m@int8", digest=one, directory="/r", format="openvino") for one in digests)
        files = ModelFiles(name="m@fp16", digest="sha256:a", directory="/m", format="openvino", rungs=rungs)
        return content_of(files, plan().options, {})

    assert named() == content_of(FILES, plan().options, {})
    assert len({named(), named("sha256:b"), named("sha256:c")}) == 3
