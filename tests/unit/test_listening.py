"""What a reload takes of where a server listens and what it allows, and what stays until it is started again."""

from __future__ import annotations

import json
from dataclasses import fields, replace

from ashore.access import Issuer
from ashore.cache import RoutePolicy
from ashore.config import AccessSpec, AdmissionSpec, BackupSpec, EdgeSpec, HttpSpec, JobsSpec, ListenSpec
from ashore.deployment.listening import KEPT, TAKEN, Listening
from ashore.releases import ReleasePolicy
from ashore.serving import RedisLink

HERE = Listening(http=HttpSpec(), grpc=ListenSpec(), admission=AdmissionSpec())
ISSUER = Issuer(name="staff", issuer="https://login.bank.example", audience="ashore", jwks_file="/etc/keys.json")


def test_an_issuer_is_believed_and_dropped_by_a_reload() -> None:
    with_issuer = HERE.reloaded(replace(HERE, access=AccessSpec(issuers=(ISSUER,))))
    assert with_issuer.access.issuers == (ISSUER,)
    assert with_issuer.reloaded(HERE).access.issuers == ()


def test_proxies_limits_backups_and_releases_are_as_the_file_says() -> None:
    said = replace(
        HERE,
        edge=EdgeSpec(trusted_proxies=1),
        admission=AdmissionSpec(max_waiting=7),
        backup=BackupSpec(every_s=3600),
        release=ReleasePolicy(pairs=3),
    )
    assert HERE.reloaded(said) == said


def test_what_is_kept_is_refused_by_the_command_or_follows_from_where_it_began() -> None:
    """Each field is kept for the life of a server or taken by a reload: a new one is to be thought about."""
    assert {field.name for field in fields(Listening)} == set(TAKEN) | set(KEPT)
    elsewhere = replace(HERE, http=HttpSpec(port=9999), config="/etc/other.toml", embedded_redis_bytes=1)
    assert HERE.reloaded(elsewhere) == HERE


def test_what_tokens_cost_stays() -> None:
    dearer = replace(HERE, access=AccessSpec(issuers=(ISSUER,), charge_hits=True))
    reloaded = HERE.reloaded(dearer).access
    assert (reloaded.issuers, reloaded.charge_hits) == ((ISSUER,), False)


def test_every_key_that_differs_is_shown_with_both_values() -> None:
    said = replace(
        HERE,
        admission=AdmissionSpec(max_waiting=7),
        cache=replace(HERE.cache, max_temperature=1.0, routes={"chat": RoutePolicy(ttl_s=60)}),
        access=AccessSpec(issuers=(ISSUER,)),
        edge=EdgeSpec(trusted_proxies=1),
    )
    lines = HERE.keys_to_take(said)
    assert f"[admission] max_waiting: {json.dumps(HERE.admission.max_waiting)} -> 7" in lines
    assert "[cache] max_temperature: 0.0 -> 1.0" in lines and "[access] issuers: [] -> [staff]" in lines
    assert any(line.startswith("[cache] routes.chat: ") for line in lines)
    assert {line.partition(" ")[0] for line in lines} == set(HERE.sections_to_take(said))


def test_a_key_that_a_running_server_keeps_is_named_with_both_values() -> None:
    said = replace(HERE, jobs=JobsSpec(result_ttl_s=1800), http=HttpSpec(port=9999))
    old = HERE.jobs.result_ttl_s
    assert HERE.kept_but_changed(said) == ("[http] port: 8080 -> 9999", f"[jobs] result_ttl_s: {old} -> 1800")
    redis = RedisLink(url="redis://ashore:hunter2@cache:6379")
    (line,) = HERE.kept_but_changed(replace(HERE, redis=redis))[:1]
    assert line == "[redis] url: not set -> redis://ashore:…@cache:6379"
    assert HERE.kept_but_changed(HERE) == ()


def test_a_reload_names_the_sections_that_it_takes_and_no_others() -> None:
    said = replace(HERE, edge=EdgeSpec(trusted_proxies=1), admission=AdmissionSpec(max_waiting=7))
    assert HERE.sections_to_take(said) == ("[admission]", "[edge]")
    assert HERE.sections_to_take(replace(HERE, http=HttpSpec(port=9999))) == ()
    assert HERE.sections_to_take(replace(HERE, access=AccessSpec(charge_hits=True))) == ()
