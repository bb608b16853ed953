"""What a site hands in, signed by its key. A report is read at the centre as untrusted text: bounded, and typed."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from ashore.control.sites.model import Digest, SiteName
from ashore.core.errors import InvalidRequest
from ashore.core.foreign import foreign_errors

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

REPORT_BYTES: Final = 60_000
"""Most bytes of a report. The edge takes 64 KiB of a body without a key."""
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
"""No report has more of anything, and sums of many stay whole numbers; nor is an assignment's sequence, which follows
Unix time, so high that the centre could not go on above it."""
Word = Annotated[str, msgspec.Meta(max_length=200)]
Attack = Literal["rolled back", "frozen", "endless", "slow", "mixed", "forged", "wrong site"]
"""What a site can tell that somebody does to what it reads from the centre."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`status.json`: what `ashore site status` shows."""

    site: str
    centre: str
    at_s: float
    phase: str
    sequence: int
    """Of the newest trusted want; 0: none."""
    serving: dict[str, str]
    """Digest by alias."""
    failed: dict[str, str]
    """Why, by digest."""
    news_s: float
    until_s: float
    """Until when it may serve without news; 0: for ever."""
    hold_until_s: float
    frozen: bool
    waiting: int
    """Reports that the centre does not have yet."""
    note: str
    """What keeps it from more; empty: nothing."""
    done: float = 1.0
    """Share of what it fetches."""


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """One alias at the site."""

    alias: Word
    digest: Digest
    """Of the model that answers now."""
    state: Literal["serving", "trying", "fetching", "went back", "failed"] = "serving"
    """went back: the wanted version was worse here, and the former one answers. failed: it could not be made."""
    wanted: Digest | None = None
    """The model that was tried or fetched, where it is another one."""
    why: Word = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What one tenant used of one model since the report before."""

    day: Annotated[str, msgspec.Meta(pattern=r"\A\d{4}-\d\d-\d\d\Z")]
    tenant: Word
    model: Word
    requests: Count
    prompt_tokens: Count = 0
    completion_tokens: Count = 0


class Vote(msgspec.Struct, frozen=True, kw_only=True):
    """A vote, masked at the site."""

    model: Word
    rating: Literal["up", "down"]
    reason: Annotated[str, msgspec.Meta(max_length=2_000)] = ""


class SiteReport(msgspec.Struct, frozen=True, kw_only=True):
    """One report. Each counts once, in whatever order they come."""

    format: Literal[1] = 1
    site: SiteName
    sequence: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    """Strictly rising at the site."""
    at_s: Annotated[float, msgspec.Meta(ge=0, le=1e11)]
    """By the site's clock."""
    version: Word = ""
    """Of ashore."""
    want: Count = 0
    """Sequence of the newest `Want` that it trusts."""
    root: Count = 0
    """Version of the root that it trusts."""
    served: Annotated[tuple[Served, ...], msgspec.Meta(max_length=200)] = ()
    done: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    """How much of what it fetches has come."""
    health: Literal["good", "worse", "failing"] = "good"
    """worse: errors or latency of the new version are above those of the one before."""
    drift: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    """Population stability index of prompt and answer lengths against the week before; None: too few requests."""
    rate: Count = 0
    """Bytes a second of the link, when it was last used."""
    attacks: dict[Attack, Count] = {}
    """How often each was seen, since the site joined."""
    note: Word = ""
    """The doctor's worst finding, or why the site holds."""
    usage: Annotated[tuple[Usage, ...], msgspec.Meta(max_length=500)] = ()
    checkpoints: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=16_384)], ...], msgspec.Meta(max_length=200)
    ] = ()
    """Lines of the site's checkpoints.log, as they are."""
    votes: Annotated[tuple[Vote, ...], msgspec.Meta(max_length=200)] = ()


_encode: Final = msgspec.json.Encoder(order="deterministic").encode
_decode: Final = msgspec.json.Decoder(SiteReport).decode
_SIGNED: Final = b"ashore site report 1\n"
"""Before what is signed, so that no other signature of the key can pass for a report's."""


def sign_report(report: SiteReport, key: EllipticCurvePrivateKey) -> bytes:
    """Return a report as it travels: the signature as base64, a newline, the report as JSON."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    body = _encode(report)
    return base64.b64encode(key.sign(_SIGNED + body, ECDSA(hashes.SHA256()))) + b"\n" + body


def open_report(data: bytes, public_der: bytes) -> SiteReport:
    """Return the report in `data`, once its signature is sure.

    Args:
        data: As it came.
        public_der: The site's public key, as SubjectPublicKeyInfo.

    Raises:
        InvalidRequest: it is too long, not signed by that key, or not a report.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey

    if len(data) > REPORT_BYTES:
        raise InvalidRequest(f"the report has {len(data):,} bytes; the limit is {REPORT_BYTES:,}")
    signature, _, body = data.partition(b"\n")
    key = serialization.load_der_public_key(public_der)
    assert isinstance(key, EllipticCurvePublicKey)
    try:
        key.verify(base64.b64decode(signature, validate=True), _SIGNED + body, ECDSA(hashes.SHA256()))
    except (InvalidSignature, binascii.Error) as fault:
        raise InvalidRequest("the report is not signed by the key of this site") from fault
    with foreign_errors("the report cannot be read", InvalidRequest, hint=""):
        return _decode(body)
