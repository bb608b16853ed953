"""Verifies tokens of the enterprise's own issuers: signature, audience and times, with configured algorithms.

A token's header only selects among the issuer's own keys: no key is taken from a token or fetched from an address in
it, and symmetric algorithms are already refused in the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from urllib.parse import quote

from msgspec import Meta

from ashore.core.addresses import split_url
from ashore.core.errors import InvalidSpec, Unauthenticated
from ashore.core.visible import first_hidden
from ashore.data.authority.directory import Claims
from ashore.data.authority.policy import Role
from ashore.data.authority.roles import BUILT_IN
from ashore.kit.section import AFile, Section

if TYPE_CHECKING:
    from jwt import PyJWK

ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key. Those with a shared secret are not among them, and never will be."""
_KEY_TYPES: Final[Mapping[str, str]] = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
MIN_RSA_BITS: Final = 2048
MAX_NAMES: Final = 256
"""Groups and roles read from a token; more are an error, not a cut list."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+|-]{0,127}")


class Issuer(Section, frozen=True, kw_only=True):
    """One issuer whose tokens are believed."""

    name: Annotated[str, Meta(examples=['"corp"'])]
    """Stands before the subject in the principal's id: `corp:alice`."""
    issuer: Annotated[str, Meta(examples=['"https://id.corp.example"'])]
    """`iss` of its tokens, exactly."""
    audience: Annotated[str, Meta(examples=['"ashore"'])]
    """What must be in `aud`."""
    jwks_url: str = ""
    """Where its keys are fetched, by https; this or `jwks_file` is given."""
    jwks_file: AFile = ""
    """File with its keys, for machines without a network."""
    algorithms: tuple[str, ...] = ("RS256",)
    """Signatures that its tokens may have."""
    skew_s: Annotated[float, Meta(gt=0, le=600)] = 60.0
    """How far its clock and ours may be apart."""
    longest_s: Annotated[float, Meta(gt=0, le=31 * 86_400.0)] = 86_400.0
    """Longest life of a token, `exp` minus `iat`; longer ones are refused."""
    subject_claim: str = "sub"
    """Claim with who it is."""
    subject_ignores_case: bool = False
    """Whether `Alice` and `alice` are one person, as for names of people who are pushed by SCIM or found by LDAP."""
    tenant: str = "default"
    """Tenant of all its people, unless `tenant_claim` names a claim that says it."""
    tenant_claim: str = ""
    """Claim with the tenant."""
    groups_claim: str = ""
    """Claim with groups."""
    roles_claim: str = ""
    """Claim with roles. Those of the three offices never come with a token."""

    def checked(self, where: str) -> Self:
        check_issuer(self)
        return self


class JwtVerifier:
    """A `TokenVerifier` for several issuers. Keys come by `take_keys`, from any thread."""

    def __init__(self, issuers: Iterable[Issuer], *, built_in: Iterable[Role] = BUILT_IN) -> None:
        self._issuers: Final[Mapping[str, Issuer]] = {one.issuer: one for one in issuers}
        self._office_roles: Final = frozenset(role.name for role in built_in if role.offices)
        self._keys: dict[str, tuple[PyJWK, ...]] = {}
        self.missed: set[str] = set()
        """Issuers whose tokens named an unknown key: the fetcher refreshes their keys and clears this."""

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        return tuple(self._issuers.values())

    def take_keys(self, name: str, jwks: object) -> int:
        """Set the keys of an issuer; return how many can be used.

        Raises:
            InvalidSpec: it is not a JWKS, or holds no key that its algorithms can use.
        """
        issuer = next(one for one in self._issuers.values() if one.name == name)
        keys = tuple(_usable(issuer, jwks))
        if not keys:
            raise InvalidSpec(
                f"the JWKS of the issuer {name} has no key for {', '.join(issuer.algorithms)}",
                hint="check jwks_url or jwks_file, and algorithms",
            )
        self._keys[name] = keys
        return len(keys)

    def verify(self, token: str, now_s: float) -> Claims:
        issuer, claims = self.read(token, now_s)
        return self.claims_in(issuer, claims, _check_times(issuer, claims, now_s))

    def read(self, token: str, now_s: float, *, subject: bool = True) -> tuple[Issuer, Mapping[str, Any]]:
        """Return the issuer of a token and all its claims, once signature, audience and times are verified.

        Args:
            token: The JWT.
            now_s: The time.
            subject: Whether it must have a subject.

        Raises:
            Unauthenticated: it is invalid.
        """
        import jwt

        try:
            head = jwt.get_unverified_header(token)
            body = jwt.decode(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError) as fault:
            raise Unauthenticated("the token is malformed", hint="send the complete token", guess=True) from fault
        issuer = self._issuers.get(str(body.get("iss", "")))
        if issuer is None:
            raise Unauthenticated(
                "the token comes from an unknown issuer",
                hint="add the issuer to ashore.toml as [[access.issuer]]",
                guess=True,
            )
        algorithm = head.get("alg")
        if algorithm not in issuer.algorithms or "crit" in head or head.get("b64") is False:
            raise Unauthenticated(
                f"the token is signed with {str(algorithm)[:20]!r}; expected from the issuer {issuer.name}: "
                f"{', '.join(issuer.algorithms)}",
                hint="set algorithms in its [[access.issuer]] if this one is right",
                guess=True,
            )
        key = self._key_for(issuer, algorithm, head.get("kid"))
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=issuer.audience,
                issuer=issuer.issuer,
                options={
                    "require": ["exp", issuer.subject_claim] if subject else ["exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_sub": False,
                },
            )
        except jwt.PyJWTError as fault:
            raise Unauthenticated(
                f"the token of {issuer.name} is not accepted: {_reason(fault)}", guess=True
            ) from fault
        _check_times(issuer, claims, now_s)
        return issuer, claims

    def _key_for(self, issuer: Issuer, algorithm: str, key_id: object) -> PyJWK:
        keys = [key for key in self._keys.get(issuer.name, ()) if _fits(key, algorithm)]
        named = [key for key in keys if key_id is not None and key.key_id == key_id]
        if named:
            return named[0]
        if len(keys) == 1 and (key_id is None or keys[0].key_id is None):
            return keys[0]
        self.missed.add(issuer.name)
        raise Unauthenticated(
            f"the token of {issuer.name} is signed with a key that is not known yet",
            hint="its keys are being fetched again; if this persists, check jwks_url or jwks_file",
        )

    def claims_in(self, issuer: Issuer, claims: Mapping[str, Any], expires_s: float) -> Claims:
        """Return the claims of a verified token.

        Raises:
            Unauthenticated: it has no subject, or no tenant.
        """
        subject = claims[issuer.subject_claim]
        if not isinstance(subject, str) or not 0 < len(subject) <= 100 or first_hidden(subject):
            raise Unauthenticated(
                f"the token of {issuer.name} has no {issuer.subject_claim} of 1 to 100 printable characters"
            )
        tenant = claims.get(issuer.tenant_claim, "") if issuer.tenant_claim else issuer.tenant
        if not isinstance(tenant, str) or not _NAME.fullmatch(tenant):
            raise Unauthenticated(f"the token of {issuer.name} has no tenant in its claim {issuer.tenant_claim}")
        roles = _names(issuer, claims, issuer.roles_claim)
        factors = claims.get("amr", ())
        factors = [one for one in factors[:16] if isinstance(one, str)] if isinstance(factors, list) else []
        return Claims(
            issuer=issuer.name,
            subject=subject_in(issuer, subject),
            tenant=tenant,
            groups=_names(issuer, claims, issuer.groups_claim),
            roles=roles - self._office_roles,
            factors=tuple(one[:32] for one in factors if not first_hidden(one)),
            expires_s=expires_s,
        )


def subject_in(issuer: Issuer, said: str) -> str:
    """Return the subject of a token in the form of a principal's id."""
    return quote(said.casefold() if issuer.subject_ignores_case else said, safe="@.+-_|")


def check_issuer(issuer: Issuer) -> Issuer:
    """Check an issuer and return it.

    Raises:
        InvalidSpec: something is missing, or would be unsafe.
    """
    where = f"[[access.issuer]] {issuer.name or '?'}"
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,31}", issuer.name):
        raise InvalidSpec(f"{where}: name is {issuer.name!r}", hint="use lower-case letters, digits and -, at most 32")
    if not issuer.issuer or not issuer.audience:
        raise InvalidSpec(
            f"{where}: issuer and audience must be given",
            hint="set both, so that tokens for other services are refused",
        )
    if bool(issuer.jwks_url) == bool(issuer.jwks_file):
        raise InvalidSpec(
            f"{where}: give either jwks_url or jwks_file", hint="use jwks_file only on machines without a network"
        )
    if issuer.jwks_url and not _is_safe(issuer.jwks_url):
        raise InvalidSpec(
            f"{where}: jwks_url is {issuer.jwks_url!r}", hint="use an https URL; keys are fetched only over https"
        )
    wrong = [name for name in issuer.algorithms if name not in ALGORITHMS]
    if wrong or not issuer.algorithms:
        raise InvalidSpec(
            f"{where}: algorithms has {', '.join(wrong) or 'none'}",
            hint=f"use any of {', '.join(ALGORITHMS)}; none and shared-secret algorithms are never accepted",
        )
    return issuer


def _is_safe(url: str) -> bool:
    """Return whether keys may be fetched from there: by https, or from this machine."""
    parts = split_url(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost"))


def _usable(issuer: Issuer, jwks: object) -> Iterable[PyJWK]:
    import jwt

    entries = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(entries, list):
        raise InvalidSpec(
            f"the JWKS of the issuer {issuer.name} has no list of keys", hint="check jwks_url or jwks_file"
        )
    for entry in entries[:64]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        if not isinstance(entry.get("alg", ""), str):
            continue
        try:
            key = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue  # of an unknown form, or no key at all; the issuer may have others
        if getattr(key.key, "key_size", MIN_RSA_BITS) < MIN_RSA_BITS and key.key_type == "RSA":
            continue
        if any(_fits(key, algorithm) for algorithm in issuer.algorithms):
            yield key


def _fits(key: PyJWK, algorithm: str) -> bool:
    """Return whether a key has the type for an algorithm, and no other intended use."""
    if key.key_type != _KEY_TYPES[algorithm[:2]]:
        return False
    declared = key._jwk_data.get("alg")
    return declared is None or declared == algorithm


def _check_times(issuer: Issuer, claims: Mapping[str, Any], now_s: float) -> float:
    expires_s = _moment(issuer, claims, "exp")
    assert expires_s is not None
    if now_s >= expires_s + issuer.skew_s:
        raise Unauthenticated(f"the token of {issuer.name} has expired", hint="get a new one from the issuer")
    issued_s = _moment(issuer, claims, "iat")
    for name, moment in (("nbf", _moment(issuer, claims, "nbf")), ("iat", issued_s)):
        if moment is not None and moment > now_s + issuer.skew_s:
            raise Unauthenticated(
                f"the token of {issuer.name} is not valid yet ({name})",
                hint="check the clocks of the issuer and of this machine",
            )
    if expires_s - (issued_s if issued_s is not None else now_s) > issuer.longest_s:
        raise Unauthenticated(
            f"the token of {issuer.name} is valid for longer than {issuer.longest_s:g} s",
            hint="have the issuer shorten it, or raise longest_s in its [[access.issuer]]",
        )
    return expires_s + issuer.skew_s


def _moment(issuer: Issuer, claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise Unauthenticated(f"the token of {issuer.name} has a claim {name} that is not a time")
    return float(value)


def _names(issuer: Issuer, claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """Return the names in a claim: a list, or words in a text. `realm_access.roles` means a nested claim."""
    value: Any = claims if claim else ()
    for part in claim.split(".") if claim else ():
        value = value.get(part, ()) if isinstance(value, dict) else ()
    found = value.split() if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or len(found) > MAX_NAMES:
        raise Unauthenticated(
            f"the claim {claim} of the token of {issuer.name} is not a list of at most {MAX_NAMES} names"
        )
    return frozenset(name for name in found if isinstance(name, str) and _NAME.fullmatch(name))


def _reason(fault: Exception) -> str:
    return {
        "InvalidSignatureError": "its signature is wrong",
        "InvalidAudienceError": "it is for another audience",
        "InvalidIssuerError": "it is of another issuer",
        "MissingRequiredClaimError": "a claim is missing",
    }.get(type(fault).__name__, "it is malformed")
