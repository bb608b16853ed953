"""What a site believes: the centre's metadata, verified by python-tuf against the root that was pinned at joining.

Whatever a mirror, a link or a stick gives, the last trusted state stays until a newer one is whole and verified.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ashore.control.sites.model import ModelParts, Want
from ashore.control.sites.ports import CentreLink, TooSlow, WrongBytes, read_whole
from ashore.control.sites.report import Attack
from ashore.control.sites.roles import METADATA, model_path, stored_path, want_path
from ashore.core.errors import CorruptBlob, HomeBusy, NotFound
from ashore.kit.decode import UNDECODABLE
from ashore.kit.folders import make_folder
from ashore.kit.processes.lock import locked
from ashore.kit.wholefile import write_whole

if TYPE_CHECKING:
    from tuf.ngclient import Updater

WANT_BYTES: Final = 1 << 20
MANIFEST_BYTES: Final = 256 << 20
_want = msgspec.json.Decoder(Want).decode
_parts = msgspec.json.Decoder(ModelParts).decode


class CentreRefused(CorruptBlob):
    """What should come from the centre is not what the centre signed, or not the newest.

    The site goes on with the last state that it trusts, and tries again. If it repeats, somebody alters or holds back
    what the site reads: the mirror, the stick, or a machine between.
    """

    def __init__(
        self,
        attack: Attack = "forged",
        message: str | None = None,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retry_after_s=retry_after_s)
        self.attack: Final[Attack] = attack


@dataclass(frozen=True, slots=True, kw_only=True)
class Trusted:
    """The newest state of the centre that is verified."""

    root: int
    """Version of the root."""
    signed_s: int
    """When the centre signed the newest timestamp, by its clock."""
    want: Want | None
    """What this site shall serve; None: the centre does not know the site, or no longer."""
    parts: dict[str, ModelParts]
    """Every model of `want`, by digest."""


def refresh(
    link: CentreLink,
    trusted: Path,
    *,
    site: str,
    root: bytes,
    now_s: float,
) -> Trusted:
    """Read what is new, verify it, and return it. With nothing new that costs two small requests.

    Args:
        link: Where the tree is read.
        trusted: Folder of what was verified; made if missing. One process at a time.
        site: Name of this site.
        root: The root that was pinned at joining; later ones are signed by it, one after the other.
        now_s: Unix time by this machine's clock; the newest signed time counts where that is later.

    Raises:
        CentreRefused: an attack, by name; the trusted state stays.
        SourceUnreachable, RemoteRefused: as the link.
        HomeBusy: another process refreshes this folder.
    """
    with _held(trusted):
        floor = _signed_s(trusted)
        try:
            return _refresh(link, trusted, site, root, max(now_s, floor))
        except CentreRefused as fault:
            if fault.attack != "frozen" or _signed_s(trusted) == floor:
                raise
        # a key that had signed a time far ahead was replaced by the root that came just now
        return _refresh(link, trusted, site, root, max(now_s, _signed_s(trusted)))


def last_trusted(trusted: Path) -> Trusted | None:
    """Return the last verified state, without a link; None if there is none, or a power loss has damaged it: the next
    `refresh` reads again what is missing."""
    want = _kept_want(trusted)
    if want is None:
        return None
    try:
        parts = {digest: _parts(_kept(trusted, digest).read_bytes()) for digest in {one.model for one in want.serve}}
        return Trusted(root=_root_version(trusted), signed_s=_signed_s(trusted), want=want, parts=parts)
    except (FileNotFoundError, ValueError, *UNDECODABLE):
        return None


def _refresh(link: CentreLink, trusted: Path, site: str, root: bytes, now_s: float) -> Trusted:
    from tuf.ngclient import Updater, UpdaterConfig

    limits = UpdaterConfig(
        root_max_length=64 << 10, timestamp_max_length=4 << 10, snapshot_max_length=1 << 20,
        targets_max_length=4 << 20, max_delegations=4,
    )  # fmt: skip
    with _named_attacks(now_s):
        fetcher = _fetcher(link)
        updater = Updater(str(trusted), METADATA, fetcher=fetcher, config=limits, bootstrap=root)
        updater._trusted_set.reference_time = datetime.fromtimestamp(now_s, UTC)  # python-tuf takes no other clock
        updater.refresh()
        info = updater.get_targetinfo(want_path(site))
        if info is None:
            return Trusted(root=_root_version(trusted), signed_s=_signed_s(trusted), want=None, parts={})
        data = _verified(link, info, WANT_BYTES, trusted / "want.json")
        with _readable(f"the assignment of {site}"):
            want = _want(data)
        if want.site != site:
            raise CentreRefused("wrong site", f"what came as the assignment of {site} is that of {want.site}")
        before = _kept_want(trusted)
        if before is not None and want.sequence < before.sequence:
            raise CentreRefused(
                "rolled back", f"assignment {want.sequence} came after {before.sequence}, which is trusted"
            )
        parts = {}
        for digest in sorted({one.model for one in want.serve}):
            parts[digest] = _model(updater, link, trusted, digest)
    if before != want:
        write_whole(trusted / "want.json", data)
    return Trusted(root=_root_version(trusted), signed_s=_signed_s(trusted), want=want, parts=parts)


def _model(updater: Updater, link: CentreLink, trusted: Path, digest: str) -> ModelParts:
    """Return the parts of a model, which must be released by `targets`, whatever the director wants."""
    info = updater._trusted_set.targets.targets.get(model_path(digest))
    if info is None:
        raise CentreRefused("forged", f"the centre wants {digest} here, and nobody who may release models released it")
    path = _kept(trusted, digest)
    data = _verified(link, info, MANIFEST_BYTES, path)
    with _readable(f"the parts of {digest}"):
        parts = _parts(data)
    if parts.digest != digest:
        raise CentreRefused("mixed", f"the parts of {digest} are those of {parts.digest}")
    make_folder(path.parent, mode=0o700)
    write_whole(path, data)
    return parts


def _verified(link: CentreLink, info: Any, most: int, kept: Path) -> bytes:
    """Return the file of a target: the kept one, where it is still the right one."""
    if kept.exists() and sha256(data := kept.read_bytes()).hexdigest() == info.hashes["sha256"]:
        return data
    data = read_whole(link, stored_path(info.path, info.hashes["sha256"]), limit=min(info.length, most))
    info.verify_length_and_hashes(data)
    return data


def _fetcher(link: CentreLink) -> Any:
    from tuf.api.exceptions import DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class Fetcher(FetcherInterface):
        """Reads by our link."""

        def _fetch(self, url: str) -> Iterator[bytes]:
            try:
                yield from link.read(url, limit=MANIFEST_BYTES)  # its callers have limits of their own
            except NotFound as fault:
                if url.endswith("timestamp.json"):  # named by no other file: there is no centre's tree
                    raise
                raise DownloadHTTPError(str(fault), 404) from fault

    return Fetcher()


@contextmanager
def _named_attacks(now_s: float) -> Iterator[None]:
    """Say what python-tuf refuses by the name of the attack."""
    from tuf.api import exceptions

    try:
        yield
    except TooSlow as fault:
        raise CentreRefused("slow", f"the centre sends too slowly: {fault.message}") from fault
    except (WrongBytes, exceptions.DownloadLengthMismatchError) as fault:
        raise CentreRefused("endless", f"the centre sends more than it should: {fault}") from fault
    except exceptions.ExpiredMetadataError as fault:
        raise CentreRefused(
            "frozen",
            f"the newest that comes has expired: {fault} at {datetime.fromtimestamp(now_s, UTC):%Y-%m-%d %H:%M} UTC",
            hint="if the clock of this machine is right, the centre has stopped signing, or news is held back",
        ) from fault
    except exceptions.BadVersionNumberError as fault:
        is_older = "must be >=" in str(fault) or ".json version" in str(fault)  # than the trusted one; else than named
        raise CentreRefused("rolled back" if is_older else "mixed", f"a version does not fit: {fault}") from fault
    except (exceptions.LengthOrHashMismatchError, exceptions.DownloadHTTPError) as fault:
        raise CentreRefused("mixed", f"files of different states came together: {fault}") from fault
    except exceptions.RepositoryError as fault:
        raise CentreRefused("forged", f"a signature is missing or wrong: {fault}") from fault


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except UNDECODABLE as fault:
        raise CentreRefused("forged", f"{what} cannot be read: {str(fault)[:200]}") from fault


def _kept_want(trusted: Path) -> Want | None:
    try:
        return _want((trusted / "want.json").read_bytes())
    except (FileNotFoundError, *UNDECODABLE):
        return None


def _kept(trusted: Path, digest: str) -> Path:
    return trusted / "models" / f"{digest.removeprefix('sha256:')}.json"


def _root_version(trusted: Path) -> int:
    """Return the version of the newest root. python-tuf's link to it is away for a moment in every refresh."""
    return max(int(one.name.partition(".")[0]) for one in (trusted / "root_history").glob("*.root.json"))


def _signed_s(trusted: Path) -> int:
    """Return when the newest timestamp was signed that the newest root's key signed; 0 if there is none."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata

    try:
        stamp = Metadata[Any].from_bytes((trusted / "timestamp.json").read_bytes())
        newest = trusted / "root_history" / f"{_root_version(trusted)}.root.json"
        root = Metadata[Any].from_bytes(newest.read_bytes())
        root.signed.verify_delegate("timestamp", stamp.signed_bytes, stamp.signatures)
    except (OSError, ValueError, RepositoryError):
        return 0
    return int(stamp.signed.version)


@contextmanager
def _held(trusted: Path) -> Iterator[None]:
    make_folder(trusted, mode=0o700)
    hint = "let one process refresh at a time"
    with locked(trusted / ".lock", lambda: HomeBusy(f"another process refreshes {trusted}", hint=hint)):
        yield
