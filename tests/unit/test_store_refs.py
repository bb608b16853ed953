"""References, names formed from sources, versions, paths."""

from __future__ import annotations

import pytest

from ashore.core.errors import AshoreError, CorruptBlob, InvalidRequest
from ashore.core.ids import Digest
from ashore.kit.store import is_source, open_source, parse_reference
from ashore.kit.store.layout import check_path
from ashore.kit.store.meant import check_form
from ashore.kit.store.refs import name_from

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "name", "variant", "digest"),
    [
        ("smollm2", "smollm2", "", None),
        ("smollm2@int8", "smollm2", "int8", None),
        (f"smollm2@{DIGEST}", "smollm2", "", Digest(DIGEST)),
    ],
)
def test_a_reference_has_a_name_and_at_most_one_of_variant_and_digest(
    text: str, name: str, variant: str, digest: Digest | None
) -> None:
    reference = parse_reference(text)
    assert (reference.name, reference.variant, reference.digest) == (name, variant, digest)


@pytest.mark.parametrize("text", ["", "@int8", "a@", "UPPER", "a/b", "a@sha256:12", "a@b@c", "../a", "a@Int8", "-a"])
def test_what_is_no_reference_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_reference(text)
    assert "name@variant" in caught.value.hint


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-r1-distill-qwen-1.5b"),
        ("models/My Model.gguf", "my-model"),
        ("/srv/models/x/", "x"),
    ],
)
def test_a_name_is_formed_from_the_last_part(source: str, name: str) -> None:
    assert name_from(source) == name


def test_a_source_without_letters_needs_a_name() -> None:
    with pytest.raises(InvalidRequest, match="no store name"):
        name_from("///")


@pytest.mark.parametrize("text", ["hf:a", "ms:a/b/c", "pypi:a b", "oci://host", "oci://", "s3://bucket", "what:ever"])
def test_malformed_sources_are_refused_before_any_network(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_source(text)
    assert "expected" in caught.value.hint


@pytest.mark.parametrize(("text", "yes"), [("hf:a/b", True), ("smollm2", False), ("./x", True), ("m@int8", False)])
def test_sources_and_names_are_told_apart(text: str, yes: bool) -> None:
    assert is_source(text) is yes


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", ".", "a/./b", "a\\b", "a\0b"])
def test_paths_that_leave_the_folder_are_refused(path: str) -> None:
    with pytest.raises(CorruptBlob):
        check_path(path)


@pytest.mark.parametrize("path", ["model.gguf", "1_Pooling/config.json", "..hidden"])
def test_plain_paths_pass(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize("text", ["0" * 480, "a/" * 3000, "x\0y"])
def test_a_text_that_can_be_no_path_is_refused_and_no_fault(text: str) -> None:
    with pytest.raises(AshoreError):
        check_form(text, {})
        parse_reference(text)
    with pytest.raises(AshoreError):
        open_source(text).resolve()
