"""What a reload takes of where a server listens and what it allows, and what stays until it is started again."""

from __future__ import annotations

from dataclasses import fields, replace

from ashore.access import Issuer
from ashore.deployment.listening import KEPT, TAKEN, Listening
from ashore.releases import ReleasePolicy
from ashore.spec import AccessSpec, AdmissionSpec, BackupSpec, EdgeSpec, HttpSpec, ListenSpec

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


def test_a_reload_names_the_sections_that_it_takes_and_no_others() -> None:
    said = replace(HERE, edge=EdgeSpec(trusted_proxies=1), admission=AdmissionSpec(max_waiting=7))
    assert HERE.sections_to_take(said) == ("[admission]", "[edge]")
    assert HERE.sections_to_take(replace(HERE, http=HttpSpec(port=9999))) == ()
    assert HERE.sections_to_take(replace(HERE, access=AccessSpec(charge_hits=True))) == ()
