"""Models of the Hugging Face hub, or of a mirror of it.

Source: the hub's HTTP API: `/api/models`, `/resolve`, and the header `x-error-code`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from ashore.core.errors import RemoteRefused, UnknownModel
from ashore.core.foreign import foreign_errors
from ashore.kit.store.download import refused
from ashore.kit.store.ports import Origin
from ashore.kit.store.refs import name_from
from ashore.kit.store.sources.hub import HubSource
from ashore.kit.store.sources.selection import RemoteFile, choose_files

_LICENCE: Final = "license:"


class _Lfs(msgspec.Struct):
    sha256: str = ""


class _File(msgspec.Struct):
    rfilename: str
    size: int | None = None
    lfs: _Lfs | None = None


class _Model(msgspec.Struct):
    sha: str | None = None
    siblings: list[_File] | None = None
    tags: list[str] | None = None


class HuggingFaceSource(HubSource):
    """`hf:ORG/NAME[@REVISION][:FILE.gguf]`. The token is `HF_TOKEN`, or what `hf auth login` wrote."""

    kind = "hf"
    home = "https://huggingface.co"
    hosts = ("huggingface.co", "*.huggingface.co", "*.hf.co")
    variable = "HF_ENDPOINT"
    mirror_hint = (
        "set a mirror (ASHORE_HF_ENDPOINT=https://mirror, or hf_endpoint under [settings] of ashore.toml), or get the "
        "model from `ashore model import`, a directory, oci:// or s3://"
    )
    _commit = ""

    def resolve(self) -> Origin:
        repository, revision = self._reference.repository, self._reference.revision
        path = f"/api/models/{repository}" + (f"/revision/{quote(revision, safe='')}" if revision else "")
        answer = self._ask(path, {"blobs": "true"})
        if answer.headers.get("x-error-code") == "RevisionNotFound":
            raise UnknownModel(f"hf:{repository} has no revision {revision!r}", hint="check the revision on the hub")
        if answer.status in (401, 403, 404):
            raise UnknownModel(
                f"{self.host} has no model {repository} that this account can read",
                hint="check the name; for a gated model, accept its licence on the hub and set HF_TOKEN",
            )
        if answer.status != 200:
            raise refused(self._endpoint + path, answer.status)
        with foreign_errors(f"{self.host} did not describe {repository}", RemoteRefused, hint=self.mirror_hint):
            model = msgspec.json.decode(answer.body, type=_Model)
        offered = [
            RemoteFile(path=one.rfilename, num_bytes=one.size or 0, sha256=one.lfs.sha256 if one.lfs else "")
            for one in model.siblings or ()
        ]
        self._chosen = choose_files(offered, self._reference.file, f"hf:{repository}", text_only=self._text_only)
        self._commit = model.sha or revision or "main"
        licences = [tag.removeprefix(_LICENCE) for tag in model.tags or () if tag.startswith(_LICENCE)]
        suffix = f":{self._reference.file}" if self._reference.file else ""
        return Origin(
            pinned=f"hf:{repository}@{self._commit}{suffix}",
            suggested_name=name_from(self._reference.file or repository),
            licence=licences[0] if licences else "",
            num_bytes=sum(f.num_bytes for f in self._chosen),
        )

    def headers(self) -> dict[str, str]:
        token = os.environ.get("HF_TOKEN", "").strip() or _written_token()
        return {"authorization": f"Bearer {token}"} if token else {}

    def url_of(self, path: str) -> str:
        commit = quote(self._commit, safe="")
        return f"{self._endpoint}/{self._reference.repository}/resolve/{commit}/{quote(path)}"


def _written_token() -> str:
    """Return the token in the file of the hub's own command; empty where there is none."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("HF_HOME") or Path(cache) / "huggingface"
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser().read_text("utf-8").strip()
    except (OSError, ValueError):
        return ""
