"""Keys in a key service that speaks as Vault's transit engine does (Vault, OpenBao): they never leave it.

Source: Vault HTTP API, secret/transit: encrypt, decrypt and rotate, with `associated_data`.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ashore.core.errors import CorruptBlob, KeyServiceUnreachable, RemoteRefused, SealingKeyMissing
from ashore.kit.sealing.keyfile import read_secret_file
from ashore.kit.sealing.ports import KeeperKind, Wrapped

if TYPE_CHECKING:
    import httpx

TIMEOUT_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 1 << 20
_CIPHERTEXT: Final = re.compile(r"[a-z]+:v(\d{1,9}):[A-Za-z0-9+/=]+")


class TransitKeeper:
    """One named key of a transit engine."""

    kind: KeeperKind = "transit"

    def __init__(
        self,
        engine_url: str,
        key: str,
        *,
        token_file: Path,
        ca_file: str = "",
        namespace: str = "",
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the object; calls nothing.

        Args:
            engine_url: Address of the engine, `https://vault.corp:8200/v1/transit`.
            key: Name of the key in it.
            token_file: File with the token, mode 0600; read at every call, so that an agent may renew it.
            ca_file: Certificates that the service is checked against; empty: those of the system and the public ones.
            namespace: Vault's namespace; empty: none.
            monotonic_s: Measures the time of a response.
        """
        self._engine_url = engine_url.rstrip("/")
        self._key = key
        self._token_file = token_file
        self._ca_file = ca_file
        self._namespace = namespace
        self._monotonic_s = monotonic_s

    @property
    def place(self) -> str:
        return f"the key {self._key} of {self._engine_url}"

    def wrap(self, data_key: bytes, *, bound_to: str) -> Wrapped:
        body = {"plaintext": base64.b64encode(data_key).decode(), "associated_data": _bound(bound_to)}
        ciphertext = self._call("encrypt", body).get("ciphertext")
        found = _CIPHERTEXT.fullmatch(ciphertext) if isinstance(ciphertext, str) else None
        if found is None:
            raise RemoteRefused(
                f"{self.place} answered without a ciphertext", hint="check that the URL is that of a transit engine"
            )
        return Wrapped(kind=self.kind, key_id=f"{self._key}:v{found[1]}", data=found[0])

    def unwrap(self, wrapped: Wrapped, *, bound_to: str) -> bytes:
        if wrapped.key_id.rpartition(":v")[0] != self._key:
            raise SealingKeyMissing(
                f"the data key {bound_to} is wrapped by {wrapped.key_id}; the key source here is {self.place}",
                hint="set [sealing] key or ASHORE_SEALING_KEY to that key",
            )
        answer = self._call("decrypt", {"ciphertext": wrapped.data, "associated_data": _bound(bound_to)})
        try:
            return base64.b64decode(answer["plaintext"], validate=True)
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteRefused(
                f"{self.place} answered without a plaintext", hint="check that the URL is that of a transit engine"
            ) from error

    def renew(self) -> str:
        self._call("rotate", {})
        return self.wrap(bytes(32), bound_to="-").key_id

    def _call(self, verb: str, body: Mapping[str, str]) -> dict[str, Any]:
        import httpx

        from ashore.kit.identity import trust

        key = quote(self._key, safe="")
        path = f"keys/{key}/rotate" if verb == "rotate" else f"{verb}/{key}"
        renew = "revoke the token at the key service, and write a new one to the file"
        token = read_secret_file(self._token_file, what="the token of the key service", renew=renew).decode(
            "ascii", "replace"
        )
        headers = {"X-Vault-Token": token.strip(), "X-Vault-Request": "true", "Accept-Encoding": "identity"}
        if self._namespace:
            headers["X-Vault-Namespace"] = self._namespace
        verify = trust("the key service", self._ca_file, error=SealingKeyMissing)
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, trust_env=False, verify=verify) as client,
                client.stream("POST", f"{self._engine_url}/{path}", json=body, headers=headers) as answer,
            ):
                content = self._content(answer)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise KeyServiceUnreachable(
                f"{self.place} cannot be reached: {error}",
                hint="check that the service is running and is itself unsealed",
            ) from error
        return self._answer(verb, answer, content)

    def _content(self, answer: httpx.Response) -> bytes:
        """Return the body of a response, limited in size and time: the service may not be genuine."""
        content, until_s = bytearray(), self._monotonic_s() + TIMEOUT_S
        for part in answer.iter_raw():
            content += part
            if len(content) > MAX_ANSWER_BYTES:
                raise RemoteRefused(
                    f"{self.place} answered with more than {MAX_ANSWER_BYTES:,} bytes",
                    hint="check that the URL is that of a transit engine",
                )
            if self._monotonic_s() > until_s:
                raise KeyServiceUnreachable(
                    f"{self.place} had not finished its answer after {TIMEOUT_S:g} s",
                    hint="check that the service is running and is itself unsealed",
                )
        return bytes(content)

    def _answer(self, verb: str, answer: httpx.Response, content: bytes) -> dict[str, Any]:
        match answer.status_code:
            case 200 | 204:
                pass
            case 404:
                raise SealingKeyMissing(
                    f"{self._engine_url} has no key {self._key}", hint="create it there, or use another key"
                )
            case 401 | 403:
                raise RemoteRefused(
                    f"{self.place} refuses {verb} to the token in {self._token_file}",
                    hint="renew the token, or let its policy encrypt, decrypt and rotate with this key",
                )
            case 400 if verb == "decrypt":
                raise CorruptBlob(
                    f"{self.place} cannot unwrap the data key: it was altered, belongs to another data key, or its "
                    "key version was destroyed",
                    hint="restore the envelope from a backup of the store",
                )
            case 429 | 500 | 502 | 503 | 504:
                raise KeyServiceUnreachable(
                    f"{self.place} answered {answer.status_code}", hint="check whether the service is itself sealed"
                )
            case other:
                raise RemoteRefused(f"{self.place} answered {verb} with {other}", hint="check the log of the service")
        if verb == "rotate":
            return {}
        try:
            data = json.loads(content)["data"]
        except (ValueError, KeyError, TypeError, RecursionError):
            data = None
        return data if isinstance(data, dict) else {}


def _bound(bound_to: str) -> str:
    return base64.b64encode(f"ashore data key 1|{bound_to}".encode()).decode()
