"""Models of the ModelScope hub, or of a mirror of it.

Source: the hub's HTTP API: `/api/v1/models/ORG/NAME/repo`.
"""

from __future__ import annotations

import os
from typing import Final
from urllib.parse import urlencode

import msgspec

from ashore.core.errors import RemoteRefused, UnknownModel, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.kit.store.download import refused
from ashore.kit.store.ports import Origin
from ashore.kit.store.refs import name_from
from ashore.kit.store.sources.hub import HubSource
from ashore.kit.store.sources.selection import RemoteFile, choose_files

DEFAULT_REVISION: Final = "master"
MOST_FILES: Final = 3000
"""The hub leaves out further files, and does not say so."""


class _File(msgspec.Struct, rename="pascal"):
    path: str
    size: int = 0
    sha256: str | None = None
    type: str = "blob"


class _Files(msgspec.Struct, rename="pascal"):
    files: list[_File] | None = None


class _Listed(msgspec.Struct, rename="pascal"):
    data: _Files


class ModelScopeSource(HubSource):
    """`ms:ORG/NAME[@REVISION][:FILE.gguf]`. The token is `MODELSCOPE_API_TOKEN`."""

    kind = "ms"
    home = "https://modelscope.cn"
    hosts = ("modelscope.cn", "*.modelscope.cn")
    variable = "MODELSCOPE_ENDPOINT"
    mirror_hint = (
        "set a mirror (ASHORE_MS_ENDPOINT=https://mirror, or ms_endpoint under [settings] of ashore.toml), or get the "
        "model from `ashore model import`, a directory, oci:// or s3://"
    )

    def resolve(self) -> Origin:
        repository = self._reference.repository
        path = self._repo + "/files"
        answer = self._ask(path, {"Revision": self._revision, "Recursive": "True"})
        if answer.status == 404:
            at = f" at {self._reference.revision}" if self._reference.revision else ""
            raise UnknownModel(f"{self.host} has no model {repository}{at}", hint="check the name")
        if answer.status != 200:
            raise refused(self._endpoint + path, answer.status)
        with foreign_errors(f"{self.host} did not list {repository}", RemoteRefused, hint=self.mirror_hint):
            listed = msgspec.json.decode(answer.body, type=_Listed).data.files or []
        if len(listed) >= MOST_FILES:
            raise UnsupportedModel(
                f"ms:{repository} has {MOST_FILES} files or more, and the hub lists no more of them",
                hint="get the model from hf:, oci://, s3:// or a directory",
            )
        offered = [
            RemoteFile(path=one.path, num_bytes=one.size, sha256=one.sha256 or "")
            for one in listed if one.type != "tree"
        ]  # fmt: skip
        self._chosen = choose_files(offered, self._reference.file, f"ms:{repository}", text_only=self._text_only)
        suffix = f":{self._reference.file}" if self._reference.file else ""
        return Origin(
            pinned=f"ms:{repository}@{self._revision}{suffix}",
            suggested_name=name_from(self._reference.file or repository),
            mutable=not self._reference.revision,
            num_bytes=sum(f.num_bytes for f in self._chosen),
        )

    def headers(self) -> dict[str, str]:
        """See `HubSource`: the list of files is read by the cookie, files by the token. A redirect takes neither."""
        token = os.environ.get("MODELSCOPE_API_TOKEN", "").strip()
        return {"authorization": f"Bearer {token}", "cookie": f"m_session_id={token}"} if token else {}

    def url_of(self, path: str) -> str:
        return f"{self._endpoint}{self._repo}?" + urlencode({"Revision": self._revision, "FilePath": path})

    @property
    def _repo(self) -> str:
        return f"/api/v1/models/{self._reference.repository}/repo"

    @property
    def _revision(self) -> str:
        return self._reference.revision or DEFAULT_REVISION
