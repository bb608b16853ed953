"""OCI registries: the few calls of the distribution protocol that a model needs, resumed and streamed.

Source: OCI distribution-spec v1.1 (pull, push, authentication by bearer token).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urljoin, urlsplit

from ashore.core.errors import CorruptBlob, InvalidRequest, RemoteRefused, UnknownModel
from ashore.core.foreign import foreign_errors
from ashore.core.ids import Digest
from ashore.kit.egress import Allowed
from ashore.kit.store.download import download, refused, unreachable
from ashore.kit.store.layout import INDEX_MEDIA_TYPE, MANIFEST_MEDIA_TYPE
from ashore.kit.store.manifest import Descriptor
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import name_from

if TYPE_CHECKING:
    import httpx

    from ashore.kit.outgoing import Answer

MAX_LISTED = 256
"""Most referrers of one manifest that are looked at."""
ALTERED_HINT = "the registry or a proxy alters data"
MIRROR_HINT = "check the address, and that this machine can reach the registry"
_REFERENCE = re.compile(
    r"oci(?P<plain>\+http)?://(?P<host>[^/]+)/(?P<repository>[a-z0-9._/-]+?)"
    r"(?::(?P<tag>[\w.-]{1,128}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
BodyMaker = Callable[[], Iterator[bytes]]
"""Gives a request body anew for each try."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class RegistryRemote:
    """`oci://HOST/NAME[:TAG][@DIGEST]`; `oci+http://` for a registry without TLS. Loopback needs no TLS."""

    def __init__(self, text: str, *, allow: Sequence[Allowed] | None = None) -> None:
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"{text!r} is malformed", hint="expected oci://HOST[:PORT]/NAME[:TAG][@sha256:…]")
        host = match["host"]
        plain = bool(match["plain"]) or _is_loopback(host)
        self._host = host
        self._repository = match["repository"]
        self._tag = match["tag"] or "latest"
        self._digest = match["digest"]
        self._base = f"{'http' if plain else 'https'}://{host}/v2/{self._repository}"
        self._authorization = ""
        self._allow = allow

    @property
    def suggested_name(self) -> str:
        return name_from(self._repository)

    def read_manifest(self) -> bytes:
        url = f"{self._base}/manifests/{self._digest or self._tag}"
        answer = self._call("GET", url, headers={"Accept": MANIFEST_MEDIA_TYPE})
        if answer.status == 404:
            raise UnknownModel(f"{self._host} has no {self._repository}:{self._tag}", hint="check the name and the tag")
        if answer.status >= 400:
            raise refused(url, answer.status)
        if self._digest and f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != self._digest:
            raise CorruptBlob(f"{url} returned a manifest with a different hash", hint=ALTERED_HINT)
        return answer.body

    def fetch_blob(self, blob: Descriptor, target: Path, progress: Progress) -> None:
        self._call("HEAD", f"{self._base}/blobs/{blob.digest}")  # logs in where the registry wants that
        with self._client() as client:
            download(
                client,
                f"{self._base}/blobs/{blob.digest}",
                target,
                stage=f"download {blob.path}",
                progress=progress,
                num_bytes=blob.num_bytes,
                sha256=blob.digest.removeprefix("sha256:"),
                headers=self._headers(self._base),
                mirror_hint=MIRROR_HINT,
            )

    def has_blob(self, blob: Descriptor) -> bool:
        return self._call("HEAD", f"{self._base}/blobs/{blob.digest}").status == 200

    def send_blob(self, blob: Descriptor, path: Path, progress: Progress) -> None:
        url = f"{self._base}/blobs/uploads/"
        opened = self._call("POST", url)
        if opened.status != 202:
            raise refused(url, opened.status)
        place = urljoin(url, opened.headers.get("location", ""))
        place += ("&" if "?" in place else "?") + urlencode({"digest": blob.digest})
        sent = self._call(
            "PUT",
            place,
            headers={"Content-Type": "application/octet-stream", "Content-Length": str(blob.num_bytes)},
            body=lambda: _pieces(path, blob, progress),
        )
        if sent.status != 201:
            raise refused(url, sent.status)

    def write_manifest(self, data: bytes, *, name: str) -> None:
        self._put_manifest(self._tag, data, MANIFEST_MEDIA_TYPE)

    def write_referrer(self, data: bytes, *, subject: Digest) -> None:
        """See `ManifestRemote`. A registry without a referrers API finds them under the tag of the specification's
        fallback.
        """
        digest = _digest_of(data)
        sent = self._put_manifest(digest, data, MANIFEST_MEDIA_TYPE)
        if "oci-subject" in sent.headers:
            return
        listed = [item for item in self._tagged_referrers(subject) if item.get("digest") != digest]
        entry = {
            "mediaType": MANIFEST_MEDIA_TYPE,
            "artifactType": json.loads(data)["artifactType"],
            "digest": digest,
            "size": len(data),
        }
        index = {"schemaVersion": 2, "mediaType": INDEX_MEDIA_TYPE, "manifests": [*listed, entry]}
        self._put_manifest(_referrers_tag(subject), json.dumps(index).encode(), INDEX_MEDIA_TYPE)

    def read_referrers(self, subject: Digest) -> tuple[bytes, ...]:
        answer = self._call("GET", f"{self._base}/referrers/{subject}", headers={"Accept": INDEX_MEDIA_TYPE})
        items = _manifests_of(answer) if answer.status == 200 else self._tagged_referrers(subject)
        found = []
        for item in items:
            digest = str(item.get("digest", ""))
            url = f"{self._base}/manifests/{digest}"
            got = self._call("GET", url, headers={"Accept": MANIFEST_MEDIA_TYPE})
            if got.status >= 400:
                continue  # deleted, and the list is older
            if _digest_of(got.body) != digest:
                raise CorruptBlob(f"{url} returned a manifest with a different hash", hint=ALTERED_HINT)
            found.append(got.body)
        return tuple(found)

    def _tagged_referrers(self, subject: Digest) -> list[dict[str, Any]]:
        url = f"{self._base}/manifests/{_referrers_tag(subject)}"
        answer = self._call("GET", url, headers={"Accept": INDEX_MEDIA_TYPE})
        return _manifests_of(answer) if answer.status == 200 else []

    def _put_manifest(self, reference: str, data: bytes, media_type: str) -> Answer:
        url = f"{self._base}/manifests/{reference}"
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        sent = self._call("PUT", url, headers=headers, body=lambda: iter((data,)))
        if sent.status != 201:
            raise refused(url, sent.status)
        return sent

    def _call(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, body: BodyMaker | None = None
    ) -> Answer:
        """Make one call; log in and repeat it once if the registry requires that."""
        from httpx import RequestError

        from ashore.kit.outgoing import read

        try:
            with self._client() as client:
                for _ in range(2):
                    told = {**self._headers(url), **(headers or {})}
                    answer = read(client, method, url, headers=told, content=body() if body else None)
                    if answer.status != 401 or not self._log_in(client, answer):
                        break
        except RequestError as error:
            raise unreachable(url, error, hint=MIRROR_HINT) from error
        return answer

    def _log_in(self, client: httpx.Client, answer: Answer) -> bool:
        """Answer a 401: by password, or by a token from the registry's realm. False: neither works.

        A realm on another host gets docker's credentials for that host: a registry cannot redirect its credentials
        elsewhere.
        """
        from ashore.kit.outgoing import read

        if self._authorization:
            return False
        challenge = answer.headers.get("www-authenticate", "")
        if challenge.lower().startswith("basic"):
            self._authorization = _docker_login(self._host)
            return bool(self._authorization)
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if "realm" not in fields:
            return False
        query = {k: fields[k] for k in ("service", "scope") if k in fields}
        realm = urlsplit(fields["realm"])
        own = origin_of(fields["realm"]) == origin_of(self._base)
        safe = own or realm.scheme == "https" or _is_loopback(realm.netloc)
        basic = _docker_login(realm.netloc) if safe else ""
        token = read(client, "GET", fields["realm"], params=query, headers={"Authorization": basic} if basic else {})
        if token.status != 200:
            return False
        with foreign_errors(f"the login at {self._host} returned no token", RemoteRefused, hint=ALTERED_HINT):
            document = json.loads(token.body)
            self._authorization = f"Bearer {document.get('token') or document.get('access_token')}"
        return True

    def _headers(self, url: str) -> dict[str, str]:
        """Return the credentials for an address: none if the registry named another host."""
        own = self._authorization and origin_of(url) == origin_of(self._base)
        return {"Authorization": self._authorization} if own else {}

    def _client(self) -> httpx.Client:
        from ashore.kit.outgoing import open_client

        return open_client(self._allow)


def _is_loopback(host: str) -> bool:
    return host.rpartition(":")[0] in _LOOPBACK or host in _LOOPBACK


def origin_of(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of an address."""
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not an address
        return url, None, None


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _referrers_tag(subject: Digest) -> str:
    """Return the tag that lists referrers where a registry does not. Source: distribution-spec v1.1."""
    return subject.replace(":", "-")


def _manifests_of(answer: Answer) -> list[dict[str, Any]]:
    with foreign_errors(f"{answer.url} is not an OCI index", hint=ALTERED_HINT):
        return [item for item in json.loads(answer.body)["manifests"] if isinstance(item, dict)][:MAX_LISTED]


def _pieces(path: Path, blob: Descriptor, progress: Progress) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
            done += len(chunk)
            progress(f"upload {blob.path}", done, blob.num_bytes)


def _docker_login(host: str) -> str:
    """Return the `Authorization` for a host from docker's `config.json`; empty where there is none."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    try:
        logins = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auths", {})
    except (OSError, ValueError, AttributeError):
        return ""
    login = logins.get(host) or logins.get(f"https://{host}") or {}
    if login.get("auth"):
        return f"Basic {login['auth']}"
    if login.get("username"):
        pair = f"{login['username']}:{login.get('password', '')}"
        return "Basic " + base64.b64encode(pair.encode()).decode()
    return ""
