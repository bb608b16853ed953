"""Where the published tree is read and written: the centre's HTTPS, a bucket, or a directory, which may be a stick that
somebody else has prepared."""

from __future__ import annotations

import os
import re
import secrets
import ssl
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ashore.control.sites.ports import CentreLink, TooSlow, Tree, WrongBytes
from ashore.core.errors import AshoreError, InvalidRequest, NotFound, RemoteRefused, SourceUnreachable
from ashore.kit.bucket import Bucket
from ashore.kit.egress import Allowed
from ashore.kit.folders import make_folder
from ashore.kit.wholefile import sync_folder

if TYPE_CHECKING:
    import httpx

PIECE_BYTES: Final = 1 << 20
LEAST_RATE: Final = 1024
"""Bytes a second, over `WINDOW_S`, below which a server is left."""
WINDOW_S: Final = 30.0
_PATH: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)*", re.ASCII)


def checked_path(path: str) -> str:
    """Return a path of the tree.

    Raises:
        InvalidRequest: it leads out of the tree, or has characters that no file of a tree has.
    """
    if not _is_path(path):
        raise InvalidRequest(f"{path[:200]!r} is not a path of a published tree")
    return path


def _is_path(path: str) -> bool:
    return len(path) <= 400 and _PATH.fullmatch(path) is not None


class FolderLink:
    """A tree in a directory. No symbolic link below it is followed, and nothing but plain files is read."""

    def __init__(self, folder: Path) -> None:
        """Create it; touches nothing."""
        self.folder: Final = folder

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        with self._translated(path), ExitStack() as stack:
            folder = stack.enter_context(self._opened(path))
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = stack.enter_context(os.fdopen(os.open(path.rpartition("/")[2], flags, dir_fd=folder), "rb"))
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise WrongBytes(f"{self.folder / path} is not a plain file")
            if found.st_size > limit:
                raise WrongBytes(f"{self.folder / path} is longer than {limit:,} bytes")
            file.seek(start)
            left = limit - start
            while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):  # it may grow while it is read
                left -= len(piece)
                yield piece

    def put(self, path: str, body: bytes) -> None:
        name = path.rpartition("/")[2]
        scratch = f".tmp-{secrets.token_hex(8)}"
        with self._translated(path, "written"), self._opened(path, make=True) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(scratch, flags, 0o644, dir_fd=folder), "wb") as file:
                    file.write(body)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(scratch, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(scratch, dir_fd=folder)
                raise
            os.fsync(folder)

    def has(self, path: str) -> bool:
        return (self.folder / checked_path(path)).is_file()

    def names(self, under: str) -> Iterator[tuple[str, int]]:
        for root, _, files in os.walk(self.folder / checked_path(under)):  # follows no link
            for file in (Path(root, name) for name in files if not name.startswith(".")):
                path = file.relative_to(self.folder).as_posix()
                if _is_path(path) and not file.is_symlink() and file.is_file():
                    yield path, file.stat().st_size

    def remove(self, path: str) -> None:
        (self.folder / checked_path(path)).unlink(missing_ok=True)

    @contextmanager
    def _opened(self, path: str, *, make: bool = False) -> Iterator[int]:
        """Yield the directory of a path, reached step by step."""
        if make and not self.folder.is_dir():
            make_folder(self.folder, mode=0o755)
            sync_folder(self.folder.parent)
        with ExitStack() as stack:
            now = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, now)
            for part in checked_path(path).split("/")[:-1]:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=now)
                        os.fsync(now)
                now = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=now)
                stack.callback(os.close, now)
            yield now

    @contextmanager
    def _translated(self, path: str, verb: str = "read") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as fault:
            if not self.folder.is_dir():
                raise SourceUnreachable(f"{self.folder} is not there", hint="mount it, or put the stick in") from fault
            raise NotFound(f"{self.folder} has no {path}") from fault
        except OSError as fault:
            if isinstance(fault, AshoreError):
                raise
            raise SourceUnreachable(f"{self.folder / path} cannot be {verb}: {fault.strerror}") from fault


class _Objects(Bucket):
    timeout_s = 30


class BucketLink:
    """A tree below a path of a bucket."""

    def __init__(self, place: str) -> None:
        """Create it; connects to nothing yet. Raises `InvalidRequest` if `s3://BUCKET/PATH` is malformed."""
        self._bucket = _Objects(place)

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        pace = Pace(self._bucket.place, start, limit)
        for piece in self._bucket.chunks(checked_path(path), start=start, least_bytes=64 << 10):
            pace.take(len(piece))
            yield piece

    def put(self, path: str, body: bytes) -> None:
        self._bucket.write(checked_path(path), body)

    def has(self, path: str) -> bool:
        return self._bucket.size(checked_path(path)) is not None

    def names(self, under: str) -> Iterator[tuple[str, int]]:
        return (one for one in self._bucket.sizes(checked_path(under)) if _is_path(one[0]))

    def remove(self, path: str) -> None:
        self._bucket.remove(checked_path(path))


class HttpLink:
    """The centre's own HTTPS, or any web server that has the tree."""

    def __init__(
        self,
        url: str,
        *,
        allow: Sequence[Allowed] | None,
        verify: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create it; connects to nothing yet.

        Args:
            url: Address of the tree, `https://HOST/PATH`.
            allow: Hosts that may be called: `[egress] allow` with the centre.
            verify: Trusted certificates, and the site's own.
            now: Seconds that never go back.
        """
        self._url, self._allow, self._verify, self._now = url.rstrip("/"), allow, verify, now
        self._lock = threading.Lock()
        self._made: httpx.Client | None = None

    def read(self, path: str, *, start: int = 0, limit: int) -> Iterator[bytes]:
        headers = {"range": f"bytes={start}-"} if start else {}
        answer = self._ask("GET", path, headers, b"")
        try:
            self._check(answer, path)
            skip = 0 if answer.status_code == 206 else start
            if answer.status_code == 206 and not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
                raise WrongBytes(f"{answer.url.host} sent another part of {path} than it was asked for")
            pace = Pace(answer.url.host, start - skip, limit, self._now)
            with self._translated():
                for piece in answer.iter_raw():
                    pace.take(len(piece))
                    if rest := piece[skip:]:
                        yield rest
                    skip = max(0, skip - len(piece))
        finally:
            answer.close()

    def put(self, path: str, body: bytes) -> None:
        answer = self._ask("PUT", path, {"content-type": "application/octet-stream"}, body)
        try:
            self._check(answer, path)
        finally:
            answer.close()

    def close(self) -> None:
        """Close every connection. The link may be used again."""
        with self._lock:
            if self._made is not None:
                self._made.close()
            self._made = None

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        """Return an answer whose headers have come within `WINDOW_S`: a server may send them byte by byte."""
        import httpx

        from ashore.kit.outgoing import open_client

        with self._lock:
            self._made = self._made or open_client(self._allow, verify=self._verify, redirects=False)
            client = self._made
        request = client.build_request(method, f"{self._url}/{checked_path(path)}", headers=headers, content=body)
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), WINDOW_S)
        answer: Future[httpx.Response] = Future()

        def send() -> None:
            try:
                came = client.send(request, stream=True)
            except (httpx.HTTPError, httpx.StreamError, OSError, AshoreError, RuntimeError) as fault:
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(fault)
                return
            if answer.set_running_or_notify_cancel():
                answer.set_result(came)
            else:
                came.close()

        threading.Thread(target=send, daemon=True).start()
        try:
            with self._translated():
                return answer.result(2 * WINDOW_S + len(body) / LEAST_RATE)
        except TimeoutError as fault:
            answer.cancel()
            self.close()
            raise TooSlow(f"{self._url} sent no whole answer within {2 * WINDOW_S:.0f} s") from fault

    def _check(self, answer: httpx.Response, path: str) -> None:
        if answer.status_code in (200, 201, 204, 206):
            return
        said = f"{answer.url.host} answered {answer.status_code} for {path}"
        if answer.status_code in (401, 403):
            raise RemoteRefused(said, hint="the centre may have revoked this site; ask who runs it")
        if answer.status_code in (404, 410):
            raise NotFound(said, hint="is that the address of the centre, and has it published?")
        raise SourceUnreachable(said, hint="try again later; what has arrived is kept")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except (httpx.HTTPError, httpx.StreamError, OSError, SourceUnreachable, RuntimeError) as fault:
            if isinstance(fault, (SourceUnreachable, TimeoutError)):
                raise
            raise SourceUnreachable(
                f"{self._url} cannot be reached: {fault}", hint="what has arrived is kept"
            ) from fault


class Pace:
    """Ends a read that is too long or too slow: nothing above a link has a clock of its own for that."""

    def __init__(self, host: str, start: int, limit: int, now: Callable[[], float] = time.monotonic) -> None:
        self._host, self._left, self._limit, self._now = host, limit - start, limit, now
        self._since_s, self._in_window = now(), 0

    def take(self, num_bytes: int) -> None:
        self._left -= num_bytes
        self._in_window += num_bytes
        if self._left < 0:
            raise WrongBytes(f"{self._host} sent more than {self._limit:,} bytes")
        span_s = self._now() - self._since_s
        if span_s >= WINDOW_S:
            if self._in_window < LEAST_RATE * span_s:
                raise TooSlow(f"{self._host} sent {self._in_window} bytes in {span_s:.0f} s")
            self._since_s, self._in_window = self._now(), 0


def open_link(place: str, *, allow: Sequence[Allowed] | None, verify: ssl.SSLContext | None = None) -> CentreLink:
    """Return the link to `https://HOST/PATH`, `s3://BUCKET/PATH`, or a folder.

    Raises:
        InvalidRequest: the place is malformed.
    """
    if place.startswith(("https://", "http://")):
        return HttpLink(place, allow=allow, verify=verify)
    return BucketLink(place) if place.startswith("s3://") else FolderLink(Path(place.removeprefix("folder:")))


def tree_of(publish: str, folder: Path) -> Tree:
    """Return the tree that a centre publishes to.

    Args:
        publish: As `[sites] publish` says it.
        folder: `sites/` in the home, which has the tree where the centre itself serves it.
    """
    if publish.startswith("s3://"):
        return BucketLink(publish)
    return FolderLink(Path(publish.removeprefix("folder:")) if publish.startswith("folder:") else folder / "tree")
