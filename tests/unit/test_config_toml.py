"""ashore.toml: what is taken, and what each kind of mistake gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from ashore.control.fleet import FleetSection
from ashore.core.errors import InvalidSpec
from ashore.data.path import AdmissionSection, GrpcSection, HttpSection
from ashore.kit.state import StateSection
from ashore.machine.config import Spec, parse_spec, read_spec
from ashore.machine.planning import EngineSection, ModelSection

FULL = """
[[model]]
name = "smollm2"
alias = "chat"
replicas = 2
[model.engine]
kind = "openvino"
kv_tokens = 4096
options = {DYNAMIC_QUANTIZATION_GROUP_SIZE = 128}
[[model]]
name = "minilm"
[http]
host = "0.0.0.0"
port = 9000
[grpc]
port = 0
[admission]
max_waiting = 8
default_deadline_s = 5
[settings]
offline = true
[state]
url = "sqlite:////srv/state.db"
"""


FAR = '[[model]]\nname = "a"\n[model.engine]\nfleet = true\n'


def node(address: str) -> str:
    return f'[[fleet.node]]\nnode = "n1"\naddress = "{address}"\nmodel = "a"\n'


def test_a_full_spec_is_read() -> None:
    engine = EngineSection(kind="openvino", kv_tokens=4096, options={"DYNAMIC_QUANTIZATION_GROUP_SIZE": 128})
    assert parse_spec(FULL) == Spec(
        models=(ModelSection(name="smollm2", alias="chat", replicas=2, engine=engine), ModelSection(name="minilm")),
        http=HttpSection(host="0.0.0.0", port=9000),
        grpc=GrpcSection(port=0),
        admission=AdmissionSection(max_waiting=8, default_deadline_s=5.0),
        written={"offline": True},
        state=StateSection(url="sqlite:////srv/state.db"),
    )
    assert parse_spec(FULL).settings == {"offline": True, "state_url": "sqlite:////srv/state.db"}


def test_an_empty_spec_is_the_default() -> None:
    assert parse_spec("") == Spec()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modle = 1", "unknown key 'modle'", "'model'"),
        ('[[model]]\nname = "a"\nreplica = 2', "unknown key 'replica'", "'replicas'"),
        ('[[model]]\nname = "a"\nengine = {kind = "openvin"}', "kind = 'openvin'", "'openvino'"),
        ('[[model]]\nname = "a"\n[model.engine]\nkv_token = 1', "unknown key 'kv_token'", "'kv_tokens'"),
        ("[model]\nname = 'a'", "not a list of tables", "[[model]]"),
        ("[[model]]\nalias = 'a'", "has no name", "smollm2"),
        ('[[model]]\nname = "a"\nalias = "b\\n[Service]"', "has U+000A in its name or alias", "visible"),
        ('[[model]]\nname = "a"\n[[model]]\nname = "b"\nalias = "a"', "two models with the alias 'a'", "its own alias"),
        ('[[model]]\nname = "a"\n[model.engine]\noptions = {fleet = "b"}', "options has fleet", "next to options"),
        ('[[model]]\nname = "a"\n[model.engine]\nkey = "env:K"', "no nodes", "fleet = true"),
        ('[[model]]\nname = "a"\n[model.engine]\nfleet = true\nkey = "hush"', "not the place of a key", "env:NAME"),
        (FAR + node("localhost:8000"), "[[node]] number 1 address = 'localhost:8000'", "without /v1"),
        (FAR + node("http://gpu.corp"), "[fleet] node 'n1' names a server that ashore may not call", "[egress] allow"),
        (FAR + node("http://localhost").replace('"a"', '"b"'), "serves 'b', which is no model", "known: a"),
        ('[[model]]\nname = "a"\n' + node("http://localhost"), "no model with fleet = true", "add fleet = true to its"),
        ('[release]\nallow_options = ["fleet"]', "allow_options has 'fleet'", "[model.engine]"),
        ("[http]\nport = 70000", "port = 70000; expected 1 to 65535", "correct"),
        ("[http]\nport = '8080'", "port = '8080'; expected a whole number, 1 to 65535", "correct"),
        ("[admission]\nmax_waiting = true", "max_waiting = true; expected a whole number", "correct"),
        ("[admission]\ndefault_deadline_s = 0", "default_deadline_s = 0", ""),
        ('[backup]\nnodes = ["/a", "/b"]', "names 2 places, but the code 2+1 needs 3", "K+M"),
        ('[backup]\ncode = "9"', "the code '9' is not K+M", "2+1"),
        ('[backup]\nnodes = ["a", "/b", "/c"]', "'a' is neither an absolute path nor a bucket", "s3://"),
        ("[backup]\nkeep = 0", "keep = 0; expected 1", "correct"),
        ('[cache]\nmode = "exat"', "mode = 'exat'", "'exact'"),
        ('[redis]\nurl = "http://x"', "url has the scheme 'http'", "embedded"),
        ('[redis]\nurl = "redis://u:pa/ss@h"', "a port is not a number", "%2F"),
        ('[redis]\nurl = "redis://h:99999"', "a port is not a number from 1 to 65535", "password"),
        ('[redis]\nurl = "redis://h/cache"', "is not a database number", "/0"),
        ('[redis]\nurl = "redis://h?db=x"', "'db'", "correct"),
        ('[redis]\nurl = "redis://h?colour=red"', "unknown option 'colour'", "redis-py"),
        ('[redis]\nurl = "rediss://h?ssl_ca_certs=/no/such.pem"', "'/no/such.pem', which is not a file", "path"),
        ('[redis]\nurl = "rediss://h?ssl_cert_reqs=perhaps"', "perhaps", "correct"),
        ('[redis]\nurl = "redis+sentinel://h:26379"', "names no master", "mymaster"),
        ('[redis]\nurl = "redis+sentinel://h:x/m"', "a port is not a number", "password"),
        ('[redis]\nurl = "redis+sentinel://h,i/m?ssl_ca_certs=x"', "'x', which is not a file", "path"),
        ('[redis]\nurl = "redis+sentinel://h,i/m?db=x"', "invalid literal", "correct"),
        ('[redis]\nurl = "redis+sentinel://h,i/m?colour=red"', "unknown option 'colour'", "db, tls"),
        ('[edge]\ntls = "files"', "tls = 'files'", "both files"),
        (
            '[egress]\nallow = ["a.example", "hooks.corp@10.0.0.0/8:80"]',
            "'hooks.corp@10.0.0.0/8:80'",
            "host@10.0.0.0/8",
        ),
        ("[http", "is not TOML", "correct"),
        ("[[model]]\nname = smollm2 # ours", "Invalid value (at line 2", 'put quotes around smollm2: name = "smollm2"'),
        ("[http]\nhost = 0.0.0.0", "(at line 2", 'put quotes around 0.0.0.0: host = "0.0.0.0"'),
        ("[sealing]\nstate = True", "Invalid value (at line 2", "write state = true"),
        ("port = 9000", "unknown key 'port'", "port belongs under [http] or [grpc] or [edge]"),
        ("[http]\nkv_tokens = 9", "unknown key 'kv_tokens'", "kv_tokens belongs under [model.engine]"),
        ("[engine]\nkind = 'vllm'", "unknown key 'engine'", "engine belongs under [[model]]: write [model.engine]"),
        ("[[model]]\nname = 'a'\n[model.engine]\nname = 'vlm'", "unknown key 'name'", 'did you mean kind = "vllm"?'),
        ("[[model]]\nname = 'a'\nengine = 'vllm'", "engine = 'vllm'; expected a table", 'engine = { kind = "vllm" }'),
        ("[[model]]\nname = 'a'\nshare = 2", "share = 2; expected a table", "write [model.share]"),
    ],
)
def test_a_mistake_is_named_with_the_way_out(text: str, message: str, hint: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse_spec(text)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_releases_may_have_the_adapters_that_the_file_names_and_those_in_folders_that_it_allows(tmp_path: Path) -> None:
    path = tmp_path / "ashore.toml"
    path.write_text(
        '[release]\nadapter_folders = ["adapters", "/srv/more"]\nallow_options = ["trust_remote_code"]\n'
        '[[model]]\nname = "smollm2"\n[model.adapters]\ntone = "/srv/tone"\n'
    )
    policy = read_spec(path).release
    assert policy.adapter_folders == (f"{tmp_path}/adapters", "/srv/more", "/srv/tone")
    assert policy.allow_options == ("trust_remote_code",)


@pytest.mark.parametrize(
    ("url", "allow"),
    [
        ("http://127.0.0.1:8000", ""),
        ("http://localhost:8000", ""),
        ("http://[::1]:8000", ""),
        ("http://gpu.corp.example:8000", "gpu.corp.example:8000"),
        ("https://10.0.0.7", "10.0.0.7"),
    ],
)
def test_a_node_is_called_where_egress_or_the_networks_of_the_fleet_allow_it(url: str, allow: str) -> None:
    text = FAR + node(url)
    spec = parse_spec(text + (f'[egress]\nallow = ["{allow}"]\n' if allow else ""))
    assert [one.address for one in spec.section("fleet", FleetSection).nodes] == [url]
    parse_spec(FAR + node("http://10.0.0.9:8000") + '[fleet]\nnetworks = ["10.0.0.0/24"]\n')
    if allow:
        for other in ("", '[egress]\nallow = ["other.example"]\n'):
            with pytest.raises(InvalidSpec, match=r"\[egress\] does not allow") as refused:
                parse_spec(text + other)
            assert "[egress] allow" in refused.value.hint


def test_adapters_are_named_folders_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ashore.toml"
    path.write_text('[[model]]\nname = "smollm2"\n[model.adapters]\nlegal = "adapters/legal"\ntone = "/srv/tone"\n')
    (model,) = read_spec(path).models
    assert model.adapters == {"legal": f"{tmp_path}/adapters/legal", "tone": "/srv/tone"}
    with pytest.raises(InvalidSpec, match="'a:b' is not a name for an adapter"):
        parse_spec('[[model]]\nname = "x"\n[model.adapters]\n"a:b" = "/x"\n')
    clash = '[[model]]\nname = "x"\n[model.adapters]\nb = "/x"\n[[model]]\nname = "y"\nalias = "x:b"\n'
    with pytest.raises(InvalidSpec, match="two models with the alias 'x:b'"):
        parse_spec(clash)


ISSUER = '[[access.issuer]]\nname = "corp"\nissuer = "https://id"\naudience = "ashore"\n'


def test_issuers_are_read_and_their_files_lie_beside(tmp_path: Path) -> None:
    path = tmp_path / "ashore.toml"
    path.write_text(ISSUER + 'jwks_file = "keys.json"\nalgorithms = ["ES256"]\ngroups_claim = "groups"\n')
    issuer = read_spec(path).access.issuers[0]
    assert (issuer.name, issuer.jwks_file, issuer.algorithms) == ("corp", str(tmp_path / "keys.json"), ("ES256",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[access]\npolicy = "policy.toml"', "security officer"),
        ("[access]\nissuers = []", "unknown key 'issuers'"),
        (ISSUER, "either jwks_url or jwks_file"),
        (ISSUER + 'jwks_file = "a"\nalgorithms = ["HS256"]', "HS256"),
        (ISSUER + 'jwks_file = "a"\noffices = true', "unknown key 'offices'"),
        (ISSUER + 'jwks_url = "http://127.0.0.1.evil.example/jwks"', "jwks_url"),
        (ISSUER + 'jwks_file = "a"\n' + ISSUER + 'jwks_file = "b"', "two issuers with the name 'corp'"),
        (ISSUER + 'jwks_file = "a"\nskew_s = 3600', "skew_s"),
    ],
)
def test_issuers_that_would_be_unsafe_are_named(text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        parse_spec(text)


@pytest.mark.parametrize(
    "url",
    [
        "embedded", "redis://h", "redis://h:6380/2", "rediss://user:p%2Fss@h:6379?ssl_cert_reqs=none",
        "redis://[::1]:6379", "unix:///run/valkey.sock?db=1", "redis+sentinel://ann:x@a:1,b/main?db=2&tls=1",
    ],
)  # fmt: skip
def test_a_shared_cache_may_be_named_in_each_of_its_forms(url: str) -> None:
    assert parse_spec(f'[redis]\nurl = "{url}"').redis.url == url


def test_a_file_that_is_gone_is_asked_for_without_an_option_that_not_every_command_has(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="No such file") as refused:
        read_spec(tmp_path / "ashore.toml")
    assert "put the file back" in refused.value.hint and "--" not in refused.value.hint
