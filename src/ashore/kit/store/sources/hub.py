"""Shared by the two hubs: a repository is a list of files at a commit, fetched one by one over HTTP, resumable."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from ashore.core.errors import InvalidRequest
from ashore.kit.egress import Allowed, parse_allow, server_of
from ashore.kit.store.download import download, unreachable
from ashore.kit.store.layout import check_path
from ashore.kit.store.ports import Origin
from ashore.kit.store.progress import Progress
from ashore.kit.store.sources.selection import RemoteFile

if TYPE_CHECKING:
    from ashore.kit.outgoing import Answer

_REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::([\w./-]+\.gguf))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubReference:
    """`ORG/NAME[@REVISION][:FILE.gguf]`."""

    repository: str
    revision: str = ""
    file: str = ""


def parse_hub_reference(kind: str, text: str) -> HubReference:
    """Return the parts of what follows `hf:` or `ms:`."""
    match = _REPOSITORY.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"{kind}:{text} is malformed", hint=f"expected {kind}:ORG/NAME[@REVISION][:FILE.gguf]")
    return HubReference(repository=match[1], revision=match[2] or "", file=match[3] or "")


class HubSource(ABC):
    """A repository of a hub, or of its mirror. Credentials are sent only to the hub or the mirror."""

    kind: ClassVar[str]
    home: ClassVar[str]
    """Address of the hub."""
    hosts: ClassVar[tuple[str, ...]]
    """The hub's own hosts, as entries of `[egress] allow`, with those that it redirects to for large files."""
    variable: ClassVar[str]
    """Environment variable that names a mirror."""
    mirror_hint: ClassVar[str]

    def __init__(
        self, reference: str, *, endpoint: str = "", text_only: bool = False, allow: Sequence[Allowed] | None = None
    ) -> None:
        """Create it.

        Args:
            reference: What follows `hf:` or `ms:`.
            endpoint: A mirror; empty: the one of the environment, or the hub.
            text_only: The weights are not wanted.
            allow: Hosts that may be called beside the hub's own; None: any.
        """
        self._reference = parse_hub_reference(self.kind, reference)
        mirror = (endpoint or os.environ.get(self.variable, "")).rstrip("/")
        self._endpoint = mirror or self.home
        own = (server_of(mirror),) if mirror else parse_allow(self.hosts)
        self._allow = None if allow is None else (*allow, *own)
        self._text_only = text_only
        self._chosen: tuple[RemoteFile, ...] = ()

    @abstractmethod
    def resolve(self) -> Origin:
        """See `Source`."""

    @abstractmethod
    def headers(self) -> dict[str, str]:
        """Return the login as headers; nothing where there is none."""

    @abstractmethod
    def url_of(self, path: str) -> str:
        """Return the address of a file."""

    @property
    def host(self) -> str:
        """Which host is asked, for people."""
        return urlsplit(self._endpoint).hostname or self._endpoint

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        """Bring every file to `into/files`, in order; whole ones are left alone."""
        from ashore.kit.outgoing import open_client

        if not self._chosen:
            self.resolve()
        folder = into / "files"
        with open_client(self._allow) as client:
            for file in self._chosen:
                check_path(file.path)
                download(
                    client,
                    self.url_of(file.path),
                    folder / file.path,
                    stage=f"download {file.path}",
                    progress=progress,
                    num_bytes=file.num_bytes,
                    sha256=file.sha256,
                    headers=self.headers(),
                    mirror_hint=self.mirror_hint,
                )
        return folder

    def _ask(self, path: str, params: Mapping[str, str]) -> Answer:
        from httpx import RequestError

        from ashore.kit.outgoing import open_client, read

        url = self._endpoint + path
        try:
            with open_client(self._allow) as client:
                return read(client, "GET", url, params=params, headers=self.headers())
        except RequestError as error:
            raise unreachable(url, error, hint=self.mirror_hint) from error
