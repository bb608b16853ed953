"""Models of the ModelScope hub, or of a mirror of it."""

from __future__ import annotations

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
    "set a mirror (ASHORE_MS_ENDPOINT=https://mirror, or ms_endpoint under [settings] of ashore.toml), or get the "
    "model from `ashore model import`, a directory, oci:// or s3://"
)
DEFAULT_REVISION = "master"


class ModelScopeSource:
    """`ms:ORG/NAME[@REVISION][:FILE.gguf]`. The token is that of the hub's library (`MODELSCOPE_API_TOKEN`)."""

    def __init__(self, reference: str, *, endpoint: str = "", text_only: bool = False) -> None:
        self._reference = parse_hub_reference("ms", reference)
        self._endpoint = endpoint or None
        self._text_only = text_only
        self._chosen: tuple[RemoteFile, ...] = ()
        self._api: Any = None

    def resolve(self) -> Origin:
        repository, revision = self._reference.repository, self._reference.revision or DEFAULT_REVISION
        with self._translated():
            listed = self._hub().list_repo_files(repository, "model", revision=revision)
        offered = [RemoteFile(path=f.path, num_bytes=f.size, sha256=f.sha256 or "") for f in listed if not f.is_dir]
        self._chosen = choose_files(offered, self._reference.file, f"ms:{repository}", text_only=self._text_only)
        suffix = f":{self._reference.file}" if self._reference.file else ""
        return Origin(
            pinned=f"ms:{repository}@{revision}{suffix}",
            suggested_name=name_from(self._reference.file or repository),
            mutable=not self._reference.revision,
            num_bytes=sum(f.num_bytes for f in self._chosen),
        )

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        if not self._chosen:
            self.resolve()
        hub = self._hub()
        revision = self._reference.revision or DEFAULT_REVISION

        def url_of(path: str) -> str:
            return str(hub.legacy.get_download_url(self._reference.repository, "model", path, revision))

        token = hub._config.token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return fetch_files(self._chosen, url_of, headers, into, progress, MIRROR_HINT)

    def _hub(self) -> Any:
        if self._api is None:
            import logging

            from modelscope_hub import HubApi

            logging.getLogger("modelscope_hub").setLevel(logging.CRITICAL)  # it logs each try; the error says it once

            self._api = HubApi(endpoint=self._endpoint)
        return self._api

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx
        import requests
        from modelscope_hub import errors

        host = httpx.URL(self._hub()._config.endpoint).host
        try:
            yield
        except (errors.NotExistError, errors.NotFoundError) as error:
            raise UnknownModel(
                f"{host} has no model {self._reference.repository}"
                + (f" at {self._reference.revision}" if self._reference.revision else ""),
                hint="check the name",
            ) from error
        except (errors.NetworkError, requests.ConnectionError, requests.Timeout) as error:
            raise cannot_reach(host, error, hint=MIRROR_HINT) from error
        except errors.HubError as error:
            raise RemoteRefused(f"{host} refused: {error}", hint="try again later, or set a mirror") from error
