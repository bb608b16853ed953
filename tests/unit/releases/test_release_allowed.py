"""What a release that is made over the API may be made of: options that tune, and adapters from named folders."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from ashore.core.errors import InvalidRequest, PermissionDenied
from ashore.core.kinds import EngineKind
from ashore.data.engines import LIMITS, card_of
from ashore.data.releases import ReleasePolicy, check_adapters, check_options
from ashore.machine.planning.workshop import Limits

PLAIN = ReleasePolicy()


def test_the_limits_are_those_of_the_plan() -> None:
    assert set(LIMITS) == set(Limits.__annotations__)


@pytest.mark.parametrize("kind", get_args(EngineKind))
def test_whatever_tunes_is_taken_and_so_are_limits_that_mean_something(kind: EngineKind) -> None:
    options = card_of(kind).options
    check_options(tuple((name, 1) for name in (*options.tune, *LIMITS) if name not in options.unused), kind, ())
    check_options(tuple((name, 1) for name in (*options.tune, *LIMITS)), None, ())
    for name in options.unused:
        with pytest.raises(InvalidRequest, match=f"'{name}' is not a tuning option of {kind}"):
            check_options(((name, 1),), kind, ())


@pytest.mark.parametrize("name", ["bogus", "library", "NUM_STREAMS"])
def test_nobody_can_allow_what_the_engine_does_not_know(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"'{name}' is not a tuning option of fake"):
        check_options(((name, 1),), "fake", (name,))


@pytest.mark.parametrize("kind", get_args(EngineKind))
def test_whatever_says_what_runs_is_refused_on_every_engine(kind: EngineKind) -> None:
    for name in card_of(kind).options.operators:
        for asked in (kind, None):
            with pytest.raises(PermissionDenied) as refused:
                check_options(((name, "/tmp/x"),), asked, ())
            assert repr(name) in refused.value.message and "ashore.toml" in refused.value.hint


@pytest.mark.parametrize(
    ("kind", "option", "seen", "hint"),
    [
        ("llamacpp", ("kv_cash", "q8_0"), "'kv_cash' is not a tuning option", "'kv_cache'"),
        ("vllm", ("enforce_eagr", True), "'enforce_eagr' is not a tuning option", "'enforce_eager'"),
        ("vllm", ("tool_parser_plugin", "/tmp/x.py"), "tool_parser_plugin", 'allow_options = ["tool_parser_plugin"]'),
        ("vllm", ("trust_remote_code", True), "trust_remote_code", 'allow_options = ["trust_remote_code"]'),
        ("vllm", ("host", "0.0.0.0"), "'host'", "allow_options"),
        ("openvino", ("CACHE_DIR", "/tmp"), "'CACHE_DIR'", 'allow_options = ["CACHE_DIR"]'),
        ("openvino", ("num_streams", 1), "'num_streams'", "did you mean"),
        ("torch", ("dtype", "f32"), "'dtype' is not a tuning option", ""),
        (
            "llamacpp",
            ("kv_cache", "/tmp/x"),
            "kv_cache is '/tmp/x'; expected a number, true, false or a word",
            "kv_cache",
        ),
        ("vllm", ("dtype", "--tool-parser-plugin=/tmp/x.py"), "dtype is '--tool-parser", "dtype"),
        ("vllm", ("quantization", "a b"), "quantization is 'a b'", "quantization"),
    ],
)
def test_what_the_engine_does_not_know_and_what_is_no_word_is_refused_by_name(
    kind: EngineKind, option: tuple[str, str | bool], seen: str, hint: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_options((option,), kind, ())
    assert seen in refused.value.message and hint in refused.value.hint
    assert refused.value.param == "options"


def test_the_operator_lets_options_through_by_name_but_no_address() -> None:
    policy = ReleasePolicy(allow_options=("executable", "trust_remote_code", "fleet", "api_key"))
    check_options((("executable", "/opt/vllm/bin/vllm"), ("trust_remote_code", True)), "vllm", policy.allow_options)
    for name in ("fleet", "api_key"):
        with pytest.raises(PermissionDenied, match=name):
            check_options(((name, "http://127.0.0.1:1"),), "vllm", policy.allow_options)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("allowed/tone", "allowed-not/tone", "named"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "allowed" / "away").symlink_to(tmp_path / "allowed-not")
    (tmp_path / "inside").symlink_to(tmp_path / "allowed" / "tone")
    return tmp_path


@pytest.mark.parametrize(
    ("where", "real"),
    [("allowed/tone", "allowed/tone"), ("allowed/../allowed/tone", "allowed/tone"), ("inside", "allowed/tone"),
     ("named", "named")],
)  # fmt: skip
def test_an_adapter_lies_where_the_operator_says_with_links_followed(folders: Path, where: str, real: str) -> None:
    allowed = (str(folders / "allowed"), str(folders / "named"))
    assert check_adapters((("tone", f"{folders}/{where}"),), allowed) == (("tone", str(folders / real)),)


@pytest.mark.parametrize(
    "where", ["allowed/away/tone", "allowed-not/tone", "allowed/../allowed-not/tone", "", "allowed/.."]
)
def test_an_adapter_from_anywhere_else_is_refused(folders: Path, where: str) -> None:
    with pytest.raises(PermissionDenied, match="tone") as refused:
        check_adapters((("tone", f"{folders}/{where}"),), (str(folders / "allowed"),))
    assert "[release] adapter_folders" in refused.value.hint
    with pytest.raises(PermissionDenied):
        check_adapters((("tone", f"{folders}/allowed/tone"),), ())
    with pytest.raises(PermissionDenied):
        check_adapters((("tone", "allowed/tone"),), (str(folders / "allowed"),))


@pytest.mark.parametrize("name", ["../y", "a b", "", "x" * 65, "a:b"])
def test_an_adapter_whose_name_is_none_or_whose_folder_is_not_there_is_refused(folders: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a name"):
        check_adapters(((name, f"{folders}/allowed/tone"),), (str(folders / "allowed"),))
    with pytest.raises(InvalidRequest, match="is not a directory"):
        check_adapters((("tone", f"{folders}/allowed/gone"),), (str(folders / "allowed"),))
