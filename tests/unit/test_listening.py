"""What a reload takes of where a server listens and what it allows, and what stays until it is started again."""

from __future__ import annotations

import json
from pathlib import Path

from msgspec.structs import replace

from ashore.cli.upplan import Request
from ashore.control.backup import BackupSection
from ashore.data.authority import AccessSection, Issuer
from ashore.data.cache import CachePolicy, RedisSection, RoutePolicy
from ashore.data.jobs import JobsSection
from ashore.data.path import AdmissionSection, HttpSection, Limits, Topology, read_topology, write_topology
from ashore.data.releases import ReleasePolicy
from ashore.kit.settings import Home, Settings
from ashore.machine.config import Listening, parse_spec
from ashore.machine.config.differences import shown
from ashore.machine.deployment.topology import topology_of
from ashore.machine.edge import EdgeSection

HERE = Listening()
ISSUER = Issuer(name="staff", issuer="https://login.bank.example", audience="ashore", jwks_file="/etc/keys.json")


def test_an_issuer_is_believed_and_dropped_by_a_reload() -> None:
    with_issuer = HERE.reloaded(replace(HERE, access=AccessSection(issuers=(ISSUER,))))
    assert with_issuer.access.issuers == (ISSUER,)
    assert with_issuer.reloaded(HERE).access.issuers == ()


def test_proxies_limits_backups_and_releases_are_as_the_file_says() -> None:
    said = replace(
        HERE,
        edge=EdgeSection(trusted_proxies=1),
        admission=AdmissionSection(max_waiting=7),
        backup=BackupSection(every_s=3600),
        release=ReleasePolicy(pairs=3),
    )
    assert HERE.reloaded(said) == said


def test_what_is_kept_is_refused_by_the_command_and_stays() -> None:
    elsewhere = replace(
        HERE,
        http=HttpSection(port=9999),
        redis=RedisSection(url="embedded"),
        cache=CachePolicy(max_bytes=1 << 20),
        edge=EdgeSection(port=9443, tls="off"),
    )
    assert HERE.reloaded(elsewhere) == HERE
    changed = HERE.kept_but_changed(elsewhere)
    assert [line.partition(":")[0] for line in changed] == [
        "[http] port", "[edge] port", "[edge] tls", "[cache] max_bytes", "[redis] url",
    ]  # fmt: skip


def test_another_certificate_is_taken_and_tls_neither_dropped_nor_added() -> None:
    own = EdgeSection(tls="files", certificate="/etc/edge.pem", key="/etc/edge.key")
    assert EdgeSection().reloaded(own) == own
    assert EdgeSection().reloaded(EdgeSection(tls="off")).tls == "generate"
    assert EdgeSection(tls="off").reloaded(own).tls == "off"


def test_what_tokens_cost_stays() -> None:
    dearer = replace(HERE, access=AccessSection(issuers=(ISSUER,), charge_hits=True))
    reloaded = HERE.reloaded(dearer).access
    assert (reloaded.issuers, reloaded.charge_hits) == ((ISSUER,), False)


def test_every_key_that_differs_is_shown_with_both_values() -> None:
    said = replace(
        HERE,
        admission=AdmissionSection(max_waiting=7),
        cache=replace(HERE.cache, max_temperature=1.0, routes=(RoutePolicy(alias="chat", ttl_s=60),)),
        access=AccessSection(issuers=(ISSUER,)),
        edge=EdgeSection(trusted_proxies=1),
    )
    lines = HERE.keys_to_take(said)
    assert f"[admission] max_waiting: {json.dumps(HERE.admission.max_waiting)} -> 7" in lines
    assert "[cache] max_temperature: 0.0 -> 1.0" in lines and "[access] issuers: [] -> [staff]" in lines
    assert "[cache] routes: [] -> [chat]" in lines
    longer = replace(HERE, cache=replace(said.cache, routes=(RoutePolicy(alias="chat", ttl_s=90),)))
    assert said.keys_to_take(replace(said, cache=longer.cache)) == ("[cache] routes.chat.ttl_s: 60 -> 90",)
    assert {line.partition(" ")[0] for line in lines} == set(HERE.sections_to_take(said))


def test_a_key_that_a_running_server_keeps_is_named_with_both_values() -> None:
    said = replace(HERE, jobs=JobsSection(result_ttl_s=1800), http=HttpSection(port=9999))
    old = HERE.jobs.result_ttl_s
    assert HERE.kept_but_changed(said) == ("[http] port: 8080 -> 9999", f"[jobs] result_ttl_s: {old} -> 1800")
    redis = RedisSection(url="redis://ashore:hunter2@cache:6379")
    (line,) = HERE.kept_but_changed(replace(HERE, redis=redis))[:1]
    assert line == "[redis] url: not set -> redis://ashore:…@cache:6379"
    assert shown("postgresql://db/a?user=b&password=s3cret&ssl=on") == "postgresql://db/a?user=b&password=…&ssl=on"
    assert shown(("http://a:s3cret@b", "http://c")) == "[http://a:…@b, http://c]"
    assert HERE.kept_but_changed(HERE) == ()


def test_a_reload_names_the_sections_that_it_takes_and_no_others() -> None:
    said = replace(HERE, edge=EdgeSection(trusted_proxies=1), admission=AdmissionSection(max_waiting=7))
    assert HERE.sections_to_take(said) == ("[admission]", "[edge]")
    assert HERE.sections_to_take(replace(HERE, http=HttpSection(port=9999))) == ()
    assert HERE.sections_to_take(replace(HERE, access=AccessSection(charge_hits=True))) == ()


def test_words_on_the_command_line_leave_the_other_keys_as_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "ashore.toml"
    path.write_text("[http]\nport = 9000\nbodies_bytes = 4096\nconnections_per_address = 3\n")
    http = Request(config=path, port=9001).spec().http
    assert http == HttpSection(port=9001, bodies_bytes=4096, connections_per_address=3)


def test_the_workers_are_told_the_sections_as_they_are(tmp_path: Path) -> None:
    said = replace(
        HERE,
        admission=AdmissionSection(max_waiting=7, default_deadline_s=7200),
        access=AccessSection(issuers=(ISSUER,), charge_hits=True),
        jobs=JobsSection(max_attempts=2),
        http=HttpSection(bodies_bytes=4096),
        edge=EdgeSection(kind="envoy", max_body_bytes=64 << 20),
        redis=RedisSection(url="embedded", timeout_ms=9),
    )
    home = Home(root=tmp_path)
    write_topology(topology_of((), listening=said, home=home, settings=Settings(home=home)), tmp_path / "topology.json")
    told = read_topology(tmp_path / "topology.json")
    assert (told.admission, told.access, told.jobs) == (said.admission, said.access, said.jobs)
    assert told.admission.max_deadline_s == 7200
    assert (told.limits.bodies_bytes, told.limits.max_body_bytes) == (4096, 64 << 20)
    assert (told.redis.url, told.redis.timeout_ms) == (f"unix://{home.valkey_socket}", 9)


def test_workers_and_edge_take_bodies_of_the_same_length() -> None:
    assert EdgeSection().max_body_bytes == Limits().max_body_bytes


def test_a_worker_alone_goes_by_the_same_defaults_as_one_of_ashore_toml() -> None:
    assert Topology().admission == parse_spec("").admission
    assert Topology().cache == parse_spec("").cache and Topology().jobs == parse_spec("").jobs
