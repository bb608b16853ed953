"""Tokens of issuers: every forged, replayed, expired and truncated one is refused, and says why."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from msgspec.structs import replace

from ashore.core.clock import ManualClock
from ashore.core.errors import InvalidSpec, TooManyAttempts, Unauthenticated
from ashore.data.authority import (
    ACTIONS,
    Account,
    Binding,
    Compiled,
    Directory,
    Doorkeeper,
    Issuer,
    JwtVerifier,
    Policy,
    Role,
    Tenant,
    check_issuer,
    parse_rule,
)
from ashore.kit.recorder import MemoryRecorder

NOW = 1_700_000_000
ISSUER = Issuer(
    name="corp", issuer="https://id.corp.example", audience="ashore", jwks_file="/keys.json", tenant="bank-a",
    groups_claim="groups", roles_claim="realm.roles", algorithms=("RS256", "ES256"),
)  # fmt: skip


@cache
def rsa_key(name: str = "k1", bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def jwk(key: Any, **more: object) -> dict[str, object]:
    public = key.public_key()
    kind = (
        jwt.algorithms.RSAAlgorithm
        if isinstance(key, rsa.RSAPrivateKey)
        else jwt.algorithms.ECAlgorithm
        if isinstance(key, ec.EllipticCurvePrivateKey)
        else jwt.algorithms.OKPAlgorithm
    )
    return {**kind.to_jwk(public, as_dict=True), **more}


def jwks(*keys: dict[str, object]) -> dict[str, object]:
    return {"keys": list(keys)}


def claims(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "iss": ISSUER.issuer, "aud": "ashore", "sub": "alice", "iat": NOW - 10, "exp": NOW + 600,
        "groups": ["dev", "ops"], "realm": {"roles": ["developer"]}, "amr": ["pwd", "otp"],
    }  # fmt: skip
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


def token(key: Any = None, algorithm: str = "RS256", head: dict[str, object] | None = None, **changes: object) -> str:
    return jwt.encode(claims(**changes), key or rsa_key(), algorithm=algorithm, headers={"kid": "k1", **(head or {})})


@pytest.fixture
def verifier() -> JwtVerifier:
    one = JwtVerifier([ISSUER])
    one.take_keys("corp", jwks(jwk(rsa_key(), kid="k1"), jwk(ec_key(), kid="e1")))
    return one


def test_a_token_of_the_issuer_says_who_it_is(verifier: JwtVerifier) -> None:
    found = verifier.verify(token(), NOW)
    assert (found.issuer, found.subject, found.tenant) == ("corp", "alice", "bank-a")
    assert (found.groups, found.roles, found.factors) == ({"dev", "ops"}, {"developer"}, ("pwd", "otp"))
    assert found.expires_s == NOW + 660
    assert verifier.verify(token(ec_key(), "ES256", {"kid": "e1"}), NOW).subject == "alice"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def by_hand(head: dict[str, object], body: dict[str, object], secret: bytes = b"") -> str:
    """Return a token as an attacker would write it."""
    signed = f"{b64(json.dumps(head).encode())}.{b64(json.dumps(body).encode())}"
    return signed + "." + (b64(hmac.digest(secret, signed.encode(), hashlib.sha256)) if secret else "")


def public_pem() -> bytes:
    return (
        rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


FORGED: dict[str, Callable[[], str]] = {
    "no signature": lambda: by_hand({"alg": "none"}, claims()),
    "no signature in capitals": lambda: by_hand({"alg": "NONE", "kid": "k1"}, claims()),
    "signed with the public key as a secret": lambda: by_hand({"alg": "HS256", "kid": "k1"}, claims(), public_pem()),
    "signed with the modulus as a secret": lambda: by_hand(
        {"alg": "HS256", "kid": "k1"}, claims(), str(jwk(rsa_key())["n"]).encode()
    ),
    "another key": lambda: token(rsa_key("other")),
    "another key with its own jwk in the head": lambda: token(rsa_key("other"), head={"jwk": jwk(rsa_key("other"))}),
    "another key with its address in the head": lambda: token(rsa_key("other"), head={"jku": "https://evil/jwks"}),
    "an algorithm that is not named": lambda: token(algorithm="RS512"),
    "an algorithm of another kind of key": lambda: by_hand({"alg": "ES256", "kid": "k1"}, claims(), b"x"),
    "a key that is not known": lambda: token(head={"kid": "k9"}),
    "a path as the key": lambda: token(head={"kid": "../../etc/passwd"}),
    "SQL as the key": lambda: token(head={"kid": "' OR 1=1 --"}),
    "critical extensions": lambda: token(head={"crit": ["exp"]}),
    "an unencoded payload": lambda: by_hand({"alg": "RS256", "kid": "k1", "b64": False}, claims(), b"x"),
    "another issuer": lambda: token(iss="https://evil.example"),
    "no issuer": lambda: token(iss=None),
    "another audience": lambda: token(aud="somebody-else"),
    "no audience": lambda: token(aud=None),
    "expired": lambda: token(exp=NOW - 61),
    "without an end": lambda: token(exp=None),
    "not valid yet": lambda: token(nbf=NOW + 61),
    "issued in the future": lambda: token(iat=NOW + 61),
    "too long a life": lambda: token(exp=NOW + 90_000),
    "an end that is no number": lambda: by_hand({"alg": "RS256", "kid": "k1"}, claims(exp="x"), b"x"),
    "an endless end": lambda: by_hand({"alg": "RS256", "kid": "k1"}, claims(exp=1e400), b"x"),
    "no subject": lambda: token(sub=None),
    "an empty subject": lambda: token(sub=""),
    "a subject of half a character": lambda: token(sub="\ud800"),
    "a subject with a line end": lambda: token(sub="a\nb"),
    "groups that are no list": lambda: token(groups={"dev": 1}),
    "truncated": lambda: token()[:-10],
    "without its signature": lambda: token().rpartition(".")[0] + ".",
    "with one bit changed": lambda: token()[:-2] + ("A" if token()[-2] != "A" else "B") + token()[-1],
    "a changed payload": lambda: ".".join(
        (token().split(".")[0], b64(json.dumps(claims(sub="admin")).encode()), token().split(".")[2])
    ),
    "no JSON": lambda: "a.b.c",
    "nothing between dots": lambda: "..",
    "deep nesting": lambda: f"{b64(b'[' * 5000)}.{b64(b'{}')}.x",
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_what_is_not_believed(verifier: JwtVerifier, forged: Callable[[], str]) -> None:
    text = forged()
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(text, NOW)
    assert text not in caught.value.message + caught.value.hint


def test_clocks_may_differ_a_little(verifier: JwtVerifier) -> None:
    for one in (token(exp=NOW - 59), token(nbf=NOW + 59), token(iat=NOW + 59)):
        assert verifier.verify(one, NOW).subject == "alice"


def test_keys_that_are_gone_are_believed_no_more(verifier: JwtVerifier) -> None:
    old = token()
    verifier.take_keys("corp", jwks(jwk(rsa_key("next"), kid="k2")))
    with pytest.raises(Unauthenticated, match="not known yet"):
        verifier.verify(old, NOW)
    assert verifier.missed == {"corp"}
    assert verifier.verify(token(rsa_key("next"), head={"kid": "k2"}), NOW).subject == "alice"


@pytest.mark.parametrize(
    "odd", [{"alg": ["RS256"]}, {"alg": {}}, {"n": 5}, {"n": ""}, {"n": "AA"}, {"e": None}, {"kty": []}]
)
def test_a_key_that_is_none_hides_no_other_one(odd: dict[str, object]) -> None:
    verifier = JwtVerifier([ISSUER])
    bad = {**jwk(rsa_key("other"), kid="k9"), **odd}
    assert verifier.take_keys("corp", {"keys": [bad, jwk(rsa_key(), kid="k1")]}) == 1
    assert verifier.verify(token(), NOW).subject == "alice"


def test_one_key_without_a_name_is_the_one_that_is_meant() -> None:
    verifier = JwtVerifier([ISSUER])
    verifier.take_keys("corp", jwks(jwk(rsa_key())))
    assert verifier.verify(token(), NOW).subject == "alice"


@pytest.mark.parametrize(
    "document",
    [
        {}, [], "x", {"keys": "x"}, {"keys": []}, {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k1"}]},
        {"keys": [{"kty": "RSA"}]}, jwks(jwk(rsa_key("weak", 1024), kid="k1")), jwks(jwk(rsa_key(), use="enc")),
        jwks(jwk(rsa_key(), alg="RS512")), jwks(jwk(ed25519.Ed25519PrivateKey.generate())),
    ],
)  # fmt: skip
def test_documents_without_a_key_that_can_be_used(document: object) -> None:
    with pytest.raises(InvalidSpec):
        JwtVerifier([ISSUER]).take_keys("corp", document)


@pytest.mark.parametrize(
    "change",
    [
        {"algorithms": ("none",)}, {"algorithms": ("HS256",)}, {"algorithms": ("RS256", "HS256")}, {"algorithms": ()},
        {"audience": ""}, {"issuer": ""}, {"jwks_file": ""}, {"jwks_url": "https://x/jwks"}, {"name": "Corp Ltd"},
        {"jwks_file": "", "jwks_url": "http://id.corp.example/jwks"},
    ],
)  # fmt: skip
def test_issuers_that_would_be_unsafe(change: dict[str, Any]) -> None:
    assert check_issuer(ISSUER) == ISSUER
    with pytest.raises(InvalidSpec):
        check_issuer(replace(ISSUER, **change))


def test_roles_of_the_three_offices_do_not_come_with_a_token(verifier: JwtVerifier) -> None:
    brought = ["auditor", "security-officer", "system-administrator", "first-key", "internal", "viewer"]
    found = verifier.verify(token(realm={"roles": brought}), NOW)
    assert "viewer" in found.roles and not found.roles & {"auditor", "security-officer", "system-administrator"}
    directory = Directory()
    directory.take(tenants=[Tenant(name="bank-a")])
    assert directory.of_claims(found).roles == {"viewer"}


@pytest.mark.parametrize("office", ["auditor", "security-officer", "system-administrator", "model-owner", "desk"])
def test_no_office_comes_with_a_token_by_a_group_either(verifier: JwtVerifier, office: str) -> None:
    rules = ("access:write on tenant/bank-a/*", "deny infer on model/x", "usage:read on *")
    desk = Role(name="desk", rules=tuple(parse_rule(rule) for rule in rules))
    bindings = (Binding("group/staff", office), Binding("group/staff", "viewer"), Binding("everyone", "developer"))
    compiled = Compiled(Policy(roles=(desk,), bindings=bindings))
    directory = Directory()
    directory.take(tenants=[Tenant(name="bank-a")])
    claims = verifier.verify(token(groups=["staff"], realm={"roles": ["desk"]}), NOW)
    brought = directory.of_claims(claims)
    mine = [action for action in ACTIONS if action.office is not None]
    assert not any(compiled.decide(brought, one.name, "tenant/bank-a/user/x").allowed for one in mine)
    assert not any(compiled.holds(brought, one.name) for one in mine)
    assert compiled.decide(brought, "metrics:read", "server").allowed
    assert compiled.decide(brought, "infer", "model/y").allowed
    assert not compiled.decide(brought, "infer", "model/x").allowed  # what such a role denies stays denied
    acting = directory.acting(brought.acting_name, "bank-a", NOW)
    assert not any(compiled.holds(acting, one.name) for one in mine)

    member = Account(id=brought.id, tenant="bank-a", groups=frozenset({"staff"}))  # a security officer put them in
    directory.take(tenants=[Tenant(name="bank-a")], accounts=[member])
    given = directory.of_claims(claims)
    assert any(compiled.holds(given, one.name) for one in mine)


def test_a_subject_cannot_name_another_principal(verifier: JwtVerifier) -> None:
    directory = Directory()
    directory.take(tenants=[Tenant(name="bank-a")], accounts=[Account(id="alice", tenant="bank-a")])
    for subject, shown in (("alice", "corp:alice"), ("a/b", "corp:a%2Fb"), ("x#key=ash_1", "corp:x%23key%3Dash_1")):
        assert directory.of_claims(verifier.verify(token(sub=subject), NOW)).id == shown


def test_a_name_in_other_letters_is_not_let_in_beside_its_account() -> None:
    """Providers name people as they typed themselves, or as somebody wrote them; what pushes accounts folds names."""
    directory = Directory()
    accounts = [Account(id="corp:alice", tenant="bank-a", shut_s=1), Account(id="corp:Bob", tenant="bank-a")]
    directory.take(tenants=[Tenant(name="bank-a")], accounts=accounts, gone=["corp:eve"])
    exact, folding = JwtVerifier([ISSUER]), JwtVerifier([replace(ISSUER, subject_ignores_case=True)])
    for one in (exact, folding):
        one.take_keys("corp", jwks(jwk(rsa_key(), kid="k1")))
    for subject in ("Alice", "ALICE", "bob", "Eve"):
        with pytest.raises(Unauthenticated, match=r"and the account is|is disabled"):
            directory.of_claims(exact.verify(token(sub=subject), NOW))
    with pytest.raises(Unauthenticated, match="corp:alice is disabled"):
        directory.of_claims(folding.verify(token(sub="Alice"), NOW))
    assert directory.of_claims(exact.verify(token(sub="Bob"), NOW)).id == "corp:Bob"
    assert directory.of_claims(exact.verify(token(sub="Carol"), NOW)).id == "corp:Carol"
    directory.take(tenants=[Tenant(name="bank-a")], accounts=[Account(id="corp:bob", tenant="bank-a")])
    assert directory.of_claims(exact.verify(token(sub="bob"), NOW)).id == "corp:bob", "an account of exactly this name"


# --- the doorkeeper


class Door:
    def __init__(self, verifier: JwtVerifier) -> None:
        self.clock = ManualClock(now_s=NOW)
        self.directory = Directory()
        self.recorder = MemoryRecorder()
        self.keeper = Doorkeeper(self.directory, self.clock, self.recorder, verifier=verifier)
        self.know()

    def know(self, *accounts: Account, disabled: bool = False) -> None:
        self.directory.take(tenants=[Tenant(name="bank-a", disabled=disabled)], accounts=accounts)
        self.keeper.forget()


@pytest.fixture
def door(verifier: JwtVerifier) -> Door:
    return Door(verifier)


def test_a_token_opens_until_it_ends_and_not_after_its_subject_was_revoked(door: Door) -> None:
    mine = token()
    principal = door.keeper.authenticate(mine, "10.0.0.1")
    assert (principal.id, principal.tenant, principal.key_id) == ("corp:alice", "bank-a", "")
    assert door.keeper.authenticate(mine, "10.0.0.1") is principal, "the second time it is remembered"
    door.know(Account(id="corp:alice", tenant="bank-a", disabled=True))
    with pytest.raises(Unauthenticated, match="corp:alice is disabled"):
        door.keeper.authenticate(mine, "10.0.0.1")
    door.know(Account(id="corp:alice", tenant="bank-a"))
    door.know(disabled=True)
    with pytest.raises(Unauthenticated, match="bank-a is disabled"):
        door.keeper.authenticate(mine, "10.0.0.1")
    door.know()
    door.clock.advance(661)
    with pytest.raises(Unauthenticated, match="expired"):
        door.keeper.authenticate(mine, "10.0.0.1")


def test_a_clock_set_back_brings_no_token_to_life(door: Door) -> None:
    mine = token()
    door.keeper.authenticate(mine)
    door.clock.advance(661)
    with pytest.raises(Unauthenticated):
        door.keeper.authenticate(mine)
    door.clock.advance(-600)
    with pytest.raises(Unauthenticated, match="expired"):
        door.keeper.authenticate(mine)


def test_an_unknown_tenant_is_told(door: Door) -> None:
    door.directory.take(tenants=[])
    with pytest.raises(Unauthenticated, match="'bank-a', which does not exist"):
        door.keeper.authenticate(token())


def test_forged_tokens_are_guesses_and_expired_ones_are_not(door: Door) -> None:
    for _ in range(30):
        with pytest.raises(Unauthenticated):
            door.keeper.authenticate(token(exp=NOW - 100), "10.0.0.1")
    assert door.keeper.authenticate(token(), "10.0.0.1").id == "corp:alice"
    with pytest.raises(TooManyAttempts):
        for _ in range(30):
            try:
                door.keeper.authenticate(token(rsa_key("other")), "10.0.0.1")
            except Unauthenticated:
                continue
    assert [act.action for act in door.recorder.acts] == ["access:lock-out"]
    assert door.keeper.authenticate(token(), "10.0.0.2").id == "corp:alice"


def test_long_tokens_are_refused_unread(door: Door) -> None:
    with pytest.raises(Unauthenticated, match="characters"):
        door.keeper.authenticate("a." * 2 + "x" * 20_000)
