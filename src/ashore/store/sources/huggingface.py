"""Models of the Hugging Face hub, or of a mirror of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ashore.errors import RemoteRefused, UnknownModel
from ashore.store.download import cannot_reach
from ashore.store.ports import Origin
from ashore.store.progress import Progress
from ashore.store.refs import name_from
from ashore.store.sources.hub import fetch_files, parse_hub_reference
from ashore.store.sources.selection import RemoteFile, choose_files

MIRROR_HINT = (
    "set a mirror (ASHORE_HF_ENDPOINT=https://mirror, or hf_endpoint under [settings] of ashore.toml), or get the "
    "model from `ashore model import`, a directory, oci:// or s3://"
)
ANSWER_WITHIN_S = 15.0
"""Longest wait for the hub's list of files."""


class HuggingFaceSource:
    """`hf:ORG/NAME[@REVISION][:FILE.gguf]`. The token is that of the hub's library (`HF_TOKEN`)."""

    def __init__(self, reference: str, *, endpoint: str = "", text_only: bool = False) -> None:
        self._reference = parse_hub_reference("hf", reference)
        self._endpoint = endpoint or None
        self._text_only = text_only
        self._chosen: tuple[RemoteFile, ...] = ()
        self._commit = ""

    def resolve(self) -> Origin:
        repository = self._reference.repository
        with self._translated():
            info = self._api().model_info(
                repository, revision=self._reference.revision or None, timeout=ANSWER_WITHIN_S, files_metadata=True
            )
        offered = [
            RemoteFile(path=s.rfilename, num_bytes=s.size or 0, sha256=s.lfs.sha256 if s.lfs else "")
            for s in info.siblings or ()
        ]
        self._chosen = choose_files(offered, self._reference.file, f"hf:{repository}", text_only=self._text_only)
        self._commit = info.sha or self._reference.revision or "main"
        licences = [t.removeprefix("license:") for t in info.tags or () if t.startswith("license:")]
        suffix = f":{self._reference.file}" if self._reference.file else ""
        return Origin(
            pinned=f"hf:{repository}@{self._commit}{suffix}",
            suggested_name=name_from(self._reference.file or repository),
            licence=licences[0] if licences else "",
            num_bytes=sum(f.num_bytes for f in self._chosen),
        )

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        if not self._chosen:
            self.resolve()
        hub = _library()
        headers: dict[str, str] = hub.utils.build_hf_headers(library_name="ashore")

        def url_of(path: str) -> str:
            return str(
                hub.hf_hub_url(self._reference.repository, path, revision=self._commit, endpoint=self._endpoint or None)
            )

        return fetch_files(self._chosen, url_of, headers, into, progress, MIRROR_HINT)

    def _api(self) -> Any:
        return _library().HfApi(endpoint=self._endpoint, library_name="ashore")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        hub = _library()
        import httpx

        host = httpx.URL(self._endpoint or hub.constants.ENDPOINT).host
        transport = _transport_errors()
        try:
            yield
        except hub.errors.RevisionNotFoundError as error:
            raise UnknownModel(
                f"hf:{self._reference.repository} has no revision {self._reference.revision!r}",
                hint="check the revision on the hub",
            ) from error
        except (hub.errors.GatedRepoError, hub.errors.RepositoryNotFoundError) as error:
            raise UnknownModel(
                f"{host} has no model {self._reference.repository} that this account can read",
                hint="check the name; for a gated model, accept its licence on the hub and set HF_TOKEN",
            ) from error
        except hub.errors.HfHubHTTPError as error:
            if error.response is not None and error.response.status_code == 404:
                raise UnknownModel(
                    f"{host} has no model {self._reference.repository}", hint="check the name"
                ) from error
            raise RemoteRefused(f"{host} refused: {error}", hint="try again later, or set a mirror") from error
        except transport as error:
            raise cannot_reach(host, error, hint=MIRROR_HINT) from error


def _library() -> Any:
    """Return `huggingface_hub`, told before its import to report nothing and to fetch from the one named host only."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    import huggingface_hub
    import huggingface_hub.constants  # the library imports its parts when they are asked for, and these never
    import huggingface_hub.errors
    import huggingface_hub.utils

    return huggingface_hub


def _transport_errors() -> tuple[type[Exception], ...]:
    """Return the transport errors of the HTTP library that this version of the hub's library uses."""
    import importlib

    import httpx

    found: list[type[Exception]] = [httpx.TransportError, ConnectionError, TimeoutError]
    try:
        found.append(importlib.import_module("httpx2").TransportError)
    except ImportError:
        return tuple(found)
    return tuple(found)
