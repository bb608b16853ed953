"""What the forms for one machine say, what each refuses, and how files are written, compared and checked."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import yaml
from deploy.make_places_page import reference
from deploy_recipes import R1, RECIPES, VLLM

from ashore.cli.main import main
from ashore.core.errors import InvalidRequest, InvalidSpec, MissingExtra, SourceUnreachable
from ashore.machine.config import parse_spec
from ashore.machine.deployment.forms import (
    FORMS,
    check_objects,
    compare,
    describe_deployment,
    find_kubectl,
    kubernetes_objects,
    parse_places,
    render_form,
)

ONE = '[[model]]\nname = "smollm2"\nalias = "chat"\n'
HERE = VLLM + '[[volume]]\npath = "/models"\nhost = "/srv/models"\n[[model]]\nalias = "r1"\nweights = "/models/r1"\n'
VLLM_ONCE = R1.replace("replicas = 2\n", "") + 'api_key = "pl4nted-key"\n'


def files_of(form: str, config: str, places: str = "") -> dict[str, str]:
    return render_form(form, describe_deployment(config, parse_places(places)))


def test_compose_runs_locked_down_containers_that_reach_each_other() -> None:
    document = yaml.safe_load(files_of("compose", VLLM_ONCE, HERE)["compose.yaml"])
    server, engine = document["services"]["ashore"], document["services"]["ashore-r1"]
    for one in (server, engine):
        assert one["user"] == "10001:10001" and one["read_only"] is True and one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"] and one["networks"] == ["ashore"]
    assert server["stop_grace_period"] == "90s"
    assert server["ports"] == ["127.0.0.1:8080:8080", "127.0.0.1:8081:8081"]
    assert engine["deploy"]["resources"]["reservations"]["devices"][0]["count"] == 8
    assert "/srv/models:/models:ro" in engine["volumes"]
    (name,) = document["secrets"]
    assert engine["secrets"][0]["source"] == name and document["secrets"][name] == {"file": f"./secrets/{name}"}
    assert f'VLLM_API_KEY="$$(cat /run/secrets/ashore/{name})"' in engine["entrypoint"][2]


def test_the_ashore_toml_of_a_container_says_the_same_but_for_where_it_runs() -> None:
    written = ONE + '[http]\nport = 9000\n[cache]\nttl_s = "2h"\n[settings]\ndrain_timeout_s = 5\n'
    inside = parse_spec(files_of("compose", written)["ashore.toml"])
    outside = parse_spec(written)
    assert inside.http.host == inside.grpc.host == "0.0.0.0" and inside.http.port == 9000
    assert (inside.models, inside.cache, inside.settings) == (outside.models, outside.cache, outside.settings)


def test_a_model_of_vllm_is_called_at_the_address_of_its_container() -> None:
    inside = tomllib.loads(files_of("quadlet", VLLM_ONCE, HERE)["ashore.toml"])
    assert inside["model"][0]["engine"]["fleet"]
    assert inside["fleet"]["node"] == [{"node": "ashore-r1", "address": "http://ashore-r1:8000", "model": "r1"}]
    assert inside["model"][0]["engine"]["key"] == "file:/run/secrets/ashore/model-r1-engine-options-api-key"
    assert inside["egress"]["allow"] == ["ashore-r1:8000@10.0.0.0/8"]


def test_quadlet_names_its_secrets_and_how_to_make_them() -> None:
    files = files_of("quadlet", VLLM_ONCE, HERE)
    unit = files["ashore.container"]
    name = "model-r1-engine-options-api-key"
    assert f"podman secret create {name} FILE" in unit
    assert f"Secret={name},type=mount,target=/run/secrets/ashore/{name},uid=10001,gid=10001,mode=0400" in unit
    assert f"Secret={name},type=env,target=VLLM_API_KEY" in files["ashore-r1.container"]
    assert {"ReadOnly=true", "DropCapability=all", "NoNewPrivileges=true"} <= set(unit.splitlines())


def test_keys_and_authorities_of_servers_elsewhere_are_mounted() -> None:
    text = (
        '[[model]]\nname = "m"\n[model.engine]\nfleet = true\nkey = "env:VLLM_KEY"\nca_file = "pki/ca.pem"\n'
        '[[fleet.node]]\nnode = "a"\naddress = "https://10.1.1.1:8000"\nmodel = "m"\n'
        '[[fleet.node]]\nnode = "b"\naddress = "https://10.1.1.2:8000"\nmodel = "m"\n'
        '[egress]\nallow = ["10.1.1.1:8000", "10.1.1.2:8000"]\n'
    )
    deployed = describe_deployment(text, parse_places(""))
    engine = tomllib.loads(deployed.configuration)["model"][0]["engine"]
    assert engine["key"] == "file:/run/secrets/ashore/model-m-engine-key"
    assert engine["ca_file"] == "/run/secrets/ashore/model-m-engine-ca-file"
    assert {(one.network, one.port) for one in deployed.peers} == {("10.1.1.1/32", 8000), ("10.1.1.2/32", 8000)}


def test_traces_need_neither_their_files_nor_their_library_where_they_are_rendered() -> None:
    text = ONE + '[otel]\nendpoint = "http://10.5.5.5:4318"\nheaders_file = "/etc/otel-headers"\n'
    deployed = describe_deployment(text + '[egress]\nallow = ["10.5.5.5:4318"]\n', parse_places(""))
    assert [one.path for one in deployed.secrets] == ["/run/secrets/ashore/otel-headers-file"]
    assert [(one.network, one.port) for one in deployed.peers] == [("10.5.5.5/32", 4318)]


def test_cuda_builds_on_the_image_of_vllm_and_keeps_the_engine_inside() -> None:
    deployed = describe_deployment(R1, parse_places(VLLM.replace("[image]\n", '[image]\naccelerator = "cuda"\n')))
    assert deployed.engines == ()
    text = render_form("image", deployed)["Containerfile"]
    assert "ARG BASE=registry.corp.example/vllm-openai:v0.20" in text and "USER 10001:10001" in text
    assert 'kind = "vllm"' in deployed.configuration and "fleet" not in deployed.configuration


@pytest.mark.parametrize(
    ("config", "places", "message"),
    [
        ("", "", "names no model"),
        (ONE + "[http]\nport = 80\n", "", "listens on port 80"),
        (ONE, "[server]\nreplicas = 2\n", "no Postgres"),
        (R1, VLLM, "does not say where its weights are"),
        (R1, '[[model]]\nalias = "r1"\nweights = "/models/r1"\n', "is on no"),
        (R1, HERE.replace('vllm = "registry.corp.example/vllm-openai:v0.20"\n', ""), "names no image of it"),
        (ONE, '[[model]]\nalias = "chat"\nweights = "/m"\n', "no model that runs in a container of its own"),
        (ONE + '[audit]\narchive = "/mnt/archive"\n', "", "a path of this machine"),
        (ONE.replace("smollm2", "./my-model"), "", "a path of this machine"),
        (ONE + '[sealing]\nkey = "passphrase:"\n', "", "asks for a passphrase"),
        (ONE + '[settings]\nhome = "/srv/a"\n', "", "belongs to one machine"),
        (ONE, '[secrets.keys]\nstate-url = "db"\n', "has no such secret"),
        (ONE, '[server]\nmemory = "8 gigs"\n', "is not a size"),
        (ONE, '[serber]\n', "unknown key 'serber'"),
        (ONE, '[kubernetes]\nversion = "1.20"\n', "version = '1.20'"),
        (ONE, '[[peer]]\nhost = "a"\n', "both or neither"),
        (ONE, '[[volume]]\npath = "/a"\n', "nothing behind it"),
    ],
)  # fmt: skip
def test_what_no_form_can_say_is_an_error_with_what_to_do(config: str, places: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message) as told:
        describe_deployment(config, parse_places(places))
    assert told.value.hint


@pytest.mark.parametrize(
    ("form", "name", "message"),
    [
        ("compose", "shared", "runs one server on one machine"),
        ("quadlet", "spanning", "spans 2 nodes"),
        ("compose", "vllm", "has replicas = 2"),
        ("compose", "everything", "mounts folders of the machine"),
    ],
)
def test_a_form_refuses_what_it_cannot_say(form: str, name: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        files_of(form, RECIPES[name].config, RECIPES[name].places)


def test_the_bundle_has_every_form_that_can_say_it_and_tells_which_cannot() -> None:
    files = files_of("bundle", RECIPES["shared"].config, RECIPES["shared"].places)
    assert {path.partition("/")[0] for path in files} == {"image", "k8s", "helm", "README", "SHA256SUMS"}
    assert "not here: compose: compose runs one server" in files["README"]
    assert "secret db: [state] url" in files["README"]
    assert len(files["SHA256SUMS"].splitlines()) == len(files) - 1


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ashore.toml").write_text(ONE)
    (tmp_path / "places.toml").write_text('[server]\nname = "llm"\n')
    return tmp_path


def test_a_directory_is_compared_before_it_is_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["deploy", "render", "k8s", "--places", "places.toml", "--out", "k8s"]
    assert main([*words, "--dry-run"]) == 0
    assert "+++ b/30-server.yaml" in capsys.readouterr().out and not (folder / "k8s").exists()
    assert main(words) == 0
    assert capsys.readouterr().out.count("new      k8s/") == 3
    (folder / "places.toml").write_text('[server]\nname = "llm"\nmemory = "4GiB"\n')
    assert main([*words, "--dry-run"]) == 0
    difference = capsys.readouterr().out
    assert '-              memory: "8Gi"' in difference and '+              memory: "4Gi"' in difference
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in told["items"]] == ["same", "same", "changed"] and told["written"] is True
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == "k8s is as rendered\n"


def test_what_is_no_longer_rendered_is_removed_and_what_others_put_there_stays(tmp_path: Path) -> None:
    for name, text in (("40-engine-old.yaml", "# Made by `ashore deploy render`.\n"), ("mine.yaml", "kind: Job\n")):
        (tmp_path / name).write_text(text)
    found = {one.path: one.state for one in compare(files_of("k8s", ONE), tmp_path)}
    assert found["40-engine-old.yaml"] == "stale" and "mine.yaml" not in found


@pytest.mark.parametrize("where", ["file", "empty", "nowhere", "folder"])
def test_a_link_does_not_lead_out_of_the_directory(tmp_path: Path, where: str) -> None:
    out, elsewhere, files = tmp_path / "out", tmp_path / "elsewhere", files_of("k8s", ONE)
    out.mkdir()
    elsewhere.mkdir()
    inner = next((path for path in files if "/" in path), None)
    path = out / (inner or next(iter(files)))
    if where == "folder":
        files = {f"inner/{next(iter(files))}": "x"}
        (out / "inner").symlink_to(elsewhere)
    else:
        path.parent.mkdir(exist_ok=True)
        target = elsewhere / "target"
        if where != "nowhere":
            target.write_text("" if where == "empty" else "# theirs\n")
        path.symlink_to(target)
    with pytest.raises(InvalidRequest, match="symbolic link"):
        compare(files, out)


def test_a_file_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    with pytest.raises(InvalidRequest, match="was not made by"):
        compare(files_of("compose", ONE), tmp_path)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_prints_json_and_is_the_same_each_time(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["deploy", "render", form, "--json"]) == 0
    first = capsys.readouterr().out
    assert main(["deploy", "render", form, "--json"]) == 0
    assert capsys.readouterr().out == first and json.loads(first)["files"]


KUBECTL = """#!/bin/sh
[ "$*" = "--context prod apply --dry-run=server --validate=strict -f -" ] || { echo "odd words: $*" >&2; exit 9; }
input=$(cat)
case "$input" in
*"kind: StatefulSet"*) echo 'strict decoding error: unknown field "spec.x"' >&2; exit 1;;
*) echo "accepted (server dry run)";;
esac
"""


def test_an_api_server_is_asked_for_each_object(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl = folder / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    words = ["deploy", "check", "k8s", "--kubectl", str(kubectl), "--context", "prod"]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "refused  StatefulSet ashore" in told.out and 'unknown field "spec.x"' in told.out
    assert "ok       NetworkPolicy ashore-deny" in told.out
    assert "refuses 1 of 8 objects" in told.err
    assert main([*words, "--json"]) == 2
    assert [one["accepted"] for one in json.loads(capsys.readouterr().out)["items"]].count(False) == 1


def test_a_server_that_is_not_there_is_no_fault_of_the_objects(tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text('#!/bin/sh\necho "The connection to the server 10.0.0.1:6443 was refused" >&2\nexit 1\n')
    kubectl.chmod(0o755)
    groups = kubernetes_objects(describe_deployment(ONE, parse_places("")))
    with pytest.raises(SourceUnreachable, match="was refused"):
        check_objects(groups, kubectl=str(kubectl))
    with pytest.raises(MissingExtra, match="not installed"):
        find_kubectl(str(tmp_path / "nowhere"))


def test_the_page_of_places_is_what_the_declarations_say() -> None:
    page = Path(__file__).parents[3] / "docs/reference/places-toml.md"
    assert page.read_text(encoding="utf-8") == reference(), "run `make docs`"
