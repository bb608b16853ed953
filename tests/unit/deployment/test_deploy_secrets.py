"""No form contains a secret, wherever in ashore.toml it stands; a value in a file is read from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.cli.main import main
from ashore.core.errors import Bug, InvalidSpec
from ashore.machine.config import parse_spec
from ashore.machine.deployment.forms import FORMS, Places, describe_deployment, is_secret, parse_places, render_form
from ashore.machine.deployment.forms.secrets import refuse_leaks

MODEL = '[[model]]\nname = "smollm2"\nalias = "chat"\n'
VLLM = '[[model]]\nname = "r1"\n[model.engine]\nkind = "vllm"\n[model.engine.options]\n'
PLACES = (
    '[image]\nvllm = "v:1"\n[[volume]]\npath = "/models"\nclaim = "m"\nhost = "/srv/models"\n'
    '[[peer]]\nhost = "db"\nnetwork = "10.0.0.0/8"\n[[peer]]\nhost = "cache"\nnetwork = "10.0.0.0/8"\n'
    '[[peer]]\nhost = "mirror"\nnetwork = "10.0.0.0/8"\n[[peer]]\nhost = "s3"\nnetwork = "10.0.0.0/8"\n'
    '[[peer]]\nhost = "logs"\nnetwork = "10.0.0.0/8"\n'
)
R1 = '[[model]]\nalias = "r1"\nweights = "/models/r1"\n'
CUDA = 'accelerator = "cuda"\n'
PLANTED = "Pl4nt3d-Zq7Wx9Vt2"
TOKEN = "hf_Pl4nt3dZq7Wx9Vt2Kd83Jf"
PLACES_OF_SECRETS = {
    "password of the state": (MODEL + f'[state]\nurl = "postgresql://ashore:{PLANTED}@db/ashore"\n', PLANTED, ""),
    "encoded": (MODEL + '[state]\nurl = "postgresql://a:Pl4nt3d%2FZq7@db/a"\n', "Pl4nt3d", ""),
    "option of the address": (MODEL + f'[state]\nurl = "postgresql://ashore@db/a?password={PLANTED}"\n', PLANTED, ""),
    "state among the settings": (MODEL + f'[settings]\nstate_url = "postgresql://a:{PLANTED}@db/a"\n', PLANTED, ""),
    "password of the cache": (MODEL + f'[redis]\nurl = "redis://:{PLANTED}@cache:6379/0"\n', PLANTED, ""),
    "user that is a token": (MODEL + f'[settings]\nhf_endpoint = "https://{PLANTED}@mirror"\n', PLANTED, ""),
    "key of commands": (MODEL + f'[settings]\napi_key = "{PLANTED}"\n', PLANTED, ""),
    "key of an engine": (VLLM + f'api_key = "{PLANTED}"\n', PLANTED, R1),
    "odd name of an option": (VLLM + f'"X-Auth" = "{PLANTED}"\n', PLANTED, CUDA),
    "number": (VLLM + "hf_token = 8135274906\n", "8135274906", CUDA),
    "shape of a token": (VLLM + f'mirror_login = "{TOKEN}"\n', TOKEN, CUDA),
    "header in an option": (VLLM + f'header = "Authorization: Bearer {PLANTED}"\n', PLANTED, CUDA),
    "argument of a judge": (
        MODEL + f'[[release.judge]]\nname = "j"\ncommand = ["/bin/judge", "--token={PLANTED}"]\n', PLANTED, "",
    ),
    "comment": (MODEL + f"# the password is {PLANTED}\n", PLANTED, ""),
    "comment after a value": (MODEL + f'[http]\nport = 8080  # key {PLANTED}\n', PLANTED, ""),
    "anchor of the audit": (MODEL + f'[audit]\nanchors = ["s3://bucket/a?secret_access_key={PLANTED}"]\n', PLANTED, ""),
    "escapes": (MODEL + '[redis]\nurl = "redis://:\\u0050l4nt3d-Zq7Wx9Vt2@cache/0"\n', PLANTED, ""),
    "long random text": (VLLM + 'opaque = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7"\n', "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7", CUDA),
}  # fmt: skip
PLACES_OF_SECRETS["inline table"] = (
    f'redis = {{ url = "redis://u:{PLANTED}@cache/0" }}\n' + MODEL, PLANTED, "",
)  # fmt: skip


def places_with(more: str) -> Places:
    """Return the places of all hosts, with where vLLM runs."""
    return parse_places(PLACES.replace("[image]\n", "[image]\n" + more) if more == CUDA else PLACES + more)


@pytest.mark.parametrize("where", PLACES_OF_SECRETS)
def test_a_planted_secret_is_in_no_file_of_any_form(where: str) -> None:
    text, secret, place = PLACES_OF_SECRETS[where]
    assert secret in text.replace("\\u0050", "P")
    deployed = describe_deployment(text, places_with(place))
    for form in FORMS:
        files = render_form(form, deployed)
        assert files
        for path, written in files.items():
            assert secret not in written and secret not in path, (form, path)
    assert secret not in repr(deployed.secrets) + repr(deployed.notes)


@pytest.mark.parametrize("where", [one for one in PLACES_OF_SECRETS if "comment" not in one])
def test_what_was_taken_out_is_named_and_read_from_its_file(where: str) -> None:
    text, _, place = PLACES_OF_SECRETS[where]
    deployed = describe_deployment(text, places_with(place))
    (named,) = deployed.secrets
    assert f'"{named.path}" }}' in deployed.configuration or f'"file:{named.path}"' in deployed.configuration
    assert f"--from-file={named.name}=FILE" in render_form("k8s", deployed)["10-configuration.yaml"]


@pytest.mark.parametrize("where", [one for one, (_, _, place) in PLACES_OF_SECRETS.items() if place == CUDA])
def test_a_secret_that_would_be_a_flag_of_vllm_is_refused(where: str) -> None:
    text, secret, _ = PLACES_OF_SECRETS[where]
    with pytest.raises(InvalidSpec, match="is a secret or looks like one") as told:
        describe_deployment(text, places_with(R1))
    assert secret not in told.value.message + told.value.hint


def test_a_leak_by_a_mistake_of_ours_is_refused() -> None:
    with pytest.raises(Bug, match="would contain a secret"):
        refuse_leaks(["x: abcdefg"], frozenset({"abcdefg"}))


def test_a_secret_that_is_a_name_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="password or token"):
        describe_deployment('[[model]]\nname = "oci://bob:pl4nted@registry/m:1"\nalias = "m"\n', parse_places(""))


def test_the_systemd_unit_refuses_a_password_among_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deploy", "render", "systemd", "fake:echo", "--redis", f"redis://:{PLANTED}@cache/0"]) == 2
    told = capsys.readouterr()
    assert PLANTED not in told.out + told.err and "from_file" in told.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tensor_parallel_size", 8), ("max_num_batched_tokens", 8192), ("quantization", "fp8"), ("kv_tokens", 4096),
        ("name", "hf:deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"), ("url", "http://vllm:8000"), ("kind", "openvino"),
        ("reference", "registry/ashore@sha256:" + "0123456789abcdef" * 4), ("issuer", "https://id.corp.example"),
        ("url", "postgresql://ashore@db/ashore"), ("must_match", "^[A-Z].*token"), ("weights", "/models/DeepSeek-V3"),
    ],
)  # fmt: skip
def test_ordinary_values_are_no_secrets(key: str, value: object) -> None:
    assert not is_secret(key, value)


def test_a_value_is_read_from_its_file_and_the_file_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "redis-url"
    text = MODEL + f'[redis]\nurl = {{ from_file = "{file}" }}\n'
    with pytest.raises(InvalidSpec, match=f"from_file = {file}: No such file"):
        parse_spec(text)
    file.write_text("redis://:pw@cache:6379/0\n")
    assert parse_spec(text).redis.url == "redis://:pw@cache:6379/0"
    file.write_text("\n")
    with pytest.raises(InvalidSpec, match="is empty"):
        parse_spec(text)
    with pytest.raises(InvalidSpec, match="not absolute"):
        parse_spec(text.replace(str(file), "redis-url"))


def test_a_list_and_an_option_may_be_in_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("s3://bucket/a")
    (tmp_path / "k").write_text("key-of-vllm")
    spec = parse_spec(
        f'[[model]]\nname = "m"\n[model.engine.options]\napi_key = {{ from_file = "{tmp_path}/k" }}\n'
        f'[audit]\nanchors = [{{ from_file = "{tmp_path}/a" }}]\n'
    )
    assert spec.models[0].engine.options == {"api_key": "key-of-vllm"}
    assert spec.audit.anchors == ("s3://bucket/a",)


def test_files_that_hold_values_need_not_be_where_a_form_is_rendered() -> None:
    deployed = describe_deployment(
        MODEL + '[state]\nurl = { from_file = "/somewhere/db" }\n[redis]\nurl = { from_file = "/somewhere/r" }\n',
        parse_places('[[peer]]\nhost = "state-url"\nport = 5432\nnetwork = "10.0.0.0/8"\n'
                     '[[peer]]\nhost = "redis-url"\nport = 6379\nnetwork = "10.0.0.0/8"\n'),
    )  # fmt: skip
    assert [one.name for one in deployed.secrets] == ["state-url", "redis-url"]
    assert deployed.shared_state
    assert "10.0.0.0/8" in render_form("k8s", deployed)["20-network.yaml"]
