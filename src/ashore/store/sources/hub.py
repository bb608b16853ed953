"""What the two hubs share: a repository is a list of files at a commit, fetched one by one over HTTP, resumed.

The hubs' own libraries tell files, hashes, addresses and tokens. The bytes come through `download`, because their own
transfer throws away a half-fetched file when the process dies, and one of them asks a cloud for its region first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ashore.errors import InvalidRequest
from ashore.store.download import download
from ashore.store.paths import check_path
from ashore.store.progress import Progress
from ashore.store.sources.selection import RemoteFile

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


def fetch_files(
    files: tuple[RemoteFile, ...],
    url_of: Callable[[str], str],
    headers: Mapping[str, str],
    into: Path,
    progress: Progress,
    mirror_hint: str,
) -> Path:
    """Bring every file to `into/files`, in order; whole ones are left alone."""
    import httpx

    folder = into / "files"
    with httpx.Client(timeout=httpx.Timeout(60.0, connect=15.0)) as client:
        for file in files:
            check_path(file.path)
            download(
                client,
                url_of(file.path),
                folder / file.path,
                stage=f"download {file.path}",
                progress=progress,
                num_bytes=file.num_bytes,
                sha256=file.sha256,
                headers=headers,
                mirror_hint=mirror_hint,
            )
    return folder
